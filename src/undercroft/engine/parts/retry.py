"""Trying again, for any async code, with or without a runtime.

Keeps: one place owns the attempts of a call, those of client libraries included as far as they
are told of; the error that is raised in the end is the last one, unchanged.
Leaves to `layers/breakers`: which errors are tried again, how long to wait, how many retries.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar

from undercroft.engine.parts.blocks import check_async, check_on, meant
from undercroft.engine.parts.timeout import remaining_s
from undercroft.engine.parts.wire import Wire, counting
from undercroft.errors import CallRefusedError, SettingError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Blame, ErrorTable, Judged
from undercroft.layers.breakers.policy import RetryPolicy, RetryRatio
from undercroft.layers.breakers.waits import Ended, RetryTokens, wait_or_end
from undercroft.model.step import ErrorClass

P = ParamSpec("P")
T = TypeVar("T")
On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None

# Of what successes took, so much is forgotten at each new one.
_FORGET = 0.2
_SAID = frozenset({Ended.HINT, Ended.DEADLINE, Ended.RATIO})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(RetryPolicy):
    """Tries a failed call again: of a tool, or of any async code.

        @uc.tool(reads="crm/{account_id}", retry=uc.Retry(attempts=5))
        async def get_account(account_id: str) -> Account: ...

        @uc.Retry(attempts=5)
        async def get_rates() -> Rates: ...

        async for attempt in uc.Retry(attempts=5):
            with attempt:
                rates = await get_rates()

    Waits are random up to a bound that doubles; a service that says when it wants to be asked
    again is obeyed. Inside of a `Timeout` no attempt is begun that cannot come to its end. A
    call that was refused, such as by an open breaker, is not tried again unless `on` names its
    error: then not before it may be made. A dict that is a provider's error counts as that
    error, and is returned if it is the last. In the end the last error is raised, unchanged but
    for a note.

    What a tool adds: whether it changes the world, so that a write of which nobody can say
    whether it happened is not tried again. On its own, say `changes=True`.

    Attributes:
        on: Further errors that are tried again: a type, several, or a function that says so of
            an error. Not of those that leave open whether a write happened, nor where the
            quota is used up.
        changes: Whether the code may change the world; of a tool, its effect says so.
        table: What errors mean.
        ratio: How many retries there are beside the calls, shared by all code that is given
            the same `RetryTokens`; a `RetryRatio` makes some. None: no limit but `attempts`.
        sleep: Waits for so many seconds.
        clock: Seconds from any start that never go back.
        wall: Seconds since 1970, for a `Retry-After` that is a date.
        jitter: From 0 to below 1.

    Raises:
        SettingError: A setting is outside its range.
    """

    on: On = None
    changes: bool = False
    table: ErrorTable = field(default=DEFAULT_TABLE, repr=False)
    ratio: RetryTokens | RetryRatio | None = field(default=None, repr=False)
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall: Callable[[], float] = field(default=time.time, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        RetryPolicy.__post_init__(self)
        check_on(self.on)
        if not isinstance(self.changes, bool):
            raise SettingError("changes", self.changes, "True or False")
        if not isinstance(self.table, ErrorTable):
            raise SettingError("table", self.table, "an uc.ErrorTable")
        if isinstance(self.ratio, RetryRatio):
            object.__setattr__(self, "ratio", RetryTokens(self.ratio))
        elif self.ratio is not None and not isinstance(self.ratio, RetryTokens):
            raise SettingError("ratio", self.ratio, "RetryTokens, a RetryRatio, or None")
        for name in ("sleep", "clock", "wall", "jitter"):
            if not callable(getattr(self, name)):
                raise SettingError(name, getattr(self, name), "something to be called")

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Try each call of `function` again where it fails.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, "a retry")
        typical = _Typical()

        @functools.wraps(function)
        async def tried(*args: P.args, **kwargs: P.kwargs) -> T:
            run = _Run(self, typical)
            while True:
                began_s = self.clock()
                try:
                    with run.attempt():
                        value = await function(*args, **kwargs)
                except Exception as error:
                    wait_s = run.failed(error)
                    if wait_s is None:
                        raise
                else:
                    wait_s = run.returned(value)
                    if wait_s is None:
                        typical.took(self.clock() - began_s)
                        return value
                # Outside of `except`: the next error was not raised while handling this one.
                await self.sleep(wait_s)

        return tried

    def __aiter__(self) -> AsyncIterator[Attempt]:
        """Attempts, each to be entered with `with`; no more of them after one that went well."""
        return _Attempts(_Run(self, _Typical()))

    def judge(self, error: Exception, *, changes: bool | None = None) -> Judged:
        """Say what `error` means, with what `on` adds to the table.

        Args:
            error: As it was raised.
            changes: Whether the call may have changed the world; None: as declared.
        """
        changes = self.changes if changes is None else changes
        return self.widen(self.table.judge(error, changes=changes, wall_s=self.wall()), error)

    def widen(self, judged: Judged, error: BaseException) -> Judged:
        """Return what `error` means, with what `on` adds to what some table `judged`."""
        if not isinstance(error, Exception) or not meant(self.on, error):
            return judged
        if judged.quota or judged.error_class is ErrorClass.UNKNOWN:
            return judged
        if judged.refused:
            # Retrying Exception, somebody hardly means to hammer on an open breaker.
            return self._named(judged, error)
        if judged.error_class is ErrorClass.OVERLOADED:
            return judged
        return replace(judged, error_class=ErrorClass.TRANSIENT)

    def _named(self, judged: Judged, error: Exception) -> Judged:
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        refusals = [k for k in kinds if isinstance(k, type) and issubclass(k, CallRefusedError)]
        if not isinstance(error, tuple(refusals)) and isinstance(self.on, tuple | type):
            return judged
        retry_in_s = error.retry_in_s if isinstance(error, CallRefusedError) else None
        return Judged(ErrorClass.TRANSIENT, Blame.UNSURE, retry_in_s, why=judged.why)


class _Typical:
    """How long attempts take that go well; 0 as long as none did."""

    __slots__ = ("s",)

    def __init__(self) -> None:
        self.s = 0.0

    def took(self, s: float) -> None:
        self.s = s if not self.s else self.s + _FORGET * (s - self.s)


class _Run:
    """The attempts of one call."""

    __slots__ = ("_began_s", "_retry", "_spent", "_tries", "_typical", "_wire")

    def __init__(self, retry: Retry, typical: _Typical) -> None:
        self._retry, self._typical = retry, typical
        self._began_s = retry.clock()
        self._tries = self._spent = 0
        self._wire = Wire()
        if isinstance(retry.ratio, RetryTokens):
            retry.ratio.call(self._began_s)

    @property
    def tries(self) -> int:
        return self._tries

    def attempt(self) -> AbstractContextManager[Wire]:
        """Begin an attempt; what a client library sends inside counts, the same request as one."""
        self._tries += 1
        self._wire = Wire(repeats_allowed=max(self._retry.attempts - self._spent, 1))
        return counting(self._wire)

    def returned(self, value: Any) -> float | None:
        """Return how long to wait before the next attempt; None: `value` is what there is."""
        error = self._retry.table.judge_value(value) if type(value) is dict else None
        return None if error is None else self.failed(error)

    def failed(self, error: Exception) -> float | None:
        """Return how long to wait before the next attempt; None: that is how it ends."""
        retry = self._retry
        self._spent += max(self._wire.repeats, 1)
        said = wait_or_end(
            retry,
            retry.judge(error),
            attempt=self._spent,
            jitter=retry.jitter(),
            remaining_s=remaining_s(),
            typical_s=self._typical.s,
        )
        if not isinstance(said, Ended) and self._granted():
            return said
        self._note(error, said if isinstance(said, Ended) else Ended.RATIO)
        return None

    def _granted(self) -> bool:
        ratio = self._retry.ratio
        return not isinstance(ratio, RetryTokens) or ratio.take(self._retry.clock())

    def _note(self, error: Exception, ended: Ended) -> None:
        if self._tries == 1 and self._spent == 1 and ended not in _SAID:
            return
        took_s = self._retry.clock() - self._began_s
        times = "once" if self._tries == 1 else f"{self._tries} times"
        wire = f" ({self._spent} attempts on the wire)" if self._spent > self._tries else ""
        # An error may refuse to be written on; it is raised all the same.
        with suppress(Exception):
            error.add_note(f"Tried {times}{wire} in {took_s:.3g} s; {ended.words}.")


class _Attempts:
    """The attempts of `async for attempt in uc.Retry(): ...`."""

    __slots__ = ("_last", "_run")

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._last: Attempt | None = None

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return self

    async def __anext__(self) -> Attempt:
        last, self._last = self._last, None
        if last is not None:
            if last.wait_s is None:
                raise StopAsyncIteration
            await self._run._retry.sleep(last.wait_s)  # noqa: SLF001  of the same file
        self._last = Attempt(self._run)
        return self._last


class Attempt:
    """One attempt: `with attempt: ...`. What fails inside is tried again, or raised.

    Attributes:
        number: From 1.
        wait_s: Seconds until the next one; None if there is none, as while it is under way.
    """

    __slots__ = ("_counting", "_run", "number", "wait_s")

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.number = run.tries + 1
        self.wait_s: float | None = None
        self._counting: AbstractContextManager[Wire] | None = None

    def __enter__(self) -> Self:
        """Begin the attempt."""
        self._counting = self._run.attempt()
        self._counting.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        """End the attempt; an error that is tried again stops here."""
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
        if isinstance(error, Exception):
            self.wait_s = self._run.failed(error)
        return self.wait_s is not None
