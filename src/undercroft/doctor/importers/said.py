"""Messages of any provider or framework in one form: prompts, answers, proposed calls, results.

Reads messages of OpenAI (chat completions and items of Responses), Anthropic, Gemini, LangChain
(serialised with `lc`, as `type` and `data`, and plain) and OpenTelemetry's GenAI conventions
(`parts`), alone, in lists, and under the keys where requests and answers hold them.
Keeps: never raises; what is no message is left out; how deep it looks is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from types import MappingProxyType
from typing import Any

from undercroft.doctor.arguments import as_text, read_arguments, read_value
from undercroft.doctor.importers.times import read_count

_DEPTH_MAX = 6
_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "human": "user",
        "assistant": "assistant",
        "ai": "assistant",
        "model": "assistant",
        "tool": "tool",
        "function": "tool",
        "ipython": "tool",
    }
)
# Names of LangChain's classes of messages, in lower case, without what they end in.
_CLASS_ENDS = ("messagechunk", "message")
# Keys under which requests and answers hold messages, from the surest to the least sure.
_LISTS = ("messages", "input_messages", "output_messages", "generations", "choices", "candidates")
_HELD = (*_LISTS, "message", "contents", "output", "outputs", "input", "inputs", "prompts")
_SYSTEMS = ("system", "instructions", "system_instruction")
# Prompts to which others are compared: agents that talk by turns have one each.
_REMEMBERED = 4
_TEXTS = ("content", "text", "answer", "response", "result", "question", "query", "prompt")
_INPUTS = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount")
_OUTPUTS = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens")
_USAGES = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that a message proposes.

    Attributes:
        arguments: None where they cannot be read; `raw` has them then.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a prompt or an answer.

    Attributes:
        role: `system`, `user`, `assistant`, `tool`, or `other`.
        actor: Its author's name, where the message has one; of a result, the tool's name.
        calls: That it proposes.
        call_id: Of the call that it is the result of.
        failed: Whether that call failed, where the message says so.
    """

    role: str
    text: str
    actor: str = ""
    calls: tuple[Wanted, ...] = ()
    call_id: str = ""
    failed: bool | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model gave back; what is not recorded is None or empty."""

    said: tuple[Said, ...] | None = None
    stop: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str = ""


def read_messages(raw: object, role: str = "user") -> tuple[Said, ...] | None:
    """Return the messages that `raw` holds, or None where nothing is recorded.

    Args:
        raw: One message, a list of them, what holds them, or the JSON text of any of these. Other
            text is one message.
        role: Whose message a text without a role is.
    """
    if raw is None:
        return None
    return tuple(_joined(_read(raw, role, 0)))


class Prompts:
    """Reads the prompts of one run: what a prompt repeats of one before it is not read again.

    Its messages are the very same objects then, so that others need not look at them again.
    """

    def __init__(self) -> None:
        self._known: deque[tuple[list[Any], list[tuple[Said, ...]]]] = deque(maxlen=_REMEMBERED)

    def read(self, raw: object) -> tuple[Said, ...] | None:
        """Return the messages that `raw` holds, as `read_messages` does."""
        found = _plain_list(_opened(raw) if isinstance(raw, str) else raw)
        if not found:
            return read_messages(raw)
        best, most = -1, 0
        for place, (known, _) in enumerate(self._known):
            same = _alike(known, found)
            if same > most:
                best, most = place, same
        each = self._known[best][1][:most] if most else []
        each += [tuple(_read(one, "user", 1)) for one in found[most:]]
        if best >= 0 and most == len(self._known[best][0]):
            del self._known[best]  # this one goes on with it
        self._known.append((found, each))
        # A text that is a list of other things than messages is what somebody said.
        return tuple(_joined(chain.from_iterable(each))) or read_messages(raw)


def _plain_list(raw: object) -> list[Any] | None:
    """Return the list of messages that `raw` is or has and nothing else, or None."""
    for _ in range(_DEPTH_MAX):
        if isinstance(raw, Mapping) and not any(key in raw for key in _SYSTEMS):
            if "role" in raw or "lc" in raw or "type" in raw:
                return None
            raw = raw.get("messages")
        if not isinstance(raw, list):
            return None
        if len(raw) != 1 or not isinstance(raw[0], list):
            return raw
        raw = raw[0]
    return None


def _alike(known: Sequence[Any], found: Sequence[Any]) -> int:
    """Return how many of the first elements of two lists are equal."""
    pairs = zip(known, found, strict=False)
    try:
        return sum(1 for _ in takewhile(lambda pair: bool(pair[0] == pair[1]), pairs))
    except RecursionError:
        return 0


def read_answer(raw: object) -> Answered:
    """Return what a model's answer says: its messages, why it stopped, and its tokens."""
    if raw is None:
        return Answered()
    if isinstance(raw, str):
        raw = _opened(raw)
    stop, model = "", ""
    used: tuple[int | None, int | None] = (None, None)
    for held in _around(raw):
        stop = stop or _stop(held)
        model = model or _name(held.get("model")) or _name(held.get("model_name"))
        for key in _USAGES:
            if used == (None, None):
                used = read_usage(held.get(key))
    return Answered(read_messages(raw, "assistant"), stop, *used, model)


