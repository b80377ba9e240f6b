"""Conversations of every kind as data: what a window is told, move by move, and under what policy.

Keeps: a talk is plain data, so that it can be told twice, to other windows and in other processes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

from undercroft.layers.context.policy import (
    Action,
    ContextPolicy,
    ContextRule,
    ContextShare,
    Kind,
    Section,
)
from undercroft.model.message import ToolSpec
from undercroft.model.step import Call


@dataclass(frozen=True)
class System:
    """A system text; only taken before the first prompt of a turn."""

    text: str


@dataclass(frozen=True)
class Pin:
    """A text that stands in every prompt from now on."""

    text: str


@dataclass(frozen=True)
class User:
    """What the user says."""

    text: str


@dataclass(frozen=True)
class Said:
    """What was said to the user earlier."""

    text: str


@dataclass(frozen=True)
class Notice:
    """What we tell the model with the next prompt."""

    text: str


@dataclass(frozen=True)
class Tools:
    """Other tools go with the prompt from now on."""

    specs: tuple[ToolSpec, ...]


@dataclass(frozen=True)
class Ask:
    """The prompt is sent; what the model answers, and how the provider counts."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: str = "none"


@dataclass(frozen=True)
class Results:
    """Results of calls that are open: which one, by its place among them, and its text."""

    of: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Turn:
    """The next turn of the session begins."""


@dataclass(frozen=True)
class Squeeze:
    """The window is compacted, needed or not, whatever calls are open."""


Move: TypeAlias = System | Pin | User | Said | Notice | Tools | Ask | Results | Turn | Squeeze

# What a provider may report of a prompt.
USAGES = ("none", "true", "less", "more", "zero", "half", "negative", "absurd", "huge")

UNITS = (
    "the order is late, and so on. ",
    "I am Ada, ada@example.com, order #A1001. ",
    '{"id":"#A1002","total":"12.50","items":[1,2,3]} ',
    "密碼是甚麼。",
    "🙂👩‍👩‍👧",
    "שלום ",
    "\u202e",
    "\ud800",
    "\x00",
    "\r\n",
    "x",
    "0123456789",
    "<|im_end|>",
    "actually, it is #A1009. ",
    '[undercroft: left out; recall(handle="r0.1") returns it]',
)
TIMES = (0, 1, 1, 3, 10, 10, 40)
HUGE = 400


def _times(parts: list[str], times: int) -> str:
    return "".join(parts) * times


PARTS = st.lists(st.sampled_from(UNITS) | st.text(max_size=6), min_size=1, max_size=3)
SHORT = st.builds(_times, PARTS, st.sampled_from((0, 1, 2)))
TEXTS = st.builds(_times, PARTS, st.sampled_from(TIMES))
LARGE = st.builds(_times, PARTS, st.sampled_from((*TIMES, HUGE)))

ARGUMENTS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"order_id": st.sampled_from(("#A1001", "#A1002", "#Z9"))}),
    st.dictionaries(st.sampled_from(("a", "b")), SHORT, max_size=2),
    st.sampled_from(("", "{", '{"order_id": "#A1001"}', "null")),
)
IDS = st.sampled_from((None, "", "c1", "c1", "c2", "call_0123456789abcdef", "call-1-0"))
NAMES = st.sampled_from(("get_order", "list_orders", "send", "recall"))
CALLS = st.lists(st.builds(Call, NAMES, ARGUMENTS, IDS), max_size=4).map(tuple)

SPECS = st.lists(
    st.builds(
        lambda name, text: ToolSpec(name, text, {"type": "object", "properties": {}}), NAMES, SHORT
    ),
    max_size=2,
).map(tuple)

ASKS = st.builds(Ask, SHORT | TEXTS, CALLS, st.sampled_from(("none", "true", "true", *USAGES)))
RESULTS = st.lists(st.tuples(st.integers(0, 3), LARGE), min_size=1, max_size=4).map(
    lambda of: Results(tuple(of))
)
MOVES: st.SearchStrategy[Move] = st.one_of(
    ASKS,
    RESULTS,
    st.builds(User, TEXTS | LARGE),
    st.just(Turn()),
    st.builds(Said, TEXTS),
    st.builds(System, SHORT),
    st.builds(Pin, SHORT),
    st.builds(Notice, SHORT),
    st.builds(Tools, SPECS),
    st.just(Squeeze()),
)
ONE_MOVE = st.tuples(MOVES)
# What an ordinary exchange is made of, so that most talks get somewhere.
EXCHANGES: st.SearchStrategy[tuple[Move, ...]] = st.one_of(
    st.tuples(st.builds(User, TEXTS), ASKS, RESULTS, ASKS),
    st.tuples(st.just(Turn()), st.builds(User, TEXTS), ASKS, RESULTS, ASKS, RESULTS, ASKS),
    st.tuples(ASKS, st.builds(User, TEXTS), RESULTS, ASKS),
    st.tuples(st.builds(User, TEXTS), st.builds(Said, TEXTS), st.builds(User, TEXTS), ASKS),
    ONE_MOVE,
)


