"""A run as somebody's system recorded it: what the six layers look for symptoms in.

Keeps: a *step* is the 0-based place of a message or span in the input, in the order in which
things happened (see `Case.places` where the input has another); what a record does not show is
not in `Case.shows`, and is never read as absent.
Times are seconds since 1970, durations seconds; None where the record does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Facet(StrEnum):
    """What a record may show: its format could, and some step of it does.

    `CALLS` are calls of tools as data, with names; `ARGUMENTS` what they were given; `RESULTS`
    what they came back with; `STATUSES` how they ended, said by the format itself and not only
    by the text of a result; `TIMES` when steps began; `DURATIONS` how long they took;
    `PROMPTS` what models were sent; `TOKENS` how many; `USERS` what users said; `DELIVERED` what
    a user was told at the end; `ACTORS` who acted, by name; `EFFECTS` what tools were declared
    to read and write; `GUARDS` that the recording system says what it held back.
    """

    CALLS = "calls"
    ARGUMENTS = "arguments"
    RESULTS = "results"
    STATUSES = "statuses"
    TIMES = "times"
    DURATIONS = "durations"
    PROMPTS = "prompts"
    TOKENS = "tokens"
    USERS = "users"
    DELIVERED = "delivered"
    ACTORS = "actors"
    EFFECTS = "effects"
    GUARDS = "guards"


class CallStatus(StrEnum):
    """How a call ended, as far as can be told."""

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    WAITING = "waiting"
    UNKNOWN = "unknown"


class Access(StrEnum):
    """What a call does to the world; `NEITHER` only computes or speaks."""

    READ = "read"
    WRITE = "write"
    NEITHER = "neither"
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """How something is known: the record declares it, the user told us, or we inferred it."""

    DECLARED = "declared"
    TOLD = "told"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class Touch:
    """A resource that a call touches.

    Attributes:
        mode: `peek`, `read`, `append`, `write` or `exclusive`.
        key: Path that names it, such as `order/#W2378156`.
    """

    mode: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseText:
    """Something that was said.

    Attributes:
        role: `system`, `user`, `assistant`, or `other` for an agent among several.
        actor: Who said it, where the record names that.
        turn: How many times the user had spoken before, and not counting this; 0 and up.
    """

    step: int
    role: str
    text: str
    actor: str = ""
    at: float | None = None
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCall:
    """A call of a tool, from proposal to result.

    Attributes:
        step: Where it was asked for: the assistant's message, or the span itself.
        ended: Step of its result; the span itself where that holds it; None where none is
            recorded.
        id: As the provider named it; may be empty, and may be another call's too.
        arguments: None where they are not recorded, or cannot be read.
        raw: Arguments as recorded, where they cannot be read as an object.
        result: Text of the result; None where none is recorded.
        status: As the format says, or as its text lets infer; see `status_basis`.
        error: What went wrong, in the record's words.
        error_class: `transient`, `overloaded`, `permanent`, `domain`, `unknown`; empty where
            nothing failed or nobody can tell.
        batch: Step of the message, or of the model's span, that proposed it together with
            others; -1 where that is not known.
        parent: Step of the span under which it stands.
        causes: Steps whose results it was declared to use.
        access: See `Access`; `UNKNOWN` until effects are worked out.
        access_basis: How that is known.
        touches: Resources that it touches; empty until effects are worked out.
        verb: The word of its name that says what it does, in lower case; empty until effects
            are worked out, and where no word does.
        rule: Of the guard that refused it or held it back, where the record says.
        attempt: 1, and more where the record says that this is a retry.
        turn: As of `CaseText`.
    """

    step: int
    name: str
    ended: int | None = None
    id: str = ""
    arguments: Mapping[str, Any] | None = None
    raw: str = ""
    result: str | None = None
    status: CallStatus = CallStatus.UNKNOWN
    status_basis: Basis = Basis.INFERRED
    error: str = ""
    error_class: str = ""
    actor: str = ""
    batch: int = -1
    parent: int | None = None
    causes: tuple[int, ...] = ()
    began_at: float | None = None
    took_s: float | None = None
    access: Access = Access.UNKNOWN
    access_basis: Basis = Basis.INFERRED
    touches: tuple[Touch, ...] = ()
    verb: str = ""
    rule: str = ""
    attempt: int = 1
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAsk:
    """A request to a model, as a record with prompts or spans shows it.

    Attributes:
        prompt: Messages that were sent, as (role, text); None where they are not recorded.
        answer: Text that came back; None where it is not recorded.
        stop: Why it stopped, as the provider says: `stop`, `length`, `tool_calls`, …
        input_tokens: Of the prompt; None where not recorded.
        window_tokens: Size of the model's window, where the record says.
        status: As of a call.
    """

    step: int
    model: str = ""
    actor: str = ""
    prompt: tuple[tuple[str, str], ...] | None = None
    answer: str | None = None
    stop: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    window_tokens: int | None = None
    status: CallStatus = CallStatus.UNKNOWN
    error: str = ""
    error_class: str = ""
    began_at: float | None = None
    took_s: float | None = None
    parent: int | None = None
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAct:
    """Something that a guard of the recording system did, other than refuse a call.

    Attributes:
        rule: `layer.reason`, as of refusals: `breakers.open`, `context.compacted`, …
        quote: The record's words.
    """

    step: int
    rule: str
    quote: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something that is wrong with the record itself.

    Attributes:
        kind: `no_steps`, `duplicate_id`, `missing_id`, `cycle`, `orphan_result`,
            `negative_duration`, `out_of_order`, `unreadable` or `cut_off`.
        steps: Where; empty where it is the whole record.
        quote: What is there.
    """

    kind: str
    steps: tuple[int, ...] = ()
    quote: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRules:
    """What calls of one tool must keep to, as the record or the user says.

    Attributes:
        needs: Tools that must have succeeded before, for the same values of the arguments that
            both take.
        consent: Whether a person must have agreed before.
        idempotent: Whether the same call may succeed twice without harm.
    """

    needs: tuple[str, ...] = ()
    consent: bool = False
    idempotent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run, from whatever system, in one form.

    Attributes:
        trace_id: The record's own name of the run; or its file and place.
        format: Name of the format it was read as.
        steps: How many messages or spans the input has.
        calls: In the order of their steps.
        error: What ended the run, where the record says so of the run as a whole.
        finished: Whether the record shows how the run ended; None where its format cannot.
        delivered: What the user was told at the end, where the record shows it.
        shows: What can be judged from it.
        tools: Names of tools that were on offer; None where the record does not say.
        declared: By tool, the claims that the record itself declares, as templates or keys.
        rules: By tool, what its calls must keep to; None where nobody says.
        pins: Texts that must stand in every prompt, as the user says.
        places: Where in the input each step stands, where that is not in the order in which
            things happened: steps are numbered by time then, and what is printed of them is
            their place. Empty where the two are the same.
    """

    trace_id: str
    format: str
    steps: int
    texts: tuple[CaseText, ...] = ()
    calls: tuple[CaseCall, ...] = ()
    asks: tuple[CaseAsk, ...] = ()
    acts: tuple[GuardAct, ...] = ()
    flaws: tuple[Flaw, ...] = ()
    error: str = ""
    finished: bool | None = None
    delivered: str | None = None
    shows: frozenset[Facet] = frozenset()
    tools: frozenset[str] | None = None
    declared: Mapping[str, tuple[Touch, ...]] | None = None
    rules: Mapping[str, ToolRules] | None = None
    pins: tuple[str, ...] = ()
    places: tuple[int, ...] = ()

    def shown(self, *facets: Facet) -> bool:
        """Whether the record shows all of `facets`."""
        return self.shows.issuperset(facets)
