"""What a call does to the world, as its name, arguments and result let infer: a table, as data.

Keeps: whatever is not clear stays `UNKNOWN`; a rule that must know whether something was written
does not judge it. The same call always gets the same answer.

Looked at in this order: an HTTP method, an SQL statement or a shell command among the arguments;
the verb in the name of the tool; what its result begins with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from undercroft.model.case import Access

NAME_CHARS_MAX = 200
TEXT_CHARS_MAX = 4_000


class Verbs(NamedTuple):
    """Verbs that mean the same to us.

    Attributes:
        access: What a tool does whose name has one of them.
        kind: `get` reads one thing, `list` looks for things, `change` writes to what is there,
            `create` adds something, `compute` and `speak` touch nothing.
        words: In lower case, as they stand in a name.
    """

    access: Access
    kind: str
    words: frozenset[str]


def _row(access: Access, kind: str, words: str) -> Verbs:
    return Verbs(access, kind, frozenset(words.split()))


VERBS: tuple[Verbs, ...] = (
    _row(
        Access.READ,
        "get",
        "get read fetch retrieve load show view describe inspect check lookup look download "
        "peek verify cat head tail stat status ping preview track watch monitor count has is "
        "whoami screenshot navigate goto visit browse scroll export recall detect",
    ),
    _row(Access.READ, "list", "list search find query scan grep glob filter select ls dir poll"),
    _row(
        Access.WRITE,
        "change",
        "update set delete cancel modify change edit remove patch put replace rename move "
        "exchange return refund transfer withdraw deposit pay charge capture void close reopen "
        "resolve archive unarchive restore revert undo rollback enable disable activate "
        "deactivate approve reject assign unassign reassign grant revoke lock unlock mark flag "
        "merge apply upsert write save overwrite clear reset reschedule terminate suspend resume "
        "upgrade downgrade redeem publish unpublish adjust increase decrease increment decrement "
        "erase drop truncate destroy purge rm mv extend renew fulfill confirm "
        "accept decline complete finalize swap ship block unblock freeze unfreeze toggle rebook "
        "resize restart reboot stop scale deploy undeploy split star unstar pin unpin unmark "
        "untag tag label link unlink detach checkin checkout sync migrate install uninstall "
        "configure correct fix amend postpone shift hold release settle waive kick "
        "ban unban mute unmute rotate expire invalidate untrack unsubscribe deregister drain",
    ),
    _row(
        Access.WRITE,
        "create",
        "create add book send post insert append register enroll place purchase buy "
        "sell reserve schedule issue submit upload import email notify message reply "
        "comment log record invite subscribe order mkdir attach "
        "dispatch new signup donate share forward remind escalate start launch trigger topup "
        "enqueue "
        "queue fork clone copy duplicate",
    ),
    _row(
        Access.NEITHER,
        "compute",
        "calculate compute think plan format parse reason reflect convert translate summarize "
        "summarise classify compare estimate validate evaluate sleep wait sort tokenize decide "
        "analyze analyse brainstorm sum multiply divide subtract",
    ),
    _row(
        Access.NEITHER,
        "speak",
        "respond answer finish done handoff handover delegate say ask clarify",
    ),
)

# Two words that mean another thing together than alone.
PHRASES: Mapping[tuple[str, str], tuple[Access, str]] = {
    ("look", "up"): (Access.READ, "get"),
    ("check", "in"): (Access.WRITE, "change"),
    ("check", "out"): (Access.WRITE, "change"),
    ("sign", "up"): (Access.WRITE, "create"),
    ("set", "up"): (Access.WRITE, "create"),
    ("roll", "back"): (Access.WRITE, "change"),
    ("turn", "on"): (Access.WRITE, "change"),
    ("turn", "off"): (Access.WRITE, "change"),
    ("opt", "in"): (Access.WRITE, "change"),
    ("opt", "out"): (Access.WRITE, "change"),
    ("hand", "off"): (Access.NEITHER, "speak"),
    ("hand", "over"): (Access.NEITHER, "speak"),
    ("final", "answer"): (Access.NEITHER, "speak"),
    ("submit", "answer"): (Access.NEITHER, "speak"),
    ("send", "response"): (Access.NEITHER, "speak"),
    ("report", "progress"): (Access.NEITHER, "speak"),
    ("make", "payment"): (Access.WRITE, "change"),
    ("make", "reservation"): (Access.WRITE, "create"),
    ("make", "booking"): (Access.WRITE, "create"),
    ("request", "refund"): (Access.WRITE, "change"),
    ("request", "return"): (Access.WRITE, "change"),
    ("open", "ticket"): (Access.WRITE, "create"),
    ("open", "issue"): (Access.WRITE, "create"),
    ("open", "account"): (Access.WRITE, "create"),
    ("open", "file"): (Access.READ, "get"),
    ("open", "url"): (Access.READ, "get"),
    ("open", "page"): (Access.READ, "get"),
    ("generate", "invoice"): (Access.WRITE, "create"),
    ("dry", "run"): (Access.NEITHER, "compute"),
}
# Verbs that are nouns as well: before one of `STATES` they are what is looked at.
NOUNS = frozenset(
    [
        "order",
        "refund",
        "return",
        "book",
        "exchange",
        "transfer",
        "log",
        "record",
        "schedule",
        "message",
        "email",
        "charge",
        "purchase",
        "deposit",
        "issue",
        "post",
        "comment",
        "report",
        "return",
        "payment",
        "place",
        "file",
        "share",
        "ship",
    ]
)
# And these, which mostly are verbs.
ALSO_NOUNS = frozenset(
    (
        *("track", "list", "search", "view", "check", "count", "stat", "preview", "watch"),
        *("monitor", "filter", "query", "format", "plan", "sort", "release", "lock", "tag"),
        *("label", "pin", "star", "split", "link", "scale", "stop", "start", "new", "look"),
        *("load", "copy", "swap", "shift", "hold", "reset", "block", "flag", "mark", "merge"),
        *("patch", "transfer", "visit"),
    )
)
STATES = frozenset(
    [
        "status",
        "state",
        "details",
        "detail",
        "info",
        "information",
        "history",
        "balance",
        "list",
        "count",
        "summary",
        "profile",
        "availability",
        "price",
        "prices",
        "options",
        "limits",
        "metadata",
        "overview",
        "policy",
        "quote",
    ]
)
# To whom a conversation is handed, or from whom an answer is asked: nothing is written.
PEOPLE = frozenset(
    ["human", "humans", "agent", "agents", "operator", "representative", "supervisor"]
)
_HANDING = frozenset({"transfer", "escalate", "forward"})
_ASKED = frozenset({"user", "human"})

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

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[^\W_]+")
_SPACES = re.compile(r"__|[./:]")
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


class Named(NamedTuple):
    """What the name of a tool says.

    Attributes:
        kind: As of `Verbs`; empty where no verb is known.
        verb: The word that decided.
        nouns: Its other words, in order, in the singular.
    """

    access: Access
    kind: str
    verb: str
    nouns: tuple[str, ...]


_BY_WORD: Mapping[str, Verbs] = {word: row for row in VERBS for word in sorted(row.words)}


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in whatever case it is written, in lower case."""
    return tuple(word.lower() for word in _WORDS.findall(_CAMEL.sub("_", name[:NAME_CHARS_MAX])))


