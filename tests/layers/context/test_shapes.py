"""Foreign conversations: taken in as messages of ours, and given back as they came."""

from __future__ import annotations

import copy
import gzip
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.providers import (
    CACHED,
    anthropic_chats,
    check_anthropic,
    check_openai,
    openai_chats,
)
from undercroft.layers.context.shapes.anthropic_view import AnthropicView
from undercroft.layers.context.shapes.foreign import Shown
from undercroft.layers.context.shapes.openai_shape import OpenAIView
from undercroft.layers.context.shapes.shapes import Intake, anthropic, openai, read_system
from undercroft.model.message import Message
from undercroft.model.step import Call

TRACES = Path(__file__).parents[4] / "shared" / "data" / "traces"
STONE = "[left out]"


def taken(chat: list[Any]) -> list[Shown]:
    """Return a conversation as messages of ours."""
    return Intake().take(chat).shown


def compacted(prompt: list[Shown], gone: set[int], stones: set[int]) -> list[Shown]:
    """Return a prompt as a window might leave it: groups gone whole, results replaced."""
    left: list[Shown] = []
    dropped: set[str | None] = set()
    for place, shown in enumerate(prompt):
        message = shown.message
        if message.role == "tool" and message.call_id in dropped:
            continue
        if place in gone and message.role != "tool":
            dropped |= {call.id for call in message.calls}
            continue
        if place in stones:
            message = msgspec.structs.replace(message, content=STONE)
        left.append(shown._replace(message=message))
    return left


# ---------------------------------------------------------------------- round trips


@settings(max_examples=60)
@given(chat=openai_chats())
def test_what_openai_takes_comes_out_as_the_very_dicts(chat: list[dict[str, Any]]) -> None:
    """Under no pressure an OpenAI conversation comes out as the dicts that came in, untouched."""
    check_openai(chat)
    before = copy.deepcopy(chat)
    out = openai(taken(chat))
    assert len(out) == len(chat)
    assert all(each is was for each, was in zip(out, chat, strict=True))
    assert chat == before


@settings(max_examples=60)
@given(chat=anthropic_chats())
def test_what_anthropic_takes_comes_out_as_the_very_dicts(chat: list[dict[str, Any]]) -> None:
    """Under no pressure an Anthropic conversation comes out as the dicts that came in."""
    check_anthropic("", chat)
    before = copy.deepcopy(chat)
    system, out = anthropic(taken(chat))
    assert system == ""
    assert len(out) == len(chat)
    assert all(each is was for each, was in zip(out, chat, strict=True))
    assert chat == before


@settings(max_examples=40)
@given(chat=openai_chats() | anthropic_chats(), at=st.integers(0, 40))
def test_it_does_not_matter_how_messages_are_handed_over(
    chat: list[dict[str, Any]], at: int
) -> None:
    """Taken at once, in two lists or one by one, a conversation is the same."""
    once = [shown.message for shown in taken(chat)]
    in_two, single = Intake(), Intake()
    split = in_two.take(chat[:at]).shown + in_two.take(chat[at:]).shown
    assert [shown.message for shown in split] == once
    singly = itertools.chain.from_iterable(single.take([each]).shown for each in chat)
    assert [shown.message for shown in singly] == once


@settings(max_examples=60)
@given(
    chat=openai_chats() | anthropic_chats(),
    gone=st.sets(st.integers(0, 30)),
    stones=st.sets(st.integers(0, 30)),
    notes=st.lists(st.integers(0, 3), max_size=3),
)
def test_both_providers_take_what_compaction_left(
    chat: list[dict[str, Any]], gone: set[int], stones: set[int], notes: list[int]
) -> None:
    """Whatever whole groups are dropped and contents replaced, each provider takes what is left."""
    prompt = compacted(taken(chat), gone, stones)
    front = sum(shown.message.role == "system" for shown in prompt)
    prompt[front:front] = [Shown(Message("user", f"note {n}")) for n in notes]
    before = copy.deepcopy(chat)
    check_openai(openai(prompt))
    places = [n for n in range(len(prompt)) if n % 2]
    system, messages = anthropic(prompt, places)
    check_anthropic(system, messages)
    assert chat == before


def test_only_the_content_of_a_replaced_result_changes() -> None:
    """A result that is replaced comes out as a copy of its message with other content."""
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call], "audio": None},
        {"role": "tool", "tool_call_id": "c", "content": "long", "name": "find", "extra": 1},
    ]
    out = openai(compacted(taken(chat), set(), {2}))
    assert out[:2] == chat[:2]
    assert out[2] == chat[2] | {"content": STONE}
    assert chat[2]["content"] == "long"


