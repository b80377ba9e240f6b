"""Every service that a runtime calls: its breaker, its limit, what it was given and took.

Keeps: a service is known by its name, made when it is first called, and the same for all turns
of the runtime; nothing on the path of a call reads or writes the store while it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import structs

from undercroft.engine.parts.wire import Wire, counting
from undercroft.engine.sharing import Sharing
from undercroft.errors import BreakerOpenError, BudgetError, OverloadedError
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.board import LastError, bounded, text_of
from undercroft.layers.breakers.classes import Blame, ErrorTable, Judged
from undercroft.layers.breakers.guard import is_open, overloaded
from undercroft.layers.breakers.policy import DEFAULT_BREAKER
from undercroft.layers.breakers.service import MODEL_RETRY, Service, named
from undercroft.layers.breakers.spend import (
    NOTHING,
    Account,
    Amount,
    Reservation,
    Short,
    TokenRatio,
    reserve,
    to_us,
)
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.layers.breakers.waits import RetryTokens
from undercroft.model.step import ErrorClass, Refusal
from undercroft.ports import Clock

# Takes the secrets out of a text.
Redact = Callable[[str], str]
log = logging.getLogger(__name__)

# Of accounts that all processes on a journal share.
SCOPE = "service"


class Gate:
    """One service, as all turns of a runtime meet it.

    Attributes:
        circuit: Its breaker.
        tokens: Retries that it is given.
        limit: Calls that it takes at a time.
        account: What may be spent on it.
        ratio: How many tokens its model makes of a prompt.
        calls: Made so far, each with all its attempts; so are the next ones.
        attempts: On the wire.
        retries: Of these, those after the first.
        usd_nano: Spent, in billionths of a dollar; None: nothing here has a price.
        simple: Whether it says nothing of retries or money.
    """

    def __init__(
        self, service: Service, clock: Clock, sharing: Sharing | None, redact: Redact = str
    ) -> None:
        self._redact = redact
        self.service, self.name = service, service.name
        self._clock, self.now_s, self._sharing = clock, clock.now_s, sharing
        self.circuit = Circuit(
            service.breaker or DEFAULT_BREAKER,
            clock.now_s(),
            name=service.name,
            tell=None if sharing is None else partial(sharing.tell, service.name),
            initial=BreakerState.CLOSED if service.breaker else BreakerState.DISABLED,
        )
        self.tokens = RetryTokens(service.ratio)
        self.limit = AdaptiveLimit(service.limit)
        self.account = Account(
            f"service {service.name!r}",
            service.budget,
            setting=f"budget= of uc.Service({service.name!r})",
        )
        self.table = ErrorTable(service.errors, service.classify, on_bad=self._bad)
        self.ratio = TokenRatio()
        self.calls = self.attempts = self.retries = 0
        self.usd_nano: int | None = None
        self.last_error: LastError | None = None
        self._complained = False
        # What other processes were told to be set aside, and not yet what became of it.
        self._told_aside = NOTHING
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Whether there is nothing but a breaker, a limit and a timeout, as with most services.
        self.simple = service.retry is None and not service.budget

    def _bad(self, error: Exception) -> None:
        """A rule of the user's failed; the table goes on without it."""
        if not self._complained:
            self._complained = True
            log.warning(
                "an error rule of service %s raised %r and was passed over", self.name, error
            )

    # ------------------------------------------------------------------ before a call

    @property
    def shut(self) -> bool:
        """Whether a call would be refused now, and whoever could make it had better not."""
        state = self.circuit.state_at(self.now_s())
        if state is BreakerState.OPEN:
            return not self.circuit.ready_to_probe(self.now_s())
        return state is BreakerState.FORCED_OPEN

    def quick(self, tool: str, *, changes: bool) -> Quick | None:
        """Let a call pass where nothing but a closed breaker is in the way; else None.

        Args:
            tool: Who calls.
            changes: Whether the call may change the world.
        """
        circuit, limit = self.circuit, self.limit
        if circuit.state is not BreakerState.CLOSED or not self.simple or self._waiting:
            return None
        now_s = self.now_s()
        if not limit.free(now_s):
            return None
        self.calls += 1
        self.tokens.call(now_s)
        limit.began()
        return Quick(self, circuit.admit(now_s), tool, now_s, changes=changes)

    async def enter(self, tool: str, *, probe: bool, left_s: float) -> int | Refusal:
        """Return a permit for one call, or why it may not be made.

        Args:
            tool: Who calls, for the refusal.
            probe: Whether it may be a call that finds out whether the service is back.
            left_s: Seconds in which it must have come to its end.
        """
        if self._waiting or not self.limit.free(self.now_s()):
            refusal = await self._room(tool, left_s)
            if refusal is not None:
                return refusal
        circuit = self.circuit
        if (
            circuit.state is BreakerState.OPEN
            and self._sharing is not None
            and probe
            and circuit.ready_to_probe(self.now_s())
        ):
            # One process of all that share the journal finds out for the others.
            probe = await self._sharing.may_probe(self.name)
        permit = circuit.admit(self.now_s(), probe=probe)
        if permit:
            self.limit.began()
            return permit
        now_s = self.now_s()
        return is_open(tool, self.name, circuit.state_at(now_s), circuit.retry_in_s(now_s))

    async def _room(self, tool: str, left_s: float) -> Refusal | None:
        """Wait until one more call may be in flight; whoever asked first goes first."""
        began_s = self.now_s()
        most_s = min(left_s, self.service.limit.pause_max_s)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            while self._waiting[0] is not mine or not self.limit.free(self.now_s()):
                now_s = self.now_s()
                pause_s = self.limit.pause_s(now_s)
                rest_s = began_s + most_s - now_s
                if rest_s <= 0 or pause_s > rest_s:
                    return overloaded(tool, self.name, now_s - began_s, pause_s)
                wake = mine
                await asyncio.wait({wake}, timeout=pause_s or rest_s)
                if wake.done():
                    mine = asyncio.get_running_loop().create_future()
                    self._waiting[self._waiting.index(wake)] = mine
        finally:
            self._waiting.remove(mine)
            self._next()
        return None

    def _next(self) -> None:
        """Let the first that waits look again."""
        if self._waiting and not self._waiting[0].done():
            self._waiting[0].set_result(None)

    # ------------------------------------------------------------------ after a call

    def succeeded(self, permit: int, now_s: float, took_s: float) -> None:
        """Take note of a call that went well."""
        self.circuit.succeeded(permit, now_s, took_s)
        self.limit.succeeded(now_s - took_s)
        if self._waiting:
            self._next()

    def failed(
        self,
        permit: int,
        judged: Judged,
        error: BaseException,
        took_s: float,
        redact: Redact | None = None,
    ) -> None:
        """Take note of a call that failed, as far as that says something about the service.

        Args:
            permit: What it was let pass with.
            judged: What the error means.
            error: What was raised.
            took_s: How long it took.
            redact: Takes the secrets of its session out of a text.
        """
        circuit, now_s = self.circuit, self.now_s()
        match judged.blame:
            case Blame.VENDOR:
                circuit.failed(permit, now_s, took_s)
            case Blame.CALLER:
                circuit.succeeded(permit, now_s, took_s)
            case _:
                circuit.released(permit)
        if judged.blame is Blame.ACCOUNT and not judged.quota:
            self.limit.overloaded(now_s - took_s, now_s, judged.retry_after_s)
        else:
            self.limit.released()
        if judged.blame is not Blame.CALLER:
            last = LastError.of(judged.error_class, error, self._clock.wall_s())
            said = (redact or self._redact)(text_of(error))
            self.last_error = structs.replace(last, message=bounded(said))
        self._next()

    def released(self, permit: int) -> None:
        """Take note of a call that was called off."""
        self.circuit.released(permit)
        self.limit.released()
        self._next()

    async def tell_aside(self, amount: Amount) -> bool:
        """Tell all processes what is set aside; return whether there is enough for all of it.

        It is in the store before the call is made, so that a crash forgets nothing, and two
        processes that take the last of it at once are both refused. Where the store does not
        answer within a quarter of a second, this process goes on by itself.
        """
        self._tell_spent(amount)
        sharing = self._sharing
        if sharing is None or not sharing.shared:
            return True
        total = Amount(*await sharing.spent(SCOPE, self.name))
        # What is set aside here is in the sum, and stands in the account as just that.
        self.account.learned(total.minus(self._told_aside))
        return not self.account.overdrawn

    def _tell_spent(self, amount: Amount) -> None:
        self._told_aside = self._told_aside.plus(amount)
        if self._sharing is not None:
            self._sharing.spend_add(SCOPE, self.name, amount)

    def tell_spent(self, aside: Amount, actual: Amount) -> None:
        """Tell all processes what became of what was set aside."""
        self._told_aside = self._told_aside.minus(aside)
        if self._sharing is not None:
            self._sharing.spend_add(SCOPE, self.name, actual.minus(aside))

    @property
    def typical_s(self) -> float:
        """Seconds that a call takes, in the middle; 0 where nobody knows."""
        return self.circuit.metrics(self.now_s()).p50_s or 0.0

    def took(self, attempts: int, usd_nano: int | None) -> None:
        """Take note of what an attempt took."""
        self.attempts += attempts
        if usd_nano is not None:
            self.usd_nano = (self.usd_nano or 0) + usd_nano

    @asynccontextmanager
    async def passing(self, name: str, left_s: float, *, probe: bool = True) -> AsyncIterator[None]:
        """Let one call pass that is no step of a turn, and take note of what it came to.

        Args:
            name: Who calls, for the refusal.
            left_s: Seconds in which it must have come to its end.
            probe: As for `enter`.

        Raises:
            BreakerOpenError: The service keeps failing, and is left alone.
            OverloadedError: It asked to be left alone for longer than we wait.
            BudgetError: It is limited, and there is too little left.
        """
        made = await self._set_aside(name)
        try:
            entered = await self.enter(name, probe=probe, left_s=left_s)
        except BaseException:
            self._pay(made, NOTHING)
            raise
        if isinstance(entered, Refusal):
            self._pay(made, NOTHING)
            kind = BreakerOpenError if entered.rule == "breakers.open" else OverloadedError
            wait_s = entered.facts.get("retry_in_s", entered.facts.get("pause_s"))
            raise kind(self.name, entered.message.removesuffix("."), "Try again later.", wait_s)
        self.calls += 1
        self.tokens.call(self.now_s())
        quick = Quick(self, entered, name, self.now_s())
        quick.begin()
        try:
            with counting(quick.wire):
                yield
        except Exception as error:
            quick.failed(error, changes=False, wall_s=self._clock.wall_s())
            raise
        else:
            now_s = self.now_s()
            quick.succeeded(now_s, now_s - quick.began_s)
        finally:
            quick.called_off()
            took_us = to_us(max(0.0, self.now_s() - quick.began_s))
            self._pay(made, Amount(quick.wire.count or 1, took_us))

    async def _set_aside(self, name: str) -> Reservation | None:
        """Set aside what a call that is no step may spend, if that is limited.

        Raises:
            BudgetError: There is too little left.
        """
        if not self.account.budget:
            return None
        amount = Amount(1)
        made = reserve([self.account], amount)
        if isinstance(made, Reservation) and await self.tell_aside(amount):
            return made
        if isinstance(made, Reservation):
            self._pay(made, NOTHING)
        short = made if isinstance(made, Short) else self.account.short(amount)
        problem = short.problem if short is not None else "others took the last of its budget"
        mend = short.mend if short is not None else "Raise the budget of the service."
        raise BudgetError(self.name, f"{name} was not made: {problem}", mend)

    def _pay(self, made: Reservation | None, actual: Amount) -> None:
        """Say what a call took for which something was set aside."""
        if made is not None:
            self.tell_spent(made.amount, actual)
            made.settle(actual)


