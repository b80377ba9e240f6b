"""How large a breaker is, with everything in it."""

from __future__ import annotations

import gc
import sys
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType

from undercroft.layers.breakers.classes import ErrorTable
from undercroft.layers.breakers.policy import BreakerPolicy


def size_bytes(root: object) -> int:
    """Return the bytes of everything that is reachable, but for code, settings and constants."""
    kinds = (type, FunctionType, BuiltinFunctionType, ModuleType, Enum, BreakerPolicy, ErrorTable)
    seen, todo, total = set[int](), [root], 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, kinds):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        todo += gc.get_referents(one)
    return total
