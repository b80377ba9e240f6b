"""Quality: how good the context is that a model is given, 0 to 99, without asking a model.

Keeps: a bad observation never raises a score, and a good one never lowers it; below `SEEN_MIN`
observations nothing is claimed; no score is 100; the same observations give the same score; one
more observation costs the same, however many there were.
Leaves to `observing.py`: what is observed; to `alarm.py`: when a fall is more than chance.

A score is a gate times a weighted geometric mean of five parts, each 0 to 1:

- support: of the identifiers that the model used as arguments, those that its prompt held;
- liveness: of the identifiers that users stated or calls used, those that the prompt holds; one
  that a tombstone would fetch back counts half;
- repeats: of the reads, those that were not made again because their result had left the prompt;
- re-asks: of the questions for a slot, those for a slot that nobody had filled;
- contradiction: of the slots, those that do not hold several values at once.

The gate is whether every pin stood whole in the prompt: if not, the score is 0, known at once.
The mean is geometric, since a part that fails is not made good by one that does not. That one
observation does not make all of a part, each starts with `PRIOR` good ones: it is never 0, and
comes as near to it as there is evidence. A part of which nothing was observed costs nothing.

This is quality of the context. Whether the task succeeds is another matter.
"""

from __future__ import annotations

from typing import NamedTuple

from undercroft.layers.context.quality.alarm import Cusum

PARTS = ("support", "liveness", "repeats", "reasks", "contradiction")
SUPPORT, LIVENESS, REPEATS, REASKS, CONTRADICTION = range(len(PARTS))

# Exponents of the parts; together 1. How the first two divide 0.7 was fitted on tau_airline, where
# it hardly matters: a miss two or more messages ahead is told at an AUC of 0.78 whatever support
# has up to 0.35, and of 0.74 by support alone. So liveness does most of it, and support, which is
# evidence of harm and not of risk, has what it may have without harm to that. On tau_retail the AUC
# is 0.80 (`python -m bench.context.quality`). The recorded agents lacked nothing, so of the other
# three there is nothing to fit: their weights are a choice. If all of ten questions are re-asks,
# or all of ten reads repeats, the score falls from 99 to 78.
WEIGHTS = (0.25, 0.45, 0.10, 0.10, 0.10)
# Good observations that each part starts with. From 0.5 to 4 the AUC stays within 0.002.
PRIOR = 1.0
SEEN_MIN = 5
SCORE_MAX = 99
# By which a session's events weigh less with each prompt that follows: half after 34. From 0.9 to
# 1 the AUC stays within 0.003; this forgives what is a few turns old, and not what has just been.
FADE = 0.98
RECOVERABLE = 0.5

_WHY = {
    SUPPORT: "{bad:.0f} of the last {all:.0f} identifiers used had left the prompt",
    LIVENESS: "the prompt lacks {bad:.0f} of {all:.0f} identifiers that were stated or used",
    REPEATS: "{bad:.0f} of the last {all:.0f} reads were repeated since their result had left",
    REASKS: "{bad:.0f} of the last {all:.0f} questions were for what had been said",
    CONTRADICTION: "{bad:.0f} of {all:.0f} slots hold values that contradict each other",
}


class Score(NamedTuple):
    """How good a context is.

    Attributes:
        value: 0 to 99; None where too little was seen.
        parts: Each 0 to 1, by name, as observed; None where nothing was.
        seen: Observations that it rests on.
    """

    value: int | None
    parts: dict[str, float | None]
    seen: int


class Alarm(NamedTuple):
    """The quality of a context fell, by more than chance.

    Attributes:
        score: Of the session.
        level: Of the evidence, at least 1.
        why: Which part costs the score most, in words.
    """

    score: int
    level: float
    why: str


