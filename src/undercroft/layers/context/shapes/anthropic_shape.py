"""Messages of Anthropic's API: read into ours, and written from ours.

What happens to what the API does not take, or what cannot be told:

- A text block without any text: left out. Nothing left, or no content at all: `(no content)`.
- A block that is no dict, or a call, result or thought in a message of the wrong role: a text block
  of its JSON text. Fields of a message besides role and content, such as those
  of a whole answer: left out.
- `tool_use` without an id, or with one that a call had before, or that the API would refuse: it
  gets one, and so does its result. Without a name: `unnamed`. Input that is no object: the
  object whose JSON text it is, else as `{"input": …}`.
- `tool_result` without an id: it belongs to the oldest open call. One that belongs to no open call,
  a second one of a call too: a text block with a framed note.
- Results that do not stand first in their message, or come in several: they are put together and
  first. A call that has no result when something else is said: a result that says so.
- Content that is not text: sent as given; among text a mark stands for it (`media.py`). What a
  model thought is sent as given and is not in our message.

Keeps: whatever the API takes goes out as the very dict that came in.
Leaves to `anthropic_view.py`: how messages of a prompt follow one another.
Source: Anthropic's reference of the Messages API.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import msgspec

from undercroft.layers.context.shapes.foreign import ANTHROPIC, Foreign, Part, Shown, text_of
from undercroft.layers.context.shapes.media import Read, Weights, read_block
from undercroft.layers.context.shapes.pairing import NO_RESULT, Open, Pairing, stray
from undercroft.model.message import Message
from undercroft.model.step import Call

ROLES = frozenset({"user", "assistant"})
NO_CONTENT = "(no content)"
UNNAMED = "unnamed"
ID_CHARS_MAX = 64
THOUGHTS = frozenset({"thinking", "redacted_thinking"})

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BARE = frozenset({"role", "content"})
_MISPLACED = {
    "user": frozenset({"tool_use", *THOUGHTS}),
    "assistant": frozenset({"tool_result"}),
}

Blocks = list[dict[str, Any]]


def read(given: dict[str, Any], pairing: Pairing, weights: Weights) -> Foreign:
    """Return a message, whose role is one of `ROLES`, as messages of ours."""
    blocks, mends = _read_content(given)
    misplaced = _MISPLACED[given["role"]]
    if any(block["type"] in misplaced for block in blocks):
        mends.append("blocks of another role became text")
        blocks = [
            {"type": "text", "text": text_of(block)} if block["type"] in misplaced else block
            for block in blocks
        ]
    if not _BARE.issuperset(given):
        mends.append("fields that are not sent were left out")
    if given["role"] == "assistant":
        sent, parts = _read_assistant(blocks, mends, pairing, weights)
    else:
        sent, parts = _read_user(blocks, mends, pairing, weights)
    shown = {"role": given["role"], "content": sent} if mends else given
    return Foreign(given, shown, (ANTHROPIC,), parts, tuple(mends))


def blocks_of(shown: Shown) -> Blocks:
    """Return the blocks of one message of a prompt; none where it has no text."""
    foreign, message = shown.foreign, shown.message
    if foreign is None or ANTHROPIC not in foreign.shapes:
        return _written(message)
    content = foreign.shown["content"]
    part = foreign.parts[shown.part]
    given = [{"type": "text", "text": content}] if isinstance(content, str) else content
    own = [given[place] for place in part.blocks] if part.blocks else list(given)
    if not shown.changed:
        return own
    return _replaced(own, part.message, message)


def call_id(wanted: str) -> str:
    """Return an id that the API takes, the same for the same id."""
    if _ID.fullmatch(wanted):
        return wanted
    digest = blake2b(wanted.encode("utf-8", "replace"), digest_size=8).hexdigest()
    kept = re.sub(r"[^a-zA-Z0-9_-]", "_", wanted[: ID_CHARS_MAX - 17])
    return f"{kept}-{digest}"


# ---------------------------------------------------------------------- reading


def _read_content(given: dict[str, Any]) -> tuple[Blocks, list[str]]:
    """Return the content as blocks that the API takes, and what was mended."""
    content = given.get("content")
    listed = content if isinstance(content, list) else [content]
    blocks: Blocks = []
    mends: list[str] = []
    for each in listed:
        if isinstance(each, dict) and isinstance(each.get("type"), str):
            block = each
        else:
            block = {"type": "text", "text": text_of(each)}
            if not isinstance(content, str):
                mends.append("a block of the content was no block")
        if block["type"] == "text":
            text = block.get("text")
            if not text_of(text).strip():
                mends.append("a block of the content had no text")
                continue
            if not isinstance(text, str):
                mends.append("the text of a block was no text")
                block = block | {"text": text_of(text)}
        blocks.append(block)
    if not blocks:
        blocks.append({"type": "text", "text": NO_CONTENT})
        mends.append("there was no content")
    return blocks, mends


def _read_user(
    blocks: Blocks, mends: list[str], pairing: Pairing, weights: Weights
) -> tuple[Blocks, tuple[Part, ...]]:
    results: Blocks = []
    rest: Blocks = []
    strays: Blocks = []
    parts: list[Part] = []
    for block in blocks:
        if block["type"] != "tool_result":
            rest.append(block)
            continue
        if rest and "results were put first" not in mends:
            mends.append("results were put first")
        read = _read_inner(block.get("content"), weights)
        given = block.get("tool_use_id")
        given = given if isinstance(given, str) and given else None
        call = pairing.answer(given)
        if call is None:
            mends.append("a result answers no open call")
            strays.append({"type": "text", "text": stray(read.text, given, None)})
            continue
        sent = call_id(call.id)
        if given != sent:
            mends.append("a result did not bear the id of its call")
        part = _part("tool", [read], (len(results),), call)
        parts.append(part._replace(failed=block.get("is_error") is True))
        results.append(block if given == sent else block | {"tool_use_id": sent})
    if rest or strays:
        for call in pairing.settle():
            mends.append(f"no result of {call.name} came")
            part = _part("tool", [Read(NO_RESULT)], (len(results),), call)
            parts.append(part._replace(failed=True))
            results.append(_result(call_id(call.id), NO_RESULT))
    front = len(results)
    for own, is_stray in ((rest, False), (strays, True)):
        if own:
            places = tuple(range(front, front + len(own)))
            part = _part("user", [read_block(block, weights) for block in own], places)
            parts.append(part._replace(stray=is_stray))
            front += len(own)
    return results + rest + strays, tuple(parts)


def _read_assistant(
    blocks: Blocks, mends: list[str], pairing: Pairing, weights: Weights
) -> tuple[Blocks, tuple[Part, ...]]:
    sent: Blocks = []
    calls: list[Open] = []
    ours: list[Call] = []
    said: list[Read] = []
    thought: list[str] = []
    for block in blocks:
        if block["type"] in THOUGHTS:
            thought.append(text_of(block.get("thinking") or block.get("data")))
        elif block["type"] == "tool_use":
            called, call, opened = _read_call(block, mends, pairing)
            sent.append(called)
            ours.append(call)
            calls.append(opened)
            continue
        else:
            said.append(read_block(block, weights))
        sent.append(block)
    pairing.propose(calls)
    part = _part("assistant", said, tuple(range(len(sent))))
    sealed = "\n".join(thought)
    message = Message("assistant", part.message.content, tuple(ours))
    unseen = "\n".join(text for text in (part.unseen, sealed) if text)
    return sent, (part._replace(message=message, unseen=unseen, sealed=sealed if ours else ""),)


def _read_call(
    block: dict[str, Any], mends: list[str], pairing: Pairing
) -> tuple[dict[str, Any], Call, Open]:
    given = block.get("id")
    given = given if isinstance(given, str) and given else None
    own = pairing.name(given)
    changed: dict[str, Any] = {}
    if given != (sent := call_id(own)):
        mends.append("a call had no id of its own")
        changed["id"] = sent
    name = block.get("name")
    if not isinstance(name, str) or not name:
        mends.append("a call had no name")
        changed["name"] = name = text_of(name) or UNNAMED
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        mends.append("the input of a call was no object")
        changed["input"] = arguments = _object(arguments, "input")
    opened = Open(own, name, sent, given, ANTHROPIC)
    return (block | changed if changed else block), Call(name, arguments, own), opened


def _read_inner(content: object, weights: Weights) -> Read:
    """Return what the content of a result reads as."""
    if not isinstance(content, list):
        return Read(text_of(content))
    reads = [
        read_block(each, weights) if isinstance(each, dict) else Read(text_of(each))
        for each in content
    ]
    return _joined(reads)


def _part(role: Any, reads: list[Read], places: tuple[int, ...], call: Open | None = None) -> Part:
    read = _joined(reads)
    ours = Message(role, read.text, (), call.id if call else None, call.name if call else None)
    return Part(ours, read.media_tokens, read.unseen, "", places)


def _joined(reads: list[Read]) -> Read:
    if len(reads) == 1:
        return reads[0]
    return Read(
        "\n".join(read.text for read in reads),
        sum(read.media_tokens for read in reads),
        "\n".join(read.unseen for read in reads if read.unseen),
    )


def _object(value: object, key: str) -> dict[str, Any]:
    """Return the object that a value is the JSON text of, or one that holds the value."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            decoded = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            decoded = None
        if isinstance(decoded, dict):
            return decoded
    return {key: value}


