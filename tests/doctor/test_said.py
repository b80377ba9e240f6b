"""Messages of any provider: one form for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import json_values
from undercroft.doctor.importers.said import (
    Prompts,
    Said,
    Wanted,
    last_answer,
    offered,
    read_answer,
    read_messages,
    read_usage,
    result_text,
)
from undercroft.doctor.importers.times import read_count, read_time

GIVEN = {"order_id": "#A1001"}
WANTED = Wanted("c1", "get_order", GIVEN)
ASKED = Said("user", "Where is #A1001?")
PROPOSED = Said("assistant", "One moment.", calls=(WANTED,))
RESULT = Said("tool", "pending", call_id="c1")

_function = {"name": "get_order", "arguments": '{"order_id": "#A1001"}'}
SHAPES: dict[str, list[Any]] = {
    "openai": [
        {"role": "user", "content": "Where is #A1001?"},
        {
            "role": "assistant",
            "content": "One moment.",
            "tool_calls": [{"id": "c1", "type": "function", "function": _function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "pending"},
    ],
    "openai responses": [
        {"role": "user", "content": [{"type": "input_text", "text": "Where is #A1001?"}]},
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "One moment."}],
        },
        {"type": "function_call", "id": "fc", "call_id": "c1", **_function},
        {"type": "function_call_output", "call_id": "c1", "output": "pending"},
    ],
    "anthropic": [
        {"role": "user", "content": "Where is #A1001?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "One moment."},
                {"type": "tool_use", "id": "c1", "name": "get_order", "input": GIVEN},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "pending"}],
        },
    ],
    "langchain serialised": [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", name],
            "kwargs": kwargs,
        }
        for name, kwargs in (
            ("HumanMessage", {"content": "Where is #A1001?"}),
            (
                "AIMessageChunk",
                {
                    "content": [{"type": "text", "text": "One moment."}],
                    "tool_calls": [{"name": "get_order", "args": GIVEN, "id": "c1"}],
                    "additional_kwargs": {
                        "tool_calls": [{"id": "c1", "type": "function", "function": _function}]
                    },
                },
            ),
            ("ToolMessage", {"content": "pending", "tool_call_id": "c1"}),
        )
    ],
    "langchain data": [
        {"type": "human", "data": {"content": "Where is #A1001?"}},
        {
            "type": "ai",
            "data": {
                "content": "One moment.",
                "tool_calls": [{"name": "get_order", "args": GIVEN, "id": "c1"}],
            },
        },
        {"type": "tool", "data": {"content": "pending", "tool_call_id": "c1"}},
    ],
    "opentelemetry": [
        {"role": "user", "parts": [{"type": "text", "content": "Where is #A1001?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "One moment."},
                {"type": "tool_call", "id": "c1", "name": "get_order", "arguments": GIVEN},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "pending"}],
        },
    ],
    "vercel": [
        {"role": "user", "content": [{"type": "text", "text": "Where is #A1001?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "One moment."},
                {
                    "type": "tool-call",
                    "toolCallId": "c1",
                    "toolName": "get_order",
                    "input": GIVEN,
                },
            ],
        },
        {
            "role": "tool",
            "content": [{"type": "tool-result", "toolCallId": "c1", "result": "pending"}],
        },
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(shape: str) -> None:
    """A question, a proposed call and its result are the same in the words of every provider."""
    messages = SHAPES[shape]

    for held in (messages, {"messages": messages}, {"messages": [messages]}):
        assert read_messages(held) == (ASKED, PROPOSED, RESULT)


def test_gemini_names_what_it_answers() -> None:
    """Gemini has no ids: calls and results are told apart by names."""
    contents = [
        {"role": "user", "parts": [{"text": "Where is #A1001?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "get_order", "args": GIVEN}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "get_order", "response": {"s": 1}}}],
        },
    ]

    assert read_messages({"contents": contents}) == (
        ASKED,
        Said("assistant", "", calls=(Wanted("", "get_order", GIVEN),)),
        Said("tool", '{"s": 1}', actor="get_order"),
    )


def test_two_messages_of_an_assistant_stay_two() -> None:
    """Only items of Responses belong together; messages are apart, whatever follows them."""
    calls = [{"id": "c1", "type": "function", "function": _function}]
    messages = [
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": None, "tool_calls": calls},
    ]

    assert [said.text for said in read_messages(messages) or ()] == ["Done.", ""]


def test_two_calls_with_one_id_are_two() -> None:
    """A provider may give one id twice; only what is the same call in two forms is one."""
    function = {"name": "get_user", "arguments": "{}"}
    calls = [{"id": "c1", "function": one} for one in (_function, function, _function)]
    (said,) = read_messages({"role": "assistant", "content": "", "tool_calls": calls}) or ()

    assert [call.name for call in said.calls] == ["get_order", "get_user"]


def test_system_texts_beside_messages_come_first() -> None:
    """What a request has for the system stands before its messages."""
    found = read_messages({"system": "Be kind.", "messages": SHAPES["anthropic"]}) or ()

    assert found[0] == Said("system", "Be kind.")


def test_texts_and_their_json_are_read() -> None:
    """A text is one message; the JSON text of messages is these messages."""
    assert read_messages("Hello") == (Said("user", "Hello"),)
    assert read_messages('[{"role": "user", "content": "Hello"}]') == (Said("user", "Hello"),)
    assert read_messages('["a shopping list"') == (Said("user", '["a shopping list"'),)
    assert read_messages(None) is None


@pytest.mark.parametrize(
    ("raw", "stop", "tokens"),
    [
        (
            {
                "choices": [{"message": {"role": "assistant", "content": "Hi"},
                             "finish_reason": "length"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2},
            },
            "length",
            (7, 2),
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "Hi"}],
                "stop_reason": "max_tokens",
                "usage": {"input_tokens": 7, "output_tokens": 2},
            },
            "max_tokens",
            (7, 2),
        ),
        (
            {
                "generations": [[{
                    "text": "Hi",
                    "generation_info": {"finish_reason": "stop"},
                    "message": {
                        "lc": 1,
                        "id": ["AIMessage"],
                        "kwargs": {
                            "content": "Hi",
                            "usage_metadata": {"input_tokens": 7, "output_tokens": 2},
                        },
                    },
                }]]
            },
            "stop",
            (7, 2),
        ),
        (
            {
                "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]},
                                "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2},
            },
            "STOP",
            (7, 2),
        ),
    ],
)  # fmt: skip
def test_answers_say_why_they_stopped_and_what_they_cost(
    raw: object, stop: str, tokens: tuple[int, int]
) -> None:
    """The text, the reason to stop and the tokens are found in every provider's answer."""
    found = read_answer(raw)

    assert found.said == (Said("assistant", "Hi"),)
    assert (found.stop, (found.input_tokens, found.output_tokens)) == (stop, tokens)


