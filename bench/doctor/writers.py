"""Runs written out as others' systems would record them: chat logs of two shapes, and spans.

What `Run.spans` may ask of spans: `no_status`, `no_time`, `no_result` (ids of calls), `no_prompt`,
`overflow`, `full` (numbers of requests to the model), `forgets` (from which request on
the system message is gone), `forgets_fact` (the same for the first message of the user),
`overlap` (ids of two calls, of which the second begins while the first one runs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.doctor.runs import Batch, Beat, Call, Run, Say

Written = dict[str, Any]
WINDOW_TOKENS = 128_000
_BEGAN_NS = 1_767_225_600_000_000_000  # 2026-01-01
_SECOND_NS = 1_000_000_000


def openai(run: Run) -> Written:
    """Return a chat log in OpenAI's shape."""
    messages: list[Written] = []
    for beat in run.beats:
        messages += _openai_beat(beat)
    made: Written = {"trace_id": run.trace_id, "messages": messages}
    if run.error:
        made["error"] = run.error
    return made


def _openai_beat(beat: Beat) -> list[Written]:
    if isinstance(beat, Say):
        said = {"role": beat.role, "content": beat.text}
        return [{**said, "name": beat.actor} if beat.actor else said]
    asked = []
    for call in beat.calls:
        function = {"name": call.name, "arguments": json.dumps(call.args, ensure_ascii=False)}
        one: Written = {"type": "function", "function": function}
        asked.append({"id": call.id, **one} if call.id else one)
    proposal: Written = {"role": "assistant", "content": beat.text or None, "tool_calls": asked}
    if beat.actor:
        proposal["name"] = beat.actor
    results: list[Written] = []
    for call in beat.calls:
        if call.result is not None:
            said = {"role": "tool", "name": call.name, "content": call.result}
            results.append({**said, "tool_call_id": call.id} if call.id else said)
    return [proposal, *results]


def anthropic(run: Run) -> Written:
    """Return a chat log in Anthropic's shape."""
    messages: list[Written] = []
    system = ""
    for beat in run.beats:
        if isinstance(beat, Say):
            if beat.role == "system":
                system += beat.text
            else:
                messages.append({"role": beat.role, "content": beat.text})
            continue
        blocks: list[Written] = [{"type": "text", "text": beat.text}] if beat.text else []
        results: list[Written] = []
        for call in beat.calls:
            blocks.append(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.args)}
            )
            if call.result is not None:
                result: Written = {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": call.result,
                }
                results.append(result if call.ok else {**result, "is_error": True})
        messages.append({"role": "assistant", "content": blocks})
        if results:
            messages.append({"role": "user", "content": results})
    made: Written = {"trace_id": run.trace_id, "messages": messages}
    if system:
        made["system"] = system
    if run.error:
        made["error"] = run.error
    return made


def otlp(run: Run) -> Written:
    """Return the run's spans as OTLP JSON, named by the GenAI conventions."""
    return _Spans(run).document()


