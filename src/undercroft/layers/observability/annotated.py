"""Which parameters and fields are annotated `uc.Secret`, however deep they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from undercroft.model.inject import SECRET

_DEPTH_MAX = 12


def is_secret(annotation: Any) -> bool:
    """Whether a value of that annotation is secret as a whole."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return SECRET in marks or is_secret(inner)
    # `Secret[str] | None`: what may be absent is still secret.
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return bool(parts) and get_origin(annotation) is not dict and all(map(is_secret, parts))


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
    if not isinstance(annotation, type) or not _has_fields(annotation):
        return
    seen.add(id(annotation))
    try:
        hints = get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names of a function's own scope cannot be read from here; as they stand they can.
        hints = dict(getattr(annotation, "__annotations__", {}))
    for name, hint in hints.items():
        if is_secret(hint) or (isinstance(hint, str) and "Secret[" in hint):
            found.add(name)
        else:
            _look(hint, found, seen, depth + 1)


def _has_fields(kind: type) -> bool:
    marks = ("__struct_fields__", "model_fields", "__required_keys__", "_fields")
    return dataclasses.is_dataclass(kind) or any(hasattr(kind, mark) for mark in marks)
