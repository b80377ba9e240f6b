"""Every error that Undercroft raises, as one tree.

Keeps: an error says what happened, where, and what to do next; its facts are fields.

    UndercroftError
    ├── SettingError             a setting is outside its range (also a ValueError)
    ├── DeclarationError         a tool, handler or workflow is declared wrongly
    │   └── GraphError           the graph of a workflow does not hold together
    ├── InputError               a turn was asked for with the wrong inputs (also a TypeError)
    ├── TurnError                a turn cannot do what was asked of it
    │   ├── TurnNotFoundError    no such turn in this journal
    │   ├── TurnBusyError        another live process is running it
    │   ├── TargetError          the code that the turn runs cannot be found
    │   ├── GuestError           its loop is somebody else's, and cannot be run from here
    │   ├── ReplayError          the code asks for something else than the journal holds
    │   ├── RedactedError        it goes on with values that were redacted and are not known
    │   └── DecisionError        an approval or a doubt cannot be decided like that
    ├── StepError                raised inside a step; recorded as that step's failure
    │   ├── DeadlineError        the step did not return in time
    │   ├── EncodeError          the step returned what cannot be written as data
    │   ├── StrayCancelError     the step cancelled itself
    │   └── ModelError           the model did not answer
    ├── BusyError                a resource was not free within the time allowed
    ├── UnknownOutcomeError      raised by a tool: a write may or may not have happened
    ├── DomainError              raised by a tool: the service answered, and the answer is no
    │   └── ApprovalNeededError  a person has to agree before it runs
    ├── ServiceError             a service answered, and the answer says that it failed
    ├── StreamBrokenError        a model's answer broke off in its middle
    │   └── StreamShownError     and some of it was shown to somebody by then
    ├── CallRefusedError         a call was not made, for a reason that is not its own
    │   ├── BreakerOpenError     its service keeps failing
    │   ├── OverloadedError      its service asked to be left alone for longer than we wait
    │   ├── BudgetError          it might spend more than is left
    │   ├── LoopError            it leads round in circles
    │   └── PausedError          raised by a guest's call: somebody is asked inside of it
    ├── TransitionError          a breaker cannot go from this state to that one
    ├── ContextError             what a model is to see cannot be assembled
    │   ├── ContextOverflowError it does not fit the window, whatever is left out
    │   └── MessageError         a message is of no shape that we know
    └── StoreError               the journal cannot be read or written
        ├── StoreCorruptError    not a journal of ours, truncated or damaged
        ├── StoreVersionError    written by a newer Undercroft
        ├── StoreReadOnlyError   may not be written
        ├── StoreFullError       no space left
        ├── StoreBusyError       another process held the write lock for too long
        ├── FencedError          this process was declared dead and may not record
        └── LapsedError          the turn lost what it owned, since its process fell silent

A failed step or turn is a value (`Failure`, `Outcome`), not an exception; what is raised
here is either a mistake that the caller can mend or a journal that cannot be trusted.
"""

from __future__ import annotations


class UndercroftError(Exception):
    """Root of every error this package raises."""


