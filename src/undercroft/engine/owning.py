"""What one turn owns and knows: asked before each write, and taken note of after each read.

Keeps: a write begins only as the owner of what it changes, and only where what the turn knows
of it is still true; while it waits for an owner it holds nothing that others need.
Leaves to the conflicts layer: what follows from what; to the store: who owns what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from undercroft.engine.body import Body
from undercroft.engine.codec import decode
from undercroft.engine.log import TurnLog
from undercroft.layers.conflicts.guard import dirty, owned, stale, unreadable
from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.ownership import CHANGING, Ownership, may_wait
from undercroft.layers.conflicts.versions import Known, Seen, in_question, version_of
from undercroft.model.effect import Mode, Strength
from undercroft.model.event import Event, ResourceOwned, VersionChecked
from undercroft.model.lease import Denied, Granted, Wrote
from undercroft.model.outcome import Changed
from undercroft.model.step import Refusal
from undercroft.ports import NOBODY, Clock, Store, Wants

_POLL_MIN_S, _POLL_MAX_S = 0.01, 0.2
# Of a value that was read, this much is kept to say later what has changed.
_KEPT_BYTES_MAX = 4_096
_READS_MAX = 64


# Reasons to doubt that are somebody else's doing.
_BY_OTHERS = ("written", "dirty")


class Reader(NamedTuple):
    """A read that can be done again."""

    body: Body
    kwargs: Mapping[str, Any]


# Returns the value and the value encoded; raises whatever the tool raises.
Read = Callable[[Reader, str], Awaitable[tuple[Any, bytes]]]


class Ask(NamedTuple):
    """A write that wants to begin.

    Attributes:
        again: Whether it was begun before.
        unsure: Whether it may have happened then, so that what it changes may be as it left it.
    """

    n: int
    name: str
    wants: Wants
    again: bool
    unsure: bool


class Writer(Protocol):
    """The run that a write belongs to, with the step that writes."""

    async def read_again(self, reader: Reader, name: str) -> tuple[Any, bytes]:
        """Do a read once more."""

    def begun(self, step: Any, attempt: int) -> Event:
        """Return the intent, with the time of now."""

    def let_go(self, step: Any) -> None:
        """Give back what the step holds at the desk while it waits for an owner."""

    async def come_back(self, step: Any) -> Refusal | None:
        """Take it again; return why that cannot be."""


class Go(NamedTuple):
    """The write may begin; `position` is its fence."""

    position: int


class No(NamedTuple):
    """The write must not happen; `begun` where its intent is written already."""

    refusal: Refusal
    begun: bool


class Turns:
    """The turns that run here, and who waits for one of them to let go of what it owns."""

    def __init__(self) -> None:
        self._live: dict[str, list[asyncio.Future[None]]] = {}

    def begin(self, turn_id: str) -> None:
        """Take note that a turn runs here."""
        self._live.setdefault(turn_id, [])

    def end(self, turn_id: str) -> None:
        """Wake those who waited for a turn that ended or parked, in the order of asking."""
        for waiter in self._live.pop(turn_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, turn_id: str, limit_s: float) -> bool:
        """Wait for a turn that runs here; False at once where it does not."""
        waiters = self._live.get(turn_id)
        if waiters is None:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await asyncio.wait({waiter}, timeout=limit_s)
        finally:
            if not waiter.done():
                waiters.remove(waiter)
        return True


class Silences:
    """Since when other processes have said nothing: clocks of others are never looked at."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._heard: dict[int, tuple[int, float]] = {}

    def lapsed(self, denied: Denied, delay_s: float) -> Mapping[int, int]:
        """Return the owner's process and its last beat, once it may be taken for dead."""
        now_s, runtime = self._now_s(), denied.runtime
        beat, since_s = self._heard.get(runtime, (-1, now_s))
        if beat != denied.beat:
            since_s = now_s
            self._heard[runtime] = (denied.beat, now_s)
        limit_s = delay_s + (0.0 if denied.dead else denied.lease_s)
        return {runtime: denied.beat} if now_s - since_s >= limit_s else NOBODY


