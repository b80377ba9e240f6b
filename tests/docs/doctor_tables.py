"""The tables of `docs/doctor.md`, made of what the doctor decides by.

Run as `python -m tests.docs.doctor_tables` it writes them into the page; the tests hold them equal.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from typer.testing import CliRunner

from undercroft.cli.main import app
from undercroft.doctor.access import (
    HTTP_READS,
    HTTP_WRITES,
    SHELL_READS,
    SHELL_WRITES,
    SQL_READS,
    SQL_WRITES,
)
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.report import LAYERS
from undercroft.doctor.status_table import TELLS
from undercroft.doctor.telling import RECORD, would
from undercroft.doctor.verbs import PHRASES, VERBS
from undercroft.doctor.verdict import RULES
from undercroft.model.case import Facet
from undercroft.model.symptom import Rule

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
_EXAMPLE_CHARS = 60


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    line = " ".join(text.split())
    line = line if len(line) <= _EXAMPLE_CHARS else f"{line[:_EXAMPLE_CHARS]}…"
    fence = "``" if "`" in line else "`"
    return f"{fence}{line}{fence}"


def rules() -> str:
    """Return every rule of every layer."""
    heads = ("rule", "what it says", "what Undercroft would have done", "needs")
    parts = []
    for layer in LAYERS:
        found = table(heads, map(_rule, RULES[layer]))
        parts.append(f"### {layer.capitalize()}\n\n{found}")
    return "\n\n".join(parts)


def _rule(rule: Rule) -> tuple[str, str, str, str]:
    needs = [facet.value for facet in Facet if facet.value in rule.needs]
    done = would(rule).removeprefix("Undercroft would have ")
    return f"`{rule.name}`", rule.says, f"{done[0].upper()}{done[1:]}", ", ".join(needs)


def formats() -> str:
    """Return what each format can show."""
    rows = [
        [facet.value, *("✓" if facet in form.can_show else "" for form in FORMATS)]
        for facet in Facet
    ]
    names = [f"| `{form.name}` | {_cell(form.title)} |" for form in FORMATS]
    known = "\n".join(("| `--format` | what it is |", "|---|---|", *names))
    return f"{known}\n\n{table(('can show', *(form.name for form in FORMATS)), rows)}"


def facets() -> str:
    """Return what a record may show."""
    return table(("what", "that is"), [(facet.value, RECORD[facet]) for facet in Facet])


def statuses() -> str:
    """Return how a status is told from a result."""
    rows = [(tell.says, tell.status.value, _code(tell.example)) for tell in TELLS]
    return table(("what a result looks like", "means", "such as"), rows)


def effects() -> str:
    """Return what the verb of a name says."""
    rows = [(", ".join(sorted(row.words)), row.access.value) for row in VERBS]
    rows += [
        (", ".join(" ".join(words) for words, (access, _) in PHRASES.items() if access == of), of)
        for of in sorted({access for access, _ in PHRASES.values()})
    ]
    among = (
        ("HTTP", HTTP_READS, HTTP_WRITES),
        ("SQL", SQL_READS, SQL_WRITES),
        ("shell", SHELL_READS, SHELL_WRITES),
    )
    for what, reads, writes in among:
        rows.append((f"{what}: {', '.join(sorted(reads))}", "read"))
        rows.append((f"{what}: {', '.join(sorted(writes))}", "write"))
    return table(("verb", "means"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "rules": rules,
    "formats": formats,
    "facets": facets,
    "statuses": statuses,
    "effects": effects,
}
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TEXT = re.compile(r"^(```text\n).*?^(```)$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^(```console\n\$ undercroft [^\n]*\n).*?^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return the text of a page with its tables as they are to be."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def printed(command: str) -> str:
    """Return what a command of the page prints, where the Python of the page has run."""
    words = command.rpartition("$ undercroft ")[2].split()
    return CliRunner().invoke(app, words, env={"COLUMNS": "80"}).stdout


def with_output(text: str) -> str:
    """Return the text of a page with what its Python and its commands print."""
    said = io.StringIO()
    code = "\n".join(_PYTHON.findall(text))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with contextlib.redirect_stdout(said):
            exec(compile(code, str(PAGE), "exec", dont_inherit=True), {"__name__": "snippet"})  # noqa: S102  our own page
        text = _TEXT.sub(lambda found: f"{found[1]}{said.getvalue()}{found[2]}", text)
        return _CONSOLE.sub(lambda found: f"{found[1]}{printed(found[1])}```", text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(with_output(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
