"""What a function asks for: its parameters, which of them are injected, and what it returns.

Leaves to pydantic: the meaning of annotations as a schema.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from undercroft.errors import DeclarationError
from undercroft.model.inject import Deadline, Fence, IdempotencyKey, Missing, TurnInfo

INJECTED: tuple[type, ...] = (IdempotencyKey, Fence, Deadline, TurnInfo, Missing)
# What `run` takes for itself, beside the inputs.
RESERVED = ("session", "timeout_s", "budget")
REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that the caller fills in.

    Attributes:
        annotation: Resolved; `Any` where there is none.
        default: `REQUIRED` where there is none.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as the runtime sees it.

    Attributes:
        parameters: Those that a caller or a model fills in.
        injected: Those that the runtime fills in, by name.
        returns: Annotation of what it returns, awaited; `Any` where there is none.
        is_async: Whether it is a coroutine function; others run in a thread.
    """

    place: str
    parameters: tuple[Parameter, ...]
    injected: Mapping[str, type]
    returns: Any
    is_async: bool

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter called `name`."""
        return next((p for p in self.parameters if p.name == name), None)


def read_signature(
    fn: Callable[..., Any], place: str, names: Mapping[str, Any], *, skip: int = 0
) -> Signature:
    """Return the signature of `fn`.

    Args:
        fn: A function; its annotations may be strings.
        place: How errors name it.
        names: Local names that its annotations may use, besides its module's.
        skip: Leading parameters that are not the caller's, such as the turn of a handler.

    Raises:
        DeclarationError: A parameter is positional-only or variadic, or an annotation names
            something that cannot be found.
    """
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise DeclarationError(place, "it is a generator", "Return a list instead of yielding.")
    hints = _hints(fn, place, names)
    parameters: list[Parameter] = []
    injected: dict[str, type] = {}
    for p in list(inspect.signature(fn).parameters.values())[skip:]:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            raise DeclarationError(
                place,
                f"parameter {p} cannot be filled in by name",
                "Give every parameter a name and a type: arguments are passed by keyword.",
            )
        annotation = hints.get(p.name, Any)
        wanted = _without_none(plain(annotation))
        if isinstance(wanted, type) and issubclass(wanted, INJECTED):
            injected[p.name] = wanted
        else:
            parameters.append(Parameter(p.name, annotation, p.default))
    return Signature(
        place,
        tuple(parameters),
        injected,
        hints.get("return", Any),
        inspect.iscoroutinefunction(fn),
    )


def refuse_reserved(place: str, inputs: Iterable[str]) -> None:
    """Raise if an input could not be told from what `run` takes for itself.

    Raises:
        DeclarationError: One has such a name.
    """
    for name in inputs:
        if name in RESERVED:
            raise DeclarationError(
                place,
                f"input {name!r} is also a keyword of rt.run",
                f"Call it something else, such as {name}_given.",
            )


def plain(annotation: Any) -> Any:
    """Return `annotation` without its `Annotated` wrapper."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _without_none(annotation: Any) -> Any:
    """Return what may be given beside None, so that a function can be called without it."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return plain(parts[0]) if is_union and len(parts) == 1 else annotation


def _hints(fn: Callable[..., Any], place: str, names: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return get_type_hints(fn, localns=dict(names), include_extras=True)
    except (NameError, AttributeError) as error:
        raise DeclarationError(
            place,
            f"its annotations name {error.name!r}, which is not defined here",
            "Import the type at module level, outside of TYPE_CHECKING.",
        ) from error
    except (TypeError, SyntaxError) as error:
        raise DeclarationError(
            place, f"its annotations cannot be read ({error})", "Annotate it with types."
        ) from error
