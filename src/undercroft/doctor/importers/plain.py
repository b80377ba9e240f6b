"""Logs of several agents that only talk: a name or a role and a text, and text files of turns.

Keeps: nobody is taken for the user but who is called so, and, where nobody is, who gave the task;
a call is seen only where it is unmistakable: code in a message, and an exit code in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from undercroft.doctor.arguments import as_text
from undercroft.doctor.importers.chat import About, Line, build, error_of, id_of
from undercroft.doctor.importers.form import Format
from undercroft.doctor.importers.said import Said, Wanted, text_of
from undercroft.doctor.importers.spoken import read_turns
from undercroft.model.case import Case, Facet
from undercroft.model.symptom import quoted

NAME = "plain"
CAN_SHOW = frozenset({
    Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS, Facet.STATUSES, Facet.TIMES, Facet.USERS,
    Facet.ACTORS,
})  # fmt: skip
CODE = "execute_code"
_LIKELY, _PERHAPS, _HARDLY = 0.8, 0.4, 0.3
_NAMES = ("name", "speaker", "agent", "sender", "author", "source", "from", "role", "actor")
_TEXTS = ("content", "text", "value", "message", "utterance")
_LISTS = (
    *("messages", "history", "conversation", "conversations", "log", "turns", "chat_history"),
    *("trajectory", "dialogue", "dialog", "transcript", "chat", "events", "steps"),
)
_TIMES = ("timestamp", "created_at", "time", "ts", "date")
_SYSTEM, _USER = frozenset({"system", "developer"}), frozenset({"user", "human"})
_KNOWN = _SYSTEM | _USER | frozenset({"assistant", "ai", "tool", "function", "model"})
_TASKS = ("question", "task", "problem", "instruction")
_SAMPLED = 50
_NAME_CHARS = 100
_DONE = re.compile(r"\bTERMINATE\b|\bFINAL ANSWER\b|termination condition", re.IGNORECASE)
_EXITED = re.compile(r"\s{0,20}exit ?code: ?(-?\d{1,10})(?: \(|\s|$)", re.IGNORECASE)
_BLOCK = re.compile(r"```[^\n`]{0,40}\n(.*?)```", re.DOTALL)
_ASIDE = re.compile(r"\s{0,3}\([^()]{0,80}\)\s{0,3}$")


def _spoken(raw: object) -> Mapping[str, Any] | None:
    """Return the fields of a turn, or None where `raw` is none."""
    if not isinstance(raw, Mapping):
        return None
    held = next((key for key in _TEXTS if isinstance(raw.get(key), str | list)), None)
    named = any(isinstance(raw.get(key), str) and raw[key] for key in _NAMES)
    if held is None or not named or raw.get("tool_calls") or "tool_call_id" in raw:
        return None
    return raw


def _turns_of(document: object) -> Sequence[Any] | None:
    """Return the turns that a document holds, or None where it holds none."""
    if isinstance(document, list):
        return document if any(map(_spoken, document[:_SAMPLED])) else None
    if not isinstance(document, Mapping) or _spoken(document) is not None:
        return None
    for key in _LISTS:
        held = document.get(key)
        if isinstance(held, list) and any(map(_spoken, held[:_SAMPLED])):
            return held
    return None


def fits(document: Any) -> float:
    """Say how much `document` looks like a log of agents that talk."""
    if isinstance(document, str):
        speakers = [turn.name for turn in read_turns(document)]
        if len(set(speakers)) > 1:
            return _LIKELY
        return _HARDLY if len(speakers) > 1 else 0.0
    held = _turns_of(document)
    turns = [turn for raw in (held or [document])[:_SAMPLED] if (turn := _spoken(raw)) is not None]
    if not turns:
        return 0.0
    roles = {str(turn["role"]) for turn in turns if "role" in turn}
    names = {_speaker(turn) for turn in turns}
    alone = {_speaker(turn) for turn in turns if "role" not in turn}
    if alone or not roles <= _KNOWN:
        return _LIKELY
    # One name may be the user's own; several are agents.
    return _LIKELY if len(names - _KNOWN) > 1 else _PERHAPS if names - _KNOWN else _HARDLY


def _speaker(turn: Mapping[str, Any]) -> str:
    for key in _NAMES:
        named = turn.get(key)
        if isinstance(named, str) and named:
            return _ASIDE.sub("", named[:_NAME_CHARS]) or named[:_NAME_CHARS]
    return ""


def _records(document: Any) -> Iterable[Any]:
    return [{"messages": document}] if _turns_of(document) is document else [document]


def _trace_of(record: Any) -> str | None:
    whole = isinstance(record, str) or _turns_of(record) is not None
    return None if whole else id_of(record)


def _case(records: Sequence[Any], trace_id: str) -> Case:
    lines: list[Line] = []
    own, error, task = "", "", ""
    for record in records:
        if isinstance(record, str):
            lines += [_line({"name": t.name, "content": t.text}) for t in read_turns(record)]
            if not lines and record.strip():
                lines.append(Line((Said("other", record),)))
            continue
        held = _turns_of(record)
        if held is None:
            lines.append(_line(record))
            continue
        lines += [_line(raw) for raw in held]
        if isinstance(record, Mapping):
            own, error = own or id_of(record), error or error_of(record)
            task = task or next((record[k] for k in _TASKS if isinstance(record.get(k), str)), "")
    about = About(own or trace_id, error)
    found = build(_executed(_with_user(lines)), about, form=NAME, can_show=CAN_SHOW)
    done = any(_DONE.search(text.text[-500:]) for text in found.texts[-2:])
    return replace(found, delivered=None, finished=True if done or error else None)


def _line(raw: object) -> Line:
    turn = _spoken(raw)
    if turn is None:
        where = raw if isinstance(raw, Mapping) else None
        return Line((), where, quoted(as_text(raw)) or "nothing")
    name = _speaker(turn)
    role, known = turn.get("role"), name.lower()
    text = next((text_of(turn[k]) for k in _TEXTS if isinstance(turn.get(k), str | list)), "")
    times = {key: turn[key] for key in _TIMES if key in turn}
    if known in _SYSTEM or (role == name and name in _SYSTEM):
        return Line((Said("system", text),), times)
    if known in _USER:
        return Line((Said("user", text),), times)
    if role == name == "assistant":
        return Line((Said("assistant", text),), times)
    return Line((Said("other", text, name),), times)


def _with_user(lines: list[Line]) -> list[Line]:
    """Where no user speaks, who spoke first gave the task."""
    said = [one for line in lines for one in line.said]
    if lines and lines[0].said and not any(one.role == "user" for one in said):
        first = lines[0].said[0]
        if first.role == "other":
            lines[0] = replace(lines[0], said=(replace(first, role="user"),))
    return lines


def _executed(lines: Sequence[Line]) -> Iterator[Line]:
    """Take an exit code right after a message with code for the result of running that."""
    for n, line in enumerate(lines):
        after = lines[n + 1] if n + 1 < len(lines) else None
        before = lines[n - 1] if n else None
        if after is not None and _code(line) and _exit(after) is not None:
            said = line.said[0]
            call = Wanted("", CODE, {"code": _code(line)})
            yield replace(line, said=(replace(said, calls=(call,)),))
        elif before is not None and _code(before) and _exit(line) is not None:
            said = line.said[0]
            yield replace(line, said=(Said("tool", said.text, CODE, (), "", _exit(line) != 0),))
        else:
            yield line


def _code(line: Line) -> str:
    if not line.said or "```" not in line.said[0].text or _exit(line) is not None:
        return ""
    return "\n".join(_BLOCK.findall(line.said[0].text))


def _exit(line: Line) -> int | None:
    found = _EXITED.match(line.said[0].text) if line.said else None
    return int(found[1]) if found else None


FORMAT = Format(
    name=NAME,
    title="log of agents that talk",
    can_show=CAN_SHOW,
    fits=fits,
    records=_records,
    trace_of=_trace_of,
    case=_case,
    containers=("traces", "runs", "logs"),
)
