"""What a span is, and the messages that it shows, by the GenAI conventions and by others.

Messages stand in attributes as JSON (GenAI since 1.37), in events on the span (before that), or in
attributes of numbered names (OpenInference, OpenLLMetry).
Keeps: never raises; what a span does not show is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undercroft.doctor.arguments import as_text, read_value
from undercroft.doctor.importers.otlp_spans import Moment, Span
from undercroft.doctor.importers.said import Said, offered, read_answer, read_messages, text_of
from undercroft.model import genai

TOOL, ASK, AGENT, OTHER = "tool", "ask", "agent", "other"
_DEPTH_MAX = 10
# As OpenInference, OpenLLMetry, LangSmith, Langfuse and MLflow call kinds of spans.
_KINDS = {
    "tool": TOOL,
    "llm": ASK,
    "generation": ASK,
    "chat_model": ASK,
    "agent": AGENT,
    "chain": AGENT,
    "workflow": AGENT,
}
_OPERATIONS = {
    genai.EXECUTE_TOOL: TOOL,
    "ai.toolcall": TOOL,
    **dict.fromkeys(("ai.generatetext.dogenerate", "ai.streamtext.dostream"), ASK),
    **dict.fromkeys(("ai.generateobject.dogenerate", "ai.streamobject.dostream"), ASK),
    **dict.fromkeys(genai.CHATS, ASK),
    **dict.fromkeys(genai.AGENTS, AGENT),
}
_OWN = {"model": ASK, "tool": TOOL, "step": TOOL, "approval": TOOL}
# Keys under which OpenInference nests what a message, a call or a part holds.
_WRAPS = ("message", "tool_call", "message_content", "tool", "prompt", "completion")


def kind_of(span: Span) -> str:
    """Return whether a span is the call of a tool, a request to a model, or an agent's work."""
    own = span.attributes.get(genai.STEP_KIND)
    if isinstance(own, str):
        return _OWN.get(own, OTHER)
    operation = span.text(genai.OPERATION, "ai.operationId").lower()
    found = _OPERATIONS.get(operation)
    if found is None and span.first(genai.REQUEST_TYPE) in {"chat", "completion"}:
        found = ASK
    for name in genai.READ_KIND:
        found = found or _KINDS.get(span.text(name).lower())
    if found is not None or operation:
        return found or OTHER
    if span.first(*genai.READ_TOOL) is not None:
        return TOOL
    asks = span.first(*genai.READ_MODEL) is not None
    return ASK if asks and span.first(*genai.READ_INPUT_TOKENS) is not None else OTHER


def tool_name(span: Span) -> str:
    """Return the name of the tool that a span is a call of."""
    named = span.text(*genai.READ_TOOL)
    if not named and span.first(genai.LOOP_KIND) == "tool":
        named = span.text(genai.LOOP_NAME)
    return named or span.name.removeprefix(f"{genai.EXECUTE_TOOL} ").removesuffix(".tool")


def sent(span: Span) -> tuple[Said, ...] | None:
    """Return the messages that a model was sent, or None where they are not recorded."""
    for held in _holders(span):
        raw = held.get(genai.INPUT_MESSAGES)
        if raw is not None:
            return None if _cut(raw) else (*_system(held), *(read_messages(raw, "user") or ()))
    for prefix in genai.SENT:
        found = _numbered(span, prefix, "user")
        if found:
            return (*_system(span.attributes), *found)
    told = [said for event in span.events for said in _event(event, answer=False)]
    if told:
        return (*_system(span.attributes), *told)
    raw = span.first("ai.prompt.messages", "gcp.vertex.agent.llm_request", *genai.READ_INPUTS)
    if raw is None:
        return _system(span.attributes) or None
    return (*_system(span.attributes), *(read_messages(raw, "user") or ()))


def answered(span: Span) -> tuple[tuple[Said, ...] | None, str]:
    """Return what a model answered, None where that is not recorded, and why it stopped."""
    stop = span.text(*genai.READ_STOP)
    for held in _holders(span):
        raw = held.get(genai.OUTPUT_MESSAGES)
        if raw is not None:
            answer = read_answer(None if _cut(raw) else _parsed(raw))
            return answer.said, stop or answer.stop
    for prefix in genai.ANSWERED:
        found = _numbered(span, prefix, "assistant")
        if found:
            return found, stop or span.text(f"{prefix}.0.finish_reason")
    told = [said for event in span.events for said in _event(event, answer=True)]
    if told:
        reasons = (event.attributes.get("finish_reason") for event in span.events)
        return tuple(told), stop or next((as_text(one) for one in reasons if one), "")
    vercel = _vercel(span)
    if vercel:
        return vercel, stop
    raw = span.first("gcp.vertex.agent.llm_response", *genai.READ_OUTPUTS)
    if raw is None:
        return None, stop
    answer = read_answer(raw)
    return answer.said, stop or answer.stop


