"""A limit on calls in flight, for any async code.

Keeps: first come, first served; nobody waits without end, and not too many wait; a place is
given back however its call ends, or its wait.
Leaves to `layers/breakers`: how the limit follows a service that says "too many".
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from undercroft.engine.parts.blocks import Blocks, check_async
from undercroft.errors import OverloadedError, SettingError
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Blame, ErrorTable, Judged
from undercroft.layers.breakers.policy import LimitPolicy, checked_number
from undercroft.model.step import ErrorClass

P = ParamSpec("P")
T = TypeVar("T")


class Limit:
    """Lets so many calls be in flight, and has the others wait.

        crm = uc.Limit(20, name="crm")

        @crm
        async def get_account(account_id: str) -> Account: ...

        async with crm:
            ...

    A service that says "too many" (429) is given half as many at once, and more again as long
    as it takes them; if it says for how long it wants to be left alone, it is. Used from one
    event loop at a time.

    Args:
        most: Calls in flight, at least 1; None: no limit before the service says "too many".
        adaptive: Whether, or how, the limit follows the service.
        wait_s: Seconds that a call waits for its place; at least 0.
        waiting_max: Calls that may wait; beyond, they are refused at once. At least 0.
        name: Of the service.
        table: What errors mean. A returned dict that is a provider's error counts as that one.

    Raises:
        SettingError: A setting is outside its range.
    """

    __slots__ = (
        "_adaptive",
        "_blocks",
        "_follows",
        "_most",
        "_table",
        "_timer",
        "_waiting",
        "_waiting_max",
        "name",
        "wait_s",
    )

    def __init__(  # noqa: PLR0913  each is a word of a declaration
        self,
        most: int | None = None,
        *,
        adaptive: bool | LimitPolicy = True,
        wait_s: float = 30.0,
        waiting_max: int = 1_000,
        name: str = "",
        table: ErrorTable = DEFAULT_TABLE,
    ) -> None:
        if most is not None:
            checked_number("most", most, least=1, whole=True)
        if not isinstance(adaptive, bool | LimitPolicy):
            raise SettingError("adaptive", adaptive, "True, False or a uc.LimitPolicy")
        checked_number("wait_s", wait_s, least=0)
        checked_number("waiting_max", waiting_max, least=0, whole=True)
        if not isinstance(table, ErrorTable):
            raise SettingError("table", table, "an uc.ErrorTable")
        self._most, self._follows = most, adaptive is not False
        self._adaptive = AdaptiveLimit(
            adaptive if isinstance(adaptive, LimitPolicy) else LimitPolicy()
        )
        self.wait_s, self.name = float(wait_s), name
        self._waiting_max, self._table = waiting_max, table
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._blocks: Blocks[float] = Blocks()

    def __repr__(self) -> str:
        most = "no limit" if self.most is None else f"at most {self.most}"
        name = f" {self.name!r}" if self.name else ""
        return f"<Limit{name} {most}, {self.in_flight} in flight, {self.waiting} waiting>"

    @property
    def most(self) -> int | None:
        """Calls that may be in flight now; None: as many as there are."""
        limits = [n for n in (self._most, self._adaptive.limit) if n is not None]
        return min(limits, default=None)

    @property
    def in_flight(self) -> int:
        """Calls begun and not ended."""
        return self._adaptive.in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiting)

    def pause_s(self) -> float:
        """Return the seconds for which the service wants to be left alone; 0 outside a loop."""
        try:
            return self._adaptive.pause_s(asyncio.get_running_loop().time())
        except RuntimeError:
            return 0.0

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Let calls of `function` begin when there is a place for them.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, "a limit")

        @functools.wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            began_s = await self._enter()
            try:
                value = await function(*args, **kwargs)
            except BaseException as error:
                self._leave(began_s, error)
                raise
            answered = self._table.judge_value(value) if type(value) is dict else None
            self._leave(began_s, answered)
            return value

        return limited

    async def __aenter__(self) -> None:
        """Begin a call, as soon as there is a place for it.

        Raises:
            OverloadedError: There was none in time, or too many wait for one.
        """
        self._blocks.enter(await self._enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the call."""
        self._leave(self._blocks.leave(), error)

    # ------------------------------------------------------------------ places

    async def _enter(self) -> float:
        """Wait for a place and take it; return when that was."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if not self._waiting and self._free(now_s):
            self._adaptive.began()
            return now_s
        pause_s = self._adaptive.pause_s(now_s)
        if pause_s > self.wait_s or self.waiting >= self._waiting_max or not self.wait_s:
            raise self._refusal(0.0, pause_s)
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        self._watch(now_s)
        try:
            async with asyncio.timeout(self.wait_s):
                await place
        except TimeoutError:
            self._left_waiting(place)
            raise self._refusal(self.wait_s, self._adaptive.pause_s(loop.time())) from None
        except BaseException:
            self._left_waiting(place)
            raise
        # `_hand_out` counted it when it gave the place, so that nobody could take it meanwhile.
        return loop.time()

    def _left_waiting(self, place: asyncio.Future[None]) -> None:
        """Forget who waits no more; a place that was given just then goes to the next."""
        if place.done() and not place.cancelled():
            self._adaptive.released()
        elif place in self._waiting:
            self._waiting.remove(place)
        self._hand_out()

    def _leave(self, began_s: float, error: BaseException | None) -> None:
        try:
            now_s = asyncio.get_running_loop().time()
        except RuntimeError:
            # Its loop is gone, and so is everybody who waited.
            self._adaptive.released()
            return
        judged = None
        if isinstance(error, Exception):
            judged = self._table.judge(error, changes=False)
        if error is None or (judged is not None and judged.blame is Blame.CALLER):
            self._adaptive.succeeded(began_s)
        elif judged is not None and self._follows and _too_many(judged):
            self._adaptive.overloaded(began_s, now_s, judged.retry_after_s)
        else:
            self._adaptive.released()
        self._hand_out()

    def _free(self, now_s: float) -> bool:
        most = math.inf if self._most is None else self._most
        return self._adaptive.in_flight < most and self._adaptive.free(now_s)

    def _hand_out(self) -> None:
        now_s = asyncio.get_running_loop().time()
        while self._waiting and self._free(now_s):
            place = self._waiting.popleft()
            if not place.done():
                self._adaptive.began()
                place.set_result(None)
        self._watch(now_s)

    def _watch(self, now_s: float) -> None:
        """While the service is left alone no call ends, so time itself has to wake who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pause_s = self._adaptive.pause_s(now_s)
        if pause_s > 0 and self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(pause_s, self._hand_out)

    def _refusal(self, waited_s: float, pause_s: float) -> OverloadedError:
        after = f", and {waited_s:.3g} s did not free a place" if waited_s else ""
        why = "it asked to be left alone" if pause_s else "it has as many calls of ours as it takes"
        return OverloadedError(
            self.name or "The service",
            f"it was not called, since {why}{after}",
            "Ask again later, or call it less often.",
            pause_s or None,
        )


def _too_many(judged: Judged) -> bool:
    return judged.blame is Blame.ACCOUNT and judged.error_class is ErrorClass.OVERLOADED
