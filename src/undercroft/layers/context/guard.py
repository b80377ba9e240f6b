"""What is asked of a prompt: can it ever fit, and does it, before it is sent?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from undercroft.errors import ContextOverflowError, SettingError
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.items import Item
from undercroft.layers.context.policy import COMPACTED, ContextPolicy, Section
from undercroft.model.message import Message


def check_pins(policy: ContextPolicy, counts: Counts) -> None:
    """Raise unless the pins of a policy, and what its sections are granted at least, fit together.

    Raises:
        SettingError: They do not.
    """
    pins = sum(counts.message(Message("system", pin)) for pin in policy.pins)
    granted = sum(policy.share(section).min_share for section in COMPACTED)
    room = math.floor(policy.capacity_tokens * (1 - granted))
    if pins > room:
        wanted = (
            f"texts of at most {room:,} tokens together, which is what a window of "
            f"{policy.limit_tokens:,} leaves them, and not of {pins:,}"
        )
        raise SettingError("pins", tuple(f"{pin:.40}" for pin in policy.pins), wanted)


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
