"""What two turns did differently: their steps beside each other, and the first that differs.

Keeps: steps are aligned in their order, by name and arguments, so that one step more or fewer
does not make all that follows different; durations and cost are told and make no difference.
Source: Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.model.ids import fingerprint
from undercroft.model.step import MODEL
from undercroft.model.trace import StepTrace, Trace

# Longer turns than these together are compared place by place.
_CELLS_MAX = 400_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        what: `arguments`, `status`, `value`, `error`, `prompt` and the like.
        a: As the first turn has it; None where it has nothing.
        b: As the second has it.
    """

    what: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Pair:
    """A step of each turn that answer to each other, or one that only one of them has.

    Attributes:
        differs: What is not the same of the two; empty also where there is only one.
    """

    a: StepTrace | None
    b: StepTrace | None
    differs: tuple[Difference, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether both turns did it, with the same arguments and to the same end."""
        return self.a is not None and self.b is not None and not self.differs


@dataclass(frozen=True, slots=True)
class TurnDiff:
    """What two turns did differently.

    Attributes:
        turn: What differs of the turns as such: input, status, what the user was told.
        pairs: All steps, in the order of both turns.
        first: The place among the pairs of the first that differs; None: all are the same.
    """

    turn: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    first: int | None

    @property
    def same(self) -> bool:
        """Whether the turns did the same, to the same end."""
        return not self.turn and self.first is None


def compare(a: Trace, b: Trace) -> TurnDiff:
    """Return what two turns did differently; prompts apart, which a trace does not hold."""
    pairs = tuple(_pairs(a.steps, b.steps))
    first = next((place for place, pair in enumerate(pairs) if not pair.is_same), None)
    facts: tuple[tuple[str, Any, Any], ...] = (
        ("target", a.target, b.target),
        ("input", a.input, b.input),
        ("status", str(a.status), str(b.status)),
        ("error", _plain(a.error), _plain(b.error)),
        ("missing", list(a.missing), list(b.missing)),
        ("delivered", a.delivered, b.delivered),
        *_delivery(a, b),
    )
    turn = tuple(Difference(*fact) for fact in facts if not _equal(fact[1], fact[2]))
    return TurnDiff(turn, pairs, first)


def _delivery(a: Trace, b: Trace) -> tuple[tuple[str, str, str], ...]:
    """Return how both were delivered; where nobody has said so of one, that is no difference."""
    if a.delivery is None or b.delivery is None:
        return ()
    return (("delivery", a.delivery.status, b.delivery.status),)


def _pairs(a: Sequence[StepTrace], b: Sequence[StepTrace]) -> Iterable[Pair]:
    """Yield steps beside each other."""
    at_a = at_b = 0
    ends = (len(a), len(b))
    for i, j in (*aligned([_key(s) for s in a], [_key(s) for s in b]), ends):
        yield from _between(a[at_a:i], b[at_b:j])
        if (i, j) != ends:
            yield Pair(a[i], b[j], tuple(_differences(a[i], b[j])))
        at_a, at_b = i + 1, j + 1


def _between(a: Sequence[StepTrace], b: Sequence[StepTrace]) -> Iterable[Pair]:
    """Yield steps between two that are alike: those of one name beside each other."""
    at_a = at_b = 0
    ends = (len(a), len(b))
    for i, j in (*aligned([s.name for s in a], [s.name for s in b]), ends):
        yield from (Pair(step, None) for step in a[at_a:i])
        yield from (Pair(None, step) for step in b[at_b:j])
        if (i, j) != ends:
            yield Pair(a[i], b[j], tuple(_differences(a[i], b[j])))
        at_a, at_b = i + 1, j + 1


def _key(step: StepTrace) -> tuple[str, str, bytes]:
    # What a model was sent is compared as such; what it was written down as is no argument.
    given = None if step.kind == MODEL else step.arguments
    return step.name, step.branch, _fingerprint(given)


def _differences(a: StepTrace, b: StepTrace) -> Iterable[Difference]:
    """Yield what is not the same of two steps of one name."""
    if a.kind != MODEL and not _equal(a.arguments, b.arguments):
        yield Difference("arguments", a.arguments, b.arguments)
    if a.branch != b.branch:
        yield Difference("branch", a.branch, b.branch)
    if a.status is not b.status:
        yield Difference("status", str(a.status), str(b.status))
    if not _equal(_answer(a), _answer(b)):
        yield Difference("value", _answer(a), _answer(b))
    if (a.error and a.error.type) != (b.error and b.error.type):
        yield Difference("error", _plain(a.error), _plain(b.error))
    if (a.refusal and a.refusal.rule) != (b.refusal and b.refusal.rule):
        yield Difference("refusal", a.refusal and a.refusal.rule, b.refusal and b.refusal.rule)
    words = [[(said.what, said.how) for said in step.decisions] for step in (a, b)]
    if words[0] != words[1]:
        yield Difference("decisions", *([" ".join(w) for w in said] for said in words))
    if len(a.retries) != len(b.retries):
        yield Difference("failed attempts", len(a.retries), len(b.retries))


def _answer(step: StepTrace) -> Any:
    """Return what a step came to; of a model what it said, and not what it counted."""
    value = step.value
    if step.kind != MODEL or not isinstance(value, dict):
        return value
    calls = value.get("calls") or ()
    return {
        "text": value.get("text", ""),
        "calls": [[c.get("name"), c.get("arguments")] for c in calls if isinstance(c, dict)],
    }


def _plain(error: object) -> str | None:
    return None if error is None else str(error)


def _fingerprint(value: Any) -> bytes:
    try:
        return fingerprint(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return repr(value).encode("utf-8", "surrogatepass")


def _equal(a: Any, b: Any) -> bool:
    # NaN is the same as NaN here, and 1 is not the same as True.
    return _fingerprint(a) == _fingerprint(b)


def aligned(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the places of a longest common subsequence of two sequences of keys."""
    head = 0
    while head < min(len(a), len(b)) and a[head] == b[head]:
        head += 1
    tail = 0
    while tail < min(len(a), len(b)) - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    middle_a, middle_b = a[head : len(a) - tail], b[head : len(b) - tail]
    if len(middle_a) * len(middle_b) > _CELLS_MAX:
        both = zip(middle_a, middle_b, strict=False)
        inner = [(place, place) for place, (x, y) in enumerate(both) if x == y]
    else:
        inner = _longest(middle_a, middle_b)
    return [
        *((place, place) for place in range(head)),
        *((i + head, j + head) for i, j in inner),
        *((len(a) - left, len(b) - left) for left in range(tail, 0, -1)),
    ]


def _longest(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[int, int]]:
    """Return a longest common subsequence, a row of it in one number."""
    places: dict[Any, int] = {}
    for j, key in enumerate(b):
        places[key] = places.get(key, 0) | (1 << j)
    full = (1 << len(b)) - 1
    row, rows = full, []
    for key in a:
        both = row & places.get(key, 0)
        row = ((row + both) | (row - both)) & full
        rows.append(row)
    found = []
    i, j = len(a), len(b)
    while i and j:
        if rows[i - 1] >> (j - 1) & 1:
            j -= 1
        elif i > 1 and not rows[i - 2] >> (j - 1) & 1:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found[::-1]