class Quick:
    """One call on the short way out: no retry and no budget, just a breaker.

    Attributes:
        began_s: When it was let pass.
        wire: Counts what goes out.
        timeout_s: Of the service, for tools that have none of their own.
        redact: Takes the secrets of the session out of a text.
    """

    __slots__ = ("_begun", "_gate", "_permit", "_tool", "began_s", "redact", "timeout_s", "wire")

    def __init__(
        self, gate: Gate, permit: int, tool: str, now_s: float, *, changes: bool = False
    ) -> None:
        self._gate, self._permit, self._tool = gate, permit, tool
        # Of a write without a key a client library must not make two.
        once = 1 if changes else None
        self.wire = Wire(service=gate.name, repeats_allowed=once, named_only=True)
        self.began_s, self.timeout_s = now_s, gate.service.timeout_s
        self._begun = False
        self.redact: Redact | None = None

    def begin(self) -> None:
        """Say that the call is made now."""
        self._begun = True

    async def call(self, fn: Callable[..., Awaitable[Any]], kwargs: Mapping[str, Any]) -> Any:
        """Call `fn`; raises also what a service answered as though all were well."""
        self.begin()
        with counting(self.wire):
            value = await fn(**kwargs)
        said = self._gate.table.judge_value(value, service=self._gate.name)
        if said is not None:
            raise said
        return value

    def succeeded(self, now_s: float, took_s: float) -> None:
        """Take note that it went well."""
        permit, self._permit = self._permit, 0
        self.wire.closed = True
        self._gate.succeeded(permit, now_s, took_s)
        self._gate.took(self.wire.count or 1, None)

    def failed(self, error: BaseException, *, changes: bool, wall_s: float) -> Judged:
        """Take note that it failed; return what the error means."""
        judged = self._gate.table.judge(error, changes=changes, wall_s=wall_s)
        if self.wire.refused and changes:
            judged = replace(judged, error_class=ErrorClass.UNKNOWN, blame=Blame.VENDOR)
        permit, self._permit = self._permit, 0
        self.wire.closed = True
        took_s = self._gate.now_s() - self.began_s
        self._gate.failed(permit, judged, error, took_s, self.redact)
        self._gate.took(self.wire.count or 1, None)
        return judged

    def step_aside(self) -> None:
        """Give the permit back while something else is waited for."""
        permit, self._permit = self._permit, 0
        if permit:
            self._gate.released(permit)

    async def come_back(self) -> Refusal | None:
        """Ask for it again; return why that cannot be. Only writes wait, and who knows which."""
        entered = await self._gate.enter(self._tool, probe=False, left_s=math.inf)
        if isinstance(entered, Refusal):
            return entered
        self._permit, self.began_s = entered, self._gate.now_s()
        return None

    def called_off(self) -> None:
        """Give the permit back, if the call was never made, or was cut off."""
        permit, self._permit = self._permit, 0
        if not permit:
            return
        self.wire.closed = True
        self._gate.released(permit)
        if self._begun:
            self._gate.took(self.wire.count or 1, None)


class Services:
    """The gates of a runtime, by name of the service."""

    def __init__(
        self,
        clock: Clock,
        settings: Iterable[Service] = (),
        sharing: Sharing | None = None,
        redact: Redact = str,
    ) -> None:
        """Know services.

        Args:
            clock: Time.
            settings: What was declared; of others, defaults.
            sharing: What other processes are told, and tell.
            redact: Takes the secrets out of a text.

        Raises:
            DeclarationError: Something else was given, or a service twice.
        """
        self._settings: Mapping[str, Service] = named(settings)
        self._clock, self.sharing, self._redact = clock, sharing, redact
        self.gates: dict[str, Gate] = {}

    def gate(self, name: str, *, model: bool = False) -> Gate:
        """Return the gate of a service; of a `model`, with the retries of one."""
        gate = self.gates.get(name)
        if gate is None:
            service = self._settings.get(name)
            if service is None:
                service = Service(name, retry=MODEL_RETRY) if model else Service(name)
            elif model and service.retry is None:
                service = replace(service, retry=MODEL_RETRY)
            gate = self.gates[name] = Gate(service, self._clock, self.sharing, self._redact)
            if self.sharing is not None:
                self.sharing.watch(name, gate)
        return gate
