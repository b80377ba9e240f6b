"""One conversation in all the ways in which spans tell of it comes to the same run."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.doctor.spanning import TRACE, came, document, message, read, span, wanted
from undercroft.doctor.importers.otlp import FORMAT
from undercroft.model.case import Basis, CallStatus, Case, Facet

# A user asks; the model looks something up, then tries to change it, and says that it did.
ASKED, SAID = "Make #A1001 gold.", "Done: #A1001 is gold."
GET, SET = {"order_id": "#A1001"}, {"order_id": "#A1001", "tier": "gold"}
FOUND, WRONG = '{"tier": "basic"}', "Error: order is locked"


def new(*, content: bool = True) -> list[dict[str, Any]]:
    """Return spans of the GenAI conventions as they are now."""
    first = [message("user", ASKED)]
    second = [*first, message("assistant", wanted("c1", "get_order", **GET)), came("c1", FOUND)]
    third = [*second, message("assistant", wanted("c2", "set_tier", **SET)), came("c2", WRONG)]

    def chat(n: int, sent: list[Any], said: dict[str, Any]) -> dict[str, Any]:
        told = {
            "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be kind."}]),
            "gen_ai.input.messages": json.dumps(sent),
            "gen_ai.output.messages": json.dumps([{**said, "finish_reason": "stop"}]),
        }
        return span(
            n,
            "chat gpt",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt",
                "gen_ai.usage.input_tokens": 100 * n,
                "gen_ai.usage.output_tokens": 7,
                "gen_ai.response.finish_reasons": ["stop"],
                **(told if content else {}),
            },
            parent=0,
        )

    def tool(n: int, name: str, call: str, given: dict[str, Any], result: str) -> dict[str, Any]:
        told = {"gen_ai.tool.call.arguments": json.dumps(given), "gen_ai.tool.call.result": result}
        return span(
            n,
            f"execute_tool {name}",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.id": call,
                **(told if content else {}),
                **({"error.type": "LockedError"} if result == WRONG else {}),
            },
            parent=0,
            code=2 if result == WRONG else 0,
            message="order is locked" if result == WRONG else "",
        )

    return [
        span(0, "invoke_agent desk", {"gen_ai.operation.name": "invoke_agent",
                                      "gen_ai.agent.name": "desk"}, took_s=9),
        chat(1, first, message("assistant", wanted("c1", "get_order", **GET))),
        tool(2, "get_order", "c1", GET, FOUND),
        chat(3, second, message("assistant", wanted("c2", "set_tier", **SET))),
        tool(4, "set_tier", "c2", SET, WRONG),
        chat(5, third, message("assistant", SAID)),
    ]  # fmt: skip


def _old_call(call: str, name: str, given: dict[str, Any]) -> str:
    function = {"name": name, "arguments": json.dumps(given)}
    return json.dumps([{"id": call, "type": "function", "function": function}])


def old() -> list[dict[str, Any]]:
    """Return spans of the GenAI conventions up to 1.36: messages are events."""
    first = [
        ("gen_ai.system.message", {"content": "Be kind."}),
        ("gen_ai.user.message", {"content": ASKED}),
    ]
    get = _old_call("c1", "get_order", GET)
    put = _old_call("c2", "set_tier", SET)
    second = [
        *first,
        ("gen_ai.assistant.message", {"tool_calls": get}),
        ("gen_ai.tool.message", {"id": "c1", "content": FOUND}),
    ]
    third = [
        *second,
        ("gen_ai.assistant.message", {"tool_calls": put}),
        ("gen_ai.tool.message", {"id": "c2", "content": WRONG}),
    ]
    made = new(content=False)
    chats: list[tuple[int, list[tuple[str, dict[str, Any]]], dict[str, Any]]] = [
        (1, first, {"tool_calls": json.loads(get)}),
        (3, second, {"tool_calls": json.loads(put)}),
        (5, third, {"content": SAID}),
    ]
    for n, sent, said in chats:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt",
            "gen_ai.usage.prompt_tokens": 100 * n,
            "gen_ai.usage.completion_tokens": 7,
        }
        choice = {"index": 0, "finish_reason": "stop", "message": json.dumps(said)}
        events = [*sent, ("gen_ai.choice", choice)]
        made[n] = span(n, "chat gpt", attributes, parent=0, events=events)
    return made


def openinference() -> list[dict[str, Any]]:
    """Return spans of OpenInference: messages are attributes of numbered names."""

    def flat(prefix: str, sent: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place, one in enumerate(sent):
            for key, held in one.items():
                found[f"{prefix}.{place}.message.{key}"] = held
        return found

    def calls(call: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        at = "tool_calls.0.tool_call"
        return {
            "role": "assistant",
            f"{at}.id": call,
            f"{at}.function.name": name,
            f"{at}.function.arguments": json.dumps(given),
        }

    first: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "contents.0.message_content.type": "text",
         "contents.0.message_content.text": ASKED},
    ]  # fmt: skip
    get, put = calls("c1", "get_order", GET), calls("c2", "set_tier", SET)
    second = [*first, get, {"role": "tool", "content": FOUND, "tool_call_id": "c1"}]
    third = [*second, put, {"role": "tool", "content": WRONG, "tool_call_id": "c2"}]

    def model(n: int, sent: list[dict[str, Any]], said: dict[str, Any]) -> dict[str, Any]:
        attributes = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt",
            "llm.token_count.prompt": 100 * n,
            "llm.token_count.completion": 7,
            **flat("llm.input_messages", sent),
            **flat("llm.output_messages", [said]),
        }
        return span(n, "ChatCompletion", attributes, parent=0, code=1)

    def tool(n: int, name: str, given: dict[str, Any], result: str) -> dict[str, Any]:
        attributes = {
            "openinference.span.kind": "TOOL",
            "tool.name": name,
            "input.value": json.dumps(given),
            "input.mime_type": "application/json",
            "output.value": result,
        }
        if result != WRONG:
            return span(n, name, attributes, parent=0, code=1)
        raised = {"exception.type": "LockedError", "exception.message": "order is locked"}
        return span(n, name, attributes, parent=0, code=2, events=[("exception", raised)])

    return [
        span(0, "desk", {"openinference.span.kind": "AGENT", "agent.name": "desk"}, took_s=9),
        model(1, first, get),
        tool(2, "get_order", GET, FOUND),
        model(3, second, put),
        tool(4, "set_tier", SET, WRONG),
        model(5, third, {"role": "assistant", "content": SAID}),
    ]


def openllmetry() -> list[dict[str, Any]]:
    """Return spans of OpenLLMetry: `gen_ai.prompt.0.role` and so on."""

    def flat(prefix: str, sent: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            f"{prefix}.{place}.{key}": held
            for place, one in enumerate(sent)
            for key, held in one.items()
        }

    def calls(call: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        at = "tool_calls.0"
        held = {f"{at}.id": call, f"{at}.name": name, f"{at}.arguments": json.dumps(given)}
        return {"role": "assistant", **held}

    first = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ASKED}]
    get, put = calls("c1", "get_order", GET), calls("c2", "set_tier", SET)
    second = [*first, get, {"role": "tool", "content": FOUND, "tool_call_id": "c1"}]
    third = [*second, put, {"role": "tool", "content": WRONG, "tool_call_id": "c2"}]

    def model(n: int, sent: list[Any], said: dict[str, Any]) -> dict[str, Any]:
        attributes = {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.response.model": "gpt",
            "gen_ai.usage.prompt_tokens": 100 * n,
            "gen_ai.usage.completion_tokens": 7,
            **flat("gen_ai.prompt", sent),
            **flat("gen_ai.completion", [{**said, "finish_reason": "stop"}]),
        }
        return span(n, "openai.chat", attributes, parent=0)

    def tool(n: int, name: str, given: dict[str, Any], result: str) -> dict[str, Any]:
        attributes = {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": name,
            "traceloop.entity.input": json.dumps({"args": [], "kwargs": given}),
            "traceloop.entity.output": json.dumps(result),
        }
        bad = result == WRONG
        told = "order is locked" if bad else ""
        return span(n, f"{name}.tool", attributes, parent=0, code=2 if bad else 0, message=told)

    root = {"traceloop.span.kind": "workflow", "traceloop.entity.name": "desk"}
    return [
        span(0, "desk.workflow", root, took_s=9),
        model(1, first, get),
        tool(2, "get_order", GET, FOUND),
        model(3, second, put),
        tool(4, "set_tier", SET, WRONG),
        model(5, third, {"role": "assistant", "content": SAID}),
    ]


DIALECTS = [new, old, openinference, openllmetry]


def facts(case: Case) -> dict[str, Any]:
    """Return what all ways of telling have in common."""
    return {
        "texts": [(t.step, t.role, t.text, t.turn) for t in case.texts],
        "calls": [
            (
                c.step,
                c.ended,
                c.name,
                c.arguments,
                c.status,
                c.batch,
                c.parent,
                c.began_at,
                c.took_s,
            )
            for c in case.calls
        ],
        "asks": [(a.step, a.model, a.input_tokens, a.output_tokens, a.answer) for a in case.asks],
        "prompts": [a.prompt for a in case.asks],
        "error": case.calls[1].error,
        "end": (case.delivered, case.finished, case.flaws, case.steps, case.trace_id),
        "shows": case.shows,
    }


@pytest.mark.parametrize("dialect", DIALECTS[1:])
def test_conventions_differ_and_the_run_is_the_same(
    dialect: Callable[[], list[dict[str, Any]]],
) -> None:
    """Whichever names a library uses, the run has the same calls, texts, prompts and tokens."""
    said, meant = facts(read(document(*dialect()))), facts(read(document(*new())))
    if dialect in {old, openllmetry}:
        # Results stand in their messages only, or the words of the error do.
        said["error"] = meant["error"]
    if dialect is openinference:
        assert "order is locked" in said.pop("error")
        meant.pop("error")
    if dialect is old:
        # Without arguments on the tool's span, those of the proposal are its own.
        assert said["calls"][0][3] == GET
    assert said == meant


def test_a_run_is_read_as_it_was() -> None:
    """Calls have their results, batches and ends; a prompt's repeats are said once."""
    case = read(document(*new()))
    assert [(t.step, t.role, t.text) for t in case.texts] == [
        (1, "system", "Be kind."), (1, "user", ASKED), (5, "assistant", SAID),
    ]  # fmt: skip
    get, put = case.calls
    assert (get.step, get.ended, get.batch, get.parent) == (2, 2, 1, 0)
    assert (get.status, get.result, get.arguments) == (CallStatus.OK, FOUND, GET)
    assert (put.status, put.status_basis) == (CallStatus.FAILED, Basis.DECLARED)
    assert put.error == "order is locked"
    assert case.delivered == SAID
    assert case.trace_id == TRACE
    assert not case.flaws
    assert case.shows == frozenset(Facet) - {Facet.EFFECTS, Facet.GUARDS}


