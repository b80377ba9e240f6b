"""What keeps a command from running at all; printed as one message, exit code 2."""

from __future__ import annotations

from undercroft.errors import UndercroftError


class CannotRunError(UndercroftError):
    """What was asked for on the command line cannot be done."""

    def __init__(self, place: str, problem: str, mend: str) -> None:
        super().__init__(place, problem, mend)
        self.place, self.problem, self.mend = place, problem, mend

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.mend}"


class StoppedError(UndercroftError):
    """The command was told to stop, by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    def __str__(self) -> str:
        return f"stopped by signal {self.signal_number}"
