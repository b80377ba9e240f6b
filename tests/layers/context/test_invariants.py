"""What a window keeps, whatever it is told, under every policy, whoever writes summaries."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.layers.context.driven import Driven, drive
from tests.layers.context.laws import LAWS, pins_once_and_identical
from tests.layers.context.talks import (
    EXCHANGES,
    LOOSE_RULES,
    MOVES,
    PINS,
    TALKS,
    WRITERS,
    Ask,
    Move,
    Pin,
    Squeeze,
    Turn,
    User,
    made_up,
    policies,
)
from undercroft.layers.context.policy import (
    ContextPolicy,
    ContextRule,
    ContextShare,
    Kind,
    Section,
)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
# Sections are too small for what the rules let nobody take.
STUBBORN = policies(
    rules=st.lists(
        st.builds(ContextRule, kind=st.sampled_from(Kind), action=st.sampled_from(("pin", "keep"))),
        min_size=3,
        max_size=6,
    ).map(tuple),
    shared=st.tuples(
        *(
            st.builds(
                ContextShare,
                section=st.just(section),
                priority=st.integers(0, 9),
                max_share=st.sampled_from((0.02, 0.1, 0.3)),
            )
            for section in (Section.RECENT, Section.CURRENT)
        )
    ),
    least=1_024,
)
LOOSE = policies(rules=LOOSE_RULES, shared=st.just(()))


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_all_laws_hold_after_every_move(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Nothing that can be said, called, answered or compacted breaks one of the laws."""
    driven = Driven(policy, letters)
    for move in talk:
        driven.move(move)
        for law in LAWS:
            law(driven)


class Machine(RuleBasedStateMachine):
    """A window to which anything may happen, in any order."""

    driven: Driven

    @initialize(policy=policies(), letters=WRITERS)
    def begin(self, policy: ContextPolicy, letters: str | None) -> None:
        """Begin a conversation."""
        self.driven = Driven(policy, letters)

    @rule(move=MOVES)
    def move(self, move: Move) -> None:
        """Let something happen."""
        self.driven.move(move)

    @rule(moves=EXCHANGES)
    def exchange(self, moves: Sequence[Move]) -> None:
        """Let several things happen that belong together."""
        self.driven.tell(moves)

    @precondition(lambda self: bool(self.driven.sent))
    @rule()
    def ask_again(self) -> None:
        """Ask for the prompt as it is, once more."""
        before = self.driven.window.messages if self.driven.ask() else None
        made = len(self.driven.made)
        if before is not None:
            assert self.driven.ask()
            assert self.driven.window.messages == before
            assert not any(self.driven.made[made:])

    @invariant()
    def laws(self) -> None:
        """All laws hold."""
        for law in LAWS:
            law(self.driven)


def test_all_laws_hold_in_any_order_of_moves() -> None:
    """As above, where each move is chosen in the light of those before it."""
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=12, stateful_step_count=25, suppress_health_check=SLOW),
    )


# ---------------------------------------------------------------------- doing it again


