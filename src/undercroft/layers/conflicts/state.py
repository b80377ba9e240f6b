"""Which effects may be under way at the same time.

This is the seam for claims on keys: today whatever changes the world is incompatible with
everything, whichever resources it names, so two steps on one record can never overlap.
"""

from __future__ import annotations

from undercroft.model.effect import Effect


def runs_alone(effect: Effect) -> bool:
    """Whether nothing else of the turn may run beside a step with this effect."""
    return effect.changes