class _Spans:
    """Spans of one run, on a clock of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._trace = hashlib.sha256(run.trace_id.encode()).hexdigest()[:32]
        self._now = _BEGAN_NS
        self._spans: list[Written] = []
        self._asked = 0
        self._heard: list[Written] = []
        self._began: dict[str, int] = {}

    def document(self) -> Written:
        """Write all of them."""
        root = self._span("invoke_agent", 0, {"gen_ai.agent.name": "assistant"}, parent="")
        beats = self._run.beats
        for beat in beats:
            if isinstance(beat, Batch):
                self._asking(beat)
                # What was proposed together runs together.
                began = ended = self._now
                for call in beat.calls:
                    self._now = began
                    self._calling(call, beat)
                    ended = max(ended, self._now)
                self._now = ended
            elif beat.role == "assistant":
                self._asking(beat)
            else:
                self._heard.append(_part(beat.role, {"type": "text", "content": beat.text}))
                self._now += 20 * _SECOND_NS
        root["endTimeUnixNano"] = str(self._now)
        if self._run.error:
            root["status"] = {"code": 2, "message": self._run.error}
        spans = self._spans if beats else [root]
        return {
            "resourceSpans": [
                {
                    "resource": {"attributes": _attributes({"service.name": "agent"})},
                    "scopeSpans": [{"scope": {"name": "agent"}, "spans": spans}],
                }
            ]
        }

    def _span(
        self, operation: str, took_ns: int, attributes: Mapping[str, Any], parent: str = "root"
    ) -> Written:
        n = len(self._spans)
        made: Written = {
            "traceId": self._trace,
            "spanId": f"{n + 1:016x}",
            "name": operation,
            "kind": 1,
            "startTimeUnixNano": str(self._now),
            "endTimeUnixNano": str(self._now + took_ns),
            "attributes": _attributes({"gen_ai.operation.name": operation, **attributes}),
            "status": {"code": 1},
        }
        if parent:
            made["parentSpanId"] = f"{1:016x}"
        self._spans.append(made)
        return made

    def _asking(self, beat: Beat) -> None:
        asks = self._run.spans
        n = self._asked
        self._asked += 1
        heard = list(self._heard)
        if n >= asks.get("forgets", 10**9):
            heard = [m for m in heard if m["role"] != "system"]
        if n >= asks.get("forgets_fact", 10**9):
            first = next((m for m in heard if m["role"] == "user"), None)
            heard = [m for m in heard if m is not first]
        parts: list[Written] = []
        if isinstance(beat, Say) or beat.text:
            parts.append({"type": "text", "content": beat.text})
        parts += [
            {"type": "tool_call", "id": c.id, "name": c.name, "arguments": dict(c.args)}
            for c in (beat.calls if isinstance(beat, Batch) else ())
        ]
        said = {"role": "assistant", "parts": parts}
        stop = "tool_calls" if isinstance(beat, Batch) else "stop"
        tokens = sum(len(json.dumps(m)) for m in heard) // 4
        if n == asks.get("full"):
            tokens = int(WINDOW_TOKENS * 0.985)
        attributes: Written = {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": tokens,
            "gen_ai.usage.output_tokens": len(json.dumps(parts)) // 4,
        }
        if n != asks.get("no_prompt"):
            attributes["gen_ai.input.messages"] = json.dumps(heard)
        if n == asks.get("overflow"):
            self._overflow(attributes)
        attributes["gen_ai.output.messages"] = json.dumps([{**said, "finish_reason": stop}])
        attributes["gen_ai.response.finish_reasons"] = [stop]
        if beat.actor:
            attributes["gen_ai.agent.name"] = beat.actor
        self._span("chat", _SECOND_NS, attributes)
        self._now += _SECOND_NS
        self._heard.append(said)

    def _overflow(self, attributes: Written) -> None:
        failed = self._span("chat", _SECOND_NS // 5, {**attributes, "error.type": "400"})
        failed["status"] = {
            "code": 2,
            "message": "context_length_exceeded: This model's maximum context length is 128000 "
            "tokens. However, your messages resulted in 131072 tokens.",
        }
        self._now += _SECOND_NS

    def _calling(self, call: Call, batch: Batch) -> None:
        asks = self._run.spans
        attributes: Written = {
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": json.dumps(call.args),
        }
        if batch.actor:
            attributes["gen_ai.agent.name"] = batch.actor
        if call.result is not None and call.id not in asks.get("no_result", ()):
            attributes["gen_ai.tool.call.result"] = call.result
        if not call.ok and call.id not in asks.get("no_status", ()):
            attributes["error.type"] = "tool_error"
        first, second = asks.get("overlap", ("", ""))
        now = self._now
        took = int(call.took_s * _SECOND_NS)
        if second and call.id == second:
            self._now = self._began[first] + _SECOND_NS // 20
        made = self._span("execute_tool", took, attributes)
        self._began[call.id] = self._now
        if not call.ok:
            made["status"] = {"code": 2, "message": (call.result or "")[:200]}
        if call.id in asks.get("no_status", ()):
            del made["status"]
        if call.id in asks.get("no_time", ()):
            del made["startTimeUnixNano"], made["endTimeUnixNano"]
        self._now = max(now, self._now + took)
        result = {"type": "tool_call_response", "id": call.id, "response": call.result}
        self._heard.append(_part("tool", result))


def _part(role: str, part: Written) -> Written:
    return {"role": role, "parts": [part]}


def _attributes(given: Mapping[str, Any]) -> list[Written]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(value: Any) -> Written:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}


WRITERS: Mapping[str, Callable[[Run], Written]] = {
    "openai": openai,
    "anthropic": anthropic,
    "otlp": otlp,
}