def _flat(parts: list[tuple[Move, ...]]) -> list[Move]:
    return [move for part in parts for move in part]


TALKS = st.lists(EXCHANGES, min_size=5, max_size=12).map(_flat)

# ---------------------------------------------------------------------- policies

PERCENT = st.integers(0, 100).map(lambda n: n / 100)


@st.composite
def shares(draw: st.DrawFn, sections: tuple[Section, ...]) -> tuple[ContextShare, ...]:
    """Return shares of some sections, whose minimums are at most one together."""
    left, made = 90, []
    for section in sections:
        least = draw(st.integers(0, left // 2))
        left -= least
        most = draw(st.integers(max(1, least), 100))
        priority = draw(st.integers(0, 50))
        made.append(
            ContextShare(
                section=section, priority=priority, min_share=least / 100, max_share=most / 100
            )
        )
    return tuple(made)


SHARES = st.lists(st.sampled_from(Section), unique=True, max_size=4).flatmap(
    lambda some: shares(
        tuple(
            s
            for s in some
            if s in (Section.LEDGER, Section.SUMMARIES, Section.RECENT, Section.CURRENT)
        )
    )
)
KINDS = st.sampled_from(Kind)
ABOVE = st.sampled_from((0, 0, 10, 200))


def _rule(kind: Kind, action: Action, above: int, tool: str) -> ContextRule:
    tool = tool if kind is Kind.RESULT else ""
    return ContextRule(kind=kind, action=action, above_tokens=above, tool=tool)


RULES = st.lists(
    st.builds(
        _rule, KINDS, st.sampled_from(Action), ABOVE, st.sampled_from(("", "get_order", "send"))
    ),
    max_size=4,
).map(tuple)
# As RULES, but nothing stands in a prompt for good.
LOOSE_RULES = st.lists(
    st.builds(
        _rule,
        KINDS,
        st.sampled_from([action for action in Action if action is not Action.PIN]),
        ABOVE,
        st.sampled_from(("", "get_order", "send")),
    ),
    max_size=4,
).map(tuple)
# A policy is journaled, so its pins hold no half of a character.
PINS = st.lists(
    SHORT.filter(lambda text: bool(text) and "\ud800" not in text), unique=True, max_size=2
).map(tuple)


@st.composite
def policies(
    draw: st.DrawFn,
    *,
    rules: st.SearchStrategy[tuple[ContextRule, ...]] = RULES,
    shared: st.SearchStrategy[tuple[ContextShare, ...]] = SHARES,
    least: int = 256,
) -> ContextPolicy:
    """Return a policy of any kind; windows are small, so that talks fill them."""
    limit = draw(
        st.sampled_from([n for n in (256, 512, 1024, 2048, 2048, 4096, 4096) if n >= least])
    )
    high = draw(st.integers(30, 100))
    return ContextPolicy(
        limit_tokens=limit,
        reserved_tokens=draw(st.sampled_from((0, 16, limit // 8, limit // 4))),
        high_share=high / 100,
        low_share=draw(st.integers(5, high - 5)) / 100,
        shares=draw(st.just(()) | shared),
        rules=draw(st.just(()) | rules),
        result_max_share=draw(st.sampled_from((0.02, 0.1, 0.25, 0.25, 1))),
        pins=draw(PINS),
        recall=draw(st.booleans()),
        recall_turns=draw(st.sampled_from((1, 2, 50))),
        summarise_above_tokens=draw(st.sampled_from((1, 40, 400))),
        summary_failures_max=draw(st.sampled_from((1, 3))),
    )


# Who writes summaries, as `driven.Writer` has it: each letter is what it does the next time.
WRITERS = st.none() | st.text("ijf", min_size=1, max_size=5)

# ---------------------------------------------------------------------- the same everywhere


def made_up(seed: int, moves: int = 60) -> list[Move]:
    """Return a talk that is the same in every process: a shop's, with many turns."""
    chance = random.Random(seed)  # noqa: S311  a talk, no secret
    talk: list[Move] = [System("You help customers of a shop."), User("Hello.")]
    for number in range(moves):
        order = f"#A{1000 + chance.randrange(40)}"
        match chance.randrange(6):
            case 0:
                talk += [Turn(), User(f"What about order {order}? I am user_{number}@example.com.")]
            case 1:
                talk.append(Said("密碼 🙂 " * chance.randrange(30)))
            case 2:
                talk.append(User("I do not know. " * chance.randrange(20) + order))
            case 3:
                talk.append(Pin(f"Rule {number}: be kind."))
            case _:
                calls = tuple(
                    Call("get_order", {"order_id": order, "n": n}, f"c{n}")
                    for n in range(chance.randrange(1, 4))
                )
                talk.append(Ask("", calls, chance.choice(USAGES)))
                text = f'{{"order_id":"{order}","sku":"SKU{number}"}}, ' * chance.randrange(60)
                talk.append(Results(tuple((0, text) for _ in calls[:2])))
                talk.append(Ask(f"Order {order} is fine.", (), "true"))
    return talk