def test_without_content_what_was_said_is_not_shown() -> None:
    """A record that leaves content out does not show it, and shows the rest."""
    case = read(document(*new(content=False)))
    hidden = {Facet.ARGUMENTS, Facet.RESULTS, Facet.PROMPTS, Facet.USERS, Facet.DELIVERED}
    assert not case.shows & hidden
    assert {Facet.CALLS, Facet.STATUSES, Facet.TIMES, Facet.DURATIONS, Facet.TOKENS} <= case.shows
    assert [call.status for call in case.calls] == [CallStatus.OK, CallStatus.FAILED]


def _snake(raw: Any) -> Any:
    if isinstance(raw, list):
        return [_snake(one) for one in raw]
    if isinstance(raw, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): _snake(held)
            for key, held in raw.items()
        }
    return raw


def _base64(made: dict[str, Any]) -> dict[str, Any]:
    found = dict(made)
    for key in ("traceId", "spanId", "parentSpanId"):
        if key in found:
            found[key] = base64.b64encode(bytes.fromhex(found[key])).decode()
    return found


def _plain(made: dict[str, Any]) -> dict[str, Any]:
    """Return a span as the SDK's console exporter prints it."""
    attributes: dict[str, Any] = {}
    for pair in made["attributes"]:
        [(kind, held)] = pair["value"].items()
        if kind == "arrayValue":
            held = [next(iter(one.values())) for one in held["values"]]
        attributes[pair["key"]] = int(held) if kind == "intValue" else held
    codes = ("UNSET", "OK", "ERROR")
    return {
        "name": made["name"],
        "context": {"trace_id": f"0x{made['traceId']}", "span_id": f"0x{made['spanId']}"},
        "parent_id": f"0x{made['parentSpanId']}" if "parentSpanId" in made else None,
        "start_time": int(made["startTimeUnixNano"]) / 1e9,
        "end_time": int(made["endTimeUnixNano"]) / 1e9,
        "status": {
            "status_code": codes[made["status"].get("code", 0)],
            "description": made["status"].get("message"),
        },
        "attributes": attributes,
        "events": [],
    }


