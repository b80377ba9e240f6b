"""Loop guard: notices that a turn goes round in circles, and says when it is enough.

Keeps: no call is made that was made before as often as allowed with the same arguments and the
same class of result, unless something was changed in between; whoever is told so and goes on
nevertheless is told to end.
Leaves to the engine: what a class of result is, how the model is told, and how a turn ends.

Nothing here knows the time, so whoever feeds it the same calls in the same order gets the same
answers, in a live run and after a crash.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from undercroft.layers.breakers.policy import LoopPolicy

# So many different calls and results are remembered; what is older counts as never seen.
MEMORY = 1_024
_CLASSES_MAX = 16

# A tool and the fingerprint of its arguments.
Asked = tuple[str, bytes]


class LoopKind(StrEnum):
    """How a turn can go round in circles."""

    REPEAT = "repeat"
    CYCLE = "cycle"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Looping:
    """The turn goes round in circles, and this call would go on with it.

    Attributes:
        kind: The same call again, the same few calls again, or answers that led to nothing new.
        tools: Those of the circle in their order; empty for `stale`.
        count: How often the call or the cycle was made, or how many answers led to nothing new.
        result_class: What the call came to each time; empty if there is more than one.
        redirects: How often the turn was told, this time included.
        end: It was told often enough: the turn is to be ended.
    """

    kind: LoopKind
    tools: tuple[str, ...]
    count: int
    result_class: str
    redirects: int
    end: bool

    @property
    def rule(self) -> str:
        """Stable name of what refused."""
        return f"breakers.{self.kind}"

    @property
    def problem(self) -> str:
        """What happened, for people and models."""
        names = ", ".join(self.tools)
        match self.kind:
            case LoopKind.REPEAT:
                came = f" and came to {self.result_class!r} each time"
                return (
                    f"{names} was called {self.count} times with the same arguments"
                    f"{came if self.result_class else ''}, and nothing was changed since"
                )
            case LoopKind.CYCLE:
                return (
                    f"the calls {names} were made {self.count} times in that order with the same "
                    "arguments and the same results"
                )
            case LoopKind.STALE:
                return f"the last {self.count} answers of the model led to nothing new"

    @property
    def mend(self) -> str:
        """What to do next, for people and models."""
        if self.end:
            return (
                "The turn was told before and ends here: look at what the calls came to, "
                "or raise the limits of uc.LoopPolicy."
            )
        if self.kind is LoopKind.STALE:
            return "Do something that was not tried yet, or answer with what is known."
        return (
            "Use the result that is there, call it with other arguments or another tool, "
            "or answer with what is known."
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The fields, as plain data."""
        return {
            "kind": str(self.kind),
            "tools": list(self.tools),
            "count": self.count,
            "result_class": self.result_class,
            "redirects": self.redirects,
            "end": self.end,
        }


