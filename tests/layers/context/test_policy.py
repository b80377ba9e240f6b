"""A context policy fails where it is written, or can be kept; its hash stands for it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.talks import policies
from undercroft.errors import SettingError
from undercroft.layers.context.policy import (
    COMPACTED,
    RULES,
    Action,
    ContextPolicy,
    ContextRule,
    ContextShare,
    Kind,
    Section,
)

WINDOW: dict[str, Any] = {
    "limit_tokens": 8_000,
    "reserved_tokens": 1_000,
    "high_share": 0.9,
    "low_share": 0.5,
}
NAN, INF = math.nan, math.inf

# ---------------------------------------------------------------------- bad settings

BAD_POLICIES: list[tuple[str, Mapping[str, Any]]] = [
    *(("limit_tokens", {"limit_tokens": v}) for v in (0, -1, 255, 10**9, 1e4, NAN, "8k", None)),
    ("limit_tokens", {"limit_tokens": True}),
    *(("reserved_tokens", {"reserved_tokens": v}) for v in (-1, 8_000, 9_000, 0.5, NAN, None)),
    ("reserved_tokens", {"limit_tokens": 1_000, "reserved_tokens": 1_024}),
    *(("high_share", {"high_share": v}) for v in (0, -0.1, 1.01, NAN, INF, "0.9", None, True)),
    *(("low_share", {"low_share": v}) for v in (0, -0.1, 0.9, 0.95, NAN, INF, "0.5", None)),
    ("low_share", {"high_share": 0.5, "low_share": 0.5}),
    *(("result_max_share", {"result_max_share": v}) for v in (0, -1, 1.5, NAN, "1", None)),
    *(("recall_turns", {"recall_turns": v}) for v in (0, -1, 1.5, None, True)),
    *(("summarise_above_tokens", {"summarise_above_tokens": v}) for v in (0, -1, 0.5, None)),
    *(("summary_failures_max", {"summary_failures_max": v}) for v in (0, -1, 0.5, None)),
    *(("vocabulary", {"vocabulary": v}) for v in ("", None, 5)),
    *(
        ("pins", {"pins": v})
        for v in ("a text", None, 5, (1,), ("",), ("a", "a"), {"a": 1}, ("\ud800",))
    ),
    *(("shares", {"shares": v}) for v in (None, 5, ("recent",), {"recent": 1})),
    *(("rules", {"rules": v}) for v in (None, 5, ("keep",), {"user": "keep"})),
    *(("recall", {"recall": v}) for v in ("no", None, 2)),
    *(("alarm", {"alarm": v}) for v in ("no", None, 2)),
]


@pytest.mark.parametrize(("name", "given_"), BAD_POLICIES)
def test_a_bad_setting_fails_where_it_is_written(name: str, given_: Mapping[str, Any]) -> None:
    """A policy that cannot be kept is none: the error names the setting and says what it takes."""
    with pytest.raises(SettingError) as caught:
        ContextPolicy(**{**WINDOW, **given_})
    assert caught.value.name == name
    assert caught.value.expected
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given_"),
    [
        *(("section", {"section": v}) for v in ("system", "tools", "pins", "other", None, ["x"])),
        *(("priority", {"priority": v}) for v in (1.5, None, "1", True, 10**7)),
        *(("min_share", {"min_share": v}) for v in (-0.1, 1.1, NAN, "0", None, True)),
        *(("max_share", {"max_share": v}) for v in (0, -0.1, 1.1, NAN, "1", None)),
        ("max_share", {"min_share": 0.5, "max_share": 0.4}),
    ],
)
def test_a_bad_share_fails_where_it_is_written(name: str, given_: Mapping[str, Any]) -> None:
    """A share is of a section that can be cut, and from 0 to 1."""
    with pytest.raises(SettingError) as caught:
        ContextShare(**{"section": "recent", "priority": 1, **given_})
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("name", "given_"),
    [
        *(("kind", {"kind": v}) for v in ("system", "", None, 5, ["user"])),
        *(("action", {"action": v}) for v in ("delete", "", None, 5)),
        *(("above_tokens", {"above_tokens": v}) for v in (-1, 0.5, None, "5", True)),
        *(("tool", {"tool": v}) for v in (5, None, ("get",))),
        ("tool", {"kind": "user", "tool": "get_order"}),
    ],
)
def test_a_bad_rule_fails_where_it_is_written(name: str, given_: Mapping[str, Any]) -> None:
    """A rule that would never fit, or that nobody could keep, is refused."""
    with pytest.raises(SettingError) as caught:
        ContextRule(**{"kind": "result", "action": "elide", **given_})
    assert caught.value.name == name


# ---------------------------------------------------------------------- minimums

PARTS = st.lists(st.integers(0, 100), min_size=4, max_size=4)


@given(PARTS)
def test_minimums_above_the_capacity_fail(parts: list[int]) -> None:
    """Minimums that cannot all be met fail at declaration, and those that can do not."""
    made = tuple(
        ContextShare(section=section, priority=1, min_share=part / 100)
        for section, part in zip(COMPACTED, parts, strict=True)
    )
    if sum(parts) > 100:
        with pytest.raises(SettingError, match="shares") as caught:
            ContextPolicy(limit_tokens=8_000, shares=made)
        assert caught.value.name == "shares"
    else:
        policy = ContextPolicy(limit_tokens=8_000, shares=made)
        assert [policy.share(section) for section in COMPACTED] == list(made)


@given(st.integers(1, 99), st.integers(0, 3))
def test_minimums_of_exactly_the_capacity_can_be_met(first: int, rest: int) -> None:
    """Whole hundredths that are 1 together are, whatever floats make of them."""
    left = 100 - first
    parts = [first, left // 4 * rest, left - left // 4 * rest, 0]
    made = tuple(
        ContextShare(section=section, priority=1, min_share=part / 100)
        for section, part in zip(COMPACTED, parts, strict=True)
    )
    assert ContextPolicy(limit_tokens=8_000, shares=made).shares == made


def test_a_section_has_one_share() -> None:
    """Two shares of one section contradict each other."""
    twice = (ContextShare(section="recent", priority=1), ContextShare(section="recent", priority=2))
    with pytest.raises(SettingError) as caught:
        ContextPolicy(limit_tokens=8_000, shares=twice)
    assert caught.value.name == "shares"


def test_sections_that_are_not_named_keep_their_shares() -> None:
    """One share that is declared changes nothing about the other sections."""
    one = ContextShare(section="recent", priority=99, min_share=0.3)
    policy, plain = ContextPolicy(**WINDOW, shares=(one,)), ContextPolicy(**WINDOW)
    assert policy.share(Section.RECENT) == one
    for section in (Section.LEDGER, Section.SUMMARIES, Section.CURRENT):
        assert policy.share(section) == plain.share(section)


@settings(max_examples=60)
@given(policies())
def test_the_marks_lie_in_their_order(policy: ContextPolicy) -> None:
    """Low water lies below high water, and that within the capacity."""
    assert 0 <= policy.low_tokens <= policy.high_tokens <= policy.capacity_tokens
    assert policy.capacity_tokens + policy.reserved_tokens == policy.limit_tokens
    assert 1 <= policy.result_max_tokens <= policy.capacity_tokens


# ---------------------------------------------------------------------- rules

RULE = st.builds(
    lambda kind, action, above, tool: ContextRule(
        kind=kind, action=action, above_tokens=above, tool=tool if kind == "result" else ""
    ),
    st.sampled_from(Kind),
    st.sampled_from(Action),
    st.integers(0, 9),
    st.sampled_from(("", "get_order", "send")),
)


@given(st.lists(RULE, max_size=6), st.sampled_from(Kind), st.sampled_from(("", "send", "other")))
def test_the_last_rule_that_fits_counts(rules: list[ContextRule], kind: Kind, tool: str) -> None:
    """Of the rules that fit a kind and a tool the last one counts; else an ordinary one does."""
    policy = ContextPolicy(**WINDOW, rules=tuple(rules))
    fitting = [one for one in (*RULES, *rules) if one.kind == kind and one.tool in ("", tool)]
    assert policy.rule(kind, tool) is fitting[-1]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_rule(kind: Kind) -> None:
    """Without any rule of its own, a policy knows what may be done to each kind."""
    assert ContextPolicy(**WINDOW).rule(kind).kind == kind


def test_words_may_stand_for_the_names() -> None:
    """What is declared in plain words is the same as with the enumerations."""
    words = ContextRule(kind="result", action="pin", tool="get")
    assert words == ContextRule(kind=Kind.RESULT, action=Action.PIN, tool="get")
    assert ContextShare(section="recent", priority=1) == ContextShare(
        section=Section.RECENT, priority=1
    )


# ---------------------------------------------------------------------- frozen, and its hash


def test_a_policy_is_frozen() -> None:
    """Nothing of a policy changes after it was declared, what it was given included."""
    pins, rules = ["Be kind."], [ContextRule(kind="user", action="drop")]
    policy = ContextPolicy(**WINDOW, pins=pins, rules=rules)  # type: ignore[arg-type]
    was = policy.hash
    pins.append("Be brief.")
    rules.clear()
    assert (policy.pins, policy.hash) == (("Be kind.",), was)
    with pytest.raises(FrozenInstanceError):
        policy.limit_tokens = 5  # type: ignore[misc]


CHANGES: list[Mapping[str, Any]] = [
    {},
    {"limit_tokens": 8_001},
    {"reserved_tokens": 1_001},
    {"high_share": 0.8},
    {"low_share": 0.4},
    {"result_max_share": 0.2},
    {"pins": ("Be kind.",)},
    {"pins": ("Be kind.", "Be brief.")},
    {"pins": ("Be brief.", "Be kind.")},
    {"recall": False},
    {"recall_turns": 51},
    {"summarise_above_tokens": 401},
    {"summary_failures_max": 4},
    {"alarm": False},
    {"vocabulary": "o200k_base"},
    {"shares": (ContextShare(section="recent", priority=11),)},
    {"shares": (ContextShare(section="recent", priority=10, max_share=0.9),)},
    {"rules": (ContextRule(kind="user", action="drop"),)},
    {"rules": (ContextRule(kind="result", action="drop"),)},
    {"rules": (ContextRule(kind="result", action="drop", tool="get"),)},
]


def test_different_policies_have_different_hashes() -> None:
    """Each setting is part of what stands for the policy."""
    hashes = [ContextPolicy(**{**WINDOW, **change}).hash for change in CHANGES]
    assert len(set(hashes)) == len(CHANGES)


@settings(max_examples=60)
@given(policies())
def test_equal_policies_have_equal_hashes(policy: ContextPolicy) -> None:
    """What is equal has one hash, also where a share is written as a whole number."""
    same = replace(policy, high_share=float(policy.high_share), pins=list(policy.pins))  # type: ignore[arg-type]
    assert same == policy
    assert same.hash == policy.hash
    if policy.high_share == 1:
        whole = replace(policy, high_share=1)
        assert (whole, whole.hash) == (policy, policy.hash)


def test_a_share_of_all_has_one_hash() -> None:
    """1 and 1.0 are the same share of the capacity."""
    whole, part = (ContextPolicy(**{**WINDOW, "high_share": v}) for v in (1, 1.0))
    assert whole == part
    assert whole.hash == part.hash
    shares = [(ContextShare(section="recent", priority=1, max_share=v),) for v in (1, 1.0)]
    first, second = (ContextPolicy(**{**WINDOW, "shares": v}) for v in shares)
    assert first.hash == second.hash


HASHED = """
from undercroft.layers.context.policy import ContextPolicy, ContextRule, ContextShare
print(ContextPolicy(
    limit_tokens=8_000, pins=("Be kind.", "\\U0001f642"), low_share=0.31,
    shares=(ContextShare(section="ledger", priority=3, min_share=0.1),),
    rules=(ContextRule(kind="result", action="keep", tool="get_order"),),
).hash)
"""


def test_the_hash_is_the_same_in_every_process() -> None:
    """What a journal holds as a policy's hash is found again by whoever reads it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", HASHED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1", "4711")
    }
    assert [len(one) for one in found] == [16]


@pytest.mark.parametrize(("named", "counter"), [("estimate", "o200k_base"), ("a", "a")])
def test_a_policy_takes_the_vocabulary_of_what_counts(named: str, counter: str) -> None:
    """Where nobody said which vocabulary counts, it is the one that does."""
    policy = ContextPolicy(**WINDOW, vocabulary=named)
    assert policy.counted_by(counter).vocabulary == counter


def test_another_vocabulary_than_was_named_is_refused() -> None:
    """Tokens of one vocabulary are none of another's."""
    with pytest.raises(SettingError) as caught:
        ContextPolicy(**WINDOW, vocabulary="cl100k_base").counted_by("o200k_base")
    assert caught.value.name == "vocabulary"
