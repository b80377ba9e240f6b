"""Which parameters and fields are annotated `uc.Secret`, however deep they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from undercroft.model.inject import SECRET

_DEPTH_MAX = 12


def is_secret(annotation: Any) -> bool:
    """Whether a value of that annotation is secret as a whole.

    So is what holds a secret at a place without a name: one of several types, an item of a list,
    a value of a mapping, a field of what is written as a list.
    """
    return _hides(annotation, 0)


def _hides(annotation: Any, depth: int) -> bool:
    if depth > _DEPTH_MAX:
        return False
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return SECRET in marks or _hides(inner, depth + 1)
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and _has_fields(kind):
        nameless = hasattr(kind, "_fields") or _is_list(kind)
        return nameless and any(_hides(hint, depth + 1) for hint in _hints(kind).values())
    return any(_hides(part, depth + 1) for part in get_args(annotation))


def secret_fields(annotations: Iterable[Any]) -> frozenset[str]:
    """Return the names of secret fields of the classes that `annotations` name."""
    found: set[str] = set()
    seen: set[int] = set()
    for annotation in annotations:
        _look(annotation, found, seen, 0)
    return frozenset(found)


def _look(annotation: Any, found: set[str], seen: set[int], depth: int) -> None:
    if depth > _DEPTH_MAX or id(annotation) in seen:
        return
    for part in get_args(annotation):
        _look(part, found, seen, depth + 1)
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type) or not _has_fields(kind) or id(kind) in seen:
        return
    seen.add(id(kind))
    written = _written_names(kind)
    for name, hint in _hints(kind).items():
        if is_secret(hint) or (isinstance(hint, str) and "Secret[" in hint):
            found.add(written.get(name, name))
        else:
            _look(hint, found, seen, depth + 1)


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names of a function's own scope cannot be read from here; as they stand they can.
        return dict(getattr(kind, "__annotations__", {}))


def _is_list(kind: type) -> bool:
    """Whether its values are written as lists, without names."""
    return issubclass(kind, msgspec.Struct) and bool(kind.__struct_config__.array_like)


def _written_names(kind: type) -> dict[str, str]:
    """Return as what fields are written, by name, where that is something else."""
    if not issubclass(kind, msgspec.Struct):
        return {}
    return {one.name: one.encode_name for one in msgspec.structs.fields(kind)}


def _has_fields(kind: type) -> bool:
    marks = ("__struct_fields__", "model_fields", "__required_keys__", "_fields")
    return dataclasses.is_dataclass(kind) or any(hasattr(kind, mark) for mark in marks)