class SettingError(UndercroftError, ValueError):
    """A setting is outside its range."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(name, value, expected)
        self.name, self.value, self.expected = name, value, expected

    def __str__(self) -> str:
        return f"{self.name} is {self.value!r}; it must be {self.expected}."


class DeclarationError(UndercroftError):
    """A tool, handler or workflow is declared wrongly; raised where it is written."""

    def __init__(self, place: str, problem: str, mend: str) -> None:
        super().__init__(place, problem, mend)
        self.place, self.problem, self.mend = place, problem, mend

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.mend}"


class GraphError(DeclarationError):
    """The graph of a workflow does not hold together.

    Attributes:
        steps: The steps concerned, at the most two of them where an edge is at fault.
    """

    def __init__(self, place: str, problem: str, mend: str, steps: tuple[str, ...] = ()) -> None:
        super().__init__(place, problem, mend)
        # All four, so that the error survives pickling.
        self.args = (place, problem, mend, steps)
        self.steps = steps


class InputError(UndercroftError, TypeError):
    """A turn was asked for with inputs that its workflow or handler does not take."""

    def __init__(self, place: str, problem: str, mend: str) -> None:
        super().__init__(place, problem, mend)
        self.place, self.problem, self.mend = place, problem, mend

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.mend}"


class TurnError(UndercroftError):
    """A turn cannot do what was asked of it."""

    def __init__(self, turn_id: str, problem: str, mend: str) -> None:
        super().__init__(turn_id, problem, mend)
        self.turn_id, self.problem, self.mend = turn_id, problem, mend

    def __str__(self) -> str:
        return f"Turn {self.turn_id}: {self.problem}. {self.mend}"


class TurnNotFoundError(TurnError):
    """No such turn in this journal."""


class TurnBusyError(TurnError):
    """Another live process is running the turn."""


class TargetError(TurnError):
    """The code that the turn runs cannot be found or imported."""


class GuestError(TurnError):
    """The turn's loop is somebody else's, a framework's or a user's own: only that goes on."""


class ReplayError(TurnError):
    """The code asks for something else than the journal holds.

    Attributes:
        step: The recorded step that was not asked for, or the asked one that is not recorded.
    """

    def __init__(self, turn_id: str, problem: str, mend: str, step: str = "") -> None:
        super().__init__(turn_id, problem, mend)
        self.args = (turn_id, problem, mend, step)
        self.step = step


class RedactedError(TurnError):
    """The turn needs values that were not written down, and that nobody here knows."""


class DecisionError(TurnError):
    """An approval or a doubt cannot be decided like that."""


class StepError(UndercroftError):
    """Raised inside a step; recorded as that step's failure."""

    def __init__(self, step: str, problem: str, mend: str) -> None:
        super().__init__(step, problem, mend)
        self.step, self.problem, self.mend = step, problem, mend

    def __str__(self) -> str:
        return f"Step {self.step}: {self.problem}. {self.mend}"


class DeadlineError(StepError):
    """The step did not return in time."""


class EncodeError(StepError):
    """The step returned what cannot be written as data."""


class StrayCancelError(StepError):
    """The step cancelled itself; nobody had asked it to stop."""


class ModelError(StepError):
    """The model did not answer, or was not asked.

    Attributes:
        rule: Of the refusal, such as `breakers.budget`; empty where the model raised, and what
            it raised is the recorded failure.
    """

    def __init__(self, step: str, problem: str, mend: str, rule: str = "") -> None:
        super().__init__(step, problem, mend)
        # All four, so that the error survives pickling.
        self.args = (step, problem, mend, rule)
        self.rule = rule


class BusyError(UndercroftError):
    """A resource was not free within the time allowed; `claim` is what was asked for."""

    def __init__(self, claim: str, problem: str, mend: str) -> None:
        super().__init__(claim, problem, mend)
        self.claim, self.problem, self.mend = claim, problem, mend

    def __str__(self) -> str:
        return f"{self.claim}: {self.problem}. {self.mend}"


class UnknownOutcomeError(UndercroftError):
    """A write may or may not have happened; a tool may raise it to say just that."""


class DomainError(UndercroftError):
    """The service answered, and the answer is no; a tool may raise it to say just that.

    It is never tried again, and says nothing against the service.
    """


class ApprovalNeededError(DomainError):
    """A tool of another library found, once it was called, that a person has to agree first.

    It has done nothing yet. The call is asked about as if it had been declared with `approval=`.
    """


