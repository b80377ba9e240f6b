"""Messages of OpenAI's chat API: read into ours, and written from ours.

What happens to what the API does not take, or what cannot be told:

- Content that is absent or null, without calls: it is empty text. Content of another type: its
  JSON text. Text among the parts of a list: a part of type `text`.
- Content that is not text: sent as given; among text a mark stands for it (`media.py`).
- `tool_calls` that is an empty list: left out. A call that is no dict, or has no name: a call of a
  tool `unnamed`. Arguments that are no text: their JSON text; invalid JSON: as given.
- A call without an id, or with one that another call of the same message has: it gets one. An id
  that an earlier message had stays as it is, since the API takes it; our own differs.
- `function_call` and role `function`, as they were once: sent as given, paired by name.
- A result without an id belongs to the oldest open call of the tool it names, or the oldest at all.
  One that belongs to no open call goes out in the user's place, as a framed note.

Keeps: whatever the API takes goes out as the very dict that came in.
Source: OpenAI's reference of chat completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from undercroft.layers.context.shapes.foreign import (
    ANTHROPIC,
    OPENAI,
    Foreign,
    Part,
    Shown,
    text_of,
)
from undercroft.layers.context.shapes.media import Weights, read_block
from undercroft.layers.context.shapes.pairing import NO_RESULT, Open, Pairing, stray
from undercroft.model.message import Message
from undercroft.model.step import Call

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
# The API refuses a longer id.
ID_CHARS_MAX = 40
UNNAMED = "unnamed"

_KNOWN = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call"})
_BARE = frozenset({"role", "content"})
_TEXT = frozenset({"type", "text"})


def read(given: dict[str, Any], pairing: Pairing, weights: Weights) -> Foreign:
    """Return a message, whose role is one of `ROLES`, as messages of ours."""
    role = given["role"]
    content = _read_content(given, weights)
    if role in {"tool", "function"}:
        return _read_result(given, content, pairing)
    if role == "assistant":
        return _read_assistant(given, content, pairing)
    name = given.get("name")
    name = name if isinstance(name, str) else None
    ours = Message("user" if role == "user" else "system", content.text, (), None, name)
    return _foreign(given, content, ours)


def unanswered(call: Open) -> Shown:
    """Return what stands for the result that a call never got."""
    ours = Message("tool", NO_RESULT, (), call.id, call.name)
    if call.sent is None:
        told = {"role": "function", "name": call.name, "content": NO_RESULT}
    else:
        told = {"role": "tool", "tool_call_id": call.sent, "content": NO_RESULT}
    mends = (f"no result of {call.name} came",)
    part = Part(ours, failed=True)
    return Shown(ours, Foreign(told, told, (OPENAI,), (part,), mends))


class OpenAIView:
    """A prompt as OpenAI's API takes it, which is not written anew where it only grows."""

    __slots__ = ("_of", "_sent", "_told")

    def __init__(self) -> None:
        self._of: Sequence[Shown] | None = None
        self._told: list[dict[str, Any]] = []
        # Ids of calls as they were sent, where they differ from ours.
        self._sent: dict[str, str | None] = {}

    def show(self, prompt: Sequence[Shown]) -> list[dict[str, Any]]:
        """Return the messages of a prompt; the same list as before may only have grown."""
        if prompt is not self._of:
            self._of, self._told, self._sent = prompt, [], {}
        for place in range(len(self._told), len(prompt)):
            self._told.append(_write(prompt[place], self._sent))
        return list(self._told)


def _write(shown: Shown, sent: dict[str, str | None]) -> dict[str, Any]:
    """Return a message of a prompt as the API takes it.

    Args:
        shown: The message.
        sent: Ids of calls as they were sent, where they differ from ours; filled on the way.
    """
    foreign = shown.foreign
    if foreign is None or OPENAI not in foreign.shapes:
        return _written(shown.message, sent)
    was, message = foreign.parts[shown.part].message, shown.message
    if message.calls:
        _note_ids(foreign.shown, message, sent)
    if not shown.changed:
        return foreign.shown
    if was.role != message.role or len(was.calls) != len(message.calls):
        return _written(message, sent)
    changed = foreign.shown | {"content": message.content}
    if message.calls == was.calls:
        return changed
    if "tool_calls" in changed:
        proposed = zip(changed["tool_calls"], message.calls, strict=True)
        changed["tool_calls"] = [_replaced(each, call) for each, call in proposed]
    else:
        arguments = text_of(message.calls[0].arguments)
        changed["function_call"] = changed["function_call"] | {"arguments": arguments}
    return changed


