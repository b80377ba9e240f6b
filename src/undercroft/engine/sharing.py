"""Breakers of all processes on one journal: what one learns all know soon, and one tries for all.

Keeps: nothing here is awaited by a call, but for the moment in which it might be the one that tries
a service again, and then for a tenth of a second at most; whatever the journal does, breakers go on
by themselves and nothing is raised; no two clocks are compared, so a wait that another process
began is counted from when it was heard of. A process that begins waits as long as those that wait
already say; where none of them lives any more, it may try at once.

Where two processes saw different things, a person's word wins, then the worse state. That is also
how it goes once a journal that was lost is back: what happened meanwhile is written behind what is
there, if nobody else wrote; if somebody did, the worse of the two states holds for all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import msgspec

from undercroft.engine.figures import Watched, change_of, figures
from undercroft.engine.sharedline import SharedLine
from undercroft.errors import StoreBusyError, StoreError
from undercroft.layers.breakers.board import (
    RANKS,
    BoardRow,
    Gauge,
    decode_gauges,
    encode_gauge,
    rows,
    storable,
)
from undercroft.layers.breakers.state import BreakerState, Transition
from undercroft.model.circuit import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    Account,
    Ask,
    Chain,
    CircuitChanged,
    News,
    Post,
    Prober,
    Spent,
    Stored,
)
from undercroft.ports import Board, Clock

log = logging.getLogger(__name__)

BEAT_S = 0.25
# The same where nothing was called yet.
IDLE_S = 0.5
GAUGE_S = 1.0
# What a call that might be a probe waits for at most.
ASK_S = 0.1
# Who was told that somebody else tries the service asks again after this.
DENIED_S = 0.25
# A right that came too late for its caller, or was not used at once, is given back.
UNUSED_S = 0.5
# While another process tries the service, this one looks again after so long.
RECHECK_S = 1.0
SPENT_S = 0.25
# How long telling the last may take when a runtime is left.
LEAVE_S = 0.5
BACKOFF_MAX_S = 1.0
# So often in a row another process may be writing before it is said that nothing is shared.
BUSY_MAX = 5
ACCOUNTS_MAX = 10_000


class Sharing:
    """What one runtime tells the others of its breakers, and hears from them.

    Args:
        board: Of the store; None: each process for itself.
        clock: Time.
        beat_s: How often others are listened to, where the board does not call.
    """

    def __init__(self, board: Board | None, clock: Clock, *, beat_s: float = BEAT_S) -> None:
        self._board, self._beat_s = board, beat_s
        self._clock, self._now_s = clock, clock.now_s
        self._lines: dict[str, SharedLine] = {}
        # The last transition of every service in the journal, and up to where it was read.
        self._known: dict[str, Stored] = {}
        self._since = 0
        # When the waits of those that are open are over, as far as it is known.
        self._over_s: dict[str, float] = {}
        self._spends: dict[Account, Spent] = {}
        self._totals: dict[Account, Spent] = {}
        self._wanted: dict[Account, asyncio.Future[None]] = {}
        self._muted = self._listens = self._stopping = False
        self._failing = self._unwritten = False
        self._complained, self._busy = False, 0
        self._lost = 0
        self._gauged_s = float("-inf")
        self._wake, self._heard = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def shared(self) -> bool:
        """Whether there is anybody to tell."""
        return self._task is not None

    # ------------------------------------------------------------------ beginning and ending

    async def start(self) -> None:
        """Hear how all services stand. What is slow to answer is heard of later."""
        if self._board is None:
            return
        self._listens = self._board.listen(self._wake.set)
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="undercroft-sharing")
        self._wake.set()
        self._heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(SPENT_S):
                await self._heard.wait()

    async def stop(self) -> None:
        """Tell what is left to tell, take back this process's figures, and end the task."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._wake.set()
        await asyncio.wait({task}, timeout=LEAVE_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for line in self._lines.values():
            line.answer(granted=True)
        self._answer_totals()

    def watch(self, name: str, gate: Watched) -> None:
        """Share the breaker of a service, from its first call on.

        Its circuit must tell its transitions to `tell`; where the journal knows how the service
        stands, the circuit goes there at once.
        """
        if not _storable(name):
            log.warning(
                "the breaker of service %a is not shared: no journal can hold its name", name
            )
            return
        state = gate.circuit.state
        home = state if state is BreakerState.DISABLED else BreakerState.CLOSED
        line = self._lines[name] = SharedLine(name, gate, home)
        stored = self._known.get(name)
        if stored is not None:
            line.epoch = stored.epoch
            left_s = max(0.0, self._over_s.get(name, 0.0) - self._now_s())
            self._follow(line, stored.change, wait_s=left_s)
        if self._task is not None:
            self._wake.set()

    # ------------------------------------------------------------------ what calls ask and say

    def tell(self, name: str, transition: Transition) -> None:
        """Take note of a transition that happened here; others are told at once."""
        line = self._lines.get(name)
        if line is None or self._board is None or self._muted:
            return
        if transition.now is not BreakerState.HALF_OPEN:
            line.holds = False
        at = self._clock.wall_s() - max(0.0, self._now_s() - transition.at_s)
        line.untold.append(change_of(name, transition, at, self._board.runtime))
        self._wake.set()

    async def may_probe(self, name: str) -> bool:
        """Whether a call may try a service again, whose wait is over.

        True in one process at a time; in each, where the journal does not answer within a tenth
        of a second.
        """
        line = self._lines.get(name)
        if line is None or self._task is None or line.holds:
            return True
        if self._now_s() < line.denied_until_s:
            return False
        if line.asking is None:
            line.asking = asyncio.get_running_loop().create_future()
            self._wake.set()
        try:
            async with asyncio.timeout(ASK_S):
                return await asyncio.shield(line.asking)
        except TimeoutError:
            return True

    def spend_add(self, scope: str, name: str, amount: tuple[int, int, int, int, int]) -> None:
        """Add to what is spent on account of `name`, a session or a service.

        It is written soon: what a process spent in its last quarter of a second may be lost
        when it is killed.

        Args:
            scope: Such as `session` or `service`.
            name: Of it.
            amount: Attempts, microseconds, tokens sent and answered, billionths of a dollar.
        """
        if self._board is None:
            return
        account = (scope, name)
        if account not in self._spends:
            if not _storable(scope + name):
                return
            if len(self._spends) >= ACCOUNTS_MAX:
                del self._spends[next(iter(self._spends))]
        self._spends[account] = self._spends.get(account, Spent()).plus(amount)
        if self._listens:
            self._wake.set()

    async def spent(self, scope: str, name: str) -> Spent:
        """Return what all processes together spent on account of `name`, as far as is known.

        It takes a quarter of a second at most; then what was known last has to do.
        """
        account = (scope, name)
        if self._task is not None:
            if account not in self._wanted:
                self._wanted[account] = asyncio.get_running_loop().create_future()
                self._wake.set()
            await asyncio.wait({self._wanted[account]}, timeout=SPENT_S)
        known = self._totals.get(account, Spent())
        return known.plus(self._spends.get(account, Spent()))

    async def rows(self) -> list[BoardRow]:
        """Return how all services stand; the figures of other processes may be a second old."""
        own = [(0, self._gauge(line)) for line in self._lines.values()]
        others: list[tuple[int, Gauge]] = []
        if self._board is not None:
            try:
                async with asyncio.timeout(LEAVE_S):
                    told = await self._board.gauges()
                own_no = self._board.runtime
                others = [(n, gauge) for n, gauge in decode_gauges(told) if n != own_no]
            except (StoreError, TimeoutError) as error:
                log.warning("figures of other processes cannot be read: %r", error)
        changes = {name: stored.change for name, stored in self._known.items()}
        changes |= {n: line.untold[-1] for n, line in self._lines.items() if line.untold}
        return rows([*own, *others], changes)

    # ------------------------------------------------------------------ the task

    async def _run(self) -> None:
        while True:
            await self._rest()
            self._wake.clear()
            stopping = self._stopping
            try:
                await self._exchange(leaving=stopping)
                if not self._heard.is_set():
                    await self._measure()
                self._lost = 0
            except Exception as error:  # noqa: BLE001  no call may wait for what never comes
                self._lost += 1
                self._failed(error)
            self._heard.set()
            if stopping:
                return

    async def _measure(self) -> None:
        """Learn from those that wait already how long it is until services are tried again."""
        opened = [name for name, stored in self._known.items() if stored.change.now == OPEN]
        if not opened or self._board is None:
            return
        told = decode_gauges(await self._board.gauges())
        for name in opened:
            live = [gauge for _, gauge in told if gauge.service == name]
            waits = [g.probe_in_s for g in live if g.state == OPEN and g.probe_in_s is not None]
            if waits or not live:
                # Where nobody waits, nobody knows how long ago it was.
                self._over_s[name] = self._now_s() + min(waits, default=0.0)

    async def _rest(self) -> None:
        """Wait for something to tell or to ask, or until it is time to listen."""
        if self._wake.is_set():
            return
        wait_s: float | None = self._beat_s if self._lines or self._spends else IDLE_S
        if self._lost:
            wait_s = min(BACKOFF_MAX_S, self._beat_s * 2 ** min(self._lost, 8))
        elif self._listens and not self._failing:
            wait_s = None
        loop = asyncio.get_running_loop()
        timer = None if wait_s is None else loop.call_later(wait_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _exchange(self, *, leaving: bool) -> None:
        assert self._board is not None  # noqa: S101  there is no task without one
        asked = [line for line in self._lines.values() if line.asking is not None]
        post = self._post(asked, leaving=leaving)
        if leaving and not post.writes:
            return
        spends, self._spends = self._spends, {}
        written = False
        try:
            news = await self._board.exchange(post)
            written = news.error is None and not news.anew
        finally:
            if not written:
                for account, amount in spends.items():
                    self._spends[account] = self._spends.get(account, Spent()).plus(amount)
        if news.error is not None:
            # That it can be read proves nothing until something can be written again.
            self._unwritten = True
            self._failed(news.error)
        elif self._failing and (post.writes or not self._unwritten):
            if self._complained:
                log.warning("breakers are shared again")
            self._failing = self._unwritten = self._complained = False
            self._busy = 0
        self._hear(post, news, written=written)
        if news.anew:
            self._wake.set()
            return
        for line in asked:
            prober = news.probers.get(line.name)
            self._told_who(line, prober, failed=not written)
        if len(self._totals) >= ACCOUNTS_MAX:
            # They are asked for again; kept only for when nobody answers.
            self._totals.clear()
        self._totals.update(news.totals)
        self._answer_totals(post.totals)

    def _failed(self, error: Exception) -> None:
        # That somebody else is writing is not worth a word, unless it goes on.
        self._busy = self._busy + 1 if isinstance(error, StoreBusyError) else BUSY_MAX
        if not self._complained and self._busy >= BUSY_MAX:
            self._complained = True
            known = isinstance(error, StoreError)
            log.warning(
                "breakers go on by themselves, unshared: %s",
                error if known else repr(error),
                exc_info=None if known else error,
            )
        self._failing = True
        for line in self._lines.values():
            line.answer(granted=True)
        self._answer_totals()

    def _answer_totals(self, accounts: Sequence[Account] | None = None) -> None:
        """Let those go on that wanted to know of `accounts`; None: everybody."""
        for account in list(self._wanted) if accounts is None else accounts:
            waiter = self._wanted.pop(account, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ telling

    def _post(self, asked: list[SharedLine], *, leaving: bool) -> Post:
        now_s = self._now_s()
        lines = self._lines.values()
        beats: list[str] = []
        gives_back: list[str] = []
        for line in lines:
            if line.holds:
                word = self._keeping(line, now_s, leaving=leaving)
                if word is not None:
                    (beats if word else gives_back).append(line.name)
        return Post(
            since=self._since,
            chains={n.name: Chain(n.epoch, tuple(n.untold)) for n in lines if n.untold},
            gauges=self._gauges(now_s, leaving=leaving),
            asks={
                line.name: Ask(line.epoch + len(line.untold), line.silent(now_s)) for line in asked
            },
            beats=beats,
            gives_back=gives_back,
            spends=self._spends,
            totals=tuple(self._wanted),
        )

    def _keeping(self, line: SharedLine, now_s: float, *, leaving: bool) -> bool | None:
        """Say of a right to try a service whether it is kept, given back, or left as it is."""
        circuit = line.gate.circuit
        state = circuit.state_at(now_s)
        if not line.holds:
            return None  # probes were late just now
        if state is not BreakerState.HALF_OPEN:
            line.holds = now_s - line.held_s < UNUSED_S and not leaving
            return None if line.holds else False
        probes = (circuit.generation, circuit.metrics(now_s).calls)
        moves = circuit.in_flight > 0 or probes != line.beaten
        quiet_s = now_s - line.beat_s
        if leaving or (quiet_s > line.silence_s / 2 and not moves and not self._failing):
            # Nobody calls the service here any more: whoever does so elsewhere may try it.
            # Well before others may take the right, so that there are never two who have it.
            line.holds = False
            with self._muting():
                circuit.adopt(BreakerState.OPEN, now_s, wait_s=0.0)
            return False
        if moves and quiet_s >= min(1.0, line.silence_s / 8):
            line.beaten = probes
            return True
        return None

    def _gauges(self, now_s: float, *, leaving: bool) -> Mapping[str, bytes]:
        if leaving:
            return {line.name: b"" for line in self._lines.values() if line.gauge}
        if not self._lines or (not self._listens and now_s - self._gauged_s < GAUGE_S):
            return {}
        self._gauged_s = now_s
        told = {}
        for line in self._lines.values():
            data = encode_gauge(self._gauge(line))
            if data != line.gauge:
                told[line.name] = data
        return told

    def _gauge(self, line: SharedLine) -> Gauge:
        now_s, circuit = self._now_s(), line.gate.circuit
        circuit.state_at(now_s)
        if line.since[0] != circuit.generation:
            # Once a state, or figures that did not change would seem to.
            at = self._clock.wall_s() - max(0.0, now_s - circuit.since_s)
            line.since = (circuit.generation, at)
        return figures(line.name, line.gate, now_s, line.since[1])

    # ------------------------------------------------------------------ hearing

    def _hear(self, post: Post, news: News, *, written: bool) -> None:
        self._since = news.upto
        if news.anew:
            # What was known is of a journal that is not there any more.
            self._known.clear()
            for line in self._lines.values():
                line.epoch, line.gauge, line.holds, line.seen = 0, b"", False, None
        self._known.update(news.last)
        now_s = self._now_s()
        for name, (_, change) in news.last.items():
            self._over_s[name] = now_s + change.wait_s if change.now == OPEN else now_s
        for line in self._lines.values():
            self._hear_of(line, post.chains.get(line.name), news)
        if written:
            for name, gauge in post.gauges.items():
                self._lines[name].gauge = gauge
            for name in post.beats:
                self._kept(self._lines[name], news.probers.get(name))

    def _hear_of(self, line: SharedLine, chain: Chain | None, news: News) -> None:
        stored = news.last.get(line.name)
        if stored is None:
            if news.anew and line.gate.circuit.state is not line.home:
                self._say_again(line, was=CLOSED)
        elif not line.written(chain, stored) and stored.epoch != line.epoch:
            self._reconcile(line, stored, anew=news.anew)

    def _kept(self, line: SharedLine, prober: Prober | None) -> None:
        """Take note that the beat of a right was written; or that somebody took it."""
        assert self._board is not None  # noqa: S101  as above
        now_s, circuit = self._now_s(), line.gate.circuit
        if prober is not None and prober.runtime == self._board.runtime:
            line.beat_s = now_s
        elif line.holds:
            line.holds = False
            if circuit.state is BreakerState.HALF_OPEN:
                with self._muting():
                    circuit.adopt(BreakerState.OPEN, now_s, wait_s=RECHECK_S)

    def _told_who(self, line: SharedLine, prober: Prober | None, *, failed: bool) -> None:
        """Tell the calls that want to try a service whether they may."""
        assert self._board is not None  # noqa: S101  as above
        now_s = self._now_s()
        mine = prober is not None and prober.runtime == self._board.runtime
        if mine:
            line.holds, line.held_s, line.beat_s, line.seen = True, now_s, now_s, None
        elif not failed:
            line.denied_until_s = now_s + DENIED_S
            if prober != line.seen:
                line.seen, line.seen_s = prober, now_s
        line.answer(granted=mine or failed)

    def _reconcile(self, line: SharedLine, stored: Stored, *, anew: bool) -> None:
        """Somebody else wrote a transition: go where it says, or say again what happened here."""
        line.epoch = stored.epoch
        change = stored.change
        if line.untold or anew:
            mine = line.gate.circuit.state_at(self._now_s())
            worse = RANKS.get(mine, 0) > RANKS.get(change.now, 0)
            if any(own.ordered for own in line.untold) or (worse and not change.ordered):
                self._say_again(line, was=change.now)
                return
            line.untold.clear()
            if mine == change.now != HALF_OPEN:
                return
        self._follow(line, change)

    def _say_again(self, line: SharedLine, *, was: str) -> None:
        """Tell how the service stands here, behind what others said."""
        circuit = line.gate.circuit
        now = circuit.state_at(self._now_s())
        last = line.untold[-1] if line.untold else None
        line.untold.clear()
        if str(now) == was and not (last and last.why == "reset"):
            return
        if last is not None:
            line.untold.append(msgspec.structs.replace(last, was=was, now=str(now)))
        else:
            wait_s = circuit.retry_in_s(self._now_s()) or 0.0
            line.untold.append(
                CircuitChanged(
                    line.name,
                    was,
                    str(now),
                    "told_again",
                    self._clock.wall_s(),
                    runtime=self._board.runtime if self._board else 0,
                    wait_s=wait_s if now is BreakerState.OPEN else 0.0,
                )
            )
        self._wake.set()

    def _follow(
        self, line: SharedLine, change: CircuitChanged, *, wait_s: float | None = None
    ) -> None:
        """Go where another process, or a person, says that the service is.

        It is tried again after `wait_s`, or where that is left out as if it was just said.
        """
        circuit, now_s = line.gate.circuit, self._now_s()
        try:
            state = BreakerState(change.now)
        except ValueError:
            log.warning("service %s: state %r is of a newer Undercroft", line.name, change.now)
            return
        line.holds = False
        with self._muting():
            if line.home is BreakerState.DISABLED:
                # It has no breaker here, but whoever closed it off meant everybody.
                forced = state is BreakerState.FORCED_OPEN
                circuit.adopt(state if forced else line.home, now_s)
            elif change.why == "reset":
                circuit.reset(now_s, by=change.by)
            elif state is BreakerState.OPEN:
                circuit.adopt(state, now_s, wait_s=change.wait_s if wait_s is None else wait_s)
            elif state is BreakerState.HALF_OPEN:
                # Another process tries it; this one does not.
                again_s = RECHECK_S if wait_s is None else wait_s
                circuit.adopt(BreakerState.OPEN, now_s, wait_s=again_s)
            else:
                circuit.adopt(state, now_s)

    @contextmanager
    def _muting(self) -> Iterator[None]:
        """Do not tell others what they said."""
        self._muted = True
        try:
            yield
        finally:
            self._muted = False


def _storable(name: str) -> bool:
    """Whether a journal can hold a name: one that it cannot would keep all else from being told."""
    return storable(name) == name
