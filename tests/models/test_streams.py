"""A stream that breaks in its middle is told from one that never began; what it brings is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import undercroft as uc
from tests.models.talking import HELLO, STREAMED, Flavour, asked, failed
from tests.provider import Answer, Call, Cut, ErrorEvent, Status
from undercroft.errors import StreamBrokenError, StreamShownError
from undercroft.model.message import Native, Stop
from undercroft.model.step import ErrorClass

streamed = pytest.mark.parametrize("flavour", STREAMED, ids=str)
LONG = Answer(text="All that is gold does not glitter. " * 8)
CHAT, RESPONSES, MESSAGES = STREAMED


def raw(events: Sequence[dict[str, Any] | str]) -> Status:
    """Return a stream of such events."""
    said = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        name = event.get("type") if isinstance(event, dict) else None
        said.append((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
    kind = {"content-type": "text/event-stream"}
    return Status(status=200, headers=kind, body="".join(said).encode())


@streamed
async def test_a_listener_hears_the_text_as_it_comes(flavour: Flavour) -> None:
    """Pieces come in order, and are the text; a listener may be async."""
    heard: list[str] = []
    answer = await asked(flavour, LONG, replace(HELLO, on_text=heard.append))
    assert len(heard) > 3
    assert "".join(heard) == answer.text == LONG.text

    async def listen(text: str) -> None:
        heard.append(text)

    heard.clear()
    await asked(flavour, LONG, replace(HELLO, on_text=listen))
    assert "".join(heard) == LONG.text


@streamed
@pytest.mark.parametrize("clean", [False, True])
async def test_a_broken_stream_says_what_had_come(flavour: Flavour, *, clean: bool) -> None:
    """Nothing was shown, so it may be tried again; an end without an answer's end is a break."""
    error, judged = await failed(flavour, Cut(answer=LONG, events=8, clean=clean))
    assert type(error) is StreamBrokenError
    assert not error.shown
    assert error.text
    assert (LONG.text or "").startswith(error.text)
    assert error.chars == len(error.text)
    assert (judged.error_class, judged.blame) == (ErrorClass.TRANSIENT, "vendor")


@streamed
async def test_a_stream_that_breaks_before_its_first_event_never_began(flavour: Flavour) -> None:
    """Only the head of an answer came: that is what the library says it is."""
    for clean in (False, True):
        error, judged = await failed(flavour, Cut(answer=LONG, events=0, clean=clean))
        assert not isinstance(error, StreamBrokenError)
        assert judged.error_class is ErrorClass.TRANSIENT


@streamed
async def test_a_stream_that_was_shown_is_not_asked_again(flavour: Flavour) -> None:
    """A listener heard half an answer: that is the end of the attempts, and the vendor's fault."""
    heard: list[str] = []
    reply = Cut(answer=LONG, events=8)
    error, judged = await failed(flavour, reply, request=replace(HELLO, on_text=heard.append))
    assert type(error) is StreamShownError
    assert error.shown
    assert "".join(heard) == error.text
    assert (judged.error_class, judged.blame) == (ErrorClass.PERMANENT, "vendor")


@streamed
async def test_a_listener_that_heard_nothing_is_none(flavour: Flavour) -> None:
    """Calls are not told to it, so that a break within them may be tried again."""
    heard: list[str] = []
    reply = Cut(answer=Answer(calls=[Call("look", {"key": "a" * 200})]), events=5)
    error, judged = await failed(flavour, reply, request=replace(HELLO, on_text=heard.append))
    assert type(error) is StreamBrokenError
    assert not heard
    assert judged.error_class is ErrorClass.TRANSIENT


@streamed
@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ErrorClass.OVERLOADED),
        ({"type": "invalid_request_error", "message": "No."}, ErrorClass.PERMANENT),
    ],
)
async def test_an_error_in_a_stream_is_judged_by_what_it_says(
    flavour: Flavour, fields: dict[str, Any], kind: ErrorClass
) -> None:
    """A stream that the provider itself breaks off is broken for the provider's reason."""
    error, judged = await failed(flavour, ErrorEvent(answer=LONG, events=8, body=fields))
    assert type(error) is StreamBrokenError
    assert judged.error_class is kind


@streamed
async def test_of_a_long_text_the_error_holds_a_beginning(flavour: Flavour) -> None:
    """However much had come, the error is of bounded size, and knows how much it was."""
    long = Answer(text="x" * 20_000)
    error, _ = await failed(flavour, Cut(answer=long, events=1_100))
    assert isinstance(error, StreamBrokenError)
    assert len(error.text) == StreamBrokenError.TEXT_CHARS_MAX
    assert error.chars > 10_000


async def test_calls_of_one_chat_stream_may_come_interleaved() -> None:
    """Pieces of a call are told apart by its index, whatever their order."""

    def delta(index: int, piece: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": piece} | ({"name": more["name"]} if "name" in more else {})
        call = {"index": index, "function": function} | (
            {"id": more["id"], "type": "function"} if "id" in more else {}
        )
        return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}

    events: list[Any] = [
        delta(0, "", id="a", name="look"),
        delta(1, "", id="b", name="look"),
        delta(0, '{"key":'),
        delta(1, '{"key": "two'),
        delta(0, ' "one"}'),
        delta(1, '"}'),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        "[DONE]",
    ]
    answer = await asked(CHAT, raw(events))
    assert [(call.id, call.arguments) for call in answer.calls] == [
        ("a", '{"key": "one"}'),
        ("b", '{"key": "two"}'),
    ]