def test_one_of_parallel_results_is_replaced_in_place() -> None:
    """Of several results in one message only the one that changed is another; all stay together."""
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "a", "name": "find", "input": {}},
                {"type": "tool_use", "id": "b", "name": "find", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": "B", "is_error": True},
                {"type": "tool_result", "tool_use_id": "a", "content": [_text("A"), IMAGE]},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    prompt = taken(chat)
    assert [shown.message.role for shown in prompt] == ["user", "assistant", "tool", "tool", "user"]
    _, out = anthropic(compacted(prompt, set(), {2}))
    assert out[:2] == chat[:2]
    blocks: Any = chat[2]["content"]
    assert out[2]["content"] == [blocks[0] | {"content": STONE}, blocks[1], blocks[2]]


def test_a_call_keeps_its_thoughts_when_its_text_is_replaced() -> None:
    """Thoughts before calls are sealed: they stay as long as the calls do, and no longer."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    call = {"type": "tool_use", "id": "a", "name": "find", "input": {}}
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thought, _text("long"), call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
        {"role": "assistant", "content": [thought, _text("long")]},
    ]
    _, out = anthropic(compacted(taken(chat), set(), {1, 3}))
    assert out[1]["content"] == [thought, _text(STONE), call]
    assert out[3]["content"] == STONE


def test_arguments_can_be_replaced_in_both_shapes() -> None:
    """Where a window shows other arguments of a call, the rest of it stays as it came."""
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    use = {
        "type": "tool_use",
        "id": "d",
        "name": "find",
        "input": {"a": 1},
        "cache_control": CACHED,
    }
    old = {"name": "find", "arguments": "{}"}
    custom = {"id": "e", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "d", "content": "2"}]},
        {"role": "assistant", "content": None, "function_call": old},
        {"role": "function", "name": "find", "content": "3"},
        {"role": "assistant", "content": None, "tool_calls": [custom]},
        {"role": "tool", "tool_call_id": "e", "content": "4"},
    ]
    prompt = []
    for shown in taken(chat):
        calls = tuple(Call(each.name, '{"cut":1}', each.id) for each in shown.message.calls)
        prompt.append(shown._replace(message=msgspec.structs.replace(shown.message, calls=calls)))
    out = openai(prompt)
    check_openai(out)
    assert out[1]["tool_calls"] == [call | {"function": old | {"arguments": '{"cut":1}'}}]
    assert out[5]["function_call"] == old | {"arguments": '{"cut":1}'}
    assert out[7]["tool_calls"][0]["custom"] == {"name": "run", "input": '{"cut":1}'}
    system, messages = anthropic(prompt)
    check_anthropic(system, messages)
    assert messages[3]["content"] == [use | {"input": {"cut": 1}}]


def test_shapes_may_be_mixed() -> None:
    """Messages of both shapes in one conversation, and calls answered in the other one, pair up."""
    call = {"id": "x.1", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "looking", "tool_calls": [call]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "x.1", "content": "1"}],
        },
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t" * 60, "name": "find", "input": {}}],
        },
        {"role": "tool", "tool_call_id": "t" * 60, "content": "2"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "x.1", "content": "3"}],
        },
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "user", "content": [{"type": "tool_result", "content": "4"}, _text("so?")]},
    ]
    prompt = taken(chat)
    told = openai(prompt)
    check_openai(told)
    assert [m["content"] for m in told if m["role"] in {"tool", "function"}] == ["1", "2", "3", "4"]
    system, messages = anthropic(prompt)
    check_anthropic(system, messages)
    assert messages[1]["content"][1]["input"] == {"a": 1}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


# ---------------------------------------------------------------------- the views


def test_leading_system_messages_are_anthropics_system() -> None:
    """System texts at the front are the system; later ones are said in the user's place."""
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "system", "content": "The shop closes."},
    ]
    system, messages = anthropic(taken(chat))
    assert system == [_text("Be kind."), _text("Be brief.")]
    assert messages == [*chat[2:4], {"role": "user", "content": "The shop closes."}]
    assert anthropic(taken(chat[:1]))[0] == "Be kind."
    assert openai(taken(chat)) == chat


def test_a_system_of_blocks_comes_out_as_it_came() -> None:
    """Anthropic's list of system blocks is kept, marks and all; OpenAI gets its text."""
    blocks = [_text("Be kind."), _text("Be brief.") | {"cache_control": CACHED}]
    shown = read_system(blocks)
    assert anthropic([shown]) == (blocks, [])
    assert openai([shown]) == [{"role": "system", "content": "Be kind.\nBe brief."}]
    one = [_text("Be kind.")]
    assert anthropic([read_system(one)])[0] == one
    assert anthropic([read_system("Be kind.")])[0] == "Be kind."


def test_notes_of_ours_and_the_users_message_are_one_for_anthropic() -> None:
    """Messages in the user's place that are ours are put into one with those next to them."""
    user = {"role": "user", "content": "hi"}
    prompt = [Shown(Message("user", "ledger")), Shown(Message("user", "notes")), *taken([user])]
    _, messages = anthropic(prompt)
    assert messages == [{"role": "user", "content": [_text("ledger"), _text("notes"), _text("hi")]}]
    assert user == {"role": "user", "content": "hi"}
    assert openai(prompt)[2] is user


def test_messages_of_the_user_that_came_apart_stay_apart() -> None:
    """Two messages that came one after the other, and that the API takes so, are not touched."""
    chat = [{"role": "user", "content": "hi"}, {"role": "user", "content": "you there?"}]
    assert anthropic(taken(chat))[1] == chat


