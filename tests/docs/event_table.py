"""The table of every event in `docs/record.md`, made of the code that writes them.

Run as `python -m tests.docs.event_table` it writes the table into the page; a test holds it equal.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from undercroft.model.event import AnyEvent

PAGE = Path(__file__).parents[2] / "docs" / "record.md"
_PLACE = re.compile(r"(<!-- table: events -->\n).*?(<!-- end -->)", re.DOTALL)
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
# What every event means by a field of that name, where it does not say itself.
_COMMON = {
    "n": "number of the step within the turn",
    "name": "of the step: the tool, the step of a workflow, or `model`",
    "at": "when",
    "took_s": "how long it took, in seconds",
    "turn_id": "id of the turn",
    "session": "the conversation it belongs to",
    "args": "the arguments, encoded",
    "value": "what came of it, encoded",
    "error": "why it failed: type, message, class, blame",
    "refusal": "why it was refused: rule, message, next move, facts",
    "status": "how it stands or ended",
    "by": "who",
    "reason": "in their words",
    "why": "why",
    "fp": "fingerprint of the input",
    "causes": "numbers of the steps whose results it uses",
    "key": "of the resource",
    "service": "what was called",
    "branch": "of the handler's code; empty for the turn itself",
    "attempt": "which attempt",
    "wait_s": "seconds until the next one",
    "waited_s": "seconds",
    "attempts": "how many, on the wire",
    "input_tokens": "tokens of the prompt",
    "output_tokens": "tokens of the answer",
    "granted": "whether it was a yes",
    "giver": "the branch that owned it",
    "taker": "the branch that owns it now",
    "took": "seconds",
    "missing": "what the turn did without",
    "code": "fingerprint of the code",
    "before": "tokens before",
    "after": "tokens after",
    "target": "what it runs, or where it aims",
    "runtime": "number of the process",
    "time_us": "microseconds of calls under way",
    "usd_nano": "money, in billionths of a dollar",
    "keys": "of the resources",
    "tick": "order within the process, as of `StepStarted`",
    "policy": "hash of the context policy",
    "value_of": "the step whose value it is, where that is so",
    "turn": "number of the turn in its session",
}


def described(kind: Any) -> dict[str, str]:
    """Return what the docstring of an event says of its fields."""
    said = inspect.getdoc(kind) or ""
    _, _, attributes = said.partition("Attributes:")
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}


def rows(kind: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of an event, and what each holds."""
    said = described(kind)
    for field in kind.__struct_fields__:
        text = said.get(field) or _COMMON[field]
        yield field, f"{text[0].upper()}{text[1:].rstrip('.')}"


def table() -> str:
    """Return the table of all events."""
    parts = []
    for kind in get_args(AnyEvent):
        title = (inspect.getdoc(kind) or "").partition("\n")[0]
        lines = [f"### `{kind.__struct_config__.tag}` {kind.__name__}", "", title, ""]
        lines += ["| field | holds |", "|---|---|"]
        lines += [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in rows(kind)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def with_table(text: str) -> str:
    """Return the text of the page with the table as it is to be."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{table()}\n\n{found[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