@settings(max_examples=30, suppress_health_check=SLOW)
@given(policies() | STUBBORN, TALKS, WRITERS)
def test_asking_again_changes_nothing(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Without growth there is no second compaction, and the next prompt has the same bytes."""
    driven = drive(policy, talk, letters)
    fitted = driven.ask()
    before = driven.window.messages, driven.window.counted_tokens
    for _ in range(3):
        made = len(driven.made)
        assert driven.ask() is fitted
        assert (driven.window.messages, driven.window.counted_tokens) == before
        if fitted:
            assert not any(driven.made[made:])


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS)
def test_compacting_again_changes_nothing(policy: ContextPolicy, talk: list[Move]) -> None:
    """Compaction is idempotent: the second one finds nothing to do."""
    driven = drive(policy, talk)
    driven.move(Squeeze())
    before = driven.window.messages
    driven.move(Squeeze())
    made = driven.made[-1]
    assert made is not None
    assert made.fates == ()
    assert driven.window.messages == before


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_there_is_no_compaction_without_growth(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """Of two compactions, the later one found a larger window than the earlier one left."""
    driven = Driven(policy, letters)
    left: int | None = None
    for move in talk:
        made = len(driven.made)
        sizes = driven.window.counted_tokens
        driven.move(move)
        if isinstance(move, Ask) and len(driven.made) > made and driven.made[-1] is not None:
            if left is not None and move.usage in ("none", "true"):
                assert sizes > left or driven.overflows or driven.window.anchored
            left = driven.window.counted_tokens


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_the_same_log_gives_the_same_bytes(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """The same moves give the same prompts; so do recorded compactions that are done again."""
    first, second = drive(policy, talk, letters), drive(policy, talk, letters)
    assert first.sent == second.sent
    assert first.made == second.made
    assume("\ud800" not in repr(first.made))
    again = first.once_more().tell(talk)
    assert [one.messages for one in again.sent] == [one.messages for one in first.sent]
    assert [one.breakpoints for one in again.sent] == [one.breakpoints for one in first.sent]
    assert again.window.report() == first.window.report()
    assert again.window.messages == first.window.messages


TOLD = """
import sys
from tests.layers.context.test_invariants import digest
print(digest(int(sys.argv[1])))
"""
WINDOWS = (512, 2_000)


def digest(seed: int) -> str:
    """Return what stands for all prompts of some talks, in this process."""
    told = hashlib.sha256()
    for limit in WINDOWS:
        policy = ContextPolicy(limit_tokens=limit, reserved_tokens=64, pins=("Be kind.",))
        for letters in (None, "i", "ij"):
            driven = drive(policy, made_up(seed), letters)
            told.update(msgspec.json.encode([one.messages for one in driven.sent]))
            told.update(msgspec.json.encode(driven.made))
            told.update(repr(driven.window.report()).encode())
    return told.hexdigest()


def test_the_same_log_gives_the_same_bytes_in_every_process() -> None:
    """No prompt depends on the order of a set, or on anything else that a process has by itself."""
    found = {
        subprocess.run(
            [sys.executable, "-c", TOLD, "7"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "4711")
    }
    assert len(found) == 1


# ---------------------------------------------------------------------- pressure


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(shared=st.just(())), TALKS, WRITERS)
def test_without_pressure_nothing_is_compacted(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """A window is compacted only above its high-water mark, and is the conversation until then."""
    wide = replace(policy, limit_tokens=10_000_000, result_max_share=1.0)
    driven = drive(wide, [move for move in talk if not isinstance(move, Squeeze)], letters)
    assert not any(driven.made)
    assert all(item.message is item.shown for item in driven.window.items)
    for before, after in pairwise(drive(policy, talk, letters).made):
        for made in (before, after):
            if made is not None and made.why != "share" and Squeeze() not in talk:
                assert made.before > policy.high_tokens


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS, WRITERS)
def test_a_larger_window_loses_no_pin_and_no_minimum(
    policy: ContextPolicy, talk: list[Move], letters: str | None
) -> None:
    """What a small window has of pins and minimums, one twice as large has too."""
    small = drive(policy, talk, letters)
    large = drive(replace(policy, limit_tokens=policy.limit_tokens * 2), talk, letters)
    for driven in (small, large):
        pins_once_and_identical(driven)
    assert small.pins == large.pins
    if not small.overflows:
        assert not large.overflows


@settings(max_examples=20, suppress_health_check=SLOW)
@given(LOOSE, TALKS, WRITERS, st.sampled_from((1, 3)))
def test_what_does_not_fit_never_blocks_later_work(
    policy: ContextPolicy, talk: list[Move], letters: str | None, times: int
) -> None:
    """After any talk, and messages larger than the window, a small message gets its prompt."""
    driven = drive(policy, talk, letters)
    for _ in range(times):
        refused = driven.overflows
        driven.tell([User("far too long a message. " * policy.limit_tokens), Ask()])
        assert driven.overflows == refused + 1
    driven.tell([Turn(), User("ok")])
    window = driven.window
    window.offer(driven.tools)
    sections = window.sections()
    fixed = sum(sections[s] for s in (Section.SYSTEM, Section.TOOLS, Section.PINS))
    assume(fixed + 64 <= policy.capacity_tokens)
    assert driven.ask()
    for law in LAWS:
        law(driven)


@settings(max_examples=20, suppress_health_check=SLOW)
@given(policies(), TALKS, PINS, st.integers(0, 30))
def test_a_pin_stands_from_the_next_prompt_on(
    policy: ContextPolicy, talk: list[Move], pins: tuple[str, ...], place: int
) -> None:
    """Pinned before the first prompt or in the middle, it stands there once from then on."""
    driven = Driven(policy).tell(talk[:place])
    sent = len(driven.sent)
    driven.tell([*map(Pin, pins), *map(Pin, pins), *talk[place:]])
    driven.ask()
    for prompt in driven.sent[sent:]:
        said = [m.content for m in prompt.messages if m.role == "system"]
        assert all(said.count(text) == 1 for text in pins if text not in driven.said)
