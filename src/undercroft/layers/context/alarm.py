"""Alarm: whether the quality of a context has fallen, and by more than chance.

Keeps: one alarm for each fall; none again before all evidence of it is gone; a session that is
at its best never raises one.
Leaves to `quality.py`: the scores that it is fed.

A one-sided cumulative sum: each prompt adds how far its score lies below `TARGET`, and never does
the sum fall below zero. A score above the target takes away as much as it lies above. At
`THRESHOLD` points together the level is 1 and the alarm is raised. So a deep fall is told at once,
a shallow one when it lasts, and a single slip never.
Source: Page, "Continuous Inspection Schemes", Biometrika 41, 1954.
"""

from __future__ import annotations

# Below this a prompt's score counts against the context. Fitted on tau_airline.
TARGET = 95.0
# So many points below the target, over however many prompts, are an alarm. Fitted likewise.
THRESHOLD = 60.0
# However long it was bad, the sum does not outgrow this: a recovery is seen in bounded time.
LEVEL_MAX = 1.5


class Cusum:
    """The evidence that one context has become worse.

    Attributes:
        level: Of the evidence, 0 to `LEVEL_MAX`; at 1 it is an alarm.
        raised: Whether the alarm was raised, and there is evidence still.
    """

    __slots__ = ("level", "raised")

    def __init__(self, level: float = 0.0, *, raised: bool = False) -> None:
        self.level, self.raised = level, raised

    def feed(self, score: float) -> bool:
        """Count one prompt's score, 0 to 100; return whether the alarm is to be raised now."""
        level = self.level + (TARGET - score) / THRESHOLD
        self.level = min(LEVEL_MAX, max(0.0, level))
        if not self.level:
            self.raised = False
        if self.level < 1 or self.raised:
            return False
        self.raised = True
        return True
