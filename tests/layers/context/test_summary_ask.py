"""What a model is asked: all of it as data, and no more than it can take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.ideal import ideal
from tests.layers.context.summaries import (
    ADA,
    ANSWER,
    ORDER,
    OTHER,
    REQUIRED,
    SOURCES,
    numbered,
    summary_of,
    tokens,
)
from undercroft.layers.context.identifiers.extract import extract
from undercroft.layers.context.summaries.summary import (
    Fact,
    Invalid,
    Source,
    Summary,
    ask,
    read,
    render,
)
from undercroft.model.message import Message


def data_of(messages: tuple[Message, ...]) -> dict[str, Any]:
    """Return what the user's message of a request says."""
    assert [message.role for message in messages] == ["system", "user"]
    data: dict[str, Any] = json.loads(messages[1].content)
    return data


def test_request_names_everything() -> None:
    """A request has the messages by alias, what must be copied, and how long it may get."""
    data = data_of(ask(SOURCES, REQUIRED, (), 500))
    assert [one["id"] for one in data["messages"]] == ["m1", "m2", "m3", "m4"]
    assert [one["text"] for one in data["messages"]] == [source.text for source in SOURCES]
    assert data["identifiers"] == [ADA, ORDER, OTHER]
    assert data["earlier"] == []
    assert 0 < data["tokens_max"] < 500


def test_shape_that_is_asked_for_is_read() -> None:
    """The example in the instructions has exactly the fields that are read."""
    system = ask(SOURCES, REQUIRED, (), 500)[0].content
    example = system[system.index('{"intent"') : system.index("\n\nintent:")]
    shape = json.loads(example)
    assert set(shape) == set(ANSWER)
    old = summary_of(ANSWER | {"facts": [ANSWER["facts"][0], *ANSWER["facts"]]})
    more = (*SOURCES, Source(9, "user", "and more"))
    made = read(example, more, (), [old], 9999, tokens, 2, lambda _: True, numbered)
    assert isinstance(made, Summary)
    assert made.facts[0].supersedes == ("s1.f2",)
    assert made.decisions[0].why == made.artifacts[0].name == made.failed[0].why == "..."


def test_earlier_summaries_are_shown_with_ids() -> None:
    """Entries of earlier summaries can be cited; what was superseded is not shown again."""
    old = summary_of(ANSWER)
    newer = Summary(2, (9,), "", (), (Fact("s2.f1", "another address", (9,), ("s1.f1",)),))
    first, second = data_of(ask(SOURCES, (), (old, newer), 500))["earlier"]
    assert first["facts"] == [
        {"id": "s1.f2", "text": f"{ORDER} was meant at first; it costs 1250.50"}
    ]
    assert first["decisions"] == [
        {"id": "s1.d1", "text": f"{OTHER} is changed", "why": "Ada said so"}
    ]
    assert first["artifacts"] == [{"id": "s1.a1", "name": OTHER, "text": "as it was"}]
    assert second == {"facts": [{"id": "s2.f1", "text": "another address"}]}


def test_longest_messages_are_cut_first() -> None:
    """A request that is too long is cut where it is longest; short messages stay whole."""
    sources = (*SOURCES, Source(9, "result", f"begin {'x1 ' * 50_000} #A7777 {'y2 ' * 50_000}end"))
    messages = ask(sources, [*REQUIRED, "#A7777"], (), 500, count=tokens, request_tokens_max=4000)
    assert sum(tokens(message.content) for message in messages) <= 4000
    *short, long = data_of(messages)["messages"]
    assert [one["text"] for one in short] == [source.text for source in SOURCES]
    assert long["text"].startswith("begin x1 ")
    assert long["text"].endswith(" y2 end")
    assert " characters cut …] " in long["text"]
    assert long["cut_identifiers"] == ["#A7777"]


