"""One run, written down as every system of observability would have recorded it.

A writer per format turns a `Story` into what that format's own exporter gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.doctor.stories import (
    MODEL,
    START_S,
    Batch,
    Call,
    Event,
    Reply,
    Story,
    User,
    asked,
    first_word,
    iso,
    last_word,
    result_of,
    story,
)
from tests.doctor.writers_otlp import otlp_new, otlp_old, otlp_openinference

__all__ = [
    "WRITERS",
    "Batch",
    "Call",
    "Event",
    "Reply",
    "Story",
    "User",
    "agents",
    "anthropic_chat",
    "langfuse",
    "langsmith",
    "openai_chat",
    "otlp_new",
    "otlp_old",
    "otlp_openinference",
    "story",
]

# ---------------------------------------------------------------------------- chats


def openai_chat(told: Story) -> list[Any]:
    """Return the run as a chat of OpenAI's form."""
    messages: list[dict[str, Any]] = []
    for one in asked(told):
        messages += one.prompt[len(messages) :]
        messages.append(one.answer)
        messages += [result_of(ran) for ran in one.ran if ran.call.text is not None]
    return [{"trace_id": told.name, "messages": messages}]


def anthropic_chat(told: Story) -> list[Any]:
    """Return the run as a chat of Anthropic's form."""
    messages: list[dict[str, Any]] = []
    for message in openai_chat(told)[0]["messages"]:
        match message:
            case {"role": "system"}:
                continue
            case {"role": "tool"}:
                block = {
                    "type": "tool_result",
                    "tool_use_id": message["tool_call_id"],
                    "content": message["content"],
                }
                if message["content"].startswith("Error: "):
                    block["is_error"] = True
                if messages[-1]["role"] == "user" and isinstance(messages[-1]["content"], list):
                    messages[-1]["content"].append(block)
                else:
                    messages.append({"role": "user", "content": [block]})
            case {"role": "assistant", "tool_calls": calls}:
                blocks: list[dict[str, Any]] = []
                if message["content"]:
                    blocks.append({"type": "text", "text": message["content"]})
                blocks += [
                    {
                        "type": "tool_use",
                        "id": call["id"],
                        "name": call["function"]["name"],
                        "input": json.loads(call["function"]["arguments"]),
                    }
                    for call in calls
                ]
                messages.append({"role": "assistant", "content": blocks})
            case _:
                messages.append(dict(message))
    return [{"trace_id": told.name, "system": told.system, "messages": messages}]


# ---------------------------------------------------------------------------- Langfuse