# ---------------------------------------------------------------------- writing


def _written(message: Message) -> Blocks:
    """Return the blocks of a message of ours."""
    if message.role == "tool" and message.call_id:
        return [_result(call_id(message.call_id), message.content)]
    blocks = _text(message.content)
    for call in message.calls:
        arguments = call.arguments
        if not isinstance(arguments, dict):
            arguments = _object(arguments, "arguments")
        called = {"type": "tool_use", "id": call_id(call.id or ""), "name": call.name}
        blocks.append(called | {"input": arguments})
    return blocks


def _replaced(own: Blocks, was: Message, message: Message) -> Blocks:
    """Return the blocks of a message of which something else is shown."""
    if message.role != was.role or len(message.calls) != len(was.calls):
        return _written(message)
    if message.role == "tool":
        return [own[0] | {"content": message.content}]
    if not message.calls:
        return _text(message.content)
    # Thoughts before a call are sealed: the API refuses the call without them.
    blocks = [block for block in own if block["type"] in THOUGHTS]
    blocks += _text(message.content)
    called = [block for block in own if block["type"] == "tool_use"]
    for block, before, call in zip(called, was.calls, message.calls, strict=True):
        if call.arguments == before.arguments:
            blocks.append(block)
            continue
        arguments = call.arguments
        if not isinstance(arguments, dict):
            arguments = _object(arguments, "arguments")
        blocks.append(block | {"input": arguments})
    return blocks


def _text(text: str) -> Blocks:
    return [{"type": "text", "text": text}] if text.strip() else []


def _result(sent: str, text: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": sent, "content": text}
