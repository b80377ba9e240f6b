"""Any conversation becomes a request that its provider takes, and nothing of it is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import undercroft as uc
from tests.models.talking import LOOK
from undercroft.adapters.models import chat, messages, responses
from undercroft.adapters.models.messages import GO_ON
from undercroft.layers.context.conversation import NO_RESULT
from undercroft.layers.context.shapes.anthropic_view import OPENING
from undercroft.model.message import Message, Native, Wire

CHAT = Wire(chat.FORM, "openai", {"model": "m"})
RESPONSES = Wire(responses.FORM, "openai", {"model": "m", "store": False})
MESSAGES = Wire(messages.FORM, "anthropic", {"model": "m", "max_tokens": 100})

TEXT = st.text(max_size=12)
NAME = st.one_of(st.sampled_from(["look", "pay"]), st.text(min_size=1, max_size=70))
ARGUMENTS = st.one_of(
    st.sampled_from(['{"key": "a"}', "{}", "", "{oops", "[1]"]),
    st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**64 - 1), max_size=2),
)
NATIVES = st.sampled_from(["", "openai", "anthropic", "other"])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Return a conversation: each call has an id of its own, and its result comes sometime."""
    said = [Message("system", text) for text in draw(st.lists(TEXT, max_size=2))]
    number = 0
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["user", "assistant", "calls", "calls", "system"]))
        if kind != "calls":
            said.append(Message(kind, draw(TEXT)))  # type: ignore[arg-type]
            continue
        calls = []
        for _ in range(draw(st.integers(1, 3))):
            number += 1
            odd = draw(st.sampled_from(["", "ß.:", "x" * 50]))
            calls.append(uc.Call(draw(NAME), draw(ARGUMENTS), f"call{odd}{number}"))
        content = draw(TEXT)
        said.append(
            Message("assistant", content, tuple(calls), None, None, native(draw, content, calls))
        )
        results = [
            Message("tool", draw(TEXT), (), call.id, call.name)
            for call in draw(st.permutations(calls))
            if draw(st.integers(0, 5))
        ]
        for result in results:
            if not draw(st.integers(0, 4)):
                said.append(Message("user", draw(TEXT)))
            said.append(result)
    return tuple(said)


def native(draw: st.DrawFn, content: str, calls: Sequence[uc.Call]) -> Native | None:
    """Return what a provider may want back with a message."""
    provider = draw(NATIVES)
    if not provider:
        return None
    own = {"type": "thinking" if provider == "anthropic" else "reasoning", "sealed": "yes"}
    parts: list[dict[str, Any]] = [own, {"text": len(content)}, own]
    parts += [{"call": at} for at in range(len(calls))]
    return Native(provider, "m", tuple(parts))


def request(said: tuple[Message, ...], **more: Any) -> uc.ModelRequest:
    """Return a request that shows a conversation."""
    return uc.ModelRequest(said, (LOOK,), **more)


def texts_of(said: Sequence[Message]) -> list[str]:
    """Return all texts of a conversation that say anything, without half characters."""
    return sorted(m.content for m in said if m.content.strip())


@given(conversations())
def test_chat_has_each_result_right_after_its_calls(said: tuple[Message, ...]) -> None:
    """The tool messages after an assistant's are the results of its calls, in their order."""
    sent = chat.body(request(said), CHAT)["messages"]
    assert json.loads(msgspec.json.encode(sent)) == sent
    at = 0
    while at < len(sent):
        message = sent[at]
        at += 1
        assert message["role"] in ("system", "user", "assistant")
        assert message.get("content") or message.get("tool_calls") or message["role"] != "assistant"
        ids = [call["id"] for call in message.get("tool_calls", ())]
        assert len(set(ids)) == len(ids)
        assert all(len(call_id) <= 40 for call_id in ids)
        assert all(
            re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call["function"]["name"])
            and isinstance(call["function"]["arguments"], str)
            for call in message.get("tool_calls", ())
        )
        for call_id in ids:
            assert (sent[at]["role"], sent[at]["tool_call_id"]) == ("tool", call_id)
            at += 1


@given(conversations())
def test_responses_has_each_output_after_its_call(said: tuple[Message, ...]) -> None:
    """Every call has one output, which comes later; own items go back to their maker only."""
    sent = responses.body(request(said), RESPONSES)["input"]
    assert json.loads(msgspec.json.encode(sent)) == sent
    open_calls: list[str] = []
    for item in sent:
        kind = item.get("type", "message")
        if kind == "function_call":
            assert item["call_id"] not in open_calls
            open_calls.append(item["call_id"])
        elif kind == "function_call_output":
            open_calls.remove(item["call_id"])
        elif kind == "message":
            # Nothing else is said between a call and its output.
            assert not open_calls
            assert item["role"] in ("system", "user", "assistant")
        else:
            assert item == {"type": "reasoning", "sealed": "yes"}
    assert not open_calls