@given(
    st.lists(st.integers(0, 30_000), min_size=1, max_size=12),
    st.integers(1300, 30_000),
    st.sampled_from(["a b ", "x", "\n", '"', "é", "<", "\ud800", "汉"]),
)
@settings(max_examples=30)
def test_request_fits(lengths: list[int], room: int, text: str) -> None:
    """However long messages are, a request has at most what it may have, and the same bytes."""
    sources = [Source(n, "user", text * (length // len(text))) for n, length in enumerate(lengths)]
    messages = ask(sources, ["#A1"], (), 500, count=tokens, request_tokens_max=room)
    assert sum(tokens(message.content) for message in messages) <= room
    assert messages == ask(sources, ["#A1"], (), 500, count=tokens, request_tokens_max=room)


def test_request_that_cannot_fit_is_as_small_as_can_be() -> None:
    """Where nothing that may be cut is left, a request is made all the same."""
    sources = [Source(n, "user", "word " * 100) for n in range(100)]
    data = data_of(ask(sources, REQUIRED, (), 500, request_tokens_max=10))
    assert len(data["messages"]) == 100
    assert all(len(one["text"]) < 40 for one in data["messages"])


@pytest.mark.parametrize("tokens_max", [0, 1, 50, 10_000_000])
def test_any_room_is_asked_for(tokens_max: int) -> None:
    """A request asks for one token at least, and for less than is refused."""
    asked = data_of(ask(SOURCES, REQUIRED, (), tokens_max, count=tokens))["tokens_max"]
    assert 1 <= asked <= max(1, tokens_max)


# ------------------------------------------------------------------ an ideal summariser

VALUES = st.lists(
    st.one_of(
        st.integers(1000, 99_999_999).map("#W{}".format),
        st.integers(1000, 9999).map("ada{}@example.com".format),
        st.integers(1000, 9999).map("ada_lovelace_{}".format),
        st.integers(100, 99_999).map("{}.25".format),
        st.integers(10, 28).map("2024-05-{}".format),
        st.sampled_from(["/srv/app/main.py", "https://example.com/a?b=1", "550e8400-e29b-41d4"]),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)
TALK = st.lists(st.tuples(st.sampled_from(["user", "assistant", "result"]), VALUES), min_size=1)
WORDS = "please look at this and tell me what can be done about it in the next days. " * 12


@given(TALK.filter(lambda talk: len(talk) < 9), st.integers(0, 3))
@settings(max_examples=40)
def test_ideal_summariser_is_always_used(talk: list[tuple[str, list[str]]], asked: int) -> None:
    """Whoever copies all identifiers and cites where they stand is never refused."""
    sources = [
        Source(n, role, f"{WORDS} It is {', '.join(values)} now. {WORDS * len(values)}")
        for n, (role, values) in enumerate(talk)
    ]
    required = list(dict.fromkeys(value for _, values in talk for value in values))
    earlier: list[Summary] = []
    for number in range(1, asked + 2):
        messages = ask(sources, required, earlier, 3000, count=tokens)
        made = read(
            ideal(messages, count=tokens), sources, required, earlier, 3000, tokens, number,
            lambda _: False, lambda text: [one.value for one in extract(text)],
        )  # fmt: skip
        assert not isinstance(made, Invalid), made
        assert all(value in render((made,)) for value in required)
        assert made.covers == tuple(range(len(talk)))
        earlier = [made]


def test_ideal_summariser_copies_what_it_is_not_asked_for() -> None:
    """It copies identifiers of users, of earlier summaries and of cut parts too."""
    old = Summary(1, (1,), "", (), (Fact("s1.f1", "order #W77", (1,)),))
    talk = [Source(2, "user", f"I am ada@example.com. {WORDS * 9} #W88 {WORDS * 9}")]
    messages = ask(talk, ["#W88"], [old], 500, count=tokens, request_tokens_max=tokens(WORDS) * 6)
    answer = json.loads(ideal(messages, count=tokens))
    assert answer["facts"] == [
        {"text": "#W77", "sources": ["s1.f1"]},
        {"text": "#W88; ada@example.com", "sources": ["m1"]},
    ]
    assert ideal(messages, count=tokens) == ideal(messages, count=tokens)
