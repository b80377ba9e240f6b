"""A loop guard by itself, for any async code, with or without a runtime.

Keeps: a call that would go on with a circle is not made, and its caller is told why.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from undercroft.engine.codec import ENCODE_ERRORS, decode, encode
from undercroft.engine.parts.blocks import check_async
from undercroft.errors import LoopError, SettingError
from undercroft.layers.breakers.loops import Looping, Loops
from undercroft.layers.breakers.policy import LoopPolicy
from undercroft.model.ids import fingerprint

P = ParamSpec("P")
T = TypeVar("T")

# So many objects that are no data are kept, so that none of them is taken for another.
_OBJECTS_MAX = 256
_DEPTH_MAX = 8


class Guarded:
    """One call under guard, from the beginning of a block to its end.

    Attributes:
        result: What the call came to, to be set within the block; plain data at best.
    """

    __slots__ = ("_args_fp", "_changes", "_guard", "_name", "_polls", "result")

    def __init__(
        self, guard: LoopGuard, name: str, args_fp: bytes, *, changes: bool, polls: bool
    ) -> None:
        self._guard, self._name, self._args_fp = guard, name, args_fp
        self._changes, self._polls = changes, polls
        self.result: Any = None

    async def __aenter__(self) -> Self:
        self._guard._enter(self._name, self._args_fp, polls=self._polls)  # noqa: SLF001  its own
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loops, canonical = self._guard._loops, self._guard._canonical  # noqa: SLF001  its own
        if error is not None and not isinstance(error, Exception):
            # Cancelled: nobody knows what it would have come to.
            loops.drop(self._name, self._args_fp, polls=self._polls)
            return
        came = "ok" if error is None else type(error).__qualname__
        result = self.result if error is None else _text(error)
        loops.note(
            self._name,
            self._args_fp,
            came,
            canonical(result),
            changed=self._changes and error is None,
            polls=self._polls,
        )


class LoopGuard:
    """Notices that a conversation goes round in circles, and refuses to go on with it.

        guard = uc.LoopGuard()

        @guard
        async def search(words: str) -> list[str]: ...

        @guard(changes=True)
        async def set_tier(account_id: str, tier: str) -> None: ...

        async with guard.call("search", {"words": words}) as call:
            call.result = await search(words)

    Calls are the same if name and arguments are, in whatever order and spelling these are given.
    What is data is compared by what it says; any other object is itself and no other.

    One for each conversation. The first refusals are meant to be told to the model; `over` says
    that it was told often enough.

    Args:
        policy: How often is enough.

    Raises:
        SettingError: `policy` is no `uc.LoopPolicy`.
    """

    def __init__(self, policy: LoopPolicy | None = None) -> None:
        if policy is not None and not isinstance(policy, LoopPolicy):
            raise SettingError("policy", policy, "an uc.LoopPolicy")
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        """Forget everything: another conversation begins."""
        self._loops = Loops(self._policy)
        self._objects: dict[int, tuple[object, int]] = {}
        self._numbered = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the conversation was told often enough, and is to be ended."""
        return self._over

    @property
    def redirects(self) -> int:
        """How often it was told since it last got on."""
        return self._loops.redirects

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        changes: bool = False,
        polls: bool = False,
    ) -> Guarded:
        """Return a block, to be entered with `async with`, in which one call is made.

        Args:
            name: Of what is called.
            arguments: By name.
            changes: Whether it changes something in the world if no error is raised.
            polls: Whether asking again and again is what it is for; it is never refused.

        Raises:
            LoopError: Raised on entering, if the call would go on with a circle.
        """
        args_fp = self._canonical(dict(arguments or {}))
        return Guarded(self, name, args_fp, changes=changes, polls=polls)

    def step(self) -> None:
        """Say that the model is asked; call it before each request, if there is a model.

        Raises:
            LoopError: Its last answers led to nothing new.
        """
        looping = self._loops.model_step()
        if looping is not None:
            raise self._refusal("the model", looping)

    def said(self, text: str) -> None:
        """Record an answer of the model that calls nothing."""
        self._loops.said(self._canonical(text))

    def progress(self) -> None:
        """Begin all counting anew, such as after a person said something."""
        self._loops.progress()
        self._over = False

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(
        self, fn: None = None, /, *, name: str = "", changes: bool = False, polls: bool = False
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]: ...

    def __call__(
        self,
        fn: Any = None,
        /,
        *,
        name: str = "",
        changes: bool = False,
        polls: bool = False,
    ) -> Any:
        """Guard each call of `fn`; see `call` for the keywords.

        Raises:
            DeclarationError: `fn` is not async.
        """
        if fn is None:
            return lambda fn: self._guarded(fn, name, changes=changes, polls=polls)
        return self._guarded(fn, name, changes=changes, polls=polls)

    def _guarded(
        self, fn: Callable[P, Awaitable[T]], name: str, *, changes: bool, polls: bool
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        known: str = name or getattr(fn, "__qualname__", repr(fn))
        check_async(fn, "a loop guard")
        signature = inspect.signature(fn)

        @wraps(fn)
        async def within(*args: P.args, **kwargs: P.kwargs) -> T:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            async with self.call(known, bound.arguments, changes=changes, polls=polls) as call:
                result = call.result = await fn(*args, **kwargs)
            return result

        return within

    def _enter(self, name: str, args_fp: bytes, *, polls: bool) -> None:
        looping = self._loops.ask(name, args_fp, polls=polls)
        if looping is not None:
            raise self._refusal(name, looping)

    def _refusal(self, name: str, looping: Looping) -> LoopError:
        self._over = looping.end
        return LoopError(name, looping.problem, looping.mend)

    def _canonical(self, value: Any) -> bytes:
        """Return the same bytes for what is the same."""
        try:
            return fingerprint(value)
        except ENCODE_ERRORS:
            return fingerprint(self._plain(value, 0))

    def _plain(self, value: Any, depth: int) -> Any:
        """Return `value` as plain data, with a number for each object that is none."""
        try:
            return decode(encode(value))
        except ENCODE_ERRORS:
            pass
        if depth < _DEPTH_MAX:
            if isinstance(value, Mapping):
                parts = [
                    (self._canonical(key), self._plain(value[key], depth + 1)) for key in value
                ]
                return ["mapping", sorted(parts, key=lambda part: part[0])]
            if isinstance(value, list | tuple):
                return ["list", [self._plain(part, depth + 1) for part in value]]
        if isinstance(value, int):
            return ["int", hex(value)]
        return ["object", type(value).__qualname__, self._number(value)]

    def _number(self, value: object) -> int:
        known = self._objects.get(id(value))
        if known is None:
            # Kept, since the id of an object that is gone is given to the next.
            if len(self._objects) >= _OBJECTS_MAX:
                del self._objects[next(iter(self._objects))]
            self._numbered += 1
            known = self._objects[id(value)] = (value, self._numbered)
        return known[1]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  a broken __str__ must not hide the error itself
        return ""