def _numbers(made: dict[str, Any]) -> dict[str, Any]:
    times = ("startTimeUnixNano", "endTimeUnixNano")
    status = {**made["status"]}
    if "code" in status:
        status["code"] = "STATUS_CODE_ERROR"
    return {**made, **{key: int(made[key]) for key in times}, "status": status}


@pytest.mark.parametrize(
    "written",
    [
        lambda made: [document(*made)],
        lambda made: [document(one) for one in made],
        lambda made: [_snake(document(*made))],
        lambda made: [document(*map(_base64, made))],
        lambda made: [document(*map(_numbers, made))],
        lambda made: list(map(_plain, made)),
        lambda made: [list(made)],
        lambda made: [{"spans": list(made)}],
        lambda made: [document(*made)["resourceSpans"][0]],
        lambda made: [{"batches": document(*made)["resourceSpans"]}],
    ],
)
def test_a_file_may_be_written_in_many_ways(written: Callable[[Any], list[Any]]) -> None:
    """Keys, ids, times and nesting differ from exporter to exporter, and the run does not."""
    documents = written(new())
    assert all(FORMAT.fits(one) >= 0.9 for one in documents)
    assert facts(read(*documents)) == facts(read(document(*new())))


def test_attributes_may_be_nested() -> None:
    """A backend that nests attributes by their names says the same."""
    made = []
    for one in map(_plain, openinference()):
        nested: dict[str, Any] = {}
        for key, held in one.pop("attributes").items():
            place = nested
            *path, last = key.split(".")
            for part in path:
                place = place.setdefault(part, {})
            place[last] = held
        made.append({**one, "attributes": nested})
    said = read(*made)
    assert [c.arguments for c in said.calls] == [GET, SET]
    assert said.texts == read(document(*openinference())).texts


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [{"role": "user", "content": "x"}]},
        {"id": "r", "trace_id": "t", "run_type": "llm", "start_time": "2024-01-01", "inputs": {}},
        {"id": "o", "traceId": "t", "type": "SPAN", "startTime": "2024-01-01T00:00:00Z"},
        {"object": "trace.span", "id": "span_1", "trace_id": "trace_1", "span_data": {}},
        {"resourceMetrics": []},
        {},
        [],
        "resourceSpans",
        None,
    ],
)
def test_what_is_no_span_does_not_fit(other: Any) -> None:
    """Messages, and the records of other systems, are not taken for spans."""
    assert FORMAT.fits(other) == 0.0


