"""What a call does to the world, as its name, arguments and result let infer.

Keeps: whatever is not clear stays `UNKNOWN`; a rule that must know whether something was written
does not judge it. The same call always gets the same answer.

Looked at in this order: an HTTP method, an SQL statement or a shell command among the arguments;
the verb in the name of the tool; what its result begins with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from undercroft.doctor.naming import read_name, words_of
from undercroft.model.case import Access

TEXT_CHARS_MAX = 4_000

HTTP_READS = frozenset({"GET", "HEAD", "OPTIONS"})
HTTP_WRITES = frozenset({"PUT", "PATCH", "DELETE"})
SQL_READS = frozenset(["select", "show", "explain", "describe", "desc", "pragma", "values", "with"])
SQL_WRITES = frozenset(
    [
        "insert",
        "update",
        "delete",
        "replace",
        "merge",
        "upsert",
        "create",
        "drop",
        "alter",
        "truncate",
        "grant",
        "revoke",
        "mutation",
    ]
)
SHELL_READS = frozenset(
    [
        "ls",
        "cat",
        "grep",
        "rg",
        "find",
        "head",
        "tail",
        "pwd",
        "wc",
        "stat",
        "file",
        "which",
        "echo",
        "ps",
        "df",
        "du",
        "tree",
        "less",
        "more",
        "env",
        "date",
        "whoami",
        "uname",
        "hostname",
        "diff",
        "cd",
        "id",
        "printenv",
        "sort",
        "uniq",
        "cut",
        "jq",
        "ping",
        "dig",
    ]
)
SHELL_WRITES = frozenset(
    [
        "rm",
        "mv",
        "cp",
        "mkdir",
        "rmdir",
        "touch",
        "chmod",
        "chown",
        "ln",
        "tee",
        "dd",
        "kill",
        "truncate",
        "install",
        "shred",
    ]
)
_SQL_NAMES = ("sql", "query", "statement", "q", "mutation")
_SHELL_NAMES = ("command", "cmd", "script", "bash", "shell")

_QUOTED = re.compile(r"'[^']{0,4000}'|\"[^\"]{0,4000}\"")
_PAST = (
    r"(?:created|updated|deleted|cancell?ed|modified|booked|reserved|removed|refunded|transferred|"
    r"inserted|saved|archived|sent|written|changed|renamed|moved)"
)
_DONE = re.compile(
    rf"\W{{0,4}}(?:successfully )?{_PAST}\b"
    rf"|\W{{0,4}}(?:[\w#-]{{1,40}} ){{1,5}}(?:was|were|has been|have been|successfully)"
    rf"(?: successfully)? {_PAST}\b",
    re.IGNORECASE,
)
# A result that says no more than that it went well.
_WELL = re.compile(
    r"\W{0,9}(?:ok|okay|success|done|true|accepted|(?:ok|success|status|result|saved|updated)\"?\s?:"
    r"\s?\"?(?:true|ok|success|done))\b",
    re.IGNORECASE,
)


# Tools that run what they are given, which may do anything.
_RUNNING = frozenset(
    {"execute", "exec", "run", "eval", "code", "python", "bash", "shell", "command", "script"}
)
_ID = re.compile(r"[\w#.-]{0,60}\d{2}[\w#.-]{0,60}")


def infer_access(name: str, arguments: Mapping[str, Any] | None, result: str | None) -> Access:
    """Return what a call does to the world; `UNKNOWN` where that is not clear."""
    shown = _of_arguments(arguments or {})
    if shown is not None:
        return shown
    named = read_name(name)
    if named.kind:
        return named.access
    return Access.UNKNOWN if result is None else _of_result(name, arguments or {}, result)


def _of_result(name: str, arguments: Mapping[str, Any], result: str) -> Access:
    """Return what a call did of whose name nobody knows the verb, by what came back.

    Of what names something and is only told that it went well, something was written; what
    returns data was looked at.
    """
    start = result[:TEXT_CHARS_MAX]
    if _RUNNING & set(words_of(name)):
        return Access.UNKNOWN
    if _DONE.match(start):
        return Access.WRITE
    named = any(
        isinstance(value, str) and _ID.fullmatch(value) is not None for value in arguments.values()
    )
    if not named:
        return Access.UNKNOWN
    if _WELL.match(start):
        return Access.WRITE
    return Access.READ if start.lstrip()[:1] in {"{", "["} else Access.UNKNOWN


def _of_arguments(arguments: Mapping[str, Any]) -> Access | None:
    method = arguments.get("method") or arguments.get("http_method") or arguments.get("verb")
    if isinstance(method, str) and len(method) < 10:  # noqa: PLR2004  longer than any method
        if method.upper() in HTTP_READS:
            return Access.READ
        if method.upper() in HTTP_WRITES:
            return Access.WRITE
        if method.upper() == "POST":
            return _posted(arguments)
    for name in _SQL_NAMES:
        text = arguments.get(name)
        if isinstance(text, str) and (found := _sql(text[:TEXT_CHARS_MAX])) is not None:
            return found
    for name in _SHELL_NAMES:
        text = arguments.get(name)
        if isinstance(text, str) and text.strip():
            return _shell(text[:TEXT_CHARS_MAX])
    return None


def _posted(arguments: Mapping[str, Any]) -> Access:
    """Return what a POST does; many services are asked by POST as well."""
    where = next((arguments[k] for k in ("url", "path", "endpoint", "uri") if k in arguments), "")
    asked = isinstance(where, str) and re.search(
        r"search|query|graphql|login|token", where, re.IGNORECASE
    )
    return Access.UNKNOWN if asked else Access.WRITE


def _sql(text: str) -> Access | None:
    """Return what a text does if it is SQL; None where it is none."""
    statements = [part.split() for part in _QUOTED.sub("''", text).lower().split(";")]
    words = [statement for statement in statements if statement]
    if not words or not all(w[0].strip("(") in SQL_READS | SQL_WRITES for w in words):
        return None
    if len(words[0]) < 3:  # noqa: PLR2004  the shortest statement has so many words
        return None
    starts = {statement[0].strip("(") for statement in words}
    common = {"from", "into", "set", "table", "where", "values", "tables", "index", "{"}
    if not any(common & set(statement) for statement in words):
        return None  # prose that begins with such a word, as searches do
    if starts & SQL_WRITES:
        return Access.WRITE
    within = {word for statement in words for word in statement}
    hides = "with" in starts and within & {"insert", "update", "delete"}
    return Access.WRITE if hides or "into" in within else Access.READ


def _shell(text: str) -> Access:
    """Return what a shell command does; `UNKNOWN` where a word of it is not known."""
    bare = _QUOTED.sub("''", text)
    firsts = [part.split()[0] for part in re.split(r"[;&|\n]+", bare) if part.split()]
    firsts = [first.rpartition("/")[2] for first in firsts if "=" not in first]
    if any(first in SHELL_WRITES for first in firsts):
        return Access.WRITE
    into = re.search(r"(?<![0-9&])>{1,2}(?!\s*/dev/null|&)", bare)
    if into:
        return Access.WRITE
    known = firsts and all(first in SHELL_READS for first in firsts)
    return Access.READ if known and "$(" not in bare and "-delete" not in bare else Access.UNKNOWN