class Owner:
    """What one turn owns, knows, and may write."""

    def __init__(  # noqa: PLR0913, PLR0917  made in one place
        self,
        store: Store,
        clock: Clock,
        policy: Ownership,
        turns: Turns,
        silences: Silences,
        log: TurnLog,
        turn_id: str,
        strength: Callable[[str], Strength],
        delay_s: Callable[[str], float],
        tick: Callable[[], int],
    ) -> None:
        self._store, self._clock, self._policy = store, clock, policy
        self._turns, self._silences = turns, silences
        self._log, self._turn_id = log, turn_id
        self._strength, self._delay_s, self._tick = strength, delay_s, tick
        self._owns = False
        self._known = Known()
        # Reads that nobody has asked about yet: most turns read more than they write.
        # By their keys: of two of the same the first holds on to what it was given for nothing.
        self._reads: dict[tuple[str, ...], tuple[Reader, bytes, int]] = {}

    # ------------------------------------------------------------------ owning

    async def begin(self, ask: Ask, writer: Writer, step: Any, attempt: int) -> Go | No:
        """Write the intent of a write as the owner of what it changes, or say why not.

        Raises:
            StoreError: The journal cannot be written.
        """
        lapsed, since_s, poll_s = NOBODY, -1.0, _POLL_MIN_S
        while True:
            answer = await self._log.intent(
                writer.begun(step, attempt), ask.wants, lapsed, again=ask.again
            )
            if isinstance(answer, Granted):
                break
            now_s = self._clock.now_s()
            since_s = now_s if since_s < 0 else since_s
            writer.let_go(step)
            lapsed = self._silences.lapsed(answer, self._delay_s(answer.key))
            if not lapsed:
                waited_s = now_s - since_s
                ring = not may_wait(self._turn_id, answer.owner, owns=self._owns)
                if ring or waited_s >= self._policy.wait_s:
                    refusal = owned(ask.name, answer.key, answer.owner, waited_s, ring=ring)
                    return No(refusal, begun=False)
                await self._wait(answer, min(poll_s, self._policy.wait_s - waited_s), since_s)
                poll_s = min(2 * poll_s, _POLL_MAX_S)
            refusal_at_desk = await writer.come_back(step)
            if refusal_at_desk is not None:
                return No(refusal_at_desk, begun=False)
        self._note_owned(ask, answer)
        refusal_of_state = await self._doubtful(ask, answer.wrote, writer)
        return Go(answer.position) if refusal_of_state is None else No(refusal_of_state, begun=True)

    async def _wait(self, denied: Denied, poll_s: float, since_s: float) -> None:
        """Wait until it is worth asking again."""
        if denied.runtime == self._store.runtime:
            left_s = since_s + self._policy.wait_s - self._clock.now_s()
            if await self._turns.wait(denied.owner, left_s):
                return
        await self._clock.sleep(poll_s)

    def _note_owned(self, ask: Ask, granted: Granted) -> None:
        if not granted.owned:
            return
        # What is only appended to is let go of with the step, so nobody waits for it for long.
        kept = (key for mode, key in ask.wants if mode != Mode.APPEND)
        self._owns = self._owns or any(key in granted.owned for key in kept)
        strength = tuple(self._strength(key).value for key in granted.owned)
        taken = next(iter(granted.taken), None)
        self._log.note(
            ResourceOwned(
                ask.n,
                granted.owned,
                granted.position,
                strength,
                self._clock.wall_s(),
                taken.turn_id if taken else "",
                any(each.dirty for each in granted.taken),
            )
        )

    async def session(self, key: str) -> Refusal | None:
        """Become the owner of a session, before anything else; return why that cannot be."""
        wants = ((Mode.WRITE.value, key),)
        lapsed, since_s, poll_s = NOBODY, self._clock.now_s(), _POLL_MIN_S
        while True:
            # Number 0: it is the turn itself that owns it, from before its first step.
            event = ResourceOwned(0, (key,), 0, (), self._clock.wall_s())
            answer = await self._log.intent(event, wants, lapsed, again=True)
            if isinstance(answer, Granted):
                return None
            waited_s = self._clock.now_s() - since_s
            lapsed = self._silences.lapsed(answer, 0.0)
            if lapsed:
                continue
            if waited_s >= self._policy.wait_s:
                return owned("the turn", key, answer.owner, waited_s, ring=False)
            await self._wait(answer, min(poll_s, self._policy.wait_s - waited_s), since_s)
            poll_s = min(2 * poll_s, _POLL_MAX_S)

    # ------------------------------------------------------------------ knowing

    def saw(
        self, keys: tuple[str, ...], reader: Reader, value: Any, raw: bytes, position: int
    ) -> str:
        """Take note of what a read saw; return its version, where the tool declares one.

        Args:
            keys: Claimed for reading.
            reader: What read it.
            value: What it returned.
            raw: The same, encoded.
            position: Of the journal, before it began.
        """
        extract = reader.body.version
        if extract is None and len(raw) <= _KEPT_BYTES_MAX:
            self._reads[keys] = (reader, raw, position)
            if len(self._reads) > _READS_MAX:
                self._note_reads()
            return ""
        version, known = version_of(value, raw, extract), self.known
        kept = raw if len(raw) <= _KEPT_BYTES_MAX else b""
        for key in keys:
            known.note(Seen(key, version, position, reader, extract is not None, kept))
        return version if extract is not None else ""

    @property
    def known(self) -> Known:
        """What the turn knows of what it read and wrote."""
        if self._reads:
            self._note_reads()
        return self._known

    def _note_reads(self) -> None:
        for keys, (reader, raw, position) in self._reads.items():
            for key in keys:
                self._known.note(Seen(key, "", position, reader, value=raw))
        self._reads.clear()

    def changed(self, wants: Wants, position: int) -> None:
        """Take note that the turn itself wrote: it need not be told of that."""
        for _, key in wants:
            self.known.wrote(key, position)

    async def _doubtful(self, ask: Ask, wrote: Iterable[Wrote], writer: Writer) -> Refusal | None:
        """Read again what may have changed since the turn saw it; return why not to write."""
        wrote = list(wrote)
        for mode, key in ask.wants:
            if mode == Mode.APPEND:
                continue
            about = self.known.about(key)
            left = next((w for w in wrote if w.dirty and overlap(w.key, key)), None)
            if left is not None and left.turn_id != self._turn_id and not about:
                return dirty(ask.name, key, left.turn_id, ())
            for seen in about:
                why = in_question(seen, wrote, self._turn_id)
                if why and ask.unsure:
                    # Reading it again would not tell others' changes from its own.
                    if why in _BY_OTHERS:
                        return stale(ask.name, seen.key, _shown(seen.value), None, "")
                elif why:
                    by = next((w.turn_id for w in wrote if overlap(w.key, seen.key)), "")
                    refusal = await self._checked(ask, seen, why, by, writer)
                    if refusal is not None:
                        return refusal
        return None

    async def _checked(
        self, ask: Ask, seen: Seen, why: str, by: str, writer: Writer
    ) -> Refusal | None:
        reader, was = seen.reader, _shown(seen.value)
        if reader is None:
            return stale(ask.name, seen.key, was, None, by)
        began_s, position = self._clock.now_s(), self._store.position
        try:
            value, raw = await writer.read_again(reader, ask.name)
        except Exception as error:  # noqa: BLE001  whatever the tool raises
            return unreadable(ask.name, seen.key, f"{type(error).__name__}: {error}")
        version = version_of(value, raw, reader.body.version)
        same = version == seen.identity
        took_s = self._clock.now_s() - began_s
        self._log.note(
            VersionChecked(
                ask.n, (seen.key,), same, why, self._clock.wall_s(), took_s, self._tick()
            )
        )
        kept = raw if len(raw) <= _KEPT_BYTES_MAX else b""
        self.known.note(Seen(seen.key, version, position, reader, seen.declared, kept))
        return None if same else stale(ask.name, seen.key, was, decode(raw), by)

    # ------------------------------------------------------------------ approvals

    def versions(self, wants: Wants) -> tuple[tuple[str, str], ...]:
        """Return what is known of what a write would change, as an approval binds to it."""
        found: dict[str, str] = {}
        for _, key in wants:
            for seen in self.known.about(key):
                if seen.reader is not None and seen.identity:
                    found[seen.key] = seen.identity
        return tuple(found.items())

    async def changes(
        self, n: int, versions: Iterable[tuple[str, str]], read: Read
    ) -> list[Changed]:
        """Read again what an approver was shown; return what is not as it was.

        What the turn has not read itself in this life, or cannot read, counts as changed.
        """
        changed = []
        for key, version in versions:
            seen = next((s for s in self.known.about(key) if s.key == key), None)
            if seen is None or seen.reader is None:
                changed.append(Changed(key, None, "(it cannot be read again)"))
                continue
            began_s, position = self._clock.now_s(), self._store.position
            try:
                value, raw = await read(seen.reader, key)
            except Exception as error:  # noqa: BLE001  whatever the tool raises
                changed.append(Changed(key, _shown(seen.value), f"(reading it failed: {error})"))
                continue
            now = version_of(value, raw, seen.reader.body.version)
            same, took_s = now == version, self._clock.now_s() - began_s
            at = self._clock.wall_s()
            self._log.note(VersionChecked(n, (key,), same, "approved", at, took_s, self._tick()))
            kept = raw if len(raw) <= _KEPT_BYTES_MAX else b""
            self.known.note(Seen(key, now, position, seen.reader, seen.declared, kept))
            if not same:
                changed.append(Changed(key, _shown(seen.value), decode(raw)))
        return changed


def changing(claims: Iterable[tuple[str, str]]) -> Wants:
    """Return the claims that may change something."""
    return tuple([claim for claim in claims if claim[0] in CHANGING])


def _shown(raw: bytes) -> Any:
    return decode(raw) if raw else "(too large to be kept)"