def langfuse(told: Story) -> list[Any]:
    """Return the run as the API of Langfuse gives a trace."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, name: str, began: float, ended: float, **fields: Any) -> None:
        number = len(rows)
        rows.append({
            "id": f"obs-{number}",
            "traceId": told.name,
            "parentObservationId": "obs-0" if number else None,
            "type": kind,
            "name": name,
            "startTime": iso(began),
            "endTime": iso(ended),
            "level": "DEFAULT",
            "statusMessage": None,
            **fields,
        })  # fmt: skip

    ends = [max([one.ended, *(ran.ended for ran in one.ran)]) for one in asked(told)]
    add("AGENT", "shop", START_S, max(ends, default=START_S), input=first_word(told))
    for one in asked(told):
        add(
            "GENERATION", "answer", one.began, one.ended,
            model=MODEL, input={"messages": list(one.prompt)}, output=one.answer,
            usageDetails={"input": one.tokens[0], "output": one.tokens[1]},
        )  # fmt: skip
        for ran in one.ran:
            failed = {"level": "ERROR", "statusMessage": ran.call.error} if ran.call.error else {}
            add(
                "TOOL", ran.call.name, ran.began, ran.ended,
                input=dict(ran.call.arguments),
                output=ran.call.text if ran.call.error else ran.call.result, **failed,
            )  # fmt: skip
    return [{
        "id": told.name,
        "timestamp": iso(START_S),
        "name": "shop",
        "input": first_word(told),
        "output": last_word(told),
        "sessionId": "s-1",
        "observations": rows,
    }]  # fmt: skip


# ---------------------------------------------------------------------------- LangSmith


def langsmith(told: Story) -> list[Any]:
    """Return the run as runs of LangSmith, messages serialised as LangChain does it."""
    runs: list[dict[str, Any]] = []

    def add(kind: str, name: str, began: float, ended: float, **fields: Any) -> None:
        number = len(runs)
        top = f"{datetime.fromtimestamp(START_S, UTC):%Y%m%dT%H%M%S%f}Z{told.name}"
        runs.append({
            "id": told.name if not number else f"run-{told.name}-{number}",
            "trace_id": told.name,
            "parent_run_id": told.name if number else None,
            "dotted_order": top if not number else f"{top}.{number:06d}",
            "run_type": kind,
            "name": name,
            "start_time": iso(began).removesuffix("Z"),
            "end_time": iso(ended).removesuffix("Z"),
            "status": "success",
            "error": None,
            "session_name": "default",
            "extra": {"metadata": {}},
            **fields,
        })  # fmt: skip

    ends = [max([one.ended, *(ran.ended for ran in one.ran)]) for one in asked(told)]
    said = [{"type": "human", "content": first_word(told)}]
    last = last_word(told)
    final = [*said, {"type": "ai", "content": last}] if last else said
    add(
        "chain", "LangGraph", START_S, max(ends, default=START_S),
        inputs={"messages": said}, outputs={"messages": final},
    )  # fmt: skip
    for one in asked(told):
        add(
            "llm", "ChatOpenAI", one.began, one.ended,
            inputs={"messages": [[serialised(message) for message in one.prompt]]},
            outputs={"generations": [[{
                "text": one.answer["content"] or "",
                "type": "ChatGeneration",
                "message": serialised(one.answer),
            }]]},
            prompt_tokens=one.tokens[0], completion_tokens=one.tokens[1],
            extra={"invocation_params": {"model": MODEL}, "metadata": {}},
        )  # fmt: skip
        for ran in one.ran:
            gave: dict[str, Any] = {
                "type": "tool", "content": ran.call.text, "tool_call_id": ran.id,
                "name": ran.call.name, "status": "error" if ran.call.error else "success",
            }  # fmt: skip
            add(
                "tool", ran.call.name, ran.began, ran.ended,
                inputs={"input": str(dict(ran.call.arguments))},
                outputs=None if ran.call.text is None else {"output": gave},
                **({"status": "error", "error": ran.call.error} if ran.call.error else {}),
            )  # fmt: skip
    return runs


_CLASSES = {
    "system": "SystemMessage", "user": "HumanMessage",
    "assistant": "AIMessage", "tool": "ToolMessage",
}  # fmt: skip


def serialised(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as LangChain serialises it."""
    kwargs: dict[str, Any] = {"content": message["content"] or "", "type": message["role"]}
    if message.get("tool_calls"):
        kwargs["tool_calls"] = [
            {
                "name": call["function"]["name"],
                "args": json.loads(call["function"]["arguments"]),
                "id": call["id"],
                "type": "tool_call",
            }
            for call in message["tool_calls"]
        ]
    if "tool_call_id" in message:
        kwargs["tool_call_id"] = message["tool_call_id"]
    path = ["langchain", "schema", "messages", _CLASSES[message["role"]]]
    return {"lc": 1, "type": "constructor", "id": path, "kwargs": kwargs}


# ---------------------------------------------------------------------------- Agents SDK


def agents(told: Story) -> list[Any]:
    """Return the run as the exporter of the OpenAI Agents SDK sends it."""
    found: list[dict[str, Any]] = [{
        "object": "trace", "id": told.name, "workflow_name": "shop",
        "group_id": None, "metadata": None,
    }]  # fmt: skip

    def add(began: float, ended: float, error: str = "", **data: Any) -> None:
        number = len(found)
        found.append({
            "object": "trace.span",
            "id": f"span_{number}",
            "trace_id": told.name,
            "parent_id": "span_1" if number > 1 else None,
            "started_at": iso(began),
            "ended_at": iso(ended),
            "span_data": data,
            "error": {"message": "Error running tool", "data": {"error": error}} if error else None,
        })  # fmt: skip

    ends = [max([one.ended, *(ran.ended for ran in one.ran)]) for one in asked(told)]
    add(
        START_S, max(ends, default=START_S),
        type="agent", name="shop", handoffs=[], tools=[], output_type="str",
    )  # fmt: skip
    for one in asked(told):
        add(
            one.began, one.ended,
            type="generation", model=MODEL, model_config={},
            input=list(one.prompt), output=[one.answer],
            usage={"input_tokens": one.tokens[0], "output_tokens": one.tokens[1]},
        )  # fmt: skip
        for ran in one.ran:
            add(
                ran.began, ran.ended, ran.call.error,
                type="function", name=ran.call.name,
                input=json.dumps(ran.call.arguments), output=ran.call.text, mcp_data=None,
            )  # fmt: skip
    return found


# By the name of the format, and of the flavour where it has several; each gives documents.
WRITERS: Mapping[str, Callable[[Story], list[Any]]] = {
    "openai-chat": openai_chat,
    "anthropic-chat": anthropic_chat,
    "otlp": otlp_new,
    "otlp old": otlp_old,
    "otlp openinference": otlp_openinference,
    "langfuse": langfuse,
    "langsmith": langsmith,
    "openai-agents": agents,
}
