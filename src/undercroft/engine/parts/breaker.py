"""A circuit breaker for any async code, with or without a runtime.

Keeps: a call that is refused is never begun; every permit is given back, however the call ends;
whoever watches or judges cannot break a call.
Leaves to `layers/breakers`: when it opens, what a call's error says about its service.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from undercroft.engine.parts.blocks import Blocks, check_async
from undercroft.errors import BreakerOpenError, SettingError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Blame, ErrorTable, Judged
from undercroft.layers.breakers.policy import DEFAULT_BREAKER, BreakerPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit, Metrics, Transition

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Raised: TypeAlias = BaseException | None
Judge: TypeAlias = Callable[[BaseException], Blame | Judged | None]

_AWAY = {
    BreakerState.OPEN: ("it keeps failing, and is left alone for now", "Ask again later"),
    BreakerState.HALF_OPEN: ("whether it is well again is being found out", "Ask again soon"),
    BreakerState.FORCED_OPEN: ("it was closed off by hand", "Ask whoever did that"),
}


class Breaker:
    """Stops calling what keeps failing, and finds out when it is well again.

        crm = uc.Breaker("crm", uc.BreakerPolicy(failure_rate=0.5, window_calls=20))

        @crm
        async def get_account(account_id: str) -> Account: ...

        async with crm:
            ...  # one call, likewise

    One breaker is for one service, and may guard many functions and many calls at a time, all
    of them in one thread. What is cancelled counts for nothing: put a timeout inside, where it
    raises `TimeoutError`, and it counts as a failure.

    Args:
        name: Of the service.
        policy: When to open, and for how long.
        judge: Says whose failure an error is; None: what `table` says. Where it raises, the
            table decides, and a warning is logged once.
        table: What errors mean. Failures count if the service is to blame or nobody can tell.
            What the caller is to blame for counts as a success; what the account is to blame
            for, or nobody, does not count. A returned dict that is a provider's error counts
            as that error.
        ignore: Types of errors that do not count either.
        clock: Seconds from any start that never go back.
        on_transition: Told of each transition; may call back. What it raises is logged.

    Raises:
        SettingError: An argument is of the wrong kind.
    """

    __slots__ = (
        "_blocks",
        "_circuit",
        "_clock",
        "_ignore",
        "_judge",
        "_on_transition",
        "_table",
        "_warned",
    )

    def __init__(  # noqa: PLR0913  each is a word of a declaration
        self,
        name: str = "",
        policy: BreakerPolicy | None = None,
        *,
        judge: Judge | None = None,
        table: ErrorTable = DEFAULT_TABLE,
        ignore: type[BaseException] | tuple[type[BaseException], ...] = (),
        clock: Callable[[], float] = time.monotonic,
        on_transition: Callable[[Transition], object] | None = None,
    ) -> None:
        policy = DEFAULT_BREAKER if policy is None else policy
        self._ignore = ignore if isinstance(ignore, tuple) else (ignore,)
        _check_kinds(name, policy, table, self._ignore)
        for what, value in (("judge", judge), ("on_transition", on_transition), ("clock", clock)):
            if value is None and what != "clock":
                continue
            if not callable(value):
                raise SettingError(what, value, "something to be called")
        self._judge, self._table, self._clock = judge, table, clock
        self._on_transition = on_transition
        self._warned = False
        # Those of `async with breaker`; None as long as nobody uses it so.
        self._blocks: Blocks[BreakerCall] | None = None
        tell = None if on_transition is None else self._tell
        self._circuit = Circuit(policy, clock(), name=name, tell=tell)

    def __repr__(self) -> str:
        seen = self.metrics()
        name = f" {self.name!r}" if self.name else ""
        return f"<Breaker{name} {self.state}: {seen.failures} of {seen.calls} failed>"

    @property
    def name(self) -> str:
        """Name of the service."""
        return self._circuit.name

    @property
    def policy(self) -> BreakerPolicy:
        """When it opens, and for how long."""
        return self._circuit.policy

    @property
    def state(self) -> BreakerState:
        """The state by now."""
        return self._circuit.state_at(self._clock())

    @property
    def suspect(self) -> bool:
        """Whether failures come faster than on a good day; refuses nothing."""
        return self._circuit.suspect

    def metrics(self) -> Metrics:
        """Return what is known by now of the calls since the last transition."""
        return self._circuit.metrics(self._clock())

    # ------------------------------------------------------------------ calls

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Guard `function`: each of its calls passes the breaker.

        Raises:
            DeclarationError: It is not an async function.
        """
        return self.guard(function)

    def guard(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, probe: bool = True
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Guard `function`, as the decorator does.

        Args:
            function: Async; its calls raise `BreakerOpenError` where they are refused.
            probe: Whether a call may be one that finds out whether the service is well again.
                False for a write that would happen twice if it were repeated.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, "a breaker")
        circuit, clock = self._circuit, self._clock
        admit = circuit.admit if probe else functools.partial(circuit.admit, probe=False)
        succeeded = circuit.succeeded

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            began_s = clock()
            permit = admit(began_s)
            if not permit:
                raise self._refusal(began_s)
            try:
                value = await function(*args, **kwargs)
            except BaseException as error:
                self._raised(permit, began_s, error)
                raise
            if type(value) is dict and (answered := self._answered(value)) is not None:
                self._raised(permit, began_s, answered)
                return value
            now_s = clock()
            succeeded(permit, now_s, now_s - began_s)
            return value

        return guarded

    def call(self, *, probe: bool = True) -> BreakerCall:
        """Return a block for one call: `async with breaker.call(): ...`.

        Args:
            probe: As for `guard`.
        """
        return BreakerCall(self, probe=probe)

    async def __aenter__(self) -> None:
        """Begin a call.

        Raises:
            BreakerOpenError: It is refused.
        """
        block = BreakerCall(self)
        await block.__aenter__()
        if self._blocks is None:
            self._blocks = Blocks()
        self._blocks.enter(block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the call that was begun last in this task."""
        if self._blocks is None:
            self._blocks = Blocks()
        await self._blocks.leave().__aexit__(kind, error, at)

    def admit(self, *, probe: bool = True) -> int:
        """Return a permit for a call that may start now, or 0 if it must not; raises nothing.

        The permit is given back exactly once: with `succeeded`, `failed` or `released`.

        Args:
            probe: As for `guard`.
        """
        return self._circuit.admit(self._clock(), probe=probe)

    def succeeded(self, permit: int, took_s: float = 0.0) -> None:
        """Take back the permit of a call that went well."""
        self._circuit.succeeded(permit, self._clock(), took_s)

    def failed(self, permit: int, took_s: float = 0.0) -> None:
        """Take back the permit of a call that failed."""
        self._circuit.failed(permit, self._clock(), took_s)

    def released(self, permit: int) -> None:
        """Take back the permit of a call that says nothing about the service."""
        self._circuit.released(permit)

    # ------------------------------------------------------------------ by hand

    def force_open(self, *, by: str = "") -> None:
        """Refuse every call until somebody says otherwise; `by` is who wants it."""
        self._circuit.to(BreakerState.FORCED_OPEN, self._clock(), by=by)

    def force_closed(self, *, by: str = "") -> None:
        """Let every call pass until somebody says otherwise; they still count."""
        self._circuit.to(BreakerState.OBSERVE_ONLY, self._clock(), by=by)

    def disable(self, *, by: str = "") -> None:
        """Let every call pass until somebody says otherwise, and count nothing."""
        self._circuit.to(BreakerState.DISABLED, self._clock(), by=by)

    def reset(self, *, by: str = "") -> None:
        """Begin anew: closed, nothing counted, the wait as short as at first."""
        self._circuit.reset(self._clock(), by=by)

    # ------------------------------------------------------------------ how calls end

    def _begin(self, *, probe: bool) -> tuple[float, int]:
        now_s = self._clock()
        permit = self._circuit.admit(now_s, probe=probe)
        if not permit:
            raise self._refusal(now_s)
        return now_s, permit

    def _end(self, permit: int, began_s: float, error: BaseException | None) -> None:
        if error is not None:
            self._raised(permit, began_s, error)
            return
        now_s = self._clock()
        self._circuit.succeeded(permit, now_s, now_s - began_s)

    def _refusal(self, now_s: float) -> BreakerOpenError:
        retry_in_s = self._circuit.retry_in_s(now_s)
        problem, mend = _AWAY.get(self._circuit.state, _AWAY[BreakerState.OPEN])
        soon = "" if retry_in_s is None else f", in {retry_in_s:.3g} s"
        return BreakerOpenError(
            self.name or "the service",
            f"it was not called, since {problem}",
            f"{mend}{soon}, or do without it.",
            retry_in_s,
        )

    def _raised(self, permit: int, began_s: float, error: BaseException) -> None:
        """Give back the permit of a call that raised `error`."""
        now_s = self._clock()
        match self._blame(error):
            case Blame.VENDOR | Blame.UNSURE:
                self._circuit.failed(permit, now_s, now_s - began_s)
            case Blame.CALLER:
                self._circuit.succeeded(permit, now_s, now_s - began_s)
            case _:
                self._circuit.released(permit)

    def _blame(self, error: BaseException) -> Blame:
        if not isinstance(error, Exception) or isinstance(error, self._ignore):
            # Cancelled, told to exit: that says nothing about who was called.
            return Blame.NOBODY
        if self._judge is not None:
            try:
                said = self._judge(error)
                if said is not None:
                    return said.blame if isinstance(said, Judged) else Blame(said)
            except Exception as bad:  # noqa: BLE001  a user's function
                self._warn(f"judge failed on {error!r}", bad)
        return self._table.judge(error, changes=False).blame

    def _answered(self, value: Any) -> Exception | None:
        """Return the error that a returned `value` is, if it is one."""
        try:
            return self._table.judge_value(value)
        except Exception as bad:  # noqa: BLE001  a value that cannot be looked at is a value
            self._warn("table failed on a value", bad)
            return None

    def _warn(self, problem: str, bad: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("breaker %s: %s: %r; this is said once", self.name, problem, bad)

    def _tell(self, transition: Transition) -> None:
        watch = self._on_transition
        try:
            if watch is not None:
                watch(transition)
        except Exception:
            log.exception("breaker %s: watcher %r failed", self.name, watch)


class BreakerCall:
    """One call through a breaker, as a block: `async with breaker.call(): ...`."""

    __slots__ = ("_began_s", "_breaker", "_permit", "_probe")

    def __init__(self, breaker: Breaker, *, probe: bool = True) -> None:
        self._breaker, self._probe = breaker, probe
        self._began_s, self._permit = 0.0, 0

    async def __aenter__(self) -> None:
        """Begin the call.

        Raises:
            BreakerOpenError: It is refused.
            RuntimeError: It is under way already.
        """
        if self._permit:
            msg = "the block is under way; ask for another with breaker.call()"
            raise RuntimeError(msg)
        self._began_s, self._permit = self._breaker._begin(probe=self._probe)  # noqa: SLF001

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the call, as it ended."""
        permit, self._permit = self._permit, 0
        self._breaker._end(permit, self._began_s, error)  # noqa: SLF001


def _check_kinds(name: Any, policy: Any, table: Any, ignore: tuple[Any, ...]) -> None:
    if not isinstance(name, str):
        raise SettingError("name", name, "a string")
    if not isinstance(policy, BreakerPolicy):
        raise SettingError("policy", policy, "an uc.BreakerPolicy, or None")
    if not isinstance(table, ErrorTable):
        raise SettingError("table", table, "an ErrorTable")
    for kind in ignore:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise SettingError("ignore", kind, "a type of exception, or a tuple of them")