async def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    """Some services that speak like OpenAI number nothing, and send each call at once."""
    calls = [
        {"id": call_id, "function": {"name": "look", "arguments": '{"key": 1}'}}
        for call_id in ("a", "b")
    ]
    events: list[Any] = [
        {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}]} for call in calls
    ]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    answer = await asked(CHAT, raw(events))
    assert [call.id for call in answer.calls] == ["a", "b"]
    assert answer.stop is Stop.CALLS


THOUGHT = {"type": "thinking", "thinking": "Hm, so.", "signature": "c2lnbmVk"}
SEALED = {"type": "redacted_thinking", "data": "c2VhbGVk"}


def thinking_events() -> list[dict[str, Any]]:
    """Return an answer of Anthropic's that thinks, says something and calls, as events."""
    begin: dict[str, Any] = {
        "role": "assistant",
        "model": "m-1-2026",
        "content": [],
        "stop_reason": None,
    }
    usage = {"input_tokens": 9, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
    tool = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}

    def delta(index: int, kind: str, **fields: str) -> dict[str, Any]:
        said = {"type": kind, **fields}
        return {"type": "content_block_delta", "index": index, "delta": said}

    return [
        {"type": "message_start", "message": {**begin, "usage": {**usage, "output_tokens": 1}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        delta(0, "thinking_delta", thinking="Hm, "),
        delta(0, "thinking_delta", thinking="so."),
        delta(0, "signature_delta", signature="c2lnbmVk"),
        {"type": "content_block_start", "index": 1, "content_block": SEALED},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        delta(2, "text_delta", text="I look."),
        {"type": "content_block_start", "index": 3, "content_block": tool},
        delta(3, "input_json_delta", partial_json='{"key"'),
        delta(3, "input_json_delta", partial_json=': "a"}'),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]


async def test_thoughts_come_out_of_a_stream_as_they_were_signed() -> None:
    """What Anthropic wants back is put together byte for byte, in its place among the rest."""
    answer = await asked(MESSAGES, raw(thinking_events()))
    assert answer.text == "I look."
    assert answer.native == Native("anthropic", "m-1", (THOUGHT, SEALED, {"text": 7}, {"call": 0}))
    assert answer.usage == uc.Usage(15, 7, 4)
    assert answer.model == "m-1-2026"


async def test_thoughts_go_back_to_their_provider_and_to_nobody_else() -> None:
    """The next request holds them where they stood; another provider's holds our own words."""
    answer = await asked(MESSAGES, raw(thinking_events()))
    said = uc.Message("assistant", answer.text, answer.calls, native=answer.native)
    result = uc.Message("tool", "found", (), "toolu_1", "look")
    request = uc.ModelRequest((*HELLO.messages, said, result))
    bodies: list[Any] = []
    for flavour in STREAMED:
        await asked(
            flavour,
            Answer(text="Fine."),
            request,
            seen=lambda provider: bodies.append(provider.requests[-1].body),
        )
    chat, responses, messages = bodies
    blocks = messages["messages"][1]["content"]
    assert blocks[:2] == [THOUGHT, SEALED]
    assert [block["type"] for block in blocks[2:]] == ["text", "tool_use"]
    assert "c2lnbmVk" not in json.dumps([chat, responses])
    assert chat["messages"][2]["content"] == "I look."


async def test_what_was_reasoned_goes_back_sealed() -> None:
    """Of the Responses API sealed reasoning goes back before what followed it; open one is left."""
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"}
    kept_there = {"type": "reasoning", "id": "rs_0", "summary": []}
    text = {"type": "output_text", "text": "I look."}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look"}
    output = [
        kept_there,
        sealed,
        {"type": "message", "id": "msg_1", "phase": "commentary", "content": [text]},
        call | {"arguments": '{"key": "a"}'},
    ]
    whole = {"object": "response", "status": "completed", "model": "m-1", "output": output}
    answer = await asked(RESPONSES, raw([{"type": "response.completed", "response": whole}]))
    assert answer.native is not None
    said = uc.Message("assistant", answer.text, answer.calls, native=answer.native)
    result = uc.Message("tool", "found", (), "c1", "look")
    body: list[Any] = []
    await asked(
        RESPONSES,
        Answer(text="Fine."),
        uc.ModelRequest((*HELLO.messages, said, result)),
        seen=lambda provider: body.append(provider.requests[-1].body),
        effort="low",
    )
    assert body[0]["input"][2:5] == [
        sealed,
        {"role": "assistant", "content": "I look.", "phase": "commentary"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"key": "a"}'},
    ]
    assert body[0]["include"] == ["reasoning.encrypted_content"]
    assert body[0]["reasoning"] == {"effort": "low"}
    assert body[0]["store"] is False


async def test_a_thought_before_a_call_that_was_cut_off_goes_nowhere() -> None:
    """A thought that nothing follows is refused by the provider, so it is left out."""
    events = thinking_events()
    events[7:8] = []
    events[6:7] = []
    events[-2]["delta"]["stop_reason"] = "max_tokens"
    answer = await asked(MESSAGES, raw(events))
    assert (answer.calls, answer.cut, answer.native) == ((), ("look",), None)
