"""What a function says that it returns, as the schema of a tool's structured output."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError


@dataclass(frozen=True, slots=True)
class Output:
    """The schema of a tool's output, which the protocol wants to be an object.

    Attributes:
        schema: Of an object.
        wraps: Whether the value stands in it under `result`.
    """

    schema: dict[str, Any]
    wraps: bool

    def wrap(self, data: Any) -> Any:
        """Return a value as the schema says."""
        return {"result": data} if self.wraps else data


def output_schema(returns: Any) -> Output | None:
    """Return the schema of what a function returns; None where its annotation says nothing."""
    if returns in (Any, None, object, type(None), inspect.Signature.empty):
        return None
    schema = _schema(returns)
    if not schema:
        return None
    if schema.get("type") == "object" and "$ref" not in schema:
        return Output(schema, wraps=False)
    shared = schema.pop("$defs", None)
    whole: dict[str, Any] = {
        "type": "object",
        "properties": {"result": schema},
        "required": ["result"],
    }
    if shared:
        whole["$defs"] = shared
    return Output(whole, wraps=True)


def _schema(returns: Any) -> dict[str, Any] | None:
    try:
        # As the journal has values of it: by the names of fields, without what is computed.
        return TypeAdapter(returns).json_schema(by_alias=False)
    except (PydanticUserError, TypeError, ValueError):
        pass  # no type of pydantic's
    try:
        return msgspec.json.schema(returns)
    except TypeError:
        return None
