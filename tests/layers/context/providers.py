"""What the two providers demand of a conversation, as strictly as they say; and conversations."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import strategies as st

ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CACHED = {"type": "ephemeral"}


def check_openai(messages: list[dict[str, Any]]) -> None:
    """Raise where OpenAI's chat API would refuse a conversation that goes on."""
    msgspec.json.encode(messages)
    waiting: list[str | None] = []
    for message in messages:
        role = message["role"]
        if role in {"tool", "function"}:
            wanted = message["tool_call_id"] if role == "tool" else None
            assert wanted in waiting, f"an orphaned result: {message}"
            waiting.remove(wanted)
            assert isinstance(message["content"], str | list)
            continue
        assert not waiting, f"calls without results before {message}"
        assert role in {"system", "developer", "user", "assistant"}
        calls, legacy = message.get("tool_calls"), message.get("function_call")
        assert calls != [], "an empty list of calls"
        if not calls and not legacy and not message.get("refusal") and not message.get("audio"):
            assert isinstance(message["content"], str | list), message
        if calls:
            waiting = [call["id"] for call in calls]
            assert len(set(waiting)) == len(waiting), "two calls with one id"
            for call in calls:
                assert isinstance(call["id"], str)
                assert 0 < len(call["id"]) <= 40
                inner = call[call["type"]]
                assert inner["name"]
                assert isinstance(inner.get("arguments", inner.get("input")), str)
        elif legacy:
            waiting = [None]
    assert not waiting, "the last calls have no results"


def check_anthropic(system: Any, messages: list[dict[str, Any]]) -> None:
    """Raise where Anthropic's API would refuse a conversation that goes on."""
    msgspec.json.encode([system, messages])
    assert isinstance(system, str | list)
    marks = _marks(system)
    calls: set[str] = set()
    waiting: list[str] = []
    if messages:
        assert messages[0]["role"] == "user", "the user speaks first"
    for message in messages:
        assert message.keys() == {"role", "content"}
        content = message["content"]
        if isinstance(content, str):
            assert content.strip(), "an empty text"
            assert not waiting, "calls without results"
            continue
        assert content, "no content"
        marks += _marks(content)
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        front = [block["type"] == "tool_result" for block in content[: len(results)]]
        assert all(front), "results do not stand first"
        assert sorted(results) == sorted(waiting), f"{results} for {waiting}"
        waiting = []
        for block in content:
            if block["type"] == "text":
                assert block["text"].strip(), "an empty text block"
            if block["type"] == "tool_use":
                assert message["role"] == "assistant"
                assert ANTHROPIC_ID.fullmatch(block["id"])
                assert block["id"] not in calls, "an id that was used before"
                assert isinstance(block["input"], dict)
                assert block["name"]
                calls.add(block["id"])
                waiting.append(block["id"])
    assert not waiting, "the last calls have no results"
    assert marks <= 4, "too many places to cache at"


def _marks(content: Any) -> int:
    blocks = content if isinstance(content, list) else []
    for block in blocks:
        if "cache_control" in block:
            assert block["type"] not in {"thinking", "redacted_thinking"}
    return sum("cache_control" in block for block in blocks)


# ---------------------------------------------------------------------- conversations

texts = st.text(st.characters(codec="utf-8"), max_size=30)
said = texts.filter(lambda text: bool(text.strip()))
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, data, max_size=3)
names = st.sampled_from(["get_order", "find", "book"])


@st.composite
def openai_chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw a conversation that OpenAI's API takes."""
    chat: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 2))):
        role = draw(st.sampled_from(["system", "developer"]))
        chat.append({"role": role, "content": draw(texts)})
    for turn in range(draw(st.integers(0, 5))):
        chat.append({"role": "user", "content": draw(texts | _openai_parts)})
        for step in range(draw(st.integers(0, 2))):
            ids = [f"call_{turn}_{step}_{n}" for n in range(draw(st.integers(1, 3)))]
            calls = [draw(_openai_call(each)) for each in ids]
            chat.append({"role": "assistant", "content": None, "tool_calls": calls})
            if draw(st.booleans()):
                chat[-1]["content"] = draw(texts)
            chat += [
                {"role": "tool", "tool_call_id": each, "content": draw(texts)}
                for each in draw(st.permutations(ids))
            ]
        if draw(st.booleans()):
            chat.append({"role": "assistant", "content": draw(texts)})
            chat[-1] |= draw(st.sampled_from([{}, {"name": "ada"}, {"refusal": None}]))
    return chat


_openai_parts = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, said)
    | st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    | st.just({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    min_size=1,
    max_size=3,
)


@st.composite
def _openai_call(draw: st.DrawFn, call_id: str) -> dict[str, Any]:
    written = draw(objects.map(lambda value: msgspec.json.encode(value).decode()) | texts)
    inner = {"name": draw(names), "arguments": written}
    return {"id": call_id, "type": "function", "function": inner}


@st.composite
def anthropic_chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw messages that Anthropic's API takes."""
    chat: list[dict[str, Any]] = []
    for turn in range(draw(st.integers(0, 5))):
        chat.append({"role": "user", "content": draw(said | _anthropic_blocks)})
        for step in range(draw(st.integers(0, 2))):
            ids = [f"toolu_{turn}_{step}_{n}" for n in range(draw(st.integers(1, 3)))]
            content: list[dict[str, Any]] = []
            if draw(st.booleans()):
                content.append({"type": "thinking", "thinking": draw(said), "signature": "c2ln"})
            content += draw(_anthropic_blocks | st.just([]))
            content += [
                {"type": "tool_use", "id": each, "name": draw(names), "input": draw(objects)}
                for each in ids
            ]
            chat.append({"role": "assistant", "content": content})
            results = [draw(_anthropic_result(each)) for each in draw(st.permutations(ids))]
            rest = draw(_anthropic_blocks | st.just([]))
            chat.append({"role": "user", "content": results + rest})
        chat.append({"role": "assistant", "content": draw(said | _anthropic_blocks)})
    return chat


_anthropic_blocks = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, said)
    | st.just({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
    min_size=1,
    max_size=3,
)


@st.composite
def _anthropic_result(draw: st.DrawFn, call_id: str) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id}
    if draw(st.booleans()):
        result["content"] = draw(st.one_of(texts, _anthropic_blocks))
    if draw(st.booleans()):
        result["is_error"] = True
    return result
