"""What to do instead when a call fails, for any async code.

Keeps: where nobody can say whether a write happened nothing is done instead, since it might be
done twice; an error of the fallback never hides the one that led to it.
Leaves to `layers/breakers`: what errors mean.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeAlias, TypeVar

from undercroft.engine.parts.blocks import check_async, check_on, meant
from undercroft.errors import SettingError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, ErrorTable
from undercroft.layers.breakers.evidence import RETRIED
from undercroft.model.step import ErrorClass

P = ParamSpec("P")
T = TypeVar("T")
On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None


class Fallback:
    """Answers with something else where a call fails.

        @uc.Fallback(get_cached_rates)
        @uc.Retry(attempts=3)
        async def get_rates(currency: str) -> Rates: ...

        @uc.Fallback([])
        async def get_suggestions(text: str) -> list[str]: ...

    It answers for calls that failed for now (transient or overloaded errors), that were refused
    (an open breaker, a budget) or for which there is no quota left. It never does where it is
    unknown whether the call changed something. What the fallback raises is raised from the
    error that led to it.

    Args:
        instead: A value, copied for each call; or a function, sync or async, that is given the
            arguments of the call.
        on: Further errors for which it answers: a type, several, or a function that says so.
        changes: Whether the call may change the world; then a failure that leaves open whether
            it did is raised.
        table: What errors mean.

    Raises:
        SettingError: A setting is of the wrong kind.
    """

    __slots__ = ("_changes", "_instead", "_on", "_table")

    def __init__(
        self,
        instead: Any,
        *,
        on: On = None,
        changes: bool = False,
        table: ErrorTable = DEFAULT_TABLE,
    ) -> None:
        check_on(on)
        if not isinstance(changes, bool):
            raise SettingError("changes", changes, "True or False")
        if not isinstance(table, ErrorTable):
            raise SettingError("table", table, "an uc.ErrorTable")
        self._instead, self._on = instead, on
        self._changes, self._table = changes, table

    def __repr__(self) -> str:
        name = getattr(self._instead, "__qualname__", None) or repr(self._instead)
        return f"<Fallback {name:.60}>"

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Answer for the calls of `function` that fail.

        Raises:
            DeclarationError: It is not an async function.
        """
        check_async(function, "a fallback")

        @functools.wraps(function)
        async def answered(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if not self.answers(error):
                    raise
                try:
                    instead: T = await self._answer(args, kwargs)
                except Exception as worse:
                    if worse is error:
                        raise
                    raise worse from error
                return instead

        return answered

    def answers(self, error: Exception) -> bool:
        """Whether it answers for a call that raised `error`."""
        judged = self._table.judge(error, changes=self._changes)
        if judged.error_class is ErrorClass.UNKNOWN:
            return False
        if judged.error_class in RETRIED or judged.refused or judged.quota:
            return True
        return meant(self._on, error)

    async def _answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not callable(self._instead):
            # Whoever is given it may change it.
            return copy.deepcopy(self._instead)
        value = self._instead(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value
