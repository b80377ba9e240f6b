"""The score of a context's quality, and the alarm when it falls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.layers.context.quality.alarm import LEVEL_MAX, TARGET, THRESHOLD, Cusum
from undercroft.layers.context.quality.score import (
    PARTS,
    SCORE_MAX,
    SEEN_MIN,
    WEIGHTS,
    Alarm,
    Quality,
    Score,
)

Act = Callable[[Quality], object]

GOOD: tuple[Act, ...] = (
    lambda q: q.used(1, 0),
    lambda q: q.used(3, 0),
    lambda q: q.read(because_gone=False),
    lambda q: q.asked(filled=False),
    lambda q: q.live(4, 0, 4),
    lambda q: q.conflicts(0, 3),
)
BAD: tuple[Act, ...] = (
    lambda q: q.used(0, 1),
    lambda q: q.used(0, 4),
    lambda q: q.read(because_gone=True),
    lambda q: q.asked(filled=True),
)
REST: tuple[Act, ...] = (
    lambda q: q.live(2, 1, 4),
    lambda q: q.live(0, 0, 4),
    lambda q: q.conflicts(2, 3),
    lambda q: q.excused(),
    lambda q: q.begin_turn(),
    lambda q: q.step(),
    lambda q: q.pins(whole=True),
)
ACTS = st.lists(st.sampled_from(GOOD + BAD + REST), max_size=40)


def _after(acts: list[Act]) -> Quality:
    quality = Quality()
    for act in acts:
        act(quality)
    return quality


def _prompts(quality: Quality, present: int, count: int, total: int = 20) -> list[Alarm]:
    alarms = []
    for _ in range(count):
        quality.live(present, 0, total)
        quality.pins(whole=True)
        if alarm := quality.step():
            alarms.append(alarm)
    return alarms


# ------------------------------------------------------------------ the score


def test_weights_are_one_together() -> None:
    """The mean is a mean: exponents add up to 1, one for each part."""
    assert len(WEIGHTS) == len(PARTS)
    assert math.isclose(sum(WEIGHTS), 1.0)


@given(ACTS)
@settings(max_examples=100)
def test_score_is_unknown_or_between_0_and_99(acts: list[Act]) -> None:
    """Whatever was observed, a score is 0 to 99, and parts are 0 to 1; nothing is ever 100."""
    quality = _after(acts)
    for score in (quality.turn(), quality.session()):
        assert score.value is None or 0 <= score.value <= SCORE_MAX
        assert (score.value is None) == (score.seen < SEEN_MIN)
        assert all(part is None or 0 <= part <= 1 for part in score.parts.values())


@given(ACTS)
@settings(max_examples=100)
def test_same_observations_give_the_same_score(acts: list[Act]) -> None:
    """A score is a function of what was observed, in its order."""
    one, other = _after(acts), _after(acts)
    assert one.session() == other.session()
    assert one.turn() == other.turn()


@given(ACTS, st.sampled_from(BAD))
@settings(max_examples=150)
def test_bad_observation_never_raises_a_score(acts: list[Act], bad: Act) -> None:
    """Where both are known, the score after a bad observation is not above the one before."""
    quality = _after(acts)
    turn, session = quality.turn().value, quality.session().value
    bad(quality)
    for was, score in ((turn, quality.turn()), (session, quality.session())):
        if was is not None:
            assert score.value is not None
            assert score.value <= was


@given(ACTS, st.sampled_from(GOOD[:4]))
@settings(max_examples=150)
def test_good_observation_never_lowers_a_score(acts: list[Act], good: Act) -> None:
    """The score after a good observation is not below the one before."""
    quality = _after(acts)
    turn, session = quality.turn().value, quality.session().value
    good(quality)
    for was, score in ((turn, quality.turn()), (session, quality.session())):
        if was is not None:
            assert score.value is not None
            assert score.value >= was


def test_score_is_unknown_below_five_observations() -> None:
    """Four observations, good or bad, claim nothing; the fifth does."""
    quality = Quality()
    quality.used(3, 1)
    assert quality.session() == Score(
        None,
        {
            "support": 0.75,
            "liveness": None,
            "repeats": None,
            "reasks": None,
            "contradiction": None,
        },
        4,
    )
    quality.read(because_gone=False)
    assert quality.session().value is not None


def test_perfect_context_is_not_100() -> None:
    """Nothing bad among a thousand observations is 99: what was not looked at may be bad."""
    quality = Quality()
    for _ in range(1000):
        quality.used(2, 0)
        quality.live(10, 0, 10)
        quality.step()
    assert quality.session().value == quality.turn().value == SCORE_MAX


def test_recoverable_counts_half() -> None:
    """An identifier behind a tombstone is worth half of one in the prompt."""
    quality = Quality()
    quality.live(2, 1, 4)
    assert quality.session().parts["liveness"] == 0.625
    twin = Quality()
    for one in (quality, twin):
        for _ in range(SEEN_MIN):
            one.live(6, 4, 10)
    twin.live(8, 0, 10)
    quality.live(6, 4, 10)
    assert quality.session().value == twin.session().value


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8))
@settings(max_examples=50)
def test_score_falls_with_what_the_prompt_lacks(lacks: list[int]) -> None:
    """Of two contexts that differ in liveness alone, the one that lacks more scores no higher."""
    scores = []
    for lack in sorted(lacks):
        quality = Quality()
        for _ in range(SEEN_MIN):
            quality.live(40 - lack, 0, 40)
        value = quality.session().value
        assert value is not None
        scores.append(value)
    assert scores == sorted(scores, reverse=True)


def test_one_bad_observation_does_not_make_a_score_0() -> None:
    """A part of which the only observation is bad lowers the score, and does not annul it."""
    for bad in BAD:
        quality = Quality()
        for _ in range(4):
            quality.live(5, 0, 5)
        bad(quality)
        value = quality.session().value
        assert value is not None
        assert 50 < value < 99


def test_much_evidence_takes_the_score_down_as_far_as_it_goes() -> None:
    """Where nothing that was said is there and every use is a miss, the score is next to 0."""
    quality = Quality()
    for _ in range(300):
        quality.used(0, 1)
        quality.live(0, 0, 300)
    value = quality.session().value
    assert value is not None
    assert value <= 3


def test_broken_pin_is_a_gate() -> None:
    """A prompt without a pin makes the score 0, known at once; for the turn that stays so."""
    quality = Quality()
    quality.pins(whole=False)
    assert quality.session().value == quality.turn().value == 0
    for _ in range(SEEN_MIN):
        quality.read(because_gone=False)
    quality.pins(whole=True)
    assert quality.turn().value == 0
    assert quality.session().value == SCORE_MAX
    quality.begin_turn()
    assert quality.turn().value is None


def test_turn_counts_from_its_beginning() -> None:
    """What an earlier turn has shown is no part of a turn's score, and is of the session's."""
    quality = Quality()
    quality.used(0, 10)
    quality.begin_turn()
    quality.used(10, 0)
    assert quality.turn().parts["support"] == 1.0
    assert quality.turn().seen == 10
    assert quality.session().parts["support"] == 0.5
    assert quality.session().seen == 20


def test_older_events_weigh_less() -> None:
    """Of two sessions with the same observations, whose bad ones are older scores higher."""
    early, late = Quality(), Quality()
    for place in range(60):
        early.used(int(place >= 10), int(place < 10))
        late.used(int(place < 50), int(place >= 50))
        early.step()
        late.step()
    old, new = early.session().value, late.session().value
    assert old is not None
    assert new is not None
    assert old > new


def test_excused_question_counts_as_one_for_an_empty_slot() -> None:
    """What was about something else is taken back, in the turn and in the session."""
    quality = Quality()
    quality.asked(filled=True)
    quality.excused()
    assert quality.session().parts["reasks"] == quality.turn().parts["reasks"] == 1.0
    quality.excused()
    assert quality.session().parts["reasks"] == 1.0


@pytest.mark.parametrize(
    "act",
    [
        lambda q: q.used(-5, -5),
        lambda q: q.live(-1, 9, -3),
        lambda q: q.live(10, 10, 5),
        lambda q: q.conflicts(7, 3),
        lambda q: q.conflicts(-1, -1),
        lambda q: q.used(10**300, 10**300),
    ],
)
def test_absurd_numbers_keep_scores_in_their_range(act: Act) -> None:
    """Numbers that cannot be are cut to what can be."""
    quality = Quality()
    for _ in range(SEEN_MIN):
        quality.read(because_gone=False)
    act(quality)
    value = quality.session().value
    assert value is not None
    assert 0 <= value <= SCORE_MAX
    quality.step()


# ------------------------------------------------------------------ the alarm


def test_healthy_session_never_raises_an_alarm() -> None:
    """A thousand prompts that hold everything raise none."""
    assert not _prompts(Quality(), 20, 1000)


def test_single_slip_raises_no_alarm() -> None:
    """One miss, one repeated read and one re-ask in a healthy session are no fall."""
    quality = Quality()
    _prompts(quality, 20, 20)
    quality.used(0, 1)
    quality.read(because_gone=True)
    quality.asked(filled=True)
    assert not _prompts(quality, 20, 50)


def test_fall_is_told_once_until_it_is_over() -> None:
    """However long a fall lasts there is one alarm; after a recovery there may be another."""
    quality = Quality()
    _prompts(quality, 20, 20)
    assert len(_prompts(quality, 8, 200)) == 1
    assert not _prompts(quality, 20, 60)
    assert len(_prompts(quality, 8, 200)) == 1


def test_deeper_fall_is_told_sooner() -> None:
    """The more identifiers the prompt lacks, the fewer prompts until the alarm."""
    delays = []
    for present in (16, 12, 8, 4):
        quality = Quality()
        _prompts(quality, 20, 20)
        delays.append(next(count for count in itertools.count(1) if _prompts(quality, present, 1)))
    assert delays == sorted(delays, reverse=True)
    assert delays[-1] < delays[0]


def test_missing_pin_is_told_at_once() -> None:
    """A prompt without a pin is an alarm by itself, which says so."""
    quality = Quality()
    quality.pins(whole=False)
    alarm = quality.step()
    assert alarm is not None
    assert alarm.score == 0
    assert "pin" in alarm.why


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda q: q.live(3, 0, 20), "lacks 17 of 20 identifiers"),
        (lambda q: q.used(0, 9), "identifiers used had left"),
    ],
)
def test_alarm_names_what_costs_most(act: Act, word: str) -> None:
    """Of the parts that are bad the worst is named, with its figures."""
    quality = Quality()
    for _ in range(20):
        act(quality)
        quality.pins(whole=True)
        if alarm := quality.step():
            assert alarm.level >= 1
            assert word in alarm.why
            return
    pytest.fail("no alarm")


def test_unknown_score_raises_no_alarm() -> None:
    """As long as too little was seen, nothing is said."""
    quality = Quality()
    for _ in range(SEEN_MIN - 1):
        quality.live(0, 0, 1)
        assert quality.session().value is None
        assert quality.step() is None


@given(st.lists(st.floats(0, 100), max_size=200))
@settings(max_examples=100)
def test_alarms_alternate_with_recoveries(scores: list[float]) -> None:
    """Between two alarms all evidence is gone once; the level keeps within its bounds."""
    cusum = Cusum()
    armed = True
    for score in scores:
        raised = cusum.feed(score)
        assert 0 <= cusum.level <= LEVEL_MAX
        assert not raised or armed
        if raised:
            assert cusum.level >= 1
            armed = False
        if not cusum.level:
            armed = True


@given(st.lists(st.floats(TARGET, 100), max_size=100))
@settings(max_examples=50)
def test_nothing_accumulates_above_the_target(scores: list[float]) -> None:
    """Scores at the target or above are never evidence."""
    cusum = Cusum()
    assert not any(cusum.feed(score) for score in scores)
    assert cusum.level == 0


def test_recovery_is_seen_in_bounded_time() -> None:
    """After any fall so many healthy prompts in a row clear the alarm."""
    cusum = Cusum()
    for _ in range(10_000):
        cusum.feed(0.0)
    clear = math.ceil(LEVEL_MAX * THRESHOLD / (100 - TARGET))
    for _ in range(clear):
        cusum.feed(100.0)
    assert not cusum.raised


def test_one_prompt_cannot_raise_an_alarm_unless_the_context_is_ruined() -> None:
    """From nothing to an alarm in one prompt needs a score below `TARGET - THRESHOLD`."""
    assert not Cusum().feed(TARGET - THRESHOLD + 0.1)
    assert Cusum().feed(TARGET - THRESHOLD - 0.1)