def test_somebody_else_opens_where_the_user_no_longer_does() -> None:
    """Where the prompt begins with the assistant, a word of ours goes before it for Anthropic."""
    chat = [{"role": "assistant", "content": "Hello, how can I help?"}]
    assert [m["role"] for m in anthropic(taken(chat))[1]] == ["user", "assistant"]
    assert openai(taken(chat)) == chat


def test_places_to_cache_at_are_marked_on_copies() -> None:
    """A mark goes on the last block of its message; what was given is left as it was."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [_text("a"), _text("b"), thought]},
        {"role": "user", "content": "bye"},
    ]
    before = copy.deepcopy(chat)
    prompt = [read_system("Be kind."), *taken(chat)]
    system, messages = anthropic(prompt, [0, 1, 2])
    assert system == [_text("Be kind.") | {"cache_control": CACHED}]
    assert messages[0]["content"] == [_text("hi") | {"cache_control": CACHED}]
    assert messages[1]["content"] == [_text("a"), _text("b") | {"cache_control": CACHED}, thought]
    assert messages[2] is chat[2]
    assert chat == before


def test_a_mark_stays_with_its_message_where_several_are_one() -> None:
    """In a message that is made of several a mark stands after the one that it is for."""
    prompt = [Shown(Message("user", each)) for each in ("a", "b", "c")]
    (message,) = anthropic(prompt, [1])[1]
    assert message["content"] == [_text("a"), _text("b") | {"cache_control": CACHED}, _text("c")]


@given(places=st.lists(st.integers(-3, 12)), most=st.integers(0, 4), own=st.integers(0, 4))
def test_there_are_never_too_many_marks(places: list[int], most: int, own: int) -> None:
    """With the caller's own there are at most as many marks as the API takes; ours the last."""
    chat: list[dict[str, Any]] = []
    for n in range(4):
        block = _text(f"q{n}") | ({"cache_control": CACHED} if n < own else {})
        chat += [{"role": "user", "content": [block]}, {"role": "assistant", "content": f"a{n}"}]
    system, messages = anthropic(taken(chat), places, most)
    marks = msgspec.json.encode([system, messages]).count(b'"cache_control"')
    assert marks <= max(most, own)
    check_anthropic(system, messages)
    wanted = sorted({place for place in places if 0 <= place < len(chat)})
    if wanted and not own and most:
        assert b'"cache_control"' in msgspec.json.encode(messages[wanted[-1]])


@settings(max_examples=40)
@given(chat=openai_chats() | anthropic_chats(), cuts=st.sets(st.integers(0, 40)))
def test_a_prompt_that_only_grew_is_shown_as_if_it_were_new(
    chat: list[dict[str, Any]], cuts: set[int]
) -> None:
    """Views that go on where they were show the same as new ones, what was shown in front."""
    to_openai, to_anthropic, intake = OpenAIView(), AnthropicView(), Intake()
    prompt: list[Shown] = []
    before: list[Any] = []
    for place, message in enumerate(chat):
        prompt += intake.take([message]).shown
        if place not in cuts:
            continue
        places = range(0, len(prompt), 3)
        assert to_openai.show(prompt) == openai(prompt)
        system, messages = to_anthropic.show(prompt, places)
        assert (system, messages) == anthropic(prompt, places)
        blocks = flat(to_anthropic.show(prompt)[1])
        assert blocks[: len(before)] == before
        before = blocks
    assert to_openai.show(list(prompt)) == openai(prompt)


def flat(messages: list[dict[str, Any]]) -> list[Any]:
    """Return the blocks of messages, each with its role."""
    found: list[Any] = []
    for message in messages:
        content = message["content"]
        blocks = [_text(content)] if isinstance(content, str) else content
        found += [(message["role"], block) for block in blocks]
    return found


# ---------------------------------------------------------------------- recorded conversations


@pytest.mark.skipif(not TRACES.exists(), reason="no recorded conversations here")
@pytest.mark.parametrize("name", ["tau_airline", "tau_retail", "agentrx_tau_retail"])
def test_recorded_conversations_come_out_as_they_came(name: str) -> None:
    """Real conversations come out the same; those without ids of calls get ids and nothing else."""
    with gzip.open(TRACES / name / "traces.jsonl.gz") as lines:
        chats = [msgspec.json.decode(line)["messages"] or [] for line in lines]
    for chat in chats:
        prompt = taken(chat)
        out = openai(prompt)
        calls = [call for m in chat for call in m.get("tool_calls") or ()]
        if all(call.get("id") for call in calls):
            assert out == chat
        else:
            assert [m.get("content") for m in out] == [m.get("content") for m in chat]
            assert {m for shown in prompt if shown.foreign for m in shown.foreign.mends} == {
                "a call had no id",
                "it did not bear the id of its call",
            }
        system, messages = anthropic(prompt, [0, len(prompt) - 1])
        if messages and messages[-1]["role"] != "assistant":
            check_openai(out)
            check_anthropic(system, messages)
