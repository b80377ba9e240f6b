"""Steps as a workflow declares them, in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undercroft.layers.sequencing.graph import Node
from undercroft.layers.sequencing.signature import REQUIRED, Parameter, Signature
from undercroft.model.step import Phase


def step(  # noqa: PLR0913  each argument is one word of a declaration
    name: str,
    phase: Phase = Phase.PREPARE,
    asks: Mapping[str, Any] | tuple[str, ...] = (),
    returns: Any = Any,
    *,
    defaults: Mapping[str, Any] | None = None,
    keys: tuple[str, ...] = (),
    changes: bool = False,
    optional: bool = False,
    each: str | None = None,
) -> Node:
    """Return a step that asks for parameters, by name or by name and type."""
    types = asks if isinstance(asks, Mapping) else dict.fromkeys(asks, Any)
    parameters = tuple(
        Parameter(asked, annotation, (defaults or {}).get(asked, REQUIRED))
        for asked, annotation in types.items()
    )
    signature = Signature(f"step {name!r}", parameters, {}, returns, is_async=True)
    return Node(name, phase, signature, keys, changes, optional, each)