def last_answer(raw: object) -> str | None:
    """Return what a run gave back as its user read it: the last text that is an assistant's."""
    said = [one for one in read_messages(raw, "assistant") or () if one.role != "system"]
    if not said or said[-1].role != "assistant" or said[-1].calls:
        return None
    return said[-1].text or None


def is_data(raw: object) -> bool:
    """Whether what a run gave back is data of its own, and no conversation."""
    return isinstance(raw, Mapping | list) and bool(raw) and not read_messages(raw, "assistant")


def read_usage(raw: object) -> tuple[int | None, int | None]:
    """Return the tokens of a prompt and of an answer, each None where that is not said."""
    if not isinstance(raw, Mapping):
        return None, None
    return _first_count(raw, (*_INPUTS, "input")), _first_count(
        raw, (*_OUTPUTS, "candidatesTokenCount", "output")
    )


def text_of(content: object) -> str:
    """Return the text of a content: of parts of a message their texts, of other data its JSON."""
    if content is None:
        return ""
    if isinstance(content, list | tuple) and all(_is_part(part) for part in content):
        return "\n".join(text for part in content if (text := _part_text(part)))
    return as_text(content)


def result_text(raw: object, depth: int = 0) -> str:
    """Return the text of a tool's result: of a message its content, of other data its JSON."""
    if isinstance(raw, Mapping) and depth < _DEPTH_MAX:
        unpacked = _unpacked(raw)
        if unpacked is not None and "content" in unpacked[1]:
            return text_of(unpacked[1]["content"])
        if len(raw) == 1:
            ((key, inner),) = raw.items()
            if key in {"output", "result", "content", "return_value"}:
                return result_text(inner, depth + 1)
    return text_of(raw)


def offered(raw: object) -> frozenset[str] | None:
    """Return the names of the tools that a request offers, or None where `raw` is no list."""
    if isinstance(raw, Mapping):
        raw = raw.get("tools") or raw.get("functions")
    if not isinstance(raw, list | tuple):
        return None
    names: set[str] = set()
    for tool in raw:
        if isinstance(tool, str):
            names.add(tool)
        elif isinstance(tool, Mapping):
            inner = tool.get("function")
            held = inner if isinstance(inner, Mapping) else tool
            names.add(_name(held.get("name")))
    names.discard("")
    return frozenset(names) or None


# ---------------------------------------------------------------------------- finding messages


def _read(raw: object, role: str, depth: int) -> Iterator[Said]:
    """Yield the messages that `raw` holds, as they stand in it."""
    if depth > _DEPTH_MAX or raw is None:
        return
    if isinstance(raw, str):
        opened = _opened(raw)
        if isinstance(opened, str):
            if raw.strip():
                yield Said(role, raw)
        else:
            found = tuple(_read(opened, role, depth + 1))
            yield from found or (Said(role, raw),)
    elif isinstance(raw, Mapping):
        yield from _read_object(raw, role, depth)
    elif isinstance(raw, list | tuple):
        for one in raw:
            yield from _read(one, role, depth + 1)


def _read_object(raw: Mapping[str, Any], role: str, depth: int) -> Iterator[Said]:
    unpacked = _unpacked(raw)
    if unpacked is not None:
        yield from _message(*unpacked)
        return
    if _name(raw.get("type")) in _ITEMS:
        yield from _item(raw)
        return
    # OpenAI's answers have `choices`, Gemini's `candidates`, LangChain's `generations`.
    system = next((raw[key] for key in _SYSTEMS if raw.get(key)), None)
    if isinstance(system, str | list) and any(key in raw for key in _HELD):
        yield Said("system", text_of(system))
    for key in _HELD:
        held = raw.get(key)
        if held is not None and held != "" and (key in _LISTS or not isinstance(held, bool)):
            found = tuple(_read(held, role, depth + 1))
            if found:
                yield from found
                return
    if isinstance(raw.get("content"), Mapping):
        yield from _read(raw["content"], role, depth + 1)
        return
    for key in _TEXTS:
        if isinstance(raw.get(key), str) and raw[key].strip():
            yield Said(role, raw[key])
            return


def _opened(text: str) -> object:
    """Return what a JSON text of an object or list says, or the text itself."""
    start = text.lstrip()[:1]
    if start in {"{", "["}:
        read = read_value(text.strip())
        if isinstance(read, Mapping | list):
            return read
    return text


