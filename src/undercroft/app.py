"""The composition root: settings in, a runtime out."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from undercroft.engine.caller import Caller
from undercroft.engine.decide import check_name
from undercroft.engine.declaring import read_effects
from undercroft.engine.desk import Desk
from undercroft.engine.foreign import tools_of
from undercroft.engine.guarded import Guarded
from undercroft.engine.guardedloop import GuardedLoop
from undercroft.engine.guest import Guest
from undercroft.engine.guesthandler import guest_handler
from undercroft.engine.guests import GuestRunner
from undercroft.engine.handler import Handler
from undercroft.engine.hosting import Hosting, caller_of
from undercroft.engine.models import models_of
from undercroft.engine.owning import Silences, Turns
from undercroft.engine.rehearsal import Rehearsal
from undercroft.engine.services import Services
from undercroft.engine.sharing import Sharing
from undercroft.engine.step import Setting
from undercroft.engine.system import SystemClock, SystemIds
from undercroft.engine.targets import Target, checked
from undercroft.engine.traces import trace_of
from undercroft.engine.windows import Windows
from undercroft.errors import DeclarationError, SettingError, TurnNotFoundError
from undercroft.layers.breakers.board import BoardRow
from undercroft.layers.breakers.policy import (
    DEFAULT_LOOPS,
    Budget,
    Budgets,
    LoopPolicy,
    checked_timeout,
)
from undercroft.layers.breakers.prices import Price, Prices, PriceTable
from undercroft.layers.breakers.service import Service, named
from undercroft.layers.breakers.state import BreakerState
from undercroft.layers.conflicts.ownership import Ownership
from undercroft.layers.context.counting import Counter, Counts, Estimate
from undercroft.layers.context.guard import check_pins
from undercroft.layers.context.identifiers.extract import Extractor
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.observability.policy import Redaction
from undercroft.layers.observability.redaction import Secrets
from undercroft.layers.parallelism.policy import Limits
from undercroft.model.event import decode_frames
from undercroft.model.outcome import Outcome, TurnStatus
from undercroft.model.trace import Trace
from undercroft.model.turn import TurnHead
from undercroft.ports import Clock, Exporter, Ids, ModelClient, Store
from undercroft.storage.keyfile import KEY_BYTES
from undercroft.storage.memory import MemoryStore
from undercroft.storage.sqlite import SqliteStore, Sync


def _known_prices(given: Prices | Mapping[str, Price] | None) -> Prices | None:
    if given is None or isinstance(given, Prices):
        return given
    return PriceTable(given)


class Runtime:
    """Runs workflows and handlers on one journal.

    Use it as an async context manager. Leaving it stops the turns that still run, so that
    each can be resumed.

    Args:
        store: Path of a journal, made where there is none; a store of your own; or None
            for a journal in memory, which is gone when the process ends.
        model: What `turn.model()` asks, where a handler has no model of its own. Of several in a
            list each is asked where those before it gave no answer.
        targets: Workflows and handlers that `resume` may need and cannot import.
        sync: What must survive a power cut: `writes` (intents and outcomes of writes),
            `always` (everything) or `never`. Every commit survives the end of the process.
        limits: How much may be in flight, of a turn and at a service.
        ownership: What a turn does about a resource that another turn owns.
        turn_timeout_s: Seconds after which a turn is ended as failed.
        services: What is known of what tools talk to; of others, defaults.
        budgets: What steps, turns and sessions may spend.
        loops: When a handler's turn goes round in circles; None: that is nobody's business.
        prices: What models cost: by name, a `Price`; or whoever knows, such as `GenaiPrices`.
        context: How large the windows of handlers are, and what leaves them, where a handler
            says nothing else. None: a window has no limit, and holds one turn.
        counter: What counts tokens; if left out, what the policy's vocabulary names.
        summariser: The model that summarises what leaves a window; None: nothing is summarised.
        extractors: What finds identifiers in what users say that must not be lost, besides
            those that are found anyway: functions from a text to (value, kind) pairs.
        redaction: What is never written down; names and patterns of secrets that are known to
            all if left out.
        exporters: Who is told of each turn that ends, parks or stops, such as
            `adapters.otel.OTelExporter`.
        clock: Time.
        ids: Names of turns, and the randomness of retries.

    Raises:
        SettingError: A setting is outside its range.
    """

    def __init__(  # noqa: PLR0913  each keyword is one setting
        self,
        store: str | Path | Store | None = None,
        *,
        model: ModelClient | Sequence[ModelClient] | None = None,
        targets: Iterable[Target] = (),
        sync: Sync = "writes",
        limits: Limits | None = None,
        ownership: Ownership | None = None,
        turn_timeout_s: float | None = 3600.0,
        services: Iterable[Service] = (),
        budgets: Budgets | None = None,
        loops: LoopPolicy | None = DEFAULT_LOOPS,
        prices: Prices | Mapping[str, Price] | None = None,
        context: ContextPolicy | None = None,
        counter: Counter | None = None,
        summariser: ModelClient | None = None,
        extractors: Iterable[Extractor] = (),
        redaction: Redaction | None = None,
        exporters: Iterable[Exporter] = (),
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "store")}
        if sync not in ("writes", "always", "never"):
            raise SettingError("sync", sync, "'writes', 'always' or 'never'")
        self._ownership = ownership or Ownership()
        self._store: Store
        if store is None:
            self._store = MemoryStore(lease_s=self._ownership.lease_s)
        elif isinstance(store, str | Path):
            self._store = SqliteStore(store, sync=sync, lease_s=self._ownership.lease_s)
        else:
            self._store = store
        limit_s = checked_timeout(turn_timeout_s, "turn_timeout_s")
        self._turn_timeout_s = math.inf if limit_s is None else limit_s
        self._targets = [checked(target) for target in targets]
        self._models, self._limits = models_of(model), limits or Limits()
        if not isinstance(budgets, Budgets | None):
            raise SettingError("budgets", budgets, "an uc.Budgets")
        if not isinstance(loops, LoopPolicy | None):
            raise SettingError("loops", loops, "an uc.LoopPolicy, or None")
        self._services, self._budgets = named(services), budgets or Budgets()
        self._loops, self._prices = loops, _known_prices(prices)
        if not isinstance(context, ContextPolicy | None):
            raise SettingError("context", context, "an uc.ContextPolicy, or None")
        self._context, self._counter, self._summariser = context, counter, summariser
        self._extractors, self._exporters = tuple(extractors), tuple(exporters)
        if context is not None:
            # What is not installed, and what can never fit, is told where it is written.
            check_pins(context, Counts(counter or _counter_of(context.vocabulary)))
        if not isinstance(redaction, Redaction | None):
            raise SettingError("redaction", redaction, "an uc.Redaction")
        self._secrets = Secrets(redaction or Redaction(), self._key)
        self._clock, self._ids = clock, ids or SystemIds()
        self._given_key = b"" if redaction is None else redaction.key or b""
        self._runner: GuestRunner
        self._gates: Services
        self._sharing: Sharing
        self._time: Clock
        self._open = False
        # Set by whoever runs a turn once more, on a copy.
        self.rehearsal: Rehearsal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # What may be gone through only once was, by now.
        given |= {"targets": self._targets, "services": tuple(self._services.values())}
        given |= {"extractors": self._extractors, "exporters": self._exporters}
        self._hosting = Hosting(partial(_Opened, store, given))

    def _key(self) -> bytes:
        """Return the key under which secrets are hashed."""
        if not self._given_key:
            own = getattr(self._store, "key", None)
            self._given_key = own() if own is not None else secrets.token_bytes(KEY_BYTES)
        return self._given_key

    async def __aenter__(self) -> Self:
        """Open the journal.

        Raises:
            StoreError: It cannot be read or written; the message says why and what to do.
        """
        await self._store.open()
        clock = self._time = self._clock or SystemClock()
        self._sharing = Sharing(self._store.board, clock)
        redact = self._secrets.all().text
        self._gates = Services(clock, self._services.values(), self._sharing, redact)
        setting = Setting(
            self._store,
            clock,
            self._ids,
            self._limits,
            self._models,
            self._ownership,
            Desk(self._limits),
            Turns(),
            Silences(clock.now_s),
            count(1),
            self._gates,
            self._budgets,
            self._loops,
            self._prices,
            Windows(
                self._store,
                self._context,
                self._counter,
                _counter_of,
                self._summariser,
                self._extractors,
                self._secrets,
            ),
            self._secrets,
            self._exporters,
            self.rehearsal,
        )
        self._runner = GuestRunner(setting, self._targets, self._turn_timeout_s)
        await self._sharing.start()
        self._open, self._loop = True, asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop what still runs and close the journal."""
        self._open, self._loop = False, None
        try:
            await self._runner.stop()
        finally:
            try:
                await self._sharing.stop()
            finally:
                await self._store.close()
                for exporter in self._exporters:
                    await exporter.close()

    async def run(
        self,
        target: Any,
        /,
        *,
        session: str | None = None,
        timeout_s: float | None = None,
        budget: Budget | None = None,
        **inputs: Any,
    ) -> Outcome:
        """Run a new turn of a workflow or handler until it ends or has to wait.

        What a tool or a step raises is in the outcome. Cancelling the call stops the turn;
        it can be resumed.

        Args:
            target: A workflow or a handler.
            session: The conversation that the turn belongs to.
            timeout_s: Seconds after which it is ended as failed; the runtime's if left out.
            budget: What it may spend, in all its lives; the runtime's if left out.
            inputs: What it takes, by name.

        Raises:
            InputError: An input is missing, unknown, or no data.
            GraphError: The workflow does not hold together.
            StoreError: The journal cannot be written.
        """
        self._check_open()
        limit_s = checked_timeout(timeout_s)
        if not isinstance(budget, Budget | None):
            raise SettingError("budget", budget, "an uc.Budget")
        return await self._runner.run(checked(target), inputs, session, limit_s, budget)

    async def resume(self, turn_id: str, *, secrets: Iterable[Any] = ()) -> Outcome:
        """Go on with a turn; if it is over or waits, say so. Safe at any time, any number of times.

        Args:
            turn_id: The turn.
            secrets: Values of it that were redacted, in any order, if another process wrote it.

        Raises:
            RedactedError: It needs redacted values that this process does not know.
            TurnNotFoundError: There is no such turn.
            TurnBusyError: Another live process has been running it for 30 s.
            TargetError: Its code cannot be found.
            ReplayError: Its code changed; the message names the step.
        """
        self._check_open()
        self.learn(secrets)
        return await self._runner.resume(turn_id)

    def learn(self, secrets: Iterable[Any]) -> None:
        """Take values for secret from now on, wherever they stand; see `Redaction.values`.

        Raises:
            SettingError: It is one text, and not several values.
        """
        if isinstance(secrets, str | bytes):
            raise SettingError("secrets", "…", "a list of values")
        self._secrets.learn(secrets)

    async def recover(self, *, in_flight_max: int = 64) -> dict[str, Outcome | Exception]:
        """Resume every turn whose process ended, at most `in_flight_max` at a time.

        Returns the outcome of each, or the error that kept it from being resumed.
        """
        self._check_open()
        ids = iter(self._runner.unfinished())
        outcomes: dict[str, Outcome | Exception] = {}

        async def worker() -> None:
            for turn_id in ids:
                try:
                    outcomes[turn_id] = await self._runner.resume(turn_id)
                except Exception as error:  # noqa: BLE001  one bad turn must not stop the others
                    outcomes[turn_id] = error

        await asyncio.gather(*(worker() for _ in range(in_flight_max)))
        return outcomes

    async def approve(
        self,
        turn_id: str,
        step_id: str | None = None,
        *,
        by: str,
        reason: str = "",
        fingerprint: str | None = None,
    ) -> Outcome:
        """Say yes to a step that waits, and resume the turn. Saying it again changes nothing.

        The yes binds to the arguments and to the versions of what the turn had read. Where
        something of that has changed when the step is to run, or the yes has expired, it
        counts for nothing: the outcome waits again, and `waiting` says what changed.

        Args:
            turn_id: The turn.
            step_id: As in `outcome.waiting`; may be left out where only one step waits.
            by: Who says so.
            reason: Why, for the record.
            fingerprint: Of what the approver saw, as in `outcome.waiting`, or its first 8
                letters or more; a yes to anything else is refused.

        Raises:
            DecisionError: Nothing of that name waits, it was rejected already, or what is
                asked has another fingerprint.
        """
        self._check_open()
        return await self._runner.decide(
            turn_id, step_id, granted=True, by=by, reason=reason, seen=fingerprint
        )

    async def reject(
        self, turn_id: str, step_id: str | None = None, *, by: str, reason: str = ""
    ) -> Outcome:
        """Say no to a step that waits, and resume the turn. Saying it again changes nothing.

        Raises:
            DecisionError: Nothing of that name waits, or it was approved already.
        """
        self._check_open()
        return await self._runner.decide(turn_id, step_id, granted=False, by=by, reason=reason)

    async def settle(
        self,
        turn_id: str,
        step_id: str | None = None,
        *,
        applied: bool,
        by: str,
        value: Any = None,
    ) -> Outcome:
        """Say whether a write in doubt had happened, and resume the turn.

        Args:
            turn_id: The turn.
            step_id: As in `outcome.in_doubt`; may be left out where there is only one.
            applied: True: it had, and `value` is its result. False: it is done now.
            by: Who says so.
            value: What the step would have returned.

        Raises:
            DecisionError: Nothing of that name is in doubt.
        """
        self._check_open()
        return await self._runner.settle(turn_id, step_id, applied=applied, by=by, value=value)

    async def delivered(self, turn_id: str, *, reached: bool = True, detail: str = "") -> None:
        """Say whether what a turn ended with reached the user, for the record.

        The journal knows what the turn returned; only the application knows whether it was
        shown. Saying the same again changes nothing; of several words the last one counts.

        Args:
            turn_id: The turn.
            reached: False: it did not.
            detail: How, or why not, such as the id of a message.

        Raises:
            TurnNotFoundError: There is no such turn.
            DecisionError: It has not ended.
        """
        self._check_open()
        await self._runner.delivered(turn_id, reached=reached, detail=detail)

    def trace(self, turn_id: str) -> Trace:
        """Return the record of a turn as the journal holds it.

        Raises:
            TurnNotFoundError: There is no such turn.
        """
        self._check_open()
        frames = self._store.frames(turn_id)
        trace = trace_of(decode_frames(frames)) if frames else None
        if trace is None:
            raise TurnNotFoundError(
                turn_id, "there is no such turn in this journal", "List them: rt.turns()."
            )
        return trace

    def turns(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        limit: int = 100,
    ) -> list[TurnHead]:
        """Return turns, newest first."""
        self._check_open()
        return self._store.heads(statuses=statuses, session=session, limit=limit)

    # ------------------------------------------------------------------ guests

    def toolset(
        self,
        name: str,
        tools: Iterable[object],
        effects: str | Path | Mapping[str, Any] | None = None,
    ) -> Handler[..., Any]:
        """Return the tools of a loop that is somebody else's, made ready for `guest`.

        Args:
            name: Of the loop, for the record.
            tools: Tools of ours, plain functions, or tools of a framework as its adapter
                translates them.
            effects: Path of a TOML file that declares what tools do, or a mapping like it; it
                counts more than what `undercroft.declare` was told.

        Raises:
            DeclarationError: Two share a name, or a declaration cannot be met.
        """
        return guest_handler(name, tools_of(tools, read_effects(effects)))

    def guest(
        self,
        toolset: Handler[..., Any] | Iterable[object],
        *,
        session: str | None = None,
        name: str = "loop",
    ) -> Guest:
        """Return a turn whose loop is somebody else's; it begins with what it is first told.

        A runtime that is not open is opened for it, in the event loop that runs then.

        Args:
            toolset: What `toolset` returned, or tools as it takes them.
            session: The conversation that it belongs to. With one, a loop that goes on after a
                pause or a crash finds what it had done.
            name: Of the loop, where it is given tools.

        Raises:
            DeclarationError: As with `toolset`.
        """
        made = toolset if isinstance(toolset, Handler) else self.toolset(name, toolset)
        return Guest(self._place, made, session)

    def caller(self, loop: asyncio.AbstractEventLoop | None = None) -> Caller:
        """Return what a thread without an event loop waits with for what a guest does.

        Args:
            loop: Where the guest lives, if it has begun; None: where it will.

        Raises:
            DeclarationError: That is the event loop of this very thread.
        """
        return caller_of(loop or self._loop)

    async def _place(self) -> GuestRunner:
        """Return what runs guests in the event loop that runs now."""
        if self._open and self._loop is asyncio.get_running_loop():
            return self._runner
        return await self._hosting.runner()

    def guard(self, service: str, *, probe: bool = True) -> Guarded:
        """Return what lets code of your own call a service as the steps of this runtime do.

        It is a decorator for async functions and an async context manager: what it guards
        passes the same breaker and limit, and what it comes to counts for both.

        Args:
            service: Its name.
            probe: Whether a call may find out whether the service is well again: not if it is
                a write that would happen twice if it were repeated.
        """
        self._check_open()
        return Guarded(self._gates.gate(service), probe=probe)

    async def breakers(self) -> list[BoardRow]:
        """Return how each service stands, over all processes on this journal."""
        self._check_open()
        return await self._sharing.rows()

    def force_open(self, service: str, *, by: str) -> None:
        """Have calls to a service refused, here and in all processes, until `reset_breaker`."""
        self._order(service, BreakerState.FORCED_OPEN, by)

    def force_closed(self, service: str, *, by: str) -> None:
        """Have calls to a service pass whatever happens, still counted, until `reset_breaker`."""
        self._order(service, BreakerState.OBSERVE_ONLY, by)

    def reset_breaker(self, service: str, *, by: str) -> None:
        """Have the breaker of a service begin anew, closed and with everything at zero."""
        self._check_open()
        check_name(by)
        self._gates.gate(service).circuit.reset(self._time.now_s(), by=by)

    def _order(self, service: str, state: BreakerState, by: str) -> None:
        self._check_open()
        check_name(by)
        circuit = self._gates.gate(service).circuit
        circuit.to(state, self._time.now_s(), why="forced", by=by)

    def _check_open(self) -> None:
        if not self._open:
            raise DeclarationError(
                "runtime", "it is not open", "Use it inside `async with uc.Runtime(…) as rt:`."
            )