@given(conversations(), st.lists(st.integers(0, 12), max_size=4))
def test_messages_alternate_and_answer_every_call_first(
    said: tuple[Message, ...], places: list[int]
) -> None:
    """The user begins and ends; results stand first, all of them; at most four marks."""
    marks = tuple(sorted({place for place in places if place < len(said)}))
    body = messages.body(request(said, breakpoints=marks), MESSAGES)
    assert json.loads(msgspec.json.encode(body)) == body
    sent = body["messages"]
    assert [m["role"] for m in sent] == [("user", "assistant")[at % 2] for at in range(len(sent))]
    assert sent[-1]["role"] == "user"
    waiting: list[str] = []
    for message in sent:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        assert blocks
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        assert sorted(results) == sorted(waiting)
        assert all(b["type"] == "tool_result" for b in blocks[: len(results)])
        assert all(b["text"].strip() for b in blocks if b["type"] == "text")
        waiting = [b["id"] for b in blocks if b["type"] == "tool_use"]
        assert len(set(waiting)) == len(waiting)
        for block in blocks:
            if block["type"] == "tool_use":
                assert isinstance(block["input"], dict)
                assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["id"])
                assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["name"])
            assert block["type"] != "reasoning"
    assert not waiting
    assert json.dumps(body).count('"cache_control"') <= 4
    assert body["max_tokens"] == 100


@given(conversations())
def test_nothing_that_was_said_is_lost(said: tuple[Message, ...]) -> None:
    """Every text reaches every provider, once, whatever had to be moved."""
    bodies = [
        chat.body(request(said), CHAT),
        responses.body(request(said), RESPONSES),
        messages.body(request(said), MESSAGES),
    ]
    for body in bodies:
        found: list[str] = []
        collect(body, found)
        for text in texts_of(said):
            assert any(text in one for one in found), text


def collect(value: Any, found: list[str]) -> None:
    """Collect all texts in plain data."""
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for one in value.values():
            collect(one, found)
    elif isinstance(value, list):
        for one in value:
            collect(one, found)


@given(conversations())
def test_a_body_is_a_function_of_the_request(said: tuple[Message, ...]) -> None:
    """Made again, from what a journal would hold, it is the same text."""
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=tuple[Message, ...])
    for form, wire in ((chat, CHAT), (responses, RESPONSES), (messages, MESSAGES)):
        first = msgspec.json.encode(form.body(request(said), wire))
        assert msgspec.json.encode(form.body(request(again), wire)) == first


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    """No provider takes a call without its result, and a stray result is told as what it is."""
    said = (
        Message("user", "Look!"),
        Message("assistant", "", (uc.Call("look", "{}", "a"), uc.Call("look", "{}", "b"))),
        Message("tool", "found", (), "b", "look"),
        Message("tool", "late", (), "zzz", "look"),
    )
    sent = chat.body(request(said), CHAT)["messages"]
    assert [m.get("tool_call_id") for m in sent] == [None, None, "a", "b", None]
    assert sent[2]["content"] == NO_RESULT
    assert sent[4]["role"] == "user"
    assert "late" in sent[4]["content"]


def test_the_user_speaks_first_and_last_with_anthropic() -> None:
    """Where nobody does, a word of ours stands in the place."""
    sent = messages.body(request((Message("assistant", "Hello."),)), MESSAGES)["messages"]
    assert [m["content"] for m in sent] == [OPENING, "Hello.", GO_ON]
    sent = messages.body(request(()), MESSAGES)["messages"]
    assert [m["content"] for m in sent] == [OPENING]


def test_thoughts_have_no_more_room_than_the_answer() -> None:
    """What a budget leaves is less than the thoughts were given: they get what there is."""
    thinking = {"type": "enabled", "budget_tokens": 4_000}
    wire = Wire(
        messages.FORM, "anthropic", {"model": "m", "max_tokens": 8_000, "thinking": thinking}
    )
    assert messages.body(request(()), wire)["thinking"] == thinking
    body = messages.body(request((), output_tokens_max=2_000), wire)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (2_000, 1_999)
    body = messages.body(request((), output_tokens_max=500), wire)
    assert (body["max_tokens"], body["thinking"]) == (500, {"type": "disabled"})


def test_what_changed_since_is_told_in_our_words() -> None:
    """Native parts that are not of the message as it stands are left out, with nothing lost."""
    parts = ({"type": "thinking", "thinking": "x", "signature": "s"}, {"text": 3}, {"call": 0})
    said = Message("assistant", "longer", (), None, None, Native("anthropic", "m", parts))
    sent = messages.body(request((Message("user", "Hi"), said)), MESSAGES)["messages"]
    assert sent[1] == {"role": "assistant", "content": "longer"}
    openai = Message("assistant", "longer", (), None, None, Native("openai", "m", parts))
    assert responses.body(request((openai,)), RESPONSES)["input"] == [
        {"role": "assistant", "content": "longer"}
    ]