def _unpacked(raw: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the role and the fields of a message, or None where `raw` is none."""
    role = raw.get("role")
    if isinstance(role, str) and role:
        return role, raw
    inner = raw.get("kwargs")
    if raw.get("lc") is not None and isinstance(inner, Mapping):
        path = raw.get("id")
        name = str(path[-1]) if isinstance(path, list) and path else str(inner.get("type", ""))
        return (_class(name), inner) if _is_message(inner) else None
    kind, data = raw.get("type"), raw.get("data")
    if isinstance(kind, str) and isinstance(data, Mapping) and _is_message(data):
        return _class(kind), data
    if isinstance(kind, str) and _class(kind) in _ROLES and "content" in raw:
        return _class(kind), raw
    return None


def _is_message(fields: Mapping[str, Any]) -> bool:
    return "content" in fields or "tool_calls" in fields


def _class(name: str) -> str:
    """Return the role in the name of a class of messages: `ai` of `AIMessageChunk`."""
    lowered = name.lower()
    for end in _CLASS_ENDS:
        lowered = lowered.removesuffix(end)
    return lowered


# ---------------------------------------------------------------------------- one message


def _message(named: str, raw: Mapping[str, Any]) -> Iterator[Said]:
    """Yield what one message says: results of calls apart from what else it says."""
    if named == "chat" and isinstance(raw.get("role"), str):
        named = raw["role"]
    role = _ROLES.get(named.lower(), "other")
    actor = _name(raw.get("name")) or ("" if role != "other" else named)
    content = raw.get("parts") if raw.get("content") is None else raw.get("content")
    if role == "tool" and is_tool(content):
        return  # Langfuse's handler for LangChain writes the tools on offer like that
    if role == "tool" and not _holds_results(content):
        call_id = _name(raw.get("tool_call_id")) or _name(raw.get("id"))
        failed = raw.get("status") == "error" if "status" in raw else None
        yield Said("tool", text_of(content), actor, (), call_id, failed)
        return
    texts: list[str] = []
    calls = list(_calls(raw))
    for part in content if isinstance(content, list | tuple) else (content,):
        if isinstance(part, Mapping):
            calls += _part_calls(part)
            yield from _part_results(part)
        text = _part_text(part)
        if text:
            texts.append(text)
    if texts or calls:
        yield Said(role, "\n".join(texts), actor, _distinct(calls))


def is_tool(content: object) -> bool:
    """Whether something describes a tool that is on offer."""
    if not isinstance(content, Mapping):
        return False
    function = content.get("function")
    held = function if isinstance(function, Mapping) else content
    described = any(key in held for key in ("parameters", "input_schema", "description"))
    return isinstance(held.get("name"), str) and described


def _distinct(calls: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """Return calls without those that a message states twice, in two forms."""
    seen: dict[str, list[Wanted]] = {}
    kept: list[Wanted] = []
    for call in calls:
        same = seen.setdefault(call.id, [])
        if not call.id or call not in same:
            kept.append(call)
            same.append(call)
    return tuple(kept)


def _calls(raw: Mapping[str, Any]) -> Iterator[Wanted]:
    extra = raw.get("additional_kwargs")
    for held in (raw, extra if isinstance(extra, Mapping) else {}):
        found = [_call(one) for one in _each(held.get("tool_calls"))]
        found += [_call(one) for one in _each(held.get("invalid_tool_calls"))]
        old = held.get("function_call")
        if isinstance(old, Mapping) and not found:
            found = [_call(old)]
        if any(found):
            yield from (call for call in found if call is not None)
            return


def _call(raw: Mapping[str, Any]) -> Wanted | None:
    function = raw.get("function")
    inner = function if isinstance(function, Mapping) else raw
    name = _name(inner.get("name")) or _name(raw.get("name"))
    if not name:
        return None
    given = next((inner[k] for k in ("arguments", "args", "input") if k in inner), None)
    return Wanted(_name(raw.get("id")) or _name(raw.get("call_id")), name, *read_arguments(given))


def _part_calls(part: Mapping[str, Any]) -> Iterator[Wanted]:
    """Yield the calls that a part of a message proposes."""
    kind = _name(part.get("type"))
    if kind in {"tool_use", "tool_call", "tool-call", "server_tool_use", "function_call"}:
        named = {**part, "id": part.get("id") or part.get("toolCallId") or part.get("call_id")}
        named.setdefault("name", part.get("toolName"))
        call = _call(named)
        if call is not None:
            yield call
    for key in ("function_call", "functionCall"):
        inner = part.get(key)
        call = _call(inner) if isinstance(inner, Mapping) else None
        if call is not None:
            yield call


def _part_results(part: Mapping[str, Any]) -> Iterator[Said]:
    """Yield the results of calls that a part of a message holds."""
    kind = _name(part.get("type"))
    if kind in {"tool_result", "tool_call_response", "tool-result", "function_call_output"}:
        call_id = next(
            (
                n
                for k in ("tool_use_id", "id", "toolCallId", "call_id")
                if (n := _name(part.get(k)))
            ),
            "",
        )
        held = next((part[k] for k in _RESULTS if part.get(k) is not None), None)
        failed = part.get("is_error", part.get("isError"))
        name = _name(part.get("name")) or _name(part.get("toolName"))
        failed = failed if isinstance(failed, bool) else None
        yield Said("tool", text_of(held), name, (), call_id, failed)
    for key in ("function_response", "functionResponse"):
        inner = part.get(key)
        if isinstance(inner, Mapping):
            name = _name(inner.get("name"))
            yield Said("tool", text_of(inner.get("response")), name, (), _name(inner.get("id")))


_RESULTS = ("response", "result", "content", "output")


def _holds_results(content: object) -> bool:
    return isinstance(content, list | tuple) and any(
        isinstance(part, Mapping) and next(_part_results(part), None) is not None
        for part in content
    )


def _part_text(part: object) -> str:
    """Return the text of one part; of thoughts, calls, results and pictures there is none."""
    if not isinstance(part, Mapping):
        return "" if part is None else as_text(part)
    for key in ("text", "refusal"):
        if isinstance(part.get(key), str):
            return str(part[key])
    if _name(part.get("type")) not in _TEXT_PARTS:
        return ""
    if isinstance(part.get("content"), str):
        return str(part["content"])
    return "" if any(key in part for key in _NO_TEXT) else as_text(part)


def _is_part(part: object) -> bool:
    """Whether something is a part of a message, and not data of a tool's own."""
    if isinstance(part, Mapping):
        if part.get("type") is not None:
            return _name(part["type"]) in _PARTS
        return any(key in part for key in ("text", *_NO_TEXT))
    return isinstance(part, str)


_NO_TEXT = ("function_call", "functionCall", "function_response", "functionResponse", "thought")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "json", ""})
_PARTS = frozenset({
    "text", "input_text", "output_text", "refusal", "json",
    "image", "image_url", "input_image", "audio", "input_audio", "file", "input_file", "document",
    "thinking", "redacted_thinking", "reasoning",
    "tool_use", "tool_call", "tool-call", "server_tool_use", "function_call",
    "tool_result", "tool_call_response", "tool-result", "function_call_output",
})  # fmt: skip