# ---------------------------------------------------------------------------- how calls ended


def ended(code: int = 0, result: str | None = None, wrong: str = "") -> tuple[Any, Any, str]:
    """Return the status of a call whose span says this, on what basis, and its error."""
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get"}
    if wrong:
        told["error.type"] = wrong
    if result is not None:
        told["gen_ai.tool.call.result"] = result
    call = read(document(span(0, "get", told, code=code))).calls[0]
    return call.status, call.status_basis, call.error


def test_how_a_call_ended_is_what_its_span_says_else_what_its_result_does() -> None:
    """An error counts as one; a span without a status is well, unless its result says otherwise."""
    failed, well = CallStatus.FAILED, CallStatus.OK
    assert ended(2)[:2] == (failed, Basis.DECLARED)
    assert ended(wrong="TimeoutError") == (failed, Basis.DECLARED, "TimeoutError")
    assert ended(2, "Error: 503 Service Unavailable")[2] == "Error: 503 Service Unavailable"
    assert ended(2)[2] == "error"
    assert ended(1)[:2] == (well, Basis.DECLARED)
    assert ended()[0] is well
    assert ended(result="42")[0] is well
    assert ended(1, "Error: there is no such order")[:2] == (failed, Basis.INFERRED)


def test_a_span_without_any_word_of_its_status_shows_none() -> None:
    """Where exporters always write a status, one that is not there is not a good one."""
    made = span(0, "get", {"gen_ai.tool.name": "get"})
    del made["status"]
    case = read(document(made))
    assert case.calls[0].status is CallStatus.UNKNOWN
    assert Facet.STATUSES not in case.shows


def test_calls_of_which_only_messages_tell_are_calls() -> None:
    """Where tools have no spans, what models propose and are told counts."""
    case = read(document(*[one for one in new() if not one["name"].startswith("execute")]))
    assert [(c.name, c.result, c.batch) for c in case.calls] == [
        ("get_order", FOUND, 1), ("set_tier", WRONG, 2),
    ]  # fmt: skip
    assert [c.status for c in case.calls] == [CallStatus.OK, CallStatus.FAILED]


CALLING = [{"type": "function", "id": "c1", "function": {"name": "get_order", "arguments": GET}}]
ANSWER = {"role": "assistant", "content": None, "tool_calls": CALLING}


