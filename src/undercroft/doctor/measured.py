"""How often each rule was right, on runs that people or programs had labelled.

Written by `python -m bench.doctor --write` on 2026-11-23, from 4,230 runs: not by hand.
Keeps: a figure is a share of at least so many firings as `FIRED_MIN`; below, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIRED_MIN = 5

# By rule: how often it fired on labelled and injected runs, and how often it was right.
MEASURED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "breakers.blind_rewrite": (71, 71),
        "breakers.failures_in_row": (313, 313),
        "breakers.no_end_state": (129, 129),
        "breakers.repeat_after_failure": (186, 186),
        "breakers.retried_permanent": (57, 57),
        "conflicts.same_field": (54, 54),
        "conflicts.stale_write": (86, 86),
        "conflicts.two_actors": (1, 1),
        "conflicts.write_twice": (139, 139),
        "context.asked_again": (141, 141),
        "context.cut_result_used": (67, 67),
        "context.pin_gone": (48, 48),
        "context.read_again": (132, 132),
        "context.window_full": (240, 240),
        "observability.no_prompt": (48, 48),
        "observability.no_result": (63, 63),
        "observability.no_status": (86, 86),
        "observability.no_steps": (84, 84),
        "observability.no_time": (47, 47),
        "observability.success_told": (129, 121),
        "parallelism.overlapping_writes": (199, 199),
        "sequencing.needs_unmet": (14, 14),
        "sequencing.no_consent": (181, 174),
        "sequencing.stale_read": (10, 8),
        "sequencing.unknown_id": (149, 148),
        "sequencing.used_early": (223, 223),
        "sequencing.write_before_read": (207, 206),
    }
)


def precision_of(rule: str) -> float | None:
    """Return the share of the rule's firings that were right; None where too few were seen."""
    fired, right = MEASURED.get(rule, (0, 0))
    return right / fired if fired >= FIRED_MIN else None
