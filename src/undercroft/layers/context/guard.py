"""What is asked before a prompt is sent: does it fit?"""

from __future__ import annotations

from collections.abc import Mapping

from undercroft.errors import ContextOverflowError
from undercroft.layers.context.items import Item
from undercroft.layers.context.policy import ContextPolicy, Section


def overflow(
    policy: ContextPolicy, tokens: int, sections: Mapping[Section, int], largest: Item | None
) -> ContextOverflowError:
    """Return what to say of a prompt that does not fit, whatever may be left out."""
    taken = ", ".join(f"{name} {size:,}" for name, size in sections.items() if size)
    problem = (
        f"the prompt has {tokens:,} tokens and may have {policy.capacity_tokens:,}: the window "
        f"of {policy.limit_tokens:,} without {policy.reserved_tokens:,} for the answer ({taken})"
    )
    mend = "Shorten the system text, the pins or the tools, or take a model with a larger window."
    if largest is not None and largest.shown_tokens > policy.capacity_tokens // 2:
        mend = (
            f"Item {largest.name}, a {largest.kind} message, alone has {largest.shown_tokens:,}: "
            "shorten it, or say it in parts."
        )
    return ContextOverflowError(
        "context", problem, mend, tokens, policy.limit_tokens, policy.reserved_tokens
    )