def tools_of(span: Span) -> frozenset[str] | None:
    """Return the names of the tools that were on offer, or None where that is not recorded."""
    for name in genai.READ_SCHEMAS:
        raw = span.attributes.get(name)
        if raw is not None:
            return offered(_parsed(raw))
    for prefix in genai.OFFERED:
        tree = _tree(span.attributes, prefix)
        if tree is not None:
            named = (_parsed(one.get("json_schema", one)) for one in _each(_plain(tree)))
            direct = [one.get("name") for one in _each(_plain(tree))]
            known = frozenset(name for name in direct if isinstance(name, str) and name)
            return known or offered(list(named))
    return None


def _holders(span: Span) -> Iterator[Mapping[str, Any]]:
    """Yield where attributes of messages may stand: the span, and the event made for them."""
    yield span.attributes
    for event in span.events:
        if event.name == genai.DETAILS_EVENT:
            yield event.attributes


def _system(held: Mapping[str, Any]) -> tuple[Said, ...]:
    raw = held.get(genai.SYSTEM_INSTRUCTIONS)
    text = "" if raw is None or _cut(raw) else text_of(_parsed(raw))
    return (Said("system", text),) if text else ()


def _event(event: Moment, *, answer: bool) -> Iterator[Said]:
    """Yield the messages of an event that is one, of the answer or of what was sent."""
    held = event.attributes
    role = genai.MESSAGE_EVENTS.get(event.name)
    body = _parsed(held.get("gen_ai.event.content"))
    if role is not None and not answer:
        fields = {**held, **(body if isinstance(body, Mapping) else {})}
        fields["role"] = role
        fields["tool_calls"] = _parsed(fields.get("tool_calls"))
        fields["content"] = _parsed(fields.get("content"))
        yield from read_messages(fields) or ()
    elif event.name == genai.CHOICE_EVENT and answer:
        fields = {**held, **(body if isinstance(body, Mapping) else {})}
        inner = _parsed(fields.get("message"))
        if isinstance(inner, str):
            inner = {"content": inner}
        message = {**fields, **(inner if isinstance(inner, Mapping) else {}), "role": "assistant"}
        message["tool_calls"] = _parsed(message.get("tool_calls"))
        yield from read_messages(message, "assistant") or ()
    elif event.name == genai.PROMPT_EVENT and not answer:
        yield from read_messages(held.get("gen_ai.prompt"), "user") or ()
    elif event.name == genai.COMPLETION_EVENT and answer:
        yield from read_messages(held.get("gen_ai.completion"), "assistant") or ()


def _vercel(span: Span) -> tuple[Said, ...]:
    """Return an answer as Vercel's AI SDK writes it."""
    text, calls = span.text("ai.response.text"), _parsed(span.first("ai.response.toolCalls"))
    if not text and calls is None:
        return ()
    message = {"role": "assistant", "content": text, "tool_calls": _vercel_calls(calls)}
    return read_messages(message, "assistant") or ()


def _vercel_calls(calls: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": one.get("toolCallId"),
            "name": one.get("toolName"),
            "arguments": one.get("args", one.get("input")),
        }
        for one in _each(calls)
    ]


# ---------------------------------------------------------------------------- numbered names


def _numbered(span: Span, prefix: str, role: str) -> tuple[Said, ...] | None:
    """Return messages from attributes `prefix.0.role`, `prefix.0.content` and so on."""
    tree = _tree(span.attributes, prefix)
    if tree is None:
        return None
    return read_messages(_plain(tree), role)


def _tree(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    """Return what the attributes below `prefix` say, nested as their names are."""
    root: dict[str, Any] = {}
    dotted = f"{prefix}."
    for name, value in attributes.items():
        if not name.startswith(dotted) or isinstance(value, dict):
            continue
        place = root
        *path, last = name[len(dotted) :].split(".")[:_DEPTH_MAX]
        for part in path:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        if not isinstance(place.get(last), dict):
            place[last] = value
    return root or None


def _plain(raw: Any) -> Any:
    """Return lists for numbered names, and what is nested under its kind's own name as it is."""
    if not isinstance(raw, dict):
        return raw
    if raw and all(key.isdecimal() and len(key) < _DEPTH_MAX for key in raw):
        return [_plain(raw[key]) for key in sorted(raw, key=int)]
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        plain = _plain(value)
        if key in _WRAPS and isinstance(plain, dict):
            fields.update(plain)
        else:
            fields["content" if key == "contents" else key] = plain
    if isinstance(fields.get("tool_calls"), str):
        fields["tool_calls"] = _parsed(fields["tool_calls"])
    name = fields.pop("function_call_name", None)
    if isinstance(name, str) and name:
        given = fields.pop("function_call_arguments_json", None)
        fields["function_call"] = {"name": name, "arguments": given}
    return fields


def _each(raw: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        yield from (one for one in raw if isinstance(one, Mapping))


def _cut(raw: Any) -> bool:
    """Whether a list of messages was cut off in the middle, as backends do with long values."""
    return isinstance(raw, str) and raw.lstrip()[:2] in {"[{", "[]"} and _parsed(raw) is raw


def _parsed(raw: Any) -> Any:
    """Return the object or list that a JSON text is, or `raw` as it is."""
    if isinstance(raw, str) and raw.lstrip()[:1] in {"{", "["}:
        read = read_value(raw.strip())
        if isinstance(read, dict | list):
            return read
    return raw
