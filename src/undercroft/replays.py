"""A recorded turn run once more: the real code against the journal, on a copy that is thrown away.

Keeps: nothing is written to the journal. Without `from_step` no model and no tool is called, and
the turn either says what it said, byte for byte, or the first divergence is named. With it the
copy goes on live from there, and whatever changes the world is refused unless it is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_bytes
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from undercroft.app import Runtime
from undercroft.engine.codec import decode, encode
from undercroft.engine.prompts import Prompt, prompt_of, read_policy
from undercroft.engine.rehearsal import Rehearsal
from undercroft.engine.targets import checked, import_name
from undercroft.engine.traces import trace_of
from undercroft.errors import (
    DeadlineError,
    GuestError,
    LoopError,
    RedactedError,
    ReplayError,
    TurnNotFoundError,
)
from undercroft.layers.context.counting import Estimate
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.observability.policy import Redaction
from undercroft.layers.observability.redaction import Redactor, Secrets
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ApprovalAsked,
    ContextOpened,
    Event,
    PromptAssembled,
    StepStarted,
    TurnDelivered,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    decode_frames,
    encode_frame,
)
from undercroft.model.message import Message, ModelRequest
from undercroft.model.outcome import Outcome, TurnStatus
from undercroft.model.step import MODEL, step_id
from undercroft.model.trace import Trace
from undercroft.model.turn import TurnHead
from undercroft.ports import Store
from undercroft.storage.copied import TURNS_MAX, Source, copied
from undercroft.storage.keyfile import KEY_BYTES, key_of, key_path
from undercroft.storage.read import open_reader

_read_message = msgspec.msgpack.Decoder(Message).decode
# A turn that goes on live may not take for ever.
LIVE_TIMEOUT_S = 600.0
_OPEN = (TurnParked, TurnStopped, TurnEnded, TurnDelivered)
# Ended from outside of the code, which therefore may go on where nobody ends it.
_ENDED_BY_US = (DeadlineError.__name__, LoopError.__name__, "SessionBusy")


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first thing that is not as it was recorded.

    Attributes:
        step: Id of the step, or the name of one that is not recorded; empty for the reply.
        what: `step`, `prompt`, `status`, `reply` or `error`.
        recorded: What the journal holds, in words or as data.
        now: What the code does now.
        message: Of a prompt, which message differs first, counted from 0; else None.
    """

    step: str
    what: str
    recorded: Any
    now: Any
    message: int | None = None

    def __str__(self) -> str:
        where = f"step {self.step}" if self.step else "the turn"
        which = "" if self.message is None else f", message {self.message}"
        return f"{self.what} of {where}{which}: recorded {self.recorded!r}, now {self.now!r}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a replay.

    Attributes:
        turn_id: The turn.
        same: Whether everything is as it was recorded; of one that goes on live, None.
        divergence: The first thing that is not.
        steps: How many recorded steps were met again.
        prompts: How many prompts were compared with those that were sent, byte for byte.
        ends: How the record ends: `ended`, `parked`, or `cut off` where its process died.
        outcome: How the turn stands now; None where it came to nothing of the kind.
        trace: The record of the copy, of one that went on live.
        refused: Steps that were not called since they would change the world.
    """

    turn_id: str
    same: bool | None
    divergence: Divergence | None
    steps: int
    prompts: int
    ends: str
    outcome: Outcome | None = None
    trace: Trace | None = None
    refused: tuple[str, ...] = ()


async def replay(  # noqa: PLR0913  each keyword is one setting
    journal: str | Path | Store,
    turn_id: str,
    *,
    from_step: str | int | None = None,
    effects: bool = False,
    target: Any = None,
    targets: Iterable[Any] = (),
    secrets: Iterable[Any] = (),
    model: Any = None,
    **settings: Any,
) -> Replay:
    """Run a recorded turn once more, on a copy of its journal.

    Args:
        journal: Its path, or a store that is open.
        turn_id: The turn's id.
        from_step: Id or number of the step from which on it goes on live, with its model and
            its tools; None: nothing is called at all.
        effects: Whether steps that change the world may be called then.
        target: The workflow or handler to run in place of the one that is recorded, such as one
            that was renamed since.
        targets: Where its code may be, if it cannot be imported by name.
        secrets: Values that were redacted in the journal.
        model: What handlers without a model of their own ask, of one that goes on live.
        settings: Of the runtime, as for `Runtime`: what it ran with where that matters, such as
            `loops`; its context policy is read from the journal.

    Raises:
        TurnNotFoundError: There is no such turn, or no such step.
        TargetError: Its code cannot be found.
        RedactedError: Its journal holds marks in place of values that are not in `secrets`.
        StoreError: The journal cannot be read.
    """
    with _opened(journal) as source:
        frames = source.frames(turn_id)
        if not frames:
            raise TurnNotFoundError(
                turn_id, "there is no such turn in this journal", "List them: undercroft turns."
            )
        events = decode_frames(frames)
        _refuse_guest(turn_id, events[0])
        if target is not None:
            targets = (*targets, target)
            events[0] = structs.replace(events[0], target=import_name(checked(target)))
        settings["redaction"] = _redaction(journal, settings.get("redaction"))
        settings.setdefault("turn_timeout_s", LIVE_TIMEOUT_S)
        redactor = _redactor(settings["redaction"], events, turn_id, secrets)
        redactor.unknown(frames)  # learns what is sealed in them
        given = (tuple(targets), tuple(secrets))
        run = _Run(source, turn_id, *given, model or _Silent(), settings, redactor)
        if from_step is not None:
            return await run.live(events, from_step, effects=effects)
        passed, found = 0, None
        for stretch in _stretches(events):
            found = await run.sealed(stretch)
            passed += found.prompts
            if found.divergence is not None:
                break
        assert found is not None  # noqa: S101  every turn has a life
        return replace(found, prompts=passed, ends=_ends(events))


class _Stretch(NamedTuple):
    """The lives of a turn that one context policy ruled, and all before them.

    Attributes:
        events: From the turn's begin to the end of those lives.
        opened: What tells the policy; None where there was none.
        prompts: Numbers of the steps that asked a model in those lives.
    """

    events: list[AnyEvent]
    opened: ContextOpened | None
    prompts: frozenset[int]


def _stretches(events: Sequence[AnyEvent]) -> list[_Stretch]:
    """Return the stretches of a turn: one, unless it was resumed under another policy."""
    lives: list[list[AnyEvent]] = [[]]
    for event in events:
        if isinstance(event, TurnResumed):
            lives.append([])
        lives[-1].append(event)
    found: list[_Stretch] = []
    prompts = {e.n for e in events if isinstance(e, PromptAssembled)}
    upto: list[AnyEvent] = []
    opened: ContextOpened | None = None
    for life in lives:
        upto = [*upto, *life]
        asked = frozenset(e.n for e in life if isinstance(e, StepStarted) and e.kind == MODEL)
        told = next((e for e in life if isinstance(e, ContextOpened)), None)
        weighed = not asked.isdisjoint(prompts)
        # Said once for as long as it stays: a life that asks nothing goes on with the one before.
        now = told or (opened if weighed or not asked else None)
        if found and found[-1].opened is now:
            asked |= found.pop().prompts
        opened = now
        found.append(_Stretch(upto, now, asked))
    return found


class _Run(NamedTuple):
    """Runs copies of a turn."""

    source: Source
    turn_id: str
    targets: tuple[Any, ...]
    secrets: tuple[Any, ...]
    model: Any
    settings: dict[str, Any]
    redactor: Redactor

    async def sealed(self, stretch: _Stretch) -> Replay:
        """Run a turn with nothing called."""
        rehearsal = Rehearsal(sealed=True, prompts=stretch.prompts)
        taken = _cut(stretch.events, None)
        outcome, error, after = await self._resumed(stretch, taken, rehearsal)
        trace = trace_of(stretch.events)
        steps = len(trace.steps) if trace is not None else 0
        found = self._divergence(stretch.events, after, error, rehearsal)
        ends = _ends(stretch.events)
        return Replay(self.turn_id, found is None, found, steps, rehearsal.compared, ends, outcome)

    async def live(self, events: list[AnyEvent], from_step: str | int, *, effects: bool) -> Replay:
        """Run a turn with nothing called up to a step, and live from there."""
        place = _place_of(self.turn_id, events, from_step)
        stretches = _stretches(events)
        stretch = next((one for one in stretches if len(one.events) > place), stretches[-1])
        rehearsal = Rehearsal(sealed=False, effects=effects, prompts=stretch.prompts)
        taken = _cut(events, place)
        outcome, error, after = await self._resumed(stretch, taken, rehearsal)
        trace, before = trace_of(after), trace_of(decode_frames(taken))
        met = len(before.steps) if before is not None else 0
        found = None
        if error is not None:
            found = Divergence(error.step, "step", "another step", error.problem)
        elif rehearsal.prompts:
            found = self._prompt_divergence(events, *rehearsal.prompts[0])
        same = None if found is None else False
        ends, refused = _ends(after), tuple(rehearsal.refused)
        return Replay(
            self.turn_id, same, found, met, rehearsal.compared, ends, outcome, trace, refused
        )

    async def _resumed(
        self, stretch: _Stretch, taken: Sequence[bytes], rehearsal: Rehearsal
    ) -> tuple[Outcome | None, ReplayError | None, list[AnyEvent]]:
        """Resume a copy; return how it stands, or what was asked that is not recorded."""
        head = _head_of(self.turn_id, stretch.events)
        store = copied(self.source, self.turn_id, head, taken)
        asked = [event.journal for event in stretch.events if isinstance(event, ApprovalAsked)]
        if asked:
            # A word on what was asked counts in a copy that nobody else can act upon.
            store.journal.copy_id = asked[-1]
        settings = {"context": self._policy(stretch), **self.settings}
        runtime = Runtime(store, model=self.model, targets=self.targets, **settings)
        runtime.rehearsal = rehearsal
        outcome, error = None, None
        async with runtime:
            try:
                outcome = await runtime.resume(self.turn_id, secrets=self.secrets)
            except ReplayError as raised:
                error = raised
            after = decode_frames(store.frames(self.turn_id) or [])
        return outcome, error, self._in_clear(after)

    def _in_clear(self, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """Return events with all secrets that are known, whenever they became so."""
        return decode_frames(self.redactor.restore([encode_frame(events)]))

    def _policy(self, stretch: _Stretch) -> ContextPolicy | None:
        """Return the context policy of a stretch, as the journal tells it."""
        opened = stretch.opened
        if opened is None:
            return None
        told = _told_policy(self.source, self.turn_id, stretch.events, opened.policy)
        return None if told is None else read_policy(decode(told.settings))

    def _divergence(
        self,
        events: Sequence[AnyEvent],
        after: Sequence[AnyEvent],
        error: ReplayError | None,
        rehearsal: Rehearsal,
    ) -> Divergence | None:
        """Return what was not as it was recorded, where nothing was called."""
        if rehearsal.prompts:
            return self._prompt_divergence(events, *rehearsal.prompts[0])
        if error is None:
            return _end_divergence(self._in_clear(events), after, self.redactor.text)
        found = _error_divergence(events, error, rehearsal, _ends(events))
        unmet = _unmet_prompt(events, rehearsal)
        if found is not None and rehearsal.asked is not None and unmet is not None:
            return self._prompt_divergence(events, unmet, rehearsal.asked)
        return found

    def _prompt_divergence(
        self, events: Sequence[AnyEvent], step: str, now: ModelRequest
    ) -> Divergence:
        """Return where a prompt differs first from the one that was sent."""
        sent = self._sent(events, step)
        if sent is None:
            return Divergence(step, "prompt", "another text", f"{len(now.messages)} messages")
        for place in range(max(len(sent.messages), len(now.messages))):
            was = sent.messages[place] if place < len(sent.messages) else None
            new = self._hidden(now.messages[place]) if place < len(now.messages) else None
            if was != new:
                return Divergence(step, "prompt", _told(was), _told(new), place)
        return Divergence(step, "prompt", "other tools", [spec.name for spec in now.tools])

    def _hidden(self, message: Message) -> Message:
        """Return a message as the journal would show it."""
        raw = self.redactor.raw(encode(message))
        return _read_message(raw)

    def _sent(self, events: Sequence[AnyEvent], step: str) -> Prompt | None:
        """Return a prompt as it was sent, rebuilt from the journal; None where that cannot be."""
        with suppress(RedactedError):
            return prompt_of(
                self.source,
                events,
                int(step.rpartition(".")[2]),
                policies=lambda name: _told_policy(self.source, self.turn_id, events, name),
                counter=lambda _: Estimate(),
            )
        return None


def _redaction(journal: str | Path | Store, given: Redaction | None) -> Redaction:
    """Return what is secret, under the key of the journal, so that its marks are known again."""
    redaction = given or Redaction()
    if redaction.key is not None:
        return redaction
    own = None if isinstance(journal, str | Path) else getattr(journal, "key", None)
    if own is not None:
        key = own()
    elif isinstance(journal, str | Path) and Path(key_path(str(journal))).exists():
        key = key_of(str(journal))
    else:
        key = token_bytes(KEY_BYTES)  # nothing in it was redacted, or nobody can tell what
    return replace(redaction, key=key)


def _redactor(
    policy: Redaction, events: Sequence[AnyEvent], turn_id: str, secrets: Iterable[Any]
) -> Redactor:
    """Return what knows the secrets of a turn, for comparing and for what is shown."""
    known = Secrets(policy, lambda: policy.key or b"")
    known.learn(secrets)
    begun = next(event for event in events if isinstance(event, TurnStarted))
    return known.of(begun.session, turn_id)


class _Silent:
    """Stands where a model would be asked; it never is."""

    async def complete(self, request: ModelRequest) -> Any:
        """Say that there is none."""
        del request
        msg = "this replay has no model to ask: give one with model="
        raise LookupError(msg)


def _opened(journal: str | Path | Store) -> AbstractContextManager[Source]:
    if isinstance(journal, str | Path):
        return open_reader(str(journal))
    return nullcontext(journal)


def _head_of(turn_id: str, events: Sequence[AnyEvent]) -> TurnHead:
    begun = next(event for event in events if isinstance(event, TurnStarted))
    status = TurnStatus.STOPPED
    return TurnHead(turn_id, begun.kind, begun.target, begun.session, status, begun.at)


def _told_policy(
    source: Source, turn_id: str, events: Sequence[AnyEvent], policy: str
) -> ContextOpened | None:
    """Return where the settings of a policy are told: in the turn, or earlier in its session."""
    session = next(event.session for event in events if isinstance(event, TurnStarted))
    ids = [turn_id]
    if session is not None:
        ids += [head.turn_id for head in source.heads(session=session, limit=TURNS_MAX)]
    for one in ids:
        for event in decode_frames(source.frames(one) or []):
            if (
                isinstance(event, ContextOpened)
                and event.policy == policy
                and bytes(event.settings) != NIL_BYTES
            ):
                return event
    return None


def _cut(events: Sequence[AnyEvent], first: int | None) -> list[bytes]:
    """Return the frames of a copy: without its end, or only what comes before event `first`."""
    if first is None:
        last = len(events)
        while last and isinstance(events[last - 1], _OPEN):
            last -= 1
        return [encode_frame([event]) for event in events[:last]]
    begun = {e.n for e in events[:first] if isinstance(e, StepStarted)}
    kept: list[Event] = [e for e in events[:first] if not isinstance(e, _OPEN)]
    # What ran beside it, and ended later, is not done again.
    kept += [e for e in events[first:] if getattr(e, "n", None) in begun]
    return [encode_frame([event]) for event in kept]


def _place_of(turn_id: str, events: Sequence[AnyEvent], wanted: str | int) -> int:
    """Return where in `events` a step is named first."""
    number = int(wanted) if str(wanted).isdigit() else None
    names: list[str] = []
    for place, event in enumerate(events):
        n, name = getattr(event, "n", None), getattr(event, "name", "")
        if n is None or not name:
            continue
        names.append(step_id(name, n))
        if n == number or wanted in (name, names[-1]):
            # What is said of it before it begins, such as its prompt, is of it too.
            return next(at for at in range(place + 1) if getattr(events[at], "n", None) == n)
    known = ", ".join(dict.fromkeys(names)) or "none"
    raise TurnNotFoundError(turn_id, f"it has no step {wanted!r}", f"Its steps: {known}.")


# ---------------------------------------------------------------------- what came of it


def _ends(events: Sequence[AnyEvent]) -> str:
    for event in reversed(events):
        if isinstance(event, TurnEnded):
            return "ended"
        if isinstance(event, TurnParked):
            return "parked"
        if not isinstance(event, TurnDelivered):
            break
    return "cut off"


def _ended_by_us(events: Sequence[AnyEvent]) -> bool:
    """Whether the runtime ended the turn: what its code would have made of that is not recorded."""
    end = next((e for e in events if isinstance(e, TurnEnded)), None)
    return end is not None and end.error is not None and end.error.type in _ENDED_BY_US


def _error_divergence(
    events: Sequence[AnyEvent], error: ReplayError, rehearsal: Rehearsal, ends: str
) -> Divergence | None:
    """Return in what a turn that could not go on went another way; None where it did not."""
    stopped = rehearsal.stopped
    by_us = _ended_by_us(events)
    left = error.step and error.step not in rehearsal.stops
    parked = next((e for e in reversed(events) if isinstance(e, TurnParked)), None)
    # What nobody knows the end of, a replay cannot find out either.
    doubt = ends == "parked" and parked is not None and parked.status is TurnStatus.IN_DOUBT
    if stopped is not None and not left and (ends == "cut off" or by_us or doubt):
        return None  # it came as far as the record goes
    return Divergence(error.step or stopped or "", "step", error.problem, stopped or "nothing")


def _unmet_prompt(events: Sequence[AnyEvent], rehearsal: Rehearsal) -> str | None:
    """Return the first recorded step that asked a model, and that the code did not come to."""
    asked = ((e.n, e.name) for e in events if isinstance(e, StepStarted) and e.name == MODEL)
    left = next(((n, name) for n, name in asked if n not in rehearsal.met), None)
    return None if left is None else step_id(left[1], left[0])


def _end_divergence(
    events: Sequence[AnyEvent], after: Sequence[AnyEvent], hide: Callable[[str], str]
) -> Divergence | None:
    """Return in what a turn ended otherwise than it did; `hide` takes secrets out of a text."""
    was, now = trace_of(events), trace_of(after)
    if was is None or now is None:
        return None
    known = {step.step_id for step in was.steps}
    # Refused at once, as all that is not recorded; that it was asked for is enough.
    more = next((step for step in now.steps if step.step_id not in known), None)
    if more is not None:
        return Divergence(more.name, "step", "nothing of that kind", more.step_id)
    if _ends(events) == "cut off" or _ended_by_us(events):
        return None  # its end was never written, or is not the code's
    said = (
        ("status", str(was.status), str(now.status)),
        ("reply", was.delivered, now.delivered),
        ("error", str(was.error), str(now.error)),
    )
    for what, recorded, says in said:
        if _plain(recorded) != _plain(says):
            return Divergence("", what, _shown(recorded, hide), _shown(says, hide))
    return None


def _shown(value: Any, hide: Callable[[str], str]) -> Any:
    return hide(value) if isinstance(value, str) else hide(str(value))


def _plain(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def _told(message: Message | None) -> str:
    return "no message" if message is None else f"{message.role}: {message.content}"


def _refuse_guest(turn_id: str, begun: AnyEvent) -> None:
    if isinstance(begun, TurnStarted) and begun.kind == "guest":
        raise GuestError(
            turn_id,
            f"its loop ({begun.target}) is somebody else's, and cannot be run without it",
            "See what it did: undercroft show.",
        )
