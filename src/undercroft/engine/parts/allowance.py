"""A budget by itself, for any async code, with or without a runtime.

Keeps: no call begins for which too little is left, however many run side by side; what a call may
take is set aside before it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from undercroft.engine.parts.blocks import check_async
from undercroft.engine.parts.wire import Wire, counting
from undercroft.errors import BudgetError, SettingError
from undercroft.layers.breakers.policy import Budget
from undercroft.layers.breakers.spend import (
    US_PER_S,
    Account,
    Amount,
    Left,
    Reservation,
    Short,
    most,
    reserve,
)

P = ParamSpec("P")
T = TypeVar("T")

_NS_PER_S = 1_000_000_000
_NS_PER_US = 1_000
_ONE_ATTEMPT = Amount(attempts=1)


class Bill:
    """One use of an allowance, from the beginning of a block to its end.

    Attributes:
        amount: What is set aside for it.
    """

    __slots__ = (
        "_actual",
        "_allowance",
        "_asked",
        "_counting",
        "_reservation",
        "_timeout",
        "_wire",
    )

    def __init__(self, allowance: Allowance, asked: Amount) -> None:
        self._allowance, self._asked = allowance, asked
        self._actual: Amount | None = None
        self._reservation: Reservation | None = None
        self._timeout: asyncio.Timeout | None = None
        self._wire = Wire(service=allowance.name, more=self._more)
        self._counting = counting(self._wire)

    @property
    def amount(self) -> Amount:
        """What is set aside for it."""
        return self._asked if self._reservation is None else self._reservation.amount

    def attempt(self) -> None:
        """Count another attempt, such as one that a client library is about to make.

        Those that are told of with `uc.wire_attempt` are counted without it.

        Raises:
            BudgetError: No attempt is left.
            RuntimeError: The block is not entered, or left.
        """
        if self._reservation is None:
            msg = "an attempt is counted within the block of its bill"
            raise RuntimeError(msg)
        short = self._extend(self._reservation)
        if short is not None:
            raise self._allowance.refusal(short)

    def _extend(self, reservation: Reservation) -> Short | None:
        short = reservation.extend(Amount(attempts=1))
        if short is None and self._actual is not None:
            self._actual = self._actual.plus(Amount(attempts=1))
        return short

    def _more(self) -> str | None:
        """Set aside another attempt on the wire, beyond those that are; say why that cannot be."""
        made = self._reservation
        if made is None or not made.open or self._wire.count < made.amount.attempts:
            return None
        short = self._extend(made)
        return None if short is None else short.problem

    def settle(
        self,
        *,
        attempts: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        usd: float | None = None,
    ) -> None:
        """Say what was taken; the last word counts, and what is left out stays as it was.

        It counts once the block is left, and is recorded also where it is more than was set aside.

        Raises:
            SettingError: Something is negative, not a number or endless.
        """
        now = self.amount if self._actual is None else self._actual
        said = Amount.of(
            attempts=now.attempts if attempts is None else attempts,
            input_tokens=now.input_tokens if input_tokens is None else input_tokens,
            output_tokens=now.output_tokens if output_tokens is None else output_tokens,
            usd=0.0 if usd is None else usd,
        )
        self._actual = said if usd is not None else said._replace(usd_nano=now.usd_nano)

    async def __aenter__(self) -> Self:
        if self._reservation is not None:
            msg = "a bill is for one block"
            raise RuntimeError(msg)
        self._reservation = self._allowance._begin(self, self._asked)  # noqa: SLF001  its own
        if self._allowance.limits_time:
            # Without a moment: it is set to one if the seconds run out.
            self._timeout = asyncio.timeout(None)
            await self._timeout.__aenter__()
        self._counting.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        reservation = self._reservation
        if reservation is None:
            return
        with suppress(ValueError):  # left in another task than entered, as happens to generators
            self._counting.__exit__(None, None, None)
        self._allowance._end(self)  # noqa: SLF001  its own
        reservation.settle(reservation.amount if self._actual is None else self._actual)
        if self._timeout is None:
            return
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise self._allowance.out_of_time() from error

    def cut(self) -> None:
        """Cut the block off at the next chance."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())