@pytest.mark.parametrize(
    ("model", "tool"),
    [
        (  # Pydantic AI: messages are events in an attribute
            {
                "gen_ai.operation.name": "chat",
                "events": json.dumps([
                    {"event.name": "gen_ai.user.message", "content": ASKED, "role": "user"},
                    {"event.name": "gen_ai.choice", "index": 0, "message": ANSWER},
                ]),
            },
            {"gen_ai.tool.name": "get_order", "gen_ai.tool.call.id": "c1",
             "tool_arguments": json.dumps(GET), "tool_response": FOUND},
        ),
        (  # LangSmith over OpenTelemetry: one attribute for all that went in or came out
            {
                "langsmith.span.kind": "llm",
                "gen_ai.prompt": json.dumps({"messages": [{"role": "user", "content": ASKED}]}),
                "gen_ai.completion": json.dumps({"messages": [ANSWER]}),
            },
            {"langsmith.span.kind": "tool", "gen_ai.prompt": json.dumps(GET),
             "gen_ai.completion": FOUND},
        ),
        (  # MLflow
            {
                "mlflow.spanType": "CHAT_MODEL",
                "mlflow.spanInputs": json.dumps({"messages": [{"role": "user", "content": ASKED}]}),
                "mlflow.spanOutputs": json.dumps({"choices": [{"message": ANSWER}]}),
            },
            {"mlflow.spanType": "TOOL", "mlflow.spanInputs": json.dumps(GET),
             "mlflow.spanOutputs": FOUND},
        ),
        (  # Vercel's AI SDK
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.prompt.messages": json.dumps([{"role": "user", "content": [
                    {"type": "text", "text": ASKED}]}]),
                "ai.response.toolCalls": json.dumps([
                    {"toolCallId": "c1", "toolName": "get_order", "args": GET}]),
            },
            {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "get_order",
             "ai.toolCall.id": "c1", "ai.toolCall.args": json.dumps(GET),
             "ai.toolCall.result": FOUND},
        ),
        (  # smolagents, by OpenInference
            {
                "openinference.span.kind": "LLM",
                "input.value": json.dumps({"messages": [{"role": "user", "content": ASKED}]}),
                "output.value": json.dumps(ANSWER),
            },
            {"openinference.span.kind": "TOOL", "tool.name": "get_order", "output.value": FOUND,
             "input.value": json.dumps(
                 {"args": [], "sanitize_inputs_outputs": True, "kwargs": GET})},
        ),
    ],
)  # fmt: skip
def test_libraries_with_names_of_their_own_are_read(
    model: dict[str, Any], tool: dict[str, Any]
) -> None:
    """Where a library has its own way, the call, its proposal and what the user said are found."""
    case = read(document(span(0, "ask", model), span(1, "get_order", tool)))
    assert [text.text for text in case.texts if text.role == "user"] == [ASKED]
    [call] = case.calls
    assert (call.name, call.arguments, call.result) == ("get_order", GET, FOUND)
    assert (call.step, call.batch) == (1, 0)


def test_tools_on_offer_are_known() -> None:
    """What a model might have called is read, whichever way it is written."""
    schema = json.dumps({"type": "function", "function": {"name": "get_order", "parameters": {}}})
    inference = {"openinference.span.kind": "LLM", "llm.tools.0.tool.json_schema": schema}
    assert read(document(span(0, "llm", inference))).tools == frozenset({"get_order"})
    tools = [{"type": "function", "name": name} for name in ("get_order", "set_tier")]
    told = {"gen_ai.operation.name": "chat", "gen_ai.tool.definitions": json.dumps(tools)}
    assert read(document(span(0, "chat", told))).tools == frozenset({"get_order", "set_tier"})
    assert read(document(*new())).tools is None


def test_messages_may_be_logs() -> None:
    """Libraries that tell messages as logs of a span say the same as in events on it."""
    made, logs = old(), []
    for one in made:
        for event in one.pop("events"):
            body = {pair["key"]: pair["value"] for pair in event["attributes"]}
            held = [{"key": key, "value": held} for key, held in body.items()]
            logs.append({
                "timeUnixNano": event["timeUnixNano"],
                "eventName": event["name"],
                "body": {"kvlistValue": {"values": held}},
                "traceId": one["traceId"],
                "spanId": one["spanId"],
            })  # fmt: skip
    told = {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}
    counted: dict[str, Any] = {"resourceMetrics": [{"scopeMetrics": []}]}
    assert FORMAT.fits(told) > 0
    assert facts(read(told, counted, document(*made))) == facts(read(document(*old())))


def test_a_message_that_was_cut_is_no_message() -> None:
    """JSON that a backend cut off in the middle is not taken for what somebody said."""
    made = new()
    for pair in made[1]["attributes"]:
        if pair["key"] == "gen_ai.input.messages":
            pair["value"]["stringValue"] = pair["value"]["stringValue"][:-5]
    case = read(document(*made))
    assert case.asks[0].prompt is None or all(
        "parts" not in text for _, text in case.asks[0].prompt
    )
    assert all('"parts"' not in text.text for text in case.texts)