class Loops:
    """What one conversation did, as far as it tells whether it goes round in circles.

    Each call that is proposed goes `ask`, then `note` when its result is there, or `drop` if there
    will be none. Calls of one batch are all asked for before any of them runs, and noted in the
    order in which they were proposed. A refused call that this class refused itself is not noted;
    one that somebody else refused is, since asking for it again is a circle as well.

    Progress is a change of the world that went well and was not made before in this conversation,
    with just these arguments. It begins all counting anew, so read, write, read, write of different
    values is no circle, and the same write again is.

    Args:
        policy: How often is enough.
        memory: So many different calls are remembered, and so many results, changes and texts;
            at least 1.
    """

    __slots__ = (
        "_blocked", "_changes", "_counts", "_fresh", "_history", "_judged", "_memory", "_pending",
        "_policy", "_polled", "_runs", "_said", "_seen", "_stale", "_steps", "_told", "redirects",
    )  # fmt: skip

    def __init__(self, policy: LoopPolicy | None = None, *, memory: int = MEMORY) -> None:
        self._policy = policy = policy or LoopPolicy()
        self._memory = memory
        self.redirects = 0
        # By call, how often it came to each class of result; least recently made first.
        self._counts: dict[Asked, dict[str, int]] = {}
        self._pending: dict[Asked, int] = {}
        self._blocked: dict[Asked, Looping] = {}
        # The last calls with the class of their results, as many as the longest cycle has.
        self._history: deque[tuple[Asked, str]] = deque(maxlen=max(2, policy.cycle_max))
        # By period, how many calls in a row were like the one that long before.
        self._runs = [0] * (policy.cycle_max + 1)
        self._changes: dict[Asked, None] = {}
        self._seen: dict[tuple[Asked, str, bytes], None] = {}
        self._said: dict[bytes, None] = {}
        self._begin_step()
        self._stale = self._steps = 0
        self._told = -1

    def _begin_step(self) -> None:
        self._judged = self._fresh = self._polled = False

    def ask(self, tool: str, args_fp: bytes, *, polls: bool = False) -> Looping | None:
        """Return why a call must not be made; None: it may, and waits for its `note`.

        Args:
            tool: Its name.
            args_fp: Fingerprint of its canonical arguments.
            polls: Asking again and again is what it is for; only budgets bound it.
        """
        if polls:
            return None
        self._judged = True
        asked = (tool, args_fp)
        if self._blocked:
            known = self._blocked.get(asked)
            if known is not None:
                return self._redirect(known)
        looping = self._cycle(asked) or self._repeat(asked)
        if looping is not None:
            return self._redirect(looping)
        self._pending[asked] = self._pending.get(asked, 0) + 1
        return None

    def drop(self, tool: str, args_fp: bytes, *, polls: bool = False) -> None:
        """Forget a call that was asked for and will have no result."""
        if not polls:
            self._settle((tool, args_fp))

    def note(  # noqa: PLR0913  each keyword is one fact of a result
        self,
        tool: str,
        args_fp: bytes,
        result_class: str,
        result_fp: bytes,
        *,
        changed: bool = False,
        polls: bool = False,
    ) -> None:
        """Record what a call came to.

        Args:
            tool: Its name.
            args_fp: Fingerprint of its canonical arguments.
            result_class: Such as "ok", or a failure by its class; without times and ids.
            result_fp: Fingerprint of the whole result.
            changed: It changed the world, and that went well.
            polls: As it was asked for.
        """
        asked = (tool, args_fp)
        result = (asked, result_class, result_fp)
        self._judged = True
        if result not in self._seen:
            self._fresh = True
            _remember(self._seen, result, most=self._memory)
        if polls:
            self._polled = True
            return
        self._settle(asked)
        if changed and asked not in self._changes:
            _remember(self._changes, asked, most=self._memory)
            self.progress()
            return
        counts = self._counts.pop(asked, None)
        if counts is None:
            _remember(self._counts, asked, {result_class: 1}, most=self._memory)
        else:
            self._counts[asked] = counts  # now the last to be forgotten
            count = counts.pop(result_class, 0) + 1
            _remember(counts, result_class, count, most=_CLASSES_MAX)
        self._roll((asked, result_class))

    def said(self, text_fp: bytes) -> None:
        """Record an answer of the model that proposes no calls: it is new if its text is."""
        self._judged = True
        if text_fp not in self._said:
            self._fresh = True
            _remember(self._said, text_fp, most=self._memory)

    def model_step(self) -> Looping | None:
        """Say that the model is asked; return why it should not go on like this, if so.

        Called before each request, so that a redirection can be said in the request itself, and
        whatever new the model then proposes is not refused for what it did before. The answer
        before is judged: it led to nothing new if there was no result of its calls that had not
        been seen before. One whose calls nobody asked for yet, that only polled, or of which
        nobody said anything, counts neither way.
        """
        self._steps += 1
        if self._fresh:
            self._stale = 0
        elif self._judged and not self._polled and not self._pending:
            self._stale += 1
        self._begin_step()
        if self._stale < self._policy.stale_steps_max:
            return None
        return self._redirect(Looping(LoopKind.STALE, (), self._stale, "", 0, end=False))

    def progress(self) -> None:
        """Begin all counting anew, such as after a person said something."""
        self.anew()
        self.redirects = 0
        self._told = -1

    def anew(self) -> None:
        """Count calls anew, since they may come to something else now; who was told stays told."""
        self._counts.clear()
        self._blocked.clear()
        self._history.clear()
        self._runs = [0] * len(self._runs)
        self._stale = 0
        self._fresh = True

    def _settle(self, asked: Asked) -> None:
        waiting = self._pending.get(asked, 0)
        if waiting > 1:
            self._pending[asked] = waiting - 1
        elif waiting:
            del self._pending[asked]

    def _roll(self, entry: tuple[Asked, str]) -> None:
        """Let `entry` be the last call, and count on for each period."""
        history, runs = self._history, self._runs
        # The last call is the one before by 1, and so on.
        for period, before in enumerate(reversed(history), start=1):
            if period >= len(runs):
                break
            runs[period] = runs[period] + 1 if before == entry else 0
        history.append(entry)

    def _repeat(self, asked: Asked) -> Looping | None:
        counts, waiting = self._counts.get(asked), self._pending.get(asked, 0)
        if counts is None:
            if waiting < self._policy.repeats_max:
                return None
            return Looping(LoopKind.REPEAT, (asked[0],), waiting, "", 0, end=False)
        # Nobody knows yet what those under way will come to; the worst is that it is the same.
        count = max(counts.values()) + waiting
        if count < self._policy.repeats_max:
            return None
        came = max(counts, key=counts.__getitem__)
        return Looping(LoopKind.REPEAT, (asked[0],), count, came, 0, end=False)

    def _cycle(self, asked: Asked) -> Looping | None:
        """Return the cycle that `asked` would go on with, and block all of its calls."""
        history, runs, rounds = self._history, self._runs, self._policy.cycles_max
        length = len(history)
        for period in range(2, len(runs)):
            if runs[period] < period * (rounds - 1):
                continue
            # Fewer than two different calls in it are a repeat and no cycle.
            if history[length - period][0] != asked or runs[1] >= period - 1:
                continue
            calls = list(history)[-period:]
            came = {result_class for _, result_class in calls}
            looping = Looping(
                LoopKind.CYCLE,
                tuple(tool for (tool, _), _ in calls),
                runs[period] // period + 1,
                came.pop() if len(came) == 1 else "",
                0,
                end=False,
            )
            # All of them, or the turn would spin on with the others.
            for call, _ in calls:
                _remember(self._blocked, call, looping, most=self._memory)
            return looping
        return None

    def _redirect(self, looping: Looping) -> Looping:
        """Count that the turn is told, once for each answer of the model."""
        if not self._steps or self._told != self._steps:
            self._told = self._steps
            self.redirects += 1
        end = self.redirects > self._policy.redirects_max
        return Looping(
            looping.kind, looping.tools, looping.count, looping.result_class, self.redirects, end
        )


def _remember(memory: dict[Any, Any], what: Any, value: Any = None, *, most: int) -> None:
    if len(memory) >= most:
        del memory[next(iter(memory))]
    memory[what] = value
