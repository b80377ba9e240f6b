"""Arguments that a model proposes: their schema, and the check before anything runs.

Keeps: what reaches a tool fits its annotations; what does not becomes a refusal that says
which argument, what it was and what it should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from undercroft.errors import DeclarationError
from undercroft.layers.sequencing.signature import Signature
from undercroft.model.step import Refusal

ARGUMENTS_BYTES_MAX = 256 * 1024
_SHOWN_CHARS = 80
_PROBLEM_CHARS = 300
_PROBLEMS_MAX = 8

# As the journal writes them.
_recorded = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Accepted:
    """Arguments that may be passed.

    Attributes:
        proposed: As they were proposed, as plain data.
        passed: By parameter, with values of the annotated types.
    """

    proposed: dict[str, Any]
    passed: dict[str, Any]


class ArgumentCheck:
    """The schema of a tool's arguments, and the check against it."""

    __slots__ = ("_model", "_names", "_validate", "schema")

    def __init__(self, signature: Signature) -> None:
        """Build the schema of `signature`.

        Raises:
            DeclarationError: An annotation cannot be expressed as a JSON schema.
        """
        # Under names of our own, since a parameter may be called like a method of BaseModel.
        self._names = {f"a{k}": p.name for k, p in enumerate(signature.parameters)}
        fields: dict[str, Any] = {
            f"a{k}": (
                p.annotation,
                Field(... if p.required else p.default, alias=p.name),
            )
            for k, p in enumerate(signature.parameters)
        }
        try:
            self._model: type[BaseModel] = create_model(
                signature.place.replace(" ", "_"),
                __config__=ConfigDict(extra="forbid", title=""),
                **fields,
            )
            schema = self._model.model_json_schema(by_alias=True)
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise DeclarationError(
                signature.place,
                f"an argument's type has no JSON schema ({str(error).splitlines()[0]})",
                "Use plain types, dataclasses or pydantic models for what a model fills in.",
            ) from error
        self._validate = self._model.__pydantic_validator__.validate_json
        schema.pop("title", None)
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
        schema.setdefault("properties", {})
        self.schema: dict[str, Any] = schema

    def check(self, tool: str, arguments: dict[str, Any] | str) -> Accepted | Refusal:
        """Return the arguments to pass, or why they cannot be."""
        proposed, text = _as_object(tool, arguments)
        if isinstance(proposed, Refusal):
            return proposed
        if b"null" in text and _holds_no_number(proposed):
            return _unreadable(tool, "hold NaN or an infinity, which JSON cannot say")
        try:
            # Strict: a schema that says integer is not met by "3", and saying so mends it.
            model = self._validate(text, strict=True)
        except ValidationError as error:
            return self._refused(tool, error)
        try:
            _recorded(proposed)
        except OverflowError:
            return _too_long(tool)
        given = model.model_fields_set
        return Accepted(
            proposed, {self._names[f]: getattr(model, f) for f in self._names if f in given}
        )

    def _refused(self, tool: str, error: ValidationError) -> Refusal:
        problems = [
            {
                "argument": _cut(".".join(str(part) for part in e["loc"])) or "(all)",
                "problem": _cut(e["msg"], _PROBLEM_CHARS),
                "given": _cut(repr(e.get("input"))),
            }
            for e in error.errors(include_url=False)[:_PROBLEMS_MAX]
        ]
        said = "; ".join(f"{p['argument']}: {p['problem']}" for p in problems)
        return Refusal(
            rule="sequencing.arguments",
            message=f"The arguments of {tool} do not fit its schema ({said}).",
            next=f"Propose {tool} again with arguments that fit.",
            facts={"problems": problems, "schema": self.schema},
        )


class ObjectCheck:
    """The check of arguments whose types somebody else will check: they are one object of data.

    Args:
        schema: JSON schema of the object; only what it requires is looked at.
    """

    __slots__ = ("_required", "schema")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema: dict[str, Any] = {"type": "object", "properties": {}, **schema}
        required = schema.get("required")
        listed = required if isinstance(required, list | tuple) else ()
        self._required = tuple(name for name in listed if isinstance(name, str))

    def check(self, tool: str, arguments: dict[str, Any] | str) -> Accepted | Refusal:
        """Return the arguments to pass, or why they cannot be."""
        proposed, text = _as_object(tool, arguments)
        if isinstance(proposed, Refusal):
            return proposed
        if b"null" in text and _holds_no_number(proposed):
            return _unreadable(tool, "hold NaN or an infinity, which JSON cannot say")
        missing = [name for name in self._required if name not in proposed]
        if missing:
            return Refusal(
                rule="sequencing.arguments",
                message=f"The arguments of {tool} lack {', '.join(missing)}.",
                next=f"Propose {tool} again with all that it requires.",
                facts={"missing": missing, "schema": self.schema},
            )
        try:
            _recorded(proposed)
        except OverflowError:
            return _too_long(tool)
        return Accepted(proposed, proposed)


def _as_object(tool: str, arguments: Any) -> tuple[dict[str, Any] | Refusal, bytes]:
    """Return proposed arguments as plain data and as JSON, or a refusal."""
    try:
        text = arguments.encode() if isinstance(arguments, str) else msgspec.json.encode(arguments)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return _unreadable(tool, f"cannot be written as JSON: {error}"), b""
    if len(text) > ARGUMENTS_BYTES_MAX:
        return Refusal(
            rule="sequencing.arguments_too_large",
            message=f"The arguments of {tool} take {len(text):,} bytes.",
            next=f"Keep them under {ARGUMENTS_BYTES_MAX:,} bytes; pass a reference instead.",
            facts={"size_bytes": len(text), "limit_bytes": ARGUMENTS_BYTES_MAX},
        ), b""
    if isinstance(arguments, dict):
        return arguments, text
    try:
        value = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        return _unreadable(tool, f"are not JSON: {error}"), b""
    if not isinstance(value, dict):
        return _unreadable(tool, f"are a JSON {type(value).__name__}, not an object"), b""
    return value, text if text.strip() else b"{}"


def _holds_no_number(value: Any) -> bool:
    """Whether a float somewhere in `value` is none that JSON has; it is written as null."""
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, float) and not math.isfinite(part):
            return True
        if isinstance(part, dict):
            todo += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            todo += part
    return False


def _unreadable(tool: str, problem: str, mend: str = "") -> Refusal:
    return Refusal(
        rule="sequencing.arguments_not_json",
        message=f"The arguments of {tool} {problem}.",
        next=mend or f"Propose {tool} again with one JSON object.",
    )


def _too_long(tool: str) -> Refusal:
    return _unreadable(
        tool,
        "hold an integer of more than 64 bits, which cannot be recorded",
        f"Propose {tool} again with a smaller number.",
    )


def _cut(text: str, limit: int = _SHOWN_CHARS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