def _note_ids(told: dict[str, Any], message: Message, sent: dict[str, str | None]) -> None:
    proposed = told.get("tool_calls")
    ids = [each["id"] for each in proposed] if proposed else [None]
    for call, given in zip(message.calls, ids, strict=False):
        if call.id is not None and given != call.id:
            sent[call.id] = given


def call_id(wanted: str) -> str:
    """Return an id that the API takes, the same for the same id."""
    if len(wanted) <= ID_CHARS_MAX:
        return wanted
    digest = blake2b(wanted.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{wanted[: ID_CHARS_MAX - 17]}-{digest}"


# ---------------------------------------------------------------------- reading


class _Content(NamedTuple):
    """What a message says, and how it is sent."""

    shown: dict[str, Any]
    mends: list[str]
    text: str
    media_tokens: int = 0
    unseen: str = ""


def _foreign(given: dict[str, Any], content: _Content, ours: Message) -> Foreign:
    extra = ""
    if not _KNOWN.issuperset(given):
        # A refusal may be what the content was read from.
        extra = "\n".join(
            text_of(value)
            for key, value in given.items()
            if key not in _KNOWN and value and value != content.text
        )
    unseen = f"{content.unseen}\n{extra}" if content.unseen and extra else content.unseen or extra
    part = Part(ours, content.media_tokens, unseen, extra)
    shown = content.shown
    both = ours.role in {"user", "assistant"} and _BARE.issuperset(shown)
    shapes = (OPENAI, ANTHROPIC) if both and _is_text(shown["content"]) else (OPENAI,)
    return Foreign(given, shown, shapes, (part,), tuple(content.mends))


def _is_text(content: object) -> bool:
    """Whether both APIs take this content: text, and some of it."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and all(
        each.keys() == _TEXT and each["type"] == "text" and text_of(each["text"]).strip()
        for each in content
    )


def _read_content(given: dict[str, Any], weights: Weights) -> _Content:
    content = given.get("content")
    if isinstance(content, str):
        return _Content(given, [], content)
    if content is None:
        said = given.get("refusal")
        if isinstance(said, str) and said:
            return _Content(given, [], said)
        if given.get("tool_calls") or given.get("function_call") or given.get("audio"):
            return _Content(given, [], "")
        return _Content(given | {"content": ""}, ["there was no content"], "")
    if not isinstance(content, list) or not content:
        text = text_of(content) if content else ""
        return _Content(given | {"content": text}, ["the content was not text"], text)
    parts = [
        each if isinstance(each, dict) else {"type": "text", "text": text_of(each)}
        for each in content
    ]
    reads = [read_block(each, weights) for each in parts]
    shown, mends = given, []
    if not all(isinstance(each, dict) for each in content):
        shown, mends = given | {"content": parts}, ["a part of the content was no dict"]
    return _Content(
        shown,
        mends,
        "\n".join(each.text for each in reads),
        sum(each.media_tokens for each in reads),
        "\n".join(each.unseen for each in reads if each.unseen),
    )


def _read_assistant(given: dict[str, Any], content: _Content, pairing: Pairing) -> Foreign:
    shown, mends = content.shown, content.mends
    proposed, legacy = shown.get("tool_calls"), shown.get("function_call")
    calls: list[Open] = []
    ours: tuple[Call, ...] = ()
    if proposed:
        listed = proposed if isinstance(proposed, list) else [proposed]
        sent, ours, problems = _read_calls(listed, pairing, calls)
        if problems or listed is not proposed:
            shown, mends = shown | {"tool_calls": sent}, [*mends, *problems]
    elif proposed is not None:
        shown = {key: value for key, value in shown.items() if key != "tool_calls"}
        mends = [*mends, "the list of calls was empty"]
    if not proposed and isinstance(legacy, dict):
        name, own = text_of(legacy.get("name")) or UNNAMED, pairing.name(None)
        calls.append(Open(own, name, shape=OPENAI))
        ours = (Call(name, text_of(legacy.get("arguments")), own),)
    pairing.propose(calls)
    if shown is not content.shown:
        content = content._replace(shown=shown, mends=mends)
    return _foreign(given, content, Message("assistant", content.text, ours))


def _read_calls(
    proposed: list[Any], pairing: Pairing, calls: list[Open]
) -> tuple[list[Any], tuple[Call, ...], list[str]]:
    """Read proposed calls into `calls`; return them as sent, as ours, and what was mended."""
    sent: list[Any] = []
    ours: list[Call] = []
    problems: list[str] = []
    seen: set[str] = set()
    for each in proposed:
        entry, inner, problem = _read_call(each)
        if problem:
            problems.append(problem)
        given = entry.get("id")
        given = given if isinstance(given, str) and given else None
        own = pairing.name(given)
        shown = given
        if shown is None or shown in seen:
            problems.append("a call had no id" if given is None else "two calls had one id")
            shown = call_id(own)
            entry = entry | {"id": shown}
        seen.add(shown)
        arguments = text_of(inner.get("arguments", inner.get("input")))
        ours.append(Call(inner["name"], arguments, own))
        calls.append(Open(own, inner["name"], shown, given, OPENAI))
        sent.append(entry)
    return sent, tuple(ours), problems


def _read_call(given: Any) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return a call as it is sent, its name and arguments, and what was mended of them."""
    if isinstance(given, dict):
        for kind in ("function", "custom"):
            inner = given.get(kind)
            if not isinstance(inner, dict):
                continue
            key = "arguments" if kind == "function" else "input"
            named = isinstance(inner.get("name"), str) and inner["name"]
            if named and isinstance(inner.get(key), str):
                return given, inner, ""
            name = text_of(inner.get("name")) or UNNAMED
            inner = inner | {"name": name, key: text_of(inner.get(key))}
            return given | {kind: inner}, inner, "a call's name or arguments were not text"
    inner = {"name": UNNAMED, "arguments": text_of(given)}
    entry = {"type": "function", "function": inner}
    if isinstance(given, dict) and given.get("id"):
        entry["id"] = given["id"]
    return entry, inner, "a call was no call"


def _read_result(given: dict[str, Any], content: _Content, pairing: Pairing) -> Foreign:
    legacy = given["role"] == "function"
    wanted, name = given.get("tool_call_id"), given.get("name")
    wanted = wanted if isinstance(wanted, str) and wanted and not legacy else None
    name = name if isinstance(name, str) and name else None
    call = pairing.answer(wanted, name)
    if call is None:
        note = stray(content.text, wanted, name)
        told = {"role": "user", "content": note}
        mends = (*content.mends, "it answers no open call")
        part = Part(Message("user", note), stray=True)
        return Foreign(given, told, (OPENAI, ANTHROPIC), (part,), mends)
    shown, mended = content.shown, ""
    if call.shape == OPENAI and call.sent is None:
        if not legacy:
            shown = {"role": "function", "name": call.name, "content": shown["content"]}
            mended = "it answers a function_call"
    else:
        sent = call.sent if call.shape == OPENAI else call_id(call.id)
        if wanted != sent:
            shown = shown | {"role": "tool", "tool_call_id": sent}
            mended = "it did not bear the id of its call"
    if mended:
        content = content._replace(shown=shown, mends=[*content.mends, mended])
    return _foreign(given, content, Message("tool", content.text, (), call.id, call.name))


# ---------------------------------------------------------------------- writing


def _written(message: Message, sent: dict[str, str | None]) -> dict[str, Any]:
    """Return a message of ours as the API takes it."""
    told: dict[str, Any] = {"role": message.role}
    if message.role == "tool":
        own = message.call_id or ""
        bears = sent.get(own, call_id(own))
        if bears is None:
            return {"role": "function", "name": message.name, "content": message.content}
        told["tool_call_id"] = bears
    told["content"] = message.content
    if message.calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {
                "id": call_id(call.id or ""),
                "type": "function",
                "function": {"name": call.name, "arguments": text_of(call.arguments)},
            }
            for call in message.calls
        ]
    elif message.name and message.role == "user":
        told["name"] = message.name
    return told


def _replaced(proposed: dict[str, Any], call: Call) -> dict[str, Any]:
    """Return a call as it was sent with other arguments."""
    if "custom" in proposed:
        return proposed | {"custom": proposed["custom"] | {"input": text_of(call.arguments)}}
    inner = proposed["function"] | {"arguments": text_of(call.arguments)}
    return proposed | {"function": inner}
