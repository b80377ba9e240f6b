"""Values to bytes and back: data only, and the same for a live run and a replay.

Encoding is msgpack, so NaN, bytes, dates and integer keys survive. What cannot be written as
data is an error that says where in the value it stands; nothing is pickled, ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

# A kind of plain data, and how to see what it holds whatever it makes of showing itself.
_BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: list(tuple.__iter__(value)),
    set: lambda value: list(set.__iter__(value)),
    frozenset: lambda value: list(frozenset.__iter__(value)),
}


def _to_data(value: Any) -> Any:
    if isinstance(value, BaseModel):
        # By field names and without what is computed, so that it validates again whatever
        # aliases the model has.
        return value.model_dump(mode="json", by_alias=False, round_trip=True)
    for base, plain in _BASES.items():
        # msgspec knows the plain types only, and a subclass of one is the same data.
        if isinstance(value, base) and type(value) is not base:
            return plain(value)
    msg = f"a {type(value).__qualname__} is not data"
    raise TypeError(msg)


def _from_data(wanted: type, data: Any) -> Any:
    if not isinstance(wanted, type):
        return TypeAdapter(wanted).validate_python(data)  # such as Counter[str]
    if issubclass(wanted, BaseModel):
        try:
            return wanted.model_validate(data, by_alias=False, by_name=True)
        except ValidationError:
            # A strict model takes a date from JSON text and from no other.
            text = msgspec.json.encode(data)
            return wanted.model_validate_json(text, by_alias=False, by_name=True)
    for base in _BASES:
        if issubclass(wanted, base):
            return wanted(data)  # type: ignore[call-arg]  # a subclass of str, dict, …
    return TypeAdapter(wanted).validate_python(data)


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(enc_hook=_to_data).encode
decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.msgpack.Decoder().decode

ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def describe_problem(value: Any, error: Exception) -> str:
    """Return what in `value` cannot be written as data, and where it stands."""
    path = _find(value, "", 0)
    return f"at {path}: {error}" if path else str(error)


def _find(value: Any, path: str, depth: int) -> str:
    """Return the path to the innermost part that cannot be encoded by itself."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{path}[{place}]", part) for place, part in enumerate(value)]
    elif hasattr(value, "__dataclass_fields__"):
        parts = [(f"{path}.{name}", getattr(value, name)) for name in value.__dataclass_fields__]
    for where, part in parts if depth < 16 else ():  # noqa: PLR2004
        try:
            encode(part)
        except ENCODE_ERRORS:
            return _find(part, where, depth + 1)
    return path


def decoder(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """Return what reads a recorded value back as `annotation` says."""
    try:
        return _decoder(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _build(annotation)


@cache
def _decoder(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    return _build(annotation)


def _build(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    if annotation in (Any, object, dict, list):
        return decode
    try:
        return msgspec.msgpack.Decoder(annotation, dec_hook=_from_data).decode
    except TypeError:
        pass  # a type that msgspec cannot take apart, such as a union of two models
    try:
        adapter = TypeAdapter(annotation)
    except PydanticUserError:
        return decode
    return lambda data: adapter.validate_python(decode(data))


def convert(data: Any, annotation: Any) -> Any:
    """Return plain `data` as `annotation` says.

    Raises:
        ValueError: It does not fit.
    """
    return decoder(annotation)(encode(data))
