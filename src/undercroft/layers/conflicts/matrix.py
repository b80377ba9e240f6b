"""Which modes go together: the compatibility of claims held by different steps.

Keeps: the relation is symmetric, so whoever came first decides nothing but the order.
"""

from __future__ import annotations

from undercroft.model.effect import Mode

# By mode, the modes that it cannot be held together with.
CLASHES: dict[Mode, frozenset[Mode]] = {
    Mode.PEEK: frozenset({Mode.EXCLUSIVE}),
    Mode.READ: frozenset({Mode.APPEND, Mode.WRITE, Mode.EXCLUSIVE}),
    Mode.APPEND: frozenset({Mode.READ, Mode.WRITE, Mode.EXCLUSIVE}),
    Mode.WRITE: frozenset({Mode.READ, Mode.APPEND, Mode.WRITE, Mode.EXCLUSIVE}),
    Mode.EXCLUSIVE: frozenset(Mode),
}


def compatible(held: Mode | str, asked: Mode | str) -> bool:
    """Whether claims of two steps on one resource may be held at the same time."""
    return Mode(asked) not in CLASHES[Mode(held)]
