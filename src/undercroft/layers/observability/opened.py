"""Which fields of events may hold a secret: bodies, and what people said in words of their own.

Keeps: names, numbers and states of the record are none of them, and so never change.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from undercroft.model.event import AnyEvent
from undercroft.model.step import Failure, Refusal

# Texts of events in people's words; all other texts are names, numbers and states.
_SAID = frozenset(
    ["args", "detail", "reason", "failed", "short", "ledger", "why", "versions", "version", "by"]
)
# Of an event, which word `why` is one of a fixed few.
_CODED = frozenset(["voided", "checked", "compacted"])


def _places() -> dict[str, tuple[int, ...]]:
    """Return by the tag of an event the places of what may hold a secret."""
    places: dict[str, tuple[int, ...]] = {}
    for kind in get_args(AnyEvent):
        config, found = kind.__struct_config__, []
        for place, one in enumerate(msgspec.structs.fields(kind), 1):
            coded = one.name == "why" and config.tag in _CODED
            parts = (one.type, *get_args(one.type))
            bodies = any(part in (msgspec.Raw, Failure, Refusal) for part in parts)
            if bodies or (one.name in _SAID and not coded):
                found.append(place)
            if config.tag == "asked" and one.name == "args":
                found.remove(place)  # without secrets since the question was put
        places[str(config.tag)] = tuple(found)
    return places


OPEN = _places()


def _names() -> dict[type, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return by event the names of its bodies, and of what else may hold a secret."""
    found: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for kind in get_args(AnyEvent):
        fields = msgspec.structs.fields(kind)
        opened = [fields[place - 1] for place in OPEN[str(kind.__struct_config__.tag)]]
        bodies = tuple(one.name for one in opened if one.type is msgspec.Raw)
        found[kind] = bodies, tuple(one.name for one in opened if one.type is not msgspec.Raw)
    return found


OPEN_NAMES = _names()