class Allowance:
    """What a piece of code may spend.

        allowance = uc.Allowance(uc.Budget(attempts=100, usd=5.0), name="research")

        @allowance
        async def search(words: str) -> str: ...  # one attempt, and its time

        async with allowance.spend(output_tokens=500, usd=0.01) as bill:
            answer = await ask()
            bill.settle(output_tokens=answer.output_tokens, usd=answer.cost)

    Attempts, tokens and money are set aside when a block begins and count as taken when it ends,
    however it ends, unless its bill says otherwise: whether a call that failed was charged, only
    the caller can know. What a client library sends counts where it is told of with
    `uc.wire_attempt`, and is refused when no attempt is left. Seconds of blocks under way add
    up, and when they are used up those blocks are cut off with a `BudgetError`.

    Used from one event loop at a time.

    Args:
        budget: What may be spent in all.
        name: As errors say it.

    Raises:
        SettingError: `budget` is no `uc.Budget`.
    """

    def __init__(self, budget: Budget, *, name: str = "allowance") -> None:
        if not isinstance(budget, Budget):
            raise SettingError("budget", budget, "an uc.Budget")
        self._name = name
        self._account = Account(repr(name), budget)
        self._limits_time = self._account.limits("time_s")
        self._under_way: dict[Bill, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        # Seconds are counted as they pass; what is less than a microsecond is carried on.
        self._ticked_ns = self._carried_ns = 0

    @property
    def name(self) -> str:
        """As errors say it."""
        return self._name

    @property
    def limits_time(self) -> bool:
        """Whether seconds are limited."""
        return self._limits_time

    @property
    def spent(self) -> Amount:
        """What was taken by blocks that ended, and the seconds of those under way."""
        self._tick()
        return self._account.spent

    @property
    def left(self) -> Left:
        """What a new block could have."""
        self._tick()
        return self._account.left()

    @property
    def overrun(self) -> Amount:
        """What was taken beyond the budget, because a block took more than was set aside for it."""
        self._tick()
        return self._account.overrun

    def restore(self, spent: Amount) -> None:
        """Begin with what was `spent` in an earlier life.

        Raises:
            BudgetError: Blocks are under way.
        """
        if self._under_way:
            raise BudgetError(
                self._name,
                f"{len(self._under_way)} blocks are under way",
                "Restore before the first of them begins.",
            )
        self._account.restore(spent)

    def spend(
        self,
        *,
        attempts: int = 1,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usd: float = 0.0,
    ) -> Bill:
        """Return a block, to be entered with `async with`, that may take so much.

        Raises:
            SettingError: Something is negative, not a number or endless.
            BudgetError: Raised on entering, if it is more than is left; or while under way, if the
                seconds are used up.
        """
        asked = Amount.of(
            attempts=attempts, input_tokens=input_tokens, output_tokens=output_tokens, usd=usd
        )
        return Bill(self, asked)

    def __call__(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Let each call of `fn` take one attempt and its time.

        Raises:
            DeclarationError: `fn` is not async.
        """
        check_async(fn, "an allowance")

        @wraps(fn)
        async def within(*args: P.args, **kwargs: P.kwargs) -> T:
            async with Bill(self, _ONE_ATTEMPT):
                return await fn(*args, **kwargs)

        return within

    def refusal(self, short: Short) -> BudgetError:
        """Return `short` as the error that says it."""
        return BudgetError(self._name, short.problem, short.mend)

    def out_of_time(self) -> BudgetError:
        """Return the error that says that the seconds are used up."""
        limit_s = self._account.budget.time_s or 0.0
        return self.refusal(Short(self._account.name, "time_s", asked=0, left=0, limit=limit_s))

    @property
    def _out(self) -> bool:
        """Whether the seconds are used up."""
        return self._limits_time and most((self._account,), "time_s") == 0

    def _begin(self, bill: Bill, asked: Amount) -> Reservation:
        self._tick()
        if self._out:
            raise self.out_of_time()
        taken = reserve((self._account,), asked)
        if isinstance(taken, Short):
            raise self.refusal(taken)
        self._under_way[bill] = None
        self._set_timer()
        return taken

    def _end(self, bill: Bill) -> None:
        self._tick()
        self._under_way.pop(bill, None)
        self._set_timer()

    def _tick(self) -> None:
        """Count the time since the last tick, once for each block under way."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nothing is under way where no loop runs
        # The loop's time, since its timers cut off and a test may move it.
        now_ns = round(loop.time() * _NS_PER_S)
        if self._under_way:
            passed_ns = max(0, now_ns - self._ticked_ns) * len(self._under_way) + self._carried_ns
            whole_us, self._carried_ns = divmod(passed_ns, _NS_PER_US)
            if whole_us:
                self._account.charge(Amount(time_us=whole_us))
        self._ticked_ns = now_ns

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left_us = most((self._account,), "time_s")
        if left_us is not None and self._under_way:
            left_s = left_us / US_PER_S / len(self._under_way)
            self._timer = asyncio.get_running_loop().call_later(left_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._tick()
        if not self._out:
            self._set_timer()
            return
        for bill in tuple(self._under_way):
            bill.cut()