def test_results_are_texts_of_messages_and_json_of_data() -> None:
    """A result that is a message is its content; data is its JSON, whole."""
    assert result_text({"type": "tool", "content": "seen", "tool_call_id": "c1"}) == "seen"
    assert result_text({"output": "seen"}) == "seen"
    assert result_text([{"type": "text", "text": "seen"}]) == "seen"
    assert result_text([{"id": 1}, {"id": 2}]) == '[{"id": 1}, {"id": 2}]'
    assert result_text([{"type": "flight", "id": 1}]) == '[{"type": "flight", "id": 1}]'


def test_the_last_answer_is_what_a_user_read() -> None:
    """A run gave back the last text of an assistant, unless something else came after it."""
    assert last_answer({"messages": [{"role": "assistant", "content": "Bye"}]}) == "Bye"
    assert last_answer("Bye") == "Bye"
    assert last_answer(SHAPES["openai"]) is None
    assert last_answer(None) is None


def test_tools_on_offer_are_named() -> None:
    """Names of tools are read from lists of any provider."""
    tools = [{"type": "function", "function": {"name": "a"}}, {"name": "b"}, "c", {}]

    assert offered({"tools": tools}) == frozenset("abc")
    assert offered({"tools": []}) is None


@settings(max_examples=60)
@given(st.lists(st.lists(json_values, max_size=4), min_size=1, max_size=5))
def test_prompts_that_repeat_each_other_read_as_each_would_by_itself(raws: list[Any]) -> None:
    """What is remembered of earlier prompts changes nothing but the time that it takes."""
    prompts = Prompts()
    for count in range(len(raws)):
        grown = [one for raw in raws[: count + 1] for one in raw]
        for raw in (raws[count], grown, {"messages": grown}, {"messages": [grown]}, str(raws)):
            assert prompts.read(raw) == read_messages(raw)


def test_messages_of_a_prompt_that_goes_on_are_the_very_same() -> None:
    """A prompt that repeats another shares its messages with it."""
    prompts, raw = Prompts(), SHAPES["openai"]
    first, again = prompts.read(raw) or (), prompts.read({"messages": [*raw, raw[0]]}) or ()

    assert again[: len(first)] == first
    assert all(one is other for one, other in zip(first, again, strict=False))


@settings(max_examples=60)
@given(json_values)
def test_anything_may_stand_where_messages_are_looked_for(raw: Any) -> None:
    """Whatever is there, messages are read from it or not, and nothing is raised."""
    for said in (*(read_messages(raw) or ()), *(read_answer(raw).said or ())):
        assert said.role in {"system", "user", "assistant", "tool", "other"}
        assert isinstance(said.text, str)
    assert isinstance(result_text(raw), str)
    read_usage(raw)
    assert (at := read_time(raw)) is None or at > 0
    assert (count := read_count(raw)) is None or count >= 0


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("2025-06-15T15:06:40Z", 1_750_000_000.0),
        ("2025-06-15T17:06:40+02:00", 1_750_000_000.0),
        ("2025-06-15 15:06:40.500000", 1_750_000_000.5),
        ("2025-06-15T15:06:40.500000123Z", 1_750_000_000.5),
        (1_750_000_000, 1_750_000_000.0),
        (1_750_000_000_000, 1_750_000_000.0),
        ("1750000000000000000", 1_750_000_000.0),
        ("2025-06-15 15:06:40 UTC", 1_750_000_000.0),
        ("yesterday", None),
        (True, None),
        (float("nan"), None),
        (10**400, None),
        ("0001-01-01T00:00:00+23:59", None),
        (0, None),
    ],
)
def test_times_are_read_however_they_are_written(raw: object, seconds: float | None) -> None:
    """Dates, and numbers in any unit, are seconds since 1970; what is no time is None."""
    assert read_time(raw) == seconds
