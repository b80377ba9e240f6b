"""What an object that a tool returned says of how its call went.

Keeps: a business object is no envelope: the `status` of an order is the order's and not the
call's, so a status counts only where nothing but the call is spoken of. What begins with `says`
looks at an object whose keys `folded` has spelled in one way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

_DEPTH_MAX = 4
_KEY_CHARS = 80
_HTTP_WORST = 599
_HTTP_BAD = 400
_HTTP_ACCEPTED = 202


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Keys that only say how a call went. An order or a payment has others, and then its `status` is
# the order's and not the call's.
ENVELOPE = _set(
    "status statuscode httpstatus code error errors errorcode errortype errormessage message msg "
    "reason detail details description title type instance hint success ok iserror result data "
    "response traceback stack stacktrace retryable retryafter requestid timestamp time path "
    "traceid tool toolname name content output payload body state outcome"
)
# And those that name what is under way.
UNDERWAY = ENVELOPE | _set(
    "id jobid taskid runid operationid approvalid ticketid progress eta position url poll "
    "pollurl statusurl location expires expiresat createdat queue"
)
_ERROR_KEYS = ("error", "errors", "errormessage", "exception", "errormsg", "toolerror")
_EXPLAIN_KEYS = (
    *("message", "errormessage", "msg", "detail", "details", "reason", "description", "title"),
    *("error", "errors", "code", "errorcode", "type", "content", "output", "result", "stderr"),
)
_WHY_KEYS = ("message", "errormessage", "msg", "detail", "details", "reason", "error", "errors")
_NO_ERROR = frozenset(("", "none", "null", "false", "no", "0", "no error", "ok", "n/a", "success"))
_STATUSES = ("status", "state", "outcome", "result")
_EXITS = ("exitcode", "returncode", "exitstatus")
_HTTPS = ("status", "statuscode", "httpstatus", "httpstatuscode", "httpcode")


@lru_cache(maxsize=4_096)
def _spelled(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.casefold())


def folded(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return `value` with its keys in one spelling: `statusCode` is `status_code`."""
    return {_spelled(str(key)[:_KEY_CHARS]): item for key, item in value.items()}


def said_words(value: Any, depth: int = 0) -> str:
    """Say in a line what an error object says."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        spelled = folded(value)
        said = (said_words(spelled[key], depth + 1) for key in _EXPLAIN_KEYS if spelled.get(key))
        return ": ".join(dict.fromkeys([text for text in said if text][:3]))
    if isinstance(value, list) and depth < _DEPTH_MAX:
        if all(isinstance(item, Mapping) and "text" in item for item in value):
            return " ".join(said_words(item["text"], depth + 1) for item in value[:3])
        return "; ".join(filter(None, (said_words(item, depth + 1) for item in value[:3])))
    return "" if value is None or isinstance(value, bool | list | Mapping) else str(value)[:80]


def _explained(spelled: Mapping[str, Any], otherwise: str) -> str:
    said = (said_words(spelled[key]) for key in _EXPLAIN_KEYS if spelled.get(key))
    return ": ".join(dict.fromkeys([text for text in said if text][:2])) or otherwise


def says_error(spelled: Mapping[str, Any]) -> str | None:
    """Return what a key such as `error` says; None where there is none, or it says nothing."""
    for key in _ERROR_KEYS:
        said = spelled.get(key)
        if isinstance(said, str):
            bad = said.strip().casefold() not in _NO_ERROR
        elif isinstance(said, Mapping | list):
            # Beside data, a list of errors says that some part of it is missing.
            bad = bool(said) and not spelled.get("data") and not _is_no_error(said)
        else:
            bad = said is True
        if bad:
            said_more = "" if said is True else said_words(said)
            return ": ".join(dict.fromkeys(filter(None, (said_more, *_more(spelled)))) or [key])
    return None


def _more(spelled: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        said_words(spelled[key]) for key in ("message", "detail", "reason") if spelled.get(key)
    )


def _is_no_error(said: Mapping[str, Any] | list[Any]) -> bool:
    """Whether it is an object that says itself that nothing is wrong: `{"code": 0}`."""
    if isinstance(said, list):
        return all(item is None or item == "" for item in said)
    return all(not item or str(item).casefold() in _NO_ERROR for item in said.values())


def says_unsuccessful(spelled: Mapping[str, Any]) -> str | None:
    """Return why, where `success` or the like is false."""
    for key in ("success", "ok", "succeeded", "successful", "issuccess"):
        said = spelled.get(key)
        if said is False or (isinstance(said, str) and said.strip().casefold() == "false"):
            return _explained(spelled, f"{key} is false")
    return None


def says_is_error(spelled: Mapping[str, Any]) -> str | None:
    """Return why, where `isError` or `is_error` is true."""
    return _explained(spelled, "is an error") if spelled.get("iserror") is True else None


def says_status(
    words: str, keys: frozenset[str] | None, *, explained: str = ""
) -> Callable[[Mapping[str, Any]], str | None]:
    """Return what recognises an object whose status is one of `words`.

    Args:
        words: Statuses that count where an object has no other keys than `keys`.
        keys: Spelled as `folded` spells them; None where any will do.
        explained: Statuses that count with any keys, as long as one of them explains why.
    """
    wanted, alone = frozenset(words.split()), frozenset(explained.split())

    def says(spelled: Mapping[str, Any]) -> str | None:
        said = next((spelled[key] for key in _STATUSES if key in spelled), None)
        if not isinstance(said, str) or len(said) > _KEY_CHARS:
            return None
        word = re.sub(r"[^a-z]", "", said[:80].casefold())
        if word in alone and any(spelled.get(key) for key in _WHY_KEYS):
            return _explained(spelled, said.strip())
        if word not in wanted or (keys is not None and not keys.issuperset(spelled)):
            return None
        return _explained(spelled, said.strip())

    return says


def says_http(spelled: Mapping[str, Any]) -> str | None:
    """Return the HTTP status and what goes with it, where it is 400 or more."""
    for key in _HTTPS:
        said = spelled.get(key)
        if isinstance(said, str) and re.match(r"[45]\d\d\b", said):
            said = int(said[:3])
        if (
            isinstance(said, int)
            and not isinstance(said, bool)
            and _HTTP_BAD <= said <= _HTTP_WORST
        ):
            return f"HTTP {said}: {_explained(spelled, '')}".rstrip(": ")
    return None


def says_accepted(spelled: Mapping[str, Any]) -> str | None:
    """Return the HTTP status 202, where it is one."""
    if any(spelled.get(key) == _HTTP_ACCEPTED for key in _HTTPS[1:]):
        return "202 accepted"
    return None


def says_exit(spelled: Mapping[str, Any]) -> str | None:
    """Return an exit code other than 0 and what goes with it."""
    for key in _EXITS:
        said = spelled.get(key)
        if isinstance(said, int) and not isinstance(said, bool) and said != 0:
            more = said_words(spelled.get("stderr")) or said_words(spelled.get("output"))
            return f"exit code {said}: {more}".rstrip(": ")
    return None