def singular(word: str) -> str:
    """Return a noun in the singular, as far as its spelling tells."""
    if len(word) > 4 and word.endswith("ies"):  # noqa: PLR2004  shorter ones are singular
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):  # noqa: PLR2004  as above
        return word[:-2]
    ends = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if len(word) > 3 and ends else word  # noqa: PLR2004  `gas` is one


@lru_cache(1 << 12)
def read_name(name: str) -> Named:
    """Return what the name of a tool says; of `crm__get_account` or `crm.get_account` its end."""
    parts = [words_of(part) for part in _SPACES.split(name[:NAME_CHARS_MAX])]
    before = tuple(word for part in parts[:-1] for word in part)
    for place in range(len(parts) - 1, -1, -1):
        named = _of_words(parts[place])
        if named.kind:
            # What stands before is a server, or the kind of thing, as in `orders.cancel`.
            nouns = named.nouns or tuple(
                singular(word) for part in parts[:place] for word in part[-1:]
            )
            return named._replace(nouns=nouns)
    return Named(Access.UNKNOWN, "", "", tuple(singular(w) for w in (*before, *parts[-1])))


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


def _of_words(words: tuple[str, ...]) -> Named:
    if not words:
        return Named(Access.UNKNOWN, "", "", ())
    access, kind, places = _verb(words)
    used = set(places)
    nouns = tuple(
        singular(word)
        for place, word in enumerate(words)
        if place not in used and word not in STATES and len(word) > 1
    )
    return Named(access, kind, words[places[0]] if places else "", nouns)


def _verb(words: tuple[str, ...]) -> tuple[Access, str, tuple[int, ...]]:
    """Return what the words do, and the places of the words that say so."""
    pair = PHRASES.get((words[0], words[1])) if len(words) > 1 else None
    if pair is not None:
        return (*pair, (0, 1) if words[1] in {"up", "in", "out", "on", "off", "over"} else (0,))
    if words[0] in _BY_WORD:
        return _first(words)
    # `user-lookup`, `order_cancel`: a verb at the end. Several that disagree say nothing.
    places = [place for place, word in enumerate(words) if word in _BY_WORD and place]
    if words[-1] in STATES and (not places or words[places[0]] in NOUNS):
        return Access.READ, "get", ()
    kinds = {_BY_WORD[words[place]].kind for place in places}
    if len(kinds) > 1:
        # `playlist_remove_track`: what can be nothing but a verb decides.
        places = [place for place in places if words[place] not in NOUNS | ALSO_NOUNS] or places
        kinds = {_BY_WORD[words[place]].kind for place in places}
    if len(kinds) == 1 and not (words[places[-1]] in NOUNS and len(words) - 1 != places[-1]):
        row = _BY_WORD[words[places[-1]]]
        return row.access, row.kind, (places[-1],)
    return Access.UNKNOWN, "", ()


def _first(words: tuple[str, ...]) -> tuple[Access, str, tuple[int, ...]]:
    """Return what words do of which the first is a verb."""
    first = words[0]
    row = _BY_WORD[first]
    rest = frozenset(words[1:])
    if first in NOUNS and len(words) > 1 and words[-1] in STATES:
        return Access.READ, "get", ()
    handed = first in _HANDING and (rest & PEOPLE or words[1:2] == ("to",))
    if handed or ("input" in rest and rest & _ASKED):
        return Access.NEITHER, "speak", (0,)
    # `get_or_create_user`, `search_and_replace`: what may write, writes.
    for place, word in enumerate(words[:-1]):
        other = _BY_WORD.get(words[place + 1])
        if word in {"or", "and"} and other is not None and other.access is Access.WRITE:
            return other.access, other.kind, (0, place, place + 1)
    return row.access, row.kind, (0,)


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
