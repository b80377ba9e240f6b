"""Functions as people write them, made such that a model can call them by name.

Keeps: the function itself is called as it was written; what it yields is a list, and an error
that it returns is raised.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from undercroft.errors import DeclarationError

_P = inspect.Parameter
# A generator that yields more than this is taken for endless.
YIELDS_MAX = 100_000


def by_name(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does what `fn` does, and can be called by name.

    `*args` becomes a list, `**kwargs` an object, each under its own name. Of a function that is
    plain enough already it is that.

    Raises:
        DeclarationError: Its signature cannot be read.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise DeclarationError(
            f"tool {fn!r:.80}", "it does not say what it takes", "Wrap it in a function that does."
        ) from error
    takes = signature.parameters.values()
    odd = any(p.kind in (_P.POSITIONAL_ONLY, _P.VAR_POSITIONAL, _P.VAR_KEYWORD) for p in takes)
    call = inspect.unwrap(fn)
    bound = getattr(call, "__func__", call)
    yields = inspect.isgeneratorfunction(bound) or inspect.isasyncgenfunction(bound)
    is_object = not inspect.isroutine(fn)
    if not (odd or yields or is_object):
        return _raising(fn)
    return _wrapped(fn, signature, is_async=_is_async(fn))


def _is_async(fn: Callable[..., Any]) -> bool:
    inner = fn if inspect.isroutine(fn) else type(fn).__call__
    unwrapped = inspect.unwrap(inner)
    bound = getattr(unwrapped, "__func__", unwrapped)
    return inspect.iscoroutinefunction(bound) or inspect.isasyncgenfunction(bound)


def _raising(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` such that an error which it returns is raised."""
    if inspect.iscoroutinefunction(inspect.unwrap(fn)):

        @functools.wraps(fn)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return _no_error(await fn(*args, **kwargs))

        return run

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _no_error(fn(*args, **kwargs))

    return call


def _wrapped(
    fn: Callable[..., Any], signature: inspect.Signature, *, is_async: bool
) -> Callable[..., Any]:
    hints = _hints(fn)
    name = getattr(fn, "__name__", type(fn).__name__)
    parameters = [_plain(p, hints.get(p.name, Any)) for p in signature.parameters.values()]
    run: Callable[..., Any]
    if is_async:

        async def run_async(**given: Any) -> Any:
            args, kwargs = _spread(signature, given)
            made = fn(*args, **kwargs)
            if inspect.isasyncgen(made):
                return [one async for one in _bounded_async(name, made)]
            return _no_error(await made)

        run = run_async
    else:

        def run_sync(**given: Any) -> Any:
            args, kwargs = _spread(signature, given)
            made = fn(*args, **kwargs)
            return list(_bounded(name, made)) if inspect.isgenerator(made) else _no_error(made)

        run = run_sync
    run.__name__ = run.__qualname__ = name
    run.__doc__ = inspect.getdoc(fn)
    run.__module__ = getattr(fn, "__module__", None) or __name__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    made: Any = run  # what `inspect` reads, and no type knows
    made.__signature__ = inspect.Signature(parameters)
    return run


def _hints(fn: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}  # a model is told no types, then


def _plain(p: inspect.Parameter, annotation: Any) -> inspect.Parameter:
    """Return a parameter like `p` that is filled in by name."""
    default = p.default
    if p.kind is _P.VAR_POSITIONAL:
        annotation, default = list[annotation], ()
    elif p.kind is _P.VAR_KEYWORD:
        annotation, default = dict[str, annotation], {}
    return _P(p.name, _P.KEYWORD_ONLY, default=default, annotation=annotation)


def _spread(
    signature: inspect.Signature, given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return what is passed by position and what by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    variadic = any(p.kind is _P.VAR_POSITIONAL for p in signature.parameters.values())
    by_position = True
    for p in signature.parameters.values():
        if p.kind is _P.VAR_POSITIONAL:
            args += given.get(p.name, ())
        elif p.kind is _P.VAR_KEYWORD:
            kwargs.update(given.get(p.name, {}))
        elif p.name not in given:
            by_position = False  # the next one cannot stand in its place
        elif by_position and (
            p.kind is _P.POSITIONAL_ONLY or (variadic and p.kind is not _P.KEYWORD_ONLY)
        ):
            args.append(given[p.name])
        else:
            kwargs[p.name] = given[p.name]
    return args, kwargs


def _no_error(value: Any) -> Any:
    """Return `value`, or raise it: some hand an error back where others raise it."""
    if isinstance(value, Exception):
        raise value
    return value


def _bounded(name: str, made: Any) -> Any:
    for count, one in enumerate(made):
        _check_count(name, count)
        yield one


async def _bounded_async(name: str, made: Any) -> Any:
    count = 0
    async for one in made:
        _check_count(name, count)
        count += 1
        yield one


def _check_count(name: str, count: int) -> None:
    if count >= YIELDS_MAX:
        msg = f"{name} yielded more than {YIELDS_MAX:,} times"
        raise ValueError(msg)
