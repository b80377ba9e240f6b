"""Suspect: a service whose failures come faster than those of a good day.

Keeps: a service that fails half of its calls is marked within ten of them on average; one that
fails one call in fifty is marked wrongly fewer than twenty times in a million; a mark opens
nothing by itself.
Leaves to others: what is done about a suspect.

A sum rises with each failure and falls with each success, never below zero; at a threshold it
marks the service. It is a cumulative sum of log likelihood ratios of "fails 50 %" against
"fails 2 %", 3.22 up and 0.67 down, rounded to whole numbers in about that ratio. So all
run lengths follow exactly from a Markov chain of 17 states. By that chain it takes 8.8 calls
to mark a service that fails 50 %, and 27 at 25 %; in a million calls there are 3.7 marks of
one that fails 2 %, and 0.2 at 1 %.
Source: Page, "Continuous Inspection Schemes", Biometrika 41, 1954; Reynolds and Stoumbos, "A CUSUM
Chart for Monitoring a Proportion When Inspecting Continuously", J. Quality Technology 31, 1999.
"""

from __future__ import annotations

FAILURE_ADDS = 5
MARKED_AT = 17
# However long it fails, twenty-odd successes in a row clear it.
SUM_MAX = MARKED_AT + FAILURE_ADDS


class Suspicion:
    """The evidence against one service.

    Once marked it stays so until all evidence is gone: one success more or less does not make
    the mark come and go.

    Attributes:
        sum: Of the evidence, 0 to `SUM_MAX`.
        marked: Whether the service is suspect.
    """

    __slots__ = ("marked", "sum")

    def __init__(self) -> None:
        self.sum = 0
        self.marked = False

    def failed(self) -> None:
        """Count a failure."""
        self.sum = min(SUM_MAX, self.sum + FAILURE_ADDS)
        if self.sum >= MARKED_AT:
            self.marked = True

    def succeeded(self) -> None:
        """Count a success."""
        if self.sum:
            self.sum -= 1
        if not self.sum:
            self.marked = False

    def clear(self) -> None:
        """Forget everything."""
        self.sum, self.marked = 0, False
