"""Text from models, tools and users, made harmless for a terminal and cut to its columns.

Keeps: values are bounded, and what was cut off is said. What is harmful, and how it is shown
instead, every face has from `pages/words.py`.
"""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len, set_cell_size

from undercroft.pages.words import as_text, clock, pretty, safe, took

__all__ = ("as_text", "brief", "clock", "cut", "named", "pretty", "safe", "took")


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` columns of a terminal, with `…` where it was cut."""
    if width <= 0:
        return ""
    # No character is wider than two columns, so what lies beyond need not be measured.
    if len(text) <= width and cell_len(text) <= width:
        return text
    return set_cell_size(text[:width], width - 1).rstrip() + "…"


def brief(value: Any, width: int) -> str:
    """Return plain data on one line of at most `width` columns; says the size of a long one."""
    text = safe(as_text(value))
    if len(text) <= 2 * width:
        return cut(text, width)
    size = f" ({_size(value, text)})"
    return cut(text, max(width - len(size), 8)) + size


def _size(value: Any, text: str) -> str:
    if isinstance(value, list | tuple) and len(value) > 1:
        return f"{len(value):,} items"
    return f"{len(value if isinstance(value, str) else text):,} characters"


def named(values: dict[str, Any], width: int) -> str:
    """Return arguments as `name=value, …` on one line of at most `width` columns."""
    text = safe(", ".join(f"{name}={as_text(value)}" for name, value in values.items()))
    if len(text) <= width and cell_len(text) <= width:
        return text
    if len(values) == 1:
        ((name, value),) = values.items()
        label = cut(safe(f"{name}="), width // 2)
        return label + brief(value, width - cell_len(label))
    return brief(text, width)
