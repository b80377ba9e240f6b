"""One unit of work in a turn: what is proposed, what came of it, and why it was refused.

Keeps: a result says which of six things happened, in a field and never by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

# The kind of steps that ask a model; and their names: for an answer, for a summary.
MODEL, SUMMARY = "model", "summary"
# What a step's name ends in that stands in for the one before.
FALLBACK = ".fallback"
# The name of a step that asks another model, since one gave no answer.
ANOTHER = MODEL + FALLBACK


class Phase(StrEnum):
    """The seven phases of a reliable turn; no edge of a workflow runs backwards."""

    RESOLVE = "resolve"
    READ = "read"
    GATHER = "gather"
    PREPARE = "prepare"
    APPROVE = "approve"
    EXECUTE = "execute"
    CONFIRM = "confirm"

    @property
    def order(self) -> int:
        """Position in the order of phases, from 0."""
        return _ORDER[self]


_ORDER = {phase: place for place, phase in enumerate(Phase)}


class StepStatus(StrEnum):
    """What became of a step."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    WAITING = "waiting"
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"


class ErrorClass(StrEnum):
    """What an error means for the next attempt."""

    TRANSIENT = "transient"
    OVERLOADED = "overloaded"
    PERMANENT = "permanent"
    DOMAIN = "domain"
    UNKNOWN = "unknown"


class Call(msgspec.Struct, frozen=True, gc=False):
    """A call that a model or a handler proposes.

    Attributes:
        name: The tool's name.
        arguments: A mapping, or the JSON text of an object as a model wrote it.
        id: The provider's id of the call; echoed in the result.
    """

    name: str
    arguments: dict[str, Any] | str = {}
    id: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why a proposed call did not run, in a form that a model can act on.

    Attributes:
        rule: `layer.reason`, stable.
        message: The rule in a sentence.
        facts: What the rule saw.
        next: The next move that would mend the plan.
    """

    rule: str
    message: str
    next: str
    facts: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.message} {self.next}"


class Failure(msgspec.Struct, frozen=True):
    """An error as data.

    Attributes:
        type: Name of the exception's class.
        message: Its text, at most 2,000 characters.
        error_class: What it means for another attempt.
        step: Name of the step in which it was raised, or empty.
        blame: Whose it was: `vendor`, `account`, `caller`, `unsure` or `nobody`; empty where
            nothing was called.
    """

    type: str
    message: str
    error_class: ErrorClass = ErrorClass.PERMANENT
    step: str = ""
    blame: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Result(msgspec.Struct, frozen=True):
    """What came of one proposed call.

    Attributes:
        status: `ok`, `failed`, `refused`, `waiting`, `skipped` or `in_doubt`.
        value: What the tool returned, where it is `ok`.
        error: Why it `failed`.
        refusal: Why it was `refused`.
        step_id: The step's id within its turn.
        name: The tool that was asked for.
        call_id: The provider's id of the call.
        stood_in: Name of what stood in for the tool, which failed: `value` is of that.
        data: `value` as plain data, as the journal has it.
    """

    status: StepStatus
    value: Any = None
    error: Failure | None = None
    refusal: Refusal | None = None
    step_id: str = ""
    name: str = ""
    call_id: str | None = None
    stood_in: str = ""
    data: Any = None

    @property
    def text(self) -> str:
        """What a model reads of it."""
        return render_result(self, self.data)


def render_result(result: Result, data: object) -> str:
    """Return the text that a model reads as the result of its call; `data` is its plain value."""
    if result.status == StepStatus.OK:
        if result.stood_in:
            note = f"{result.name} failed; this is what stood in for it"
            return _json({"value": data, "note": note})
        return data if isinstance(data, str) else _json(data)
    if result.refusal is not None:
        return _json({"refused": msgspec.to_builtins(result.refusal)})
    if result.error is not None:
        return _json({"error": str(result.error)})
    if result.status == StepStatus.IN_DOUBT:
        note = "Nobody knows whether it happened. Do not do it again; say that it is not known."
        return _json({"status": result.status, "note": note})
    return _json({"status": result.status})


def _json(data: object) -> str:
    return msgspec.json.encode(data, enc_hook=str).decode()


def step_id(name: str, number: int) -> str:
    """Return the public id of a step: its name and its number within the turn."""
    return f"{name}.{number}"


MESSAGE_CHARS_MAX = 2_000


def failure(
    error: BaseException,
    error_class: ErrorClass = ErrorClass.PERMANENT,
    step: str = "",
    blame: str = "",
    clean: Callable[[str], str] = str,
) -> Failure:
    """Return `error` as data, its text bounded, after `clean` has taken out what is secret."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  a broken __str__ must not hide the error itself
        text = "(this error has no readable text)"
    text = clean(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    if len(text) > MESSAGE_CHARS_MAX:
        text = f"{text[:MESSAGE_CHARS_MAX]}… ({len(text):,} characters)"
    return Failure(type(error).__name__, text, error_class, step, blame)