def guard(
    tools: Iterable[object],
    *,
    runtime: Runtime | str | Path | None = None,
    session: str | None = None,
    name: str = "loop",
    effects: str | Path | Mapping[str, Any] | None = None,
) -> GuardedLoop:
    """Guard the tools of a loop of one's own; see `GuardedLoop.calls`.

    Args:
        tools: Functions, async or not, and tools of ours.
        runtime: What keeps the record: a runtime, open or not, or the path of a journal; None:
            a journal in memory.
        session: The conversation that the loop belongs to. With one, a loop that goes on after
            a crash finds what it had done.
        name: Of the loop, for the record.
        effects: What tools do, as with `Runtime.toolset`.

    Raises:
        DeclarationError: Something among the tools is none, or two share a name.
        SettingError: `runtime` is no runtime and no path.
    """
    if not isinstance(runtime, Runtime | str | Path | None):
        raise SettingError("runtime", runtime, "an uc.Runtime, the path of a journal, or None")
    host = runtime if isinstance(runtime, Runtime) else Runtime(runtime)
    return GuardedLoop(host.guest(host.toolset(name, tools, effects), session=session))


class _Opened:
    """Opens a runtime with the settings of another one; no generator, or a loop would close it."""

    def __init__(self, store: str | Path | Store | None, given: Mapping[str, Any]) -> None:
        self._runtime = Runtime(store, **given)

    async def __aenter__(self) -> GuestRunner:
        return (await self._runtime.__aenter__())._runner  # noqa: SLF001  of the same file

    async def __aexit__(self, *_raised: object) -> None:
        await self._runtime.__aexit__(None, None, None)


def _counter_of(vocabulary: str) -> Counter:
    """Return what counts in a vocabulary.

    Raises:
        SettingError: Nothing does that is installed.
    """
    if vocabulary == Estimate.name:
        return Estimate()
    from undercroft.adapters.tokens import counter  # noqa: PLC0415  needs an extra

    return counter(vocabulary)
