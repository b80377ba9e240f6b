"""How parallel a finished turn was: its critical path, and what kept it from being faster.

Keeps: the critical path never takes longer than the turn did; a person's time to decide is
nobody's work; a step that never ran, or whose end nobody recorded, took no time: what the
journal does not say is not guessed.
Leaves to the faces: how it is shown.
Source: Kelley and Walker, "Critical-Path Planning and Scheduling", 1959; work and span as in
Blumofe and Leiserson, "Scheduling Multithreaded Computations by Work Stealing", 1999.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from undercroft.model.trace import Parallelism, StepTrace


def report(steps: Sequence[StepTrace]) -> Parallelism | None:
    """Return how parallel the steps of a turn were; None where none of them ran to its end."""
    if not any(step.attempts and step.took_s is not None and _works(step) for step in steps):
        return None
    path, critical_s = _critical(steps)
    work_s = sum(_work_s(step) for step in steps)
    # Durations are read from one clock and moments from another: where these disagree, a chain
    # of steps may seem to have taken longer than the time in which it ran.
    elapsed_s = max(_elapsed_s(steps), critical_s)
    return Parallelism(
        critical_path=path,
        critical_s=critical_s,
        elapsed_s=elapsed_s,
        work_s=work_s,
        achieved=work_s / elapsed_s if elapsed_s > 0 else 1.0,
        possible=work_s / critical_s if critical_s > 0 else 1.0,
        lost_s=elapsed_s - critical_s,
        waits=_waits(steps),
    )


def _works(step: StepTrace) -> bool:
    """Whether its duration is work, and not a person's time to decide."""
    return step.kind != "approval"


def _work_s(step: StepTrace) -> float:
    if step.took_s is None or not _works(step):
        return 0.0
    return max(0.0, step.took_s)


def _critical(steps: Sequence[StepTrace]) -> tuple[tuple[str, ...], float]:
    """Return the longest chain of causes by the seconds that its steps took, and their sum."""
    places = {step.step_id: place for place, step in enumerate(steps)}
    causes = [[places[name] for name in step.causes if name in places] for step in steps]
    # By step: seconds of the longest chain that ends with it, and the step before it there.
    length_s = [0.0] * len(steps)
    before: list[int | None] = [None] * len(steps)
    last, longest_s = None, 0.0
    for place in _causes_first(causes):
        for cause in causes[place]:
            if length_s[cause] > length_s[place]:
                length_s[place], before[place] = length_s[cause], cause
        length_s[place] += _work_s(steps[place])
        if length_s[place] > longest_s:
            last, longest_s = place, length_s[place]
    path = []
    while last is not None:
        path.append(steps[last].step_id)
        last = before[last]
    return tuple(reversed(path)), longest_s


def _causes_first(causes: Sequence[Sequence[int]]) -> Iterable[int]:
    """Yield each step after all of its causes; what a damaged record puts in a circle, never."""
    left = [len(found) for found in causes]
    effects: list[list[int]] = [[] for _ in causes]
    for place, found in enumerate(causes):
        for cause in found:
            effects[cause].append(place)
    ready = [place for place, count in enumerate(left) if not count]
    for place in ready:  # grows while it is read
        yield place
        for effect in effects[place]:
            left[effect] -= 1
            if not left[effect]:
                ready.append(effect)


def _elapsed_s(steps: Sequence[StepTrace]) -> float:
    """Return the length of the time in which some step ran, or waited for its claims."""
    begun = [(step.began_at, step) for step in steps if step.began_at is not None and _works(step)]
    # From the first begin on: seconds since 1970 have no digits left for microseconds.
    zero_s = min((at for at, _ in begun), default=0.0)
    spans = sorted(
        (at - zero_s - sum(wait.waited_s for wait in step.waits), at - zero_s + _work_s(step))
        for at, step in begun
    )
    total_s, covered_to = 0.0, float("-inf")
    for start, end in spans:
        if end > covered_to:
            total_s += end - max(start, covered_to)
            covered_to = end
    return total_s


def _waits(steps: Sequence[StepTrace]) -> tuple[tuple[str, str, str, float], ...]:
    """Return what steps waited for, the same wait of the same step added up, longest first."""
    waited_s: dict[tuple[str, str, str], float] = {}
    for step in steps:
        for wait in step.waits:
            key = (wait.claim, step.step_id, wait.behind)
            waited_s[key] = waited_s.get(key, 0.0) + wait.waited_s
    longest = sorted(waited_s.items(), key=lambda item: -item[1])
    return tuple((*key, seconds) for key, seconds in longest)