class _Span:
    """What was observed in a session, in a turn, or since the prompt before.

    Attributes:
        bad: Of each part, how much of `all` was bad.
        broken: Whether a pin was missing.
    """

    __slots__ = ("all", "bad", "broken", "seen")

    def __init__(self) -> None:
        self.bad = [0.0] * len(PARTS)
        self.all = [0.0] * len(PARTS)
        self.seen = 0
        self.broken = False

    def mean(self) -> float:
        """Return the score, 0 to 100, however little was seen."""
        if self.broken:
            return 0.0
        mean = 100.0
        for part, weight in enumerate(WEIGHTS):
            mean *= self._smooth(part) ** weight
        return mean

    def score(self) -> Score:
        """Return the score, unknown where too little was seen."""
        known = self.broken or self.seen >= SEEN_MIN
        value = min(SCORE_MAX, int(self.mean())) if known else None
        pairs = zip(PARTS, self.bad, self.all, strict=True)
        parts = {name: max(0.0, 1 - bad / all_) if all_ else None for name, bad, all_ in pairs}
        return Score(value, parts, self.seen)

    def why(self) -> str:
        """Say what costs the score most."""
        if self.broken:
            return "a pin is not in the prompt"
        worst = min(range(len(PARTS)), key=lambda part: self._smooth(part) ** WEIGHTS[part])
        return _WHY[worst].format(bad=self.bad[worst], all=self.all[worst])

    def _smooth(self, part: int) -> float:
        bad = self.bad[part]
        # What is not bad at all is exactly 1, however it was rounded on the way.
        return 1 - bad / (self.all[part] + PRIOR) if bad > 0 else 1.0


class Quality:
    """The quality of one session's context, as it is observed.

    Before each prompt `live`, `conflicts` and `pins` say how things are, and `step` ends what was
    observed since the prompt before.
    """

    __slots__ = ("_cusum", "_prompt", "_session", "_turn")

    def __init__(self) -> None:
        self._session, self._turn, self._prompt = _Span(), _Span(), _Span()
        self._cusum = Cusum()

    def begin_turn(self) -> None:
        """Begin a turn: what it shows is counted from here."""
        self._turn = _Span()

    # ------------------------------------------------------------------ what happens

    def used(self, held: int, gone: int) -> None:
        """Count identifiers that were used as arguments.

        What nobody had said before is not counted: the window cannot have lost it.

        Args:
            held: That the prompt showed.
            gone: That somebody had said, and the prompt no longer showed.
        """
        self._event(SUPPORT, max(0, gone), max(0, held) + max(0, gone))

    def read(self, *, because_gone: bool) -> None:
        """Count a read; `because_gone` if it was made again since its result had left."""
        self._event(REPEATS, int(because_gone), 1)

    def asked(self, *, filled: bool) -> None:
        """Count a question for a slot; `filled` if the answer was given before."""
        self._event(REASKS, int(filled), 1)

    def excused(self) -> None:
        """Take back that one question was for a filled slot: it was about another one."""
        for span in (self._session, self._turn, self._prompt):
            span.bad[REASKS] = max(0.0, span.bad[REASKS] - 1)

    # ------------------------------------------------------------------ how things are

    def live(self, present: int, recoverable: int, total: int) -> None:
        """Say where the identifiers that were stated or used are now.

        Args:
            present: In the prompt.
            recoverable: Not there, but a tombstone would fetch them back.
            total: Of all of them.
        """
        self._state(LIVENESS, total - present - recoverable * RECOVERABLE, total)
        if total > 0:
            for span in (self._session, self._turn, self._prompt):
                span.seen += 1

    def conflicts(self, open_conflicts: int, slots: int) -> None:
        """Say how many of the slots hold several values, none of which was superseded."""
        self._state(CONTRADICTION, open_conflicts, slots)

    def pins(self, *, whole: bool) -> None:
        """Say whether every pin stands in the prompt, whole and once."""
        self._session.broken = self._prompt.broken = not whole
        self._turn.broken = self._turn.broken or not whole

    # ------------------------------------------------------------------ what follows

    def turn(self) -> Score:
        """Return the score of the turn: 0 if any of its prompts lacked a pin."""
        return self._turn.score()

    def session(self) -> Score:
        """Return the score of the session, in which what is older weighs less."""
        return self._session.score()

    def step(self) -> Alarm | None:
        """End a prompt; return an alarm if the quality has fallen. Once a prompt."""
        score = self._session.score()
        alarm = None
        if score.value is not None and self._cusum.feed(self._prompt.mean()):
            alarm = Alarm(score.value, self._cusum.level, self._session.why())
        self._prompt = _Span()
        session = self._session
        for part in (SUPPORT, REPEATS, REASKS):
            session.bad[part] *= FADE
            session.all[part] *= FADE
        return alarm

    def _event(self, part: int, bad: int, total: int) -> None:
        for span in (self._session, self._turn, self._prompt):
            span.bad[part] += bad
            span.all[part] += total
            span.seen += total

    def _state(self, part: int, bad: float, total: int) -> None:
        total = max(0, total)
        bad = min(max(0.0, bad), total)
        for span in (self._session, self._turn, self._prompt):
            span.bad[part] = bad
            span.all[part] = total
