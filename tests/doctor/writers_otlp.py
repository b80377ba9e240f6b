"""One run, written down as spans of OTLP, by each of the conventions that name their attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.doctor.stories import MODEL, START_S, Asked, Ran, Story, asked, first_word


def _attribute(key: str, value: object) -> dict[str, Any]:
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    text = value if isinstance(value, str) else json.dumps(value)
    return {"key": key, "value": {"stringValue": text}}


def _otlp(
    told: Story,
    of_model: Callable[[Asked], dict[str, Any]],
    of_tool: Callable[[Ran], dict[str, Any]],
    of_agent: dict[str, Any],
) -> list[Any]:
    trace = f"{abs(hash_of(told.name)):032x}"
    spans: list[dict[str, Any]] = []

    def add(name: str, began: float, ended: float, error: str, told_of: dict[str, Any]) -> None:
        number = len(spans) + 2
        status: dict[str, Any] = {"code": 2, "message": error} if error else {}
        spans.append({
            "traceId": trace,
            "spanId": f"{number:016x}",
            "parentSpanId": f"{1:016x}",
            "name": name,
            "kind": 1,
            "startTimeUnixNano": str(int(began * 1e9)),
            "endTimeUnixNano": str(int(ended * 1e9)),
            "attributes": [_attribute(k, v) for k, v in told_of.items() if v is not None],
            "status": status,
        })  # fmt: skip

    for one in asked(told):
        add(f"chat {MODEL}", one.began, one.ended, "", of_model(one))
        for ran in one.ran:
            name = f"execute_tool {ran.call.name}"
            add(name, ran.began, ran.ended, ran.call.error, of_tool(ran))
    began, ends = str(int(START_S * 1e9)), [span["endTimeUnixNano"] for span in spans]
    spans.append({
        "traceId": trace, "spanId": f"{1:016x}", "name": "invoke_agent shop", "kind": 1,
        "startTimeUnixNano": began, "endTimeUnixNano": max(ends, key=int, default=began),
        "attributes": [_attribute(k, v) for k, v in of_agent.items()], "status": {},
    })  # fmt: skip
    scope = {"scope": {"name": "shop"}, "spans": spans}
    return [{"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [scope]}]}]


def hash_of(name: str) -> int:
    """Return a number for a name, the same in every process."""
    return int.from_bytes(name.encode()[:15], "big")


def _parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message in the form of OpenTelemetry's conventions from 1.37 on."""
    parts: list[dict[str, Any]] = []
    if message["role"] == "tool":
        one = {"type": "tool_call_response", "id": message["tool_call_id"]}
        parts.append({**one, "response": message["content"]})
    elif message["content"]:
        parts.append({"type": "text", "content": message["content"]})
    for call in message.get("tool_calls") or ():
        arguments = json.loads(call["function"]["arguments"])
        one = {"type": "tool_call", "id": call["id"], "name": call["function"]["name"]}
        parts.append({**one, "arguments": arguments})
    return {"role": message["role"], "parts": parts}


def otlp_new(told: Story) -> list[Any]:
    """Return the run as OTLP JSON, by the GenAI conventions from 1.37 on."""
    return _otlp(
        told,
        lambda one: {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": MODEL,
            "gen_ai.input.messages": [_parts(m) for m in one.prompt if m["role"] != "system"],
            "gen_ai.system_instructions": [{"type": "text", "content": told.system}],
            "gen_ai.output.messages": [
                {**_parts(one.answer), "finish_reason": "tool_call" if one.ran else "stop"}
            ],
            "gen_ai.usage.input_tokens": one.tokens[0],
            "gen_ai.usage.output_tokens": one.tokens[1],
        },
        lambda ran: {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": ran.call.name,
            "gen_ai.tool.call.id": ran.id,
            "gen_ai.tool.call.arguments": dict(ran.call.arguments),
            "gen_ai.tool.call.result": ran.call.text,
            "error.type": "ToolError" if ran.call.error else None,
        },
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop"},
    )


def otlp_openinference(told: Story) -> list[Any]:
    """Return the run as OTLP JSON, by the conventions of OpenInference."""

    def of_model(one: Asked) -> dict[str, Any]:
        found: dict[str, Any] = {
            "openinference.span.kind": "LLM",
            "llm.model_name": MODEL,
            "llm.token_count.prompt": one.tokens[0],
            "llm.token_count.completion": one.tokens[1],
        }
        for key, messages in (("input", one.prompt), ("output", (one.answer,))):
            for n, message in enumerate(messages):
                found |= _flat(f"llm.{key}_messages.{n}.message", message)
        return found

    return _otlp(
        told,
        of_model,
        lambda ran: {
            "openinference.span.kind": "TOOL",
            "tool.name": ran.call.name,
            "input.value": dict(ran.call.arguments),
            "output.value": ran.call.text,
        },
        {"openinference.span.kind": "AGENT", "input.value": first_word(told)},
    )


def _flat(prefix: str, message: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {f"{prefix}.role": message["role"]}
    if message["content"]:
        found[f"{prefix}.content"] = message["content"]
    if "tool_call_id" in message:
        found[f"{prefix}.tool_call_id"] = message["tool_call_id"]
    for n, call in enumerate(message.get("tool_calls") or ()):
        at = f"{prefix}.tool_calls.{n}.tool_call"
        found[f"{at}.id"] = call["id"]
        found[f"{at}.function.name"] = call["function"]["name"]
        found[f"{at}.function.arguments"] = call["function"]["arguments"]
    return found


def otlp_old(told: Story) -> list[Any]:
    """Return the run as OTLP JSON, by the names that OpenLLMetry made common."""

    def of_model(one: Asked) -> dict[str, Any]:
        found: dict[str, Any] = {
            "gen_ai.system": "openai",
            "gen_ai.request.model": MODEL,
            "llm.request.type": "chat",
            "gen_ai.usage.prompt_tokens": one.tokens[0],
            "gen_ai.usage.completion_tokens": one.tokens[1],
        }
        for n, message in enumerate(one.prompt):
            found |= _old(f"gen_ai.prompt.{n}", message)
        return found | _old("gen_ai.completion.0", one.answer)

    return _otlp(
        told,
        of_model,
        lambda ran: {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": ran.call.name,
            "traceloop.entity.input": dict(ran.call.arguments),
            "traceloop.entity.output": ran.call.text,
        },
        {"traceloop.span.kind": "agent", "traceloop.entity.name": "shop"},
    )


def _old(prefix: str, message: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {f"{prefix}.role": message["role"]}
    if message["content"]:
        found[f"{prefix}.content"] = message["content"]
    if "tool_call_id" in message:
        found[f"{prefix}.tool_call_id"] = message["tool_call_id"]
    for n, call in enumerate(message.get("tool_calls") or ()):
        found[f"{prefix}.tool_calls.{n}.id"] = call["id"]
        found[f"{prefix}.tool_calls.{n}.name"] = call["function"]["name"]
        found[f"{prefix}.tool_calls.{n}.arguments"] = call["function"]["arguments"]
    return found
