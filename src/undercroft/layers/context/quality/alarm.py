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

# Below this a prompt's score counts against the context, and above it for it.
TARGET = 97.0
# So many points below the target, over however many prompts, are an alarm. Both were fitted on
# tau_airline, where they raise none in a session that lacks nothing, tell of 20 % of all facts lost
# in every session, and of as much lost from its middle on in 98 % of them, 16 prompts later.
THRESHOLD = 40.0
# However long it was bad, the sum does not outgrow this: a recovery is seen in bounded time.
LEVEL_MAX = 1.5


class Cusum:
    """The evidence that one context has become worse.

    Attributes:
        raised: Whether the alarm was raised, and there is evidence still.
    """

    __slots__ = ("_points", "raised")

    def __init__(self) -> None:
        self._points = 0.0
        self.raised = False

    @property
    def level(self) -> float:
        """The evidence, 0 to `LEVEL_MAX`; from 1 on it is an alarm."""
        return self._points / THRESHOLD

    def feed(self, score: float) -> bool:
        """Count one prompt's score, 0 to 100; return whether the alarm is to be raised now."""
        self._points = min(LEVEL_MAX * THRESHOLD, max(0.0, self._points + TARGET - score))
        if not self._points:
            self.raised = False
        if self._points < THRESHOLD or self.raised:
            return False
        self.raised = True
        return True