# ---------------------------------------------------------------------------- items of Responses

_ITEMS = frozenset({"function_call", "function_call_output", "reasoning", "custom_tool_call"})


def _item(raw: Mapping[str, Any]) -> Iterator[Said]:
    match raw.get("type"):
        case "function_call" | "custom_tool_call":
            call_id = raw.get("call_id") or raw.get("id")
            call = _call({**raw, "id": call_id})
            if call is not None:
                yield _Item("assistant", "", "", (call,))
        case "function_call_output":
            yield Said("tool", text_of(raw.get("output")), "", (), _name(raw.get("call_id")))
        case _:
            pass  # thoughts are nobody's words


@dataclass(frozen=True, slots=True)
class _Item(Said):
    """A call that is an item of its own, and belongs to the answer that items before it are."""


def _joined(said: Iterable[Said]) -> Iterator[Said]:
    """Yield messages; calls that are items of their own are one message with what precedes."""
    last: Said | None = None
    for one in said:
        if isinstance(one, _Item):
            if last is not None and last.role == "assistant":
                last = replace(last, calls=last.calls + one.calls)
                continue
            one = Said(one.role, one.text, one.actor, one.calls)  # noqa: PLW2901
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


# ---------------------------------------------------------------------------- round an answer


def _around(raw: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of an answer that may say why it stopped or what it cost."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(raw, list | tuple):
        for one in raw[:4]:
            yield from _around(one, depth + 1)
    elif isinstance(raw, Mapping):
        yield raw
        for key in ("choices", "candidates", "generations", "message", "kwargs", "output"):
            yield from _around(raw.get(key), depth + 1)
        for key in ("llm_output", "response_metadata", "generation_info", "response", "data"):
            inner = raw.get(key)
            if isinstance(inner, Mapping):
                yield from _around(inner, depth + 1)


def _stop(held: Mapping[str, Any]) -> str:
    for key in ("finish_reason", "stop_reason", "finishReason", "stopReason"):
        if name := _name(held.get(key)):
            return name
    details = held.get("incomplete_details")
    return _name(details.get("reason")) if isinstance(details, Mapping) else ""


def _first_count(raw: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    return next((n for key in keys if (n := read_count(raw.get(key))) is not None), None)


def _each(raw: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(raw, list | tuple):
        yield from (one for one in raw if isinstance(one, Mapping))


def _name(raw: object) -> str:
    return raw if isinstance(raw, str) else ""
