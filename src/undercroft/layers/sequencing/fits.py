"""Whether a value of one annotation can be passed where another is asked for.

Keeps: only what is certainly wrong is called wrong; what cannot be decided passes.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from undercroft.layers.sequencing.signature import plain

_PROMOTED = {(int, float), (int, complex), (float, complex), (bool, int), (bool, float)}


def fits(given: Any, asked: Any) -> bool:
    """Return False where a `given` can certainly not be passed as `asked`."""
    given, asked = plain(given), plain(asked)
    if _anything(given) or _anything(asked) or given == asked:
        return True
    if len(several := _alternatives(given)) > 1:
        return all(fits(one, asked) for one in several)
    if _is_union(asked):
        return any(fits(given, one) for one in get_args(asked))
    if get_origin(asked) is Literal:
        return get_origin(given) is not Literal or set(get_args(given)) <= set(get_args(asked))
    if get_origin(given) is Literal:
        return fits(type(get_args(given)[0]), asked)
    return _classes_fit(given, asked)


def item_type(collection: Any) -> Any:
    """Return the annotation of one item of `collection`; None where it has no items."""
    collection = plain(collection)
    if _anything(collection):
        return Any
    if _is_union(collection):
        # None stands for an optional step that failed: there is nothing to fan out over then.
        given = [part for part in get_args(collection) if part is not type(None)]
        items = [item_type(part) for part in given]
        return None if None in items else Union[tuple(items)]  # noqa: UP007
    origin = get_origin(collection) or collection
    arguments = get_args(collection)
    if not isinstance(origin, type):
        return Any
    if issubclass(origin, str | bytes | Mapping) or not issubclass(origin, Iterable):
        return None
    if origin is tuple and arguments:
        return arguments[0] if arguments[-1] is Ellipsis else Union[arguments]  # noqa: UP007
    return arguments[0] if arguments else Any


def spelled(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _classes_fit(given: Any, asked: Any) -> bool:  # noqa: PLR0911  one return a rule
    given_class, asked_class = get_origin(given) or given, get_origin(asked) or asked
    if asked is None or given is None:
        return given in (None, type(None)) and asked in (None, type(None))
    if not isinstance(given_class, type) or not isinstance(asked_class, type):
        return True
    if getattr(asked_class, "_is_protocol", False):
        return True
    if (given_class, asked_class) in _PROMOTED:
        return True
    if dict in (given_class, asked_class) and _is_typed_dict(given_class, asked_class):
        return True
    try:
        if not issubclass(given_class, asked_class):
            return False
    except TypeError:
        return True
    mine, theirs = get_args(given), get_args(asked)
    if len(mine) != len(theirs) or not issubclass(
        given_class, Sequence | Mapping | set | frozenset
    ):
        return True
    return all(fits(a, b) for a, b in zip(mine, theirs, strict=True))


def _is_typed_dict(*classes: type) -> bool:
    return any(hasattr(cls, "__total__") for cls in classes)


def _anything(annotation: Any) -> bool:
    return annotation in (Any, object) or isinstance(annotation, TypeVar)


def _alternatives(annotation: Any) -> list[Any]:
    """Return what a value of `annotation` may be, one kind at a time."""
    if get_origin(annotation) is Literal:
        return [Literal[value] for value in get_args(annotation)]
    return list(get_args(annotation)) if _is_union(annotation) else [annotation]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