class ServiceError(UndercroftError):
    """A service answered, and its answer says that it failed.

    Attributes:
        service: Its name.
        status: HTTP status, if one is known.
        code: The service's own word for it, such as `overloaded_error`; may be empty.
        retry_after_s: Seconds after which it wants to be asked again, if it said so.
    """

    def __init__(
        self,
        service: str,
        problem: str,
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(service, problem, status, code, retry_after_s)
        self.service, self.problem, self.status = service, problem, status
        self.code, self.retry_after_s = code, retry_after_s

    def __str__(self) -> str:
        return f"{self.service or 'The service'} answered that it failed: {self.problem}"


class StreamBrokenError(UndercroftError):
    """A streamed answer of a model broke off in its middle; nothing of it was shown to anybody.

    One that never began raises what the client library raises. Why this one broke is its cause,
    by which it is judged: where that may pass, the model is asked again.

    Attributes:
        service: Its name.
        problem: Why it broke, in words.
        text: What of the answer's text had come, at most `TEXT_CHARS_MAX` characters of it.
        chars: How many had come in all.
        shown: Whether a listener was told some of it.
    """

    TEXT_CHARS_MAX = 4_000
    shown = False

    def __init__(
        self, service: str, problem: str, text: str = "", chars: int | None = None
    ) -> None:
        chars = len(text) if chars is None else chars
        text = text[: self.TEXT_CHARS_MAX]
        super().__init__(service, problem, text, chars)
        self.service, self.problem, self.text, self.chars = service, problem, text, chars

    def __str__(self) -> str:
        return (
            f"{self.service or 'The model'}: its answer broke off after {self.chars} characters "
            f"({self.problem})"
        )


class StreamShownError(StreamBrokenError):
    """A streamed answer broke off, and a listener was told some of it by then.

    It is never tried again by itself: whoever reads along would be told a second beginning.
    """

    shown = True

    def __str__(self) -> str:
        return f"{super().__str__()}; some of it was shown already, so it was not asked again"


class CallRefusedError(UndercroftError):
    """A call was not made, for a reason that is not its own.

    Attributes:
        service: Or what else was to be called.
        retry_in_s: Seconds after which it may be made, if that is known.
    """

    def __init__(
        self, service: str, problem: str, mend: str, retry_in_s: float | None = None
    ) -> None:
        super().__init__(service, problem, mend, retry_in_s)
        self.service, self.problem, self.mend = service, problem, mend
        self.retry_in_s = retry_in_s

    def __str__(self) -> str:
        return f"{self.service}: {self.problem}. {self.mend}"


class BreakerOpenError(CallRefusedError):
    """Its service keeps failing, and is left alone for a while."""


class OverloadedError(CallRefusedError):
    """Its service asked to be left alone for longer than we wait."""


class BudgetError(CallRefusedError):
    """It might spend more than is left."""


class LoopError(CallRefusedError):
    """It leads round in circles: the same calls with the same results, again and again."""


class PausedError(CallRefusedError):
    """Raised by what carries out a guest's call: inside of it somebody is asked.

    The call is not over, and will be asked for again.
    """


class TransitionError(UndercroftError):
    """A breaker cannot go from this state to that one."""

    def __init__(self, service: str, was: str, now: str) -> None:
        super().__init__(service, was, now)
        self.service, self.was, self.now = service, was, now

    def __str__(self) -> str:
        return f"Breaker {self.service!r} cannot go from {self.was} to {self.now}."


class ContextError(UndercroftError):
    """What a model is to see cannot be assembled."""

    def __init__(self, place: str, problem: str, mend: str) -> None:
        super().__init__(place, problem, mend)
        self.place, self.problem, self.mend = place, problem, mend

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.mend}"


class ContextOverflowError(ContextError):
    """The prompt does not fit the window, whatever may be left out; nothing was sent.

    Attributes:
        tokens: Of the smallest prompt that the policy allows.
        limit_tokens: The window.
        reserved_tokens: Of it, kept free for the answer.
    """

    def __init__(  # noqa: PLR0913, PLR0917  positional, so that it survives pickling
        self,
        place: str,
        problem: str,
        mend: str,
        tokens: int = 0,
        limit_tokens: int = 0,
        reserved_tokens: int = 0,
    ) -> None:
        super().__init__(place, problem, mend)
        self.args = (place, problem, mend, tokens, limit_tokens, reserved_tokens)
        self.tokens, self.limit_tokens = tokens, limit_tokens
        self.reserved_tokens = reserved_tokens


class MessageError(ContextError):
    """A message is of no shape that we know."""


class StoreError(UndercroftError):
    """The journal cannot be read or written."""

    def __init__(self, path: str, problem: str, mend: str) -> None:
        super().__init__(path, problem, mend)
        self.path, self.problem, self.mend = path, problem, mend

    def __str__(self) -> str:
        return f"Journal {self.path}: {self.problem}. {self.mend}"


class StoreCorruptError(StoreError):
    """Not a journal of ours, truncated or damaged."""


class StoreVersionError(StoreError):
    """Written by a newer Undercroft."""


class StoreReadOnlyError(StoreError):
    """May not be written."""


class StoreFullError(StoreError):
    """No space left."""


class StoreBusyError(StoreError):
    """Another process held the write lock for too long."""


class FencedError(StoreError):
    """This process was declared dead, and another took over its turns."""


class LapsedError(StoreError):
    """The turn lost what it owned, because its process fell silent for longer than a lease."""
