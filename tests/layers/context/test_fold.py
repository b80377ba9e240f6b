"""A session's window is what its journal tells, whichever processes ran its turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.layers.context.driven import JUNK, Quarter
from tests.layers.context.ideal import ideal
from tests.layers.context.talks import WRITERS, policies
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.fold import fold_turn
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.state import Window
from undercroft.model.event import (
    AnyEvent,
    ContextCompacted,
    ContextOpened,
    ContextScored,
    Event,
    PromptAssembled,
    decode_frames,
)
from undercroft.model.message import Answer, ModelRequest, Usage
from undercroft.ports import Store
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

# A turn's moves, as plain data: they are the input of the handler.
Script = list[list[Any]]


class Ids:
    """Ids of turns in the order in which they began, also within a millisecond."""

    def __init__(self) -> None:
        self.begun = 0

    def turn(self, at: float) -> str:
        """Return the next one, whenever that is."""
        del at
        self.begun += 1
        return f"t-{self.begun:09}"

    def jitter(self) -> float:
        """Return no jitter."""
        return 0.0


@dataclass
class Model:
    """Says what it is told to say, and writes down what it was sent."""

    service: str = "model"
    say: Answer = Answer("Yes.")  # noqa: RUF009  frozen
    requests: list[ModelRequest] = field(default_factory=list)

    async def complete(self, request: ModelRequest) -> Answer:
        """Return that."""
        self.requests.append(request)
        return self.say


@dataclass
class Summariser:
    """Writes summaries as its letters say."""

    letters: str
    service: str = "summariser"
    requests: list[ModelRequest] = field(default_factory=list)

    async def complete(self, request: ModelRequest) -> Answer:
        """Return one, or junk."""
        letter = self.letters[len(self.requests) % len(self.letters)]
        self.requests.append(request)
        if letter == "i":
            return Answer(ideal(request.messages, count=Quarter().count))
        return Answer(JUNK[len(self.requests) % (len(JUNK) - 1)] if letter == "j" else "")


MODEL = Model()


class RefusedError(Exception):
    """A tool that always fails."""


@uc.tool(reads="order/{order_id}")
async def get_order(order_id: str, words: int) -> dict[str, Any]:
    """Return an order."""
    return {
        "order_id": order_id,
        "items": [f"SKU{order_id[2:]}{n} stands here" for n in range(words)],
    }


@uc.tool(reads="text")
async def get_text(words: int) -> str:
    """Return a text, in the script of people who have many."""
    return "密碼 🙂 \x00 שלום " * words


@uc.tool(reads="nothing")
async def broken() -> None:
    """Fail."""
    raise RefusedError("it is broken")


@uc.handler(tools=[get_order, get_text, broken])
async def scripted(turn: uc.Turn, moves: Script) -> str:
    """Do what the script says."""
    answer = Answer("")
    for what, *more in moves:
        match what:
            case "system" | "pin" | "user" | "assistant":
                getattr(turn.context, what)(more[0])
            case "ask":
                text, calls, usage = more
                MODEL.say = Answer(
                    text,
                    tuple(uc.Call(name, given_, call_id) for name, given_, call_id in calls),
                    None if usage is None else Usage(usage, 3, 0),
                )
                try:
                    answer = await turn.model()
                except (uc.ContextOverflowError, uc.ModelError):
                    answer = Answer("")
            case "calls":
                await turn.calls(answer.calls[: more[0]])
                answer = Answer("")
    return answer.text


# ---------------------------------------------------------------------- scripts

WORDS = st.sampled_from(("Hello.", "密碼 🙂 \x00 \u202e", "I am ada@example.com, order #A1001. "))
TEXTS = st.builds(lambda text, times: text * times, WORDS, st.sampled_from((1, 1, 1, 5, 60)))
CALLS = st.lists(
    st.one_of(
        st.builds(
            lambda number, words: ["get_order", {"order_id": f"#A{number}", "words": words}],
            st.integers(1000, 1004),
            st.sampled_from((0, 2, 10, 60)),
        ),
        st.builds(lambda words: ["get_text", {"words": words}], st.sampled_from((0, 3, 90))),
        st.just(["broken", {}]),
        st.just(["recall", {"handle": "r0.1"}]),
        st.just(["unknown", {}]),
        st.just(["get_order", "{"]),
    ),
    max_size=3,
)


def _named(calls: list[list[Any]], ids: list[str | None]) -> list[list[Any]]:
    return [[*call, call_id] for call, call_id in zip(calls, ids, strict=False)]


ASK = st.builds(
    lambda text, calls, ids, usage: ["ask", text, _named(calls, ids), usage],
    WORDS,
    CALLS,
    st.lists(st.sampled_from((None, "", "c1", "c2", "call-1-0")), min_size=3, max_size=3),
    st.sampled_from((None, None, 0, 300, 900, 10**9)),
)
RUN = st.builds(lambda most: ["calls", most], st.sampled_from((3, 3, 3, 1, 0)))
USER = st.builds(lambda text: ["user", text], TEXTS)
MOVES = st.one_of(
    USER,
    st.builds(lambda text: ["assistant", text], TEXTS),
    st.builds(lambda number: ["pin", f"Rule {number}."], st.integers(0, 2)),
    ASK,
    RUN,
)


def _turn(system: str, user: list[Any], rest: list[Any]) -> Script:
    begin = [["system", system]] if system else []
    return [*begin, user, *rest]


LOOPS = st.lists(st.tuples(ASK, RUN), max_size=3).map(lambda pairs: [m for p in pairs for m in p])
TURNS = st.builds(
    _turn,
    st.sampled_from(("You help.", "You help.", "You are brief.", "")),
    USER,
    LOOPS | st.lists(MOVES, max_size=6),
)
SESSIONS = st.lists(TURNS, min_size=2, max_size=7)


# ---------------------------------------------------------------------- lives


@dataclass
class Life:
    """What came of a session.

    Attributes:
        requests: To the model, and to who writes summaries.
        events: Of each turn, without times.
    """

    requests: list[ModelRequest]
    asked: list[ModelRequest]
    events: list[list[AnyEvent]]
    outcomes: list[str]


def timeless(event: Event) -> bytes:
    """Return an event as it is written, as if it had happened at no time in particular."""
    if hasattr(event, "at"):
        event = msgspec.structs.replace(event, at=0.0)
    return msgspec.msgpack.encode(event)


def live(
    session: Sequence[Script],
    policy: ContextPolicy,
    letters: str | None,
    stores: Sequence[Store],
    ids: Ids | None = None,
) -> Life:
    """Run a session, the same number of turns on each store; return what came of it."""
    MODEL.requests.clear()
    summariser = None if letters is None else Summariser(letters)
    options: dict[str, Any] = {
        "model": MODEL,
        "context": policy,
        "summariser": summariser,
        "counter": Quarter(),
        "loops": None,
        "ids": ids or Ids(),
    }
    outcomes: list[str] = []
    events: list[list[AnyEvent]] = []
    size = -(-len(session) // len(stores))

    async def run() -> None:
        for place, store in enumerate(stores):
            async with uc.Runtime(store, **options) as rt:
                for moves in session[place * size : (place + 1) * size]:
                    ended = await rt.run(scripted, session="s", moves=moves)
                    outcomes.append(str(ended.status))
                if store is stores[-1]:
                    heads = reversed(store.heads(session="s", limit=1_000))
                    frames = [store.frames(head.turn_id) or [] for head in heads]
                    events.extend(list(decode_frames(one)) for one in frames)

    asyncio.run(run())
    asked = [] if summariser is None else summariser.requests
    return Life(list(MODEL.requests), list(asked), events, outcomes)


def noted(life: Life, kind: type[Event]) -> list[list[bytes]]:
    """Return the events of a kind as they are written, by turn, without their times."""
    return [[timeless(e) for e in turn if isinstance(e, kind)] for turn in life.events]


def folded(life: Life, policy: ContextPolicy) -> Window:
    """Return the window that a journal tells."""
    window = Window(policy.counted_by("quarter"), Counts(Quarter()), Memory())
    for number, events in enumerate(life.events):
        fold_turn(window, events, number)
    window.next_turn(len(life.events))
    return window


@settings(max_examples=25, suppress_health_check=SLOW)
@given(SESSIONS, policies(least=512), WRITERS)
def test_a_new_process_sends_the_same_prompts(
    session: list[Script], policy: ContextPolicy, letters: str | None
) -> None:
    """Turns that ran in one process, and each in one of its own, sent the same bytes.

    What is written down of their prompts is the same as well, and so are the windows that the
    journals tell.
    """
    one, many = MemoryJournal(), MemoryJournal()
    warm = live(session, policy, letters, [MemoryStore(one)])
    cold = live(session, policy, letters, [MemoryStore(many) for _ in session])
    assert cold.outcomes == warm.outcomes
    assert [r.messages for r in cold.requests] == [r.messages for r in warm.requests]
    assert cold.requests == warm.requests
    assert cold.asked == warm.asked
    for kind in (ContextOpened, ContextCompacted, PromptAssembled, ContextScored):
        assert noted(cold, kind) == noted(warm, kind), kind
    first, second = folded(warm, policy), folded(cold, policy)
    assert first.messages == second.messages
    assert first.report() == second.report()


WIDE = ContextPolicy(limit_tokens=10_000_000, result_max_share=1.0)


@settings(max_examples=15, suppress_health_check=SLOW)
@given(SESSIONS)
def test_a_wide_window_shows_the_whole_session(session: list[Script]) -> None:
    """Without pressure each prompt begins with the one before, from turn to turn and cold too."""
    journal = MemoryJournal()
    life = live(session, WIDE, None, [MemoryStore(journal) for _ in session])
    shown = [[m for m in one.messages if m.role != "system"] for one in life.requests]
    for before, after in pairwise(shown):
        assert after[: len(before)] == before
    assert not any(noted(life, ContextCompacted))
    said = [move[1] for moves in session for move in moves if move[0] == "user"]
    told = [m.content for m in folded(life, WIDE).messages if m.role == "user"]
    assert told == said


def shop(turns: int, words: int = 12) -> list[Script]:
    """Return an ordinary session."""
    return [
        [
            ["system", "You help."],
            ["user", f"What of order #A{1000 + number}? I am user{number}@example.com."],
            [
                "ask",
                "",
                [["get_order", {"order_id": f"#A{1000 + number}", "words": words}, "c"]],
                0,
            ],
            ["calls", 1],
            ["ask", f"Order #A{1000 + number} is fine. " * 5, [], None],
        ]
        for number in range(turns)
    ]


NARROW = ContextPolicy(limit_tokens=1_200, reserved_tokens=200, summarise_above_tokens=100)


@pytest.mark.parametrize("letters", [None, "i", "j", "iij"])
def test_a_long_session_is_the_same_from_a_database(letters: str | None, tmp_path: Path) -> None:
    """Compactions, summaries and failures of them are taken from the journal, not decided anew."""
    stores = [SqliteStore(tmp_path / "cold.db", sync="never") for _ in range(14)]
    warm = live(shop(14), NARROW, letters, [SqliteStore(tmp_path / "warm.db", sync="never")])
    cold = live(shop(14), NARROW, letters, stores)
    assert cold.requests == warm.requests
    assert cold.asked == warm.asked
    assert any(noted(warm, ContextCompacted))
    assert noted(cold, PromptAssembled) == noted(warm, PromptAssembled)


@pytest.mark.parametrize("letters", [None, "i"])
def test_a_folded_window_goes_on_as_the_live_one_did(letters: str | None) -> None:
    """What the last prompt showed, the window that the journal tells shows as well."""
    life = live(shop(12), NARROW, letters, [MemoryStore(MemoryJournal())])
    last = life.requests[-1].messages
    window = folded(replace(life, events=life.events), NARROW)
    body = [message for message in last if message.role != "system"]
    told = [message for message in window.messages if message.role != "system"]
    assert told[: len(body)] == body
    assert told[len(body)].content == "Order #A1011 is fine. " * 5
    assert not window.open_calls


def test_a_prompt_that_did_not_fit_is_told() -> None:
    """A giant message that was refused is in the window of the next process as in that of this."""
    session = shop(2)
    session += [[["system", "You help."], ["user", "x y z " * 4_000], ["ask", "", [], None],
                 ["user", "Sorry: hello."], ["ask", "Yes.", [], None]]]  # fmt: skip
    session += shop(3)
    warm = live(session, NARROW, None, [MemoryStore(MemoryJournal())])
    journal = MemoryJournal()
    cold = live(session, NARROW, None, [MemoryStore(journal) for _ in session])
    assert cold.requests == warm.requests
    assert noted(cold, PromptAssembled) == noted(warm, PromptAssembled)
    giant = [item for item in folded(cold, NARROW).items if len(item.message.content) > 20_000]
    assert len(giant) == 1


def test_calls_that_were_left_open_are_closed_in_both() -> None:
    """A turn that ends with calls which nobody carried out leaves none without a result."""
    session = shop(1)
    session[0] = [*session[0][:3], ["user", "Never mind."]]
    session += shop(2)
    warm = live(session, NARROW, None, [MemoryStore(MemoryJournal())])
    journal = MemoryJournal()
    cold = live(session, NARROW, None, [MemoryStore(journal) for _ in session])
    assert cold.requests == warm.requests
    proposed = [call.id for m in warm.requests[-1].messages for call in m.calls]
    answered = [m.call_id for m in warm.requests[-1].messages if m.role == "tool"]
    assert proposed == answered


class Coarse(Quarter):
    """Counts forty bytes as one token."""

    name = "coarse"

    def count(self, text: str) -> int:
        """Return that."""
        return super().count(text) // 10


def test_tokens_of_another_vocabulary_are_counted_anew() -> None:
    """A session that is counted by another counter is counted whole, with what was said before."""

    async def run() -> list[PromptAssembled]:
        journal = MemoryJournal()
        policy = ContextPolicy(limit_tokens=64_000)
        for counter in (Coarse(), Quarter()):
            store = MemoryStore(journal)
            options: dict[str, Any] = {"model": MODEL, "context": policy, "counter": counter}
            async with uc.Runtime(store, **options) as rt:
                moves = [["user", "hello " * 1_000], ["ask", "Yes.", [], None]]
                await rt.run(scripted, session="s", moves=moves)
        heads = store.heads(session="s", limit=9)
        events = [e for head in heads for e in decode_frames(store.frames(head.turn_id) or [])]
        return [event for event in events if isinstance(event, PromptAssembled)]

    later, first = asyncio.run(run())
    assert first.tokens < 700
    assert later.sections[5] > 1_500
    assert later.tokens > 3_000


def test_a_change_of_policy_is_an_event() -> None:
    """The turn from which on another policy counts says so, with both hashes; others do not."""
    journal, ids = MemoryJournal(), Ids()
    wider = replace(NARROW, limit_tokens=2_400)
    lives = [
        live(shop(1), policy, None, [MemoryStore(journal)], ids)
        for policy in (NARROW, NARROW, wider, wider, NARROW)
    ]
    opened = [e for turn in lives[-1].events for e in turn if isinstance(e, ContextOpened)]
    narrow, wide = NARROW.counted_by("quarter").hash, wider.counted_by("quarter").hash
    assert [(one.was, one.policy) for one in opened] == [
        ("", narrow),
        ("", narrow),
        (narrow, wide),
        ("", wide),
        (wide, narrow),
    ]
