"""Tools of every kind the SDK permits: what they do reaches the model as before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    FunctionTool,
    ModelBehaviorError,
    ToolGuardrailFunctionOutput,
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
    UserError,
    WebSearchTool,
    function_tool,
    tool_input_guardrail,
)
from pydantic import BaseModel

import undercroft as uc
from tests.frameworks.openai_agents.bank import agent_of, heads, ran, rules, traced
from tests.provider import Answer, Call, Provider, Request
from undercroft.adapters.frameworks.openai_agents import undercroft_agent
from undercroft.adapters.frameworks.openai_agents.outputs import plain


async def shown(tools: list[Any], calls: list[Call], *, guarded: bool, **more: Any) -> list[Any]:
    """Return the outputs of calls as the provider was sent them."""
    with Provider(rules(calls)) as provider:
        async with agent_of(provider, tools, **more) as agent, uc.Runtime() as rt:
            await ran(undercroft_agent(agent, rt) if guarded else agent)
        items = provider.requests[-1].body["input"]
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


class Found(BaseModel):
    """What a tool may return."""

    name: str
    size: int


def no_docstring(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103
    return x


def raises(x: str) -> str:
    """Raise."""
    raise ValueError(f"bad {x}")


def image() -> ToolOutputImage:
    """Return an image."""
    return ToolOutputImage(image_url="data:image/png;base64,AAAA")


def several() -> list[Any]:
    """Return text and a file."""
    return [
        ToolOutputText(text="look"),
        ToolOutputFileContent(file_data="data:text/plain;base64,AA==", filename="a.txt"),
    ]


def pairs() -> Any:
    """Return what is no JSON object."""
    return (1, {2: "x"}, {3})


def nothing() -> None:
    """Return nothing."""


def model() -> Found:
    """Return an object."""
    return Found(name="a", size=1)


def many(first: int, *rest: int, **others: str) -> str:
    """Take anything."""
    return f"{first} {rest} {others}"


async def generator() -> Any:
    """Return what is no value."""
    return (n for n in range(2))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (no_docstring, {"x": 1}),
        (raises, {"x": "y"}),
        (raises, "{broken"),
        (raises, "[1]"),
        (raises, {}),
        (image, {}),
        (several, {}),
        (pairs, {}),
        (nothing, {}),
        (model, {}),
        (many, {"first": 1, "rest": [2, 3], "others": {"a": "b"}}),
    ],
)
async def test_what_a_tool_does_reaches_the_model_as_before(
    function: Callable[..., Any], arguments: Any
) -> None:
    """Values, errors, images and files: the provider is sent just what it was sent without."""
    calls = [Call(function.__name__, arguments)]
    outputs = [
        await shown([function_tool(function, strict_mode=False)], calls, guarded=guarded)
        for guarded in (False, True)
    ]
    refused = isinstance(outputs[1][0], str) and "refused" in outputs[1][0]
    # Arguments that are no object are refused before the tool is asked; its own words are others.
    assert outputs[0] == outputs[1] or (refused and arguments in ("{broken", "[1]", {}))


async def test_a_failure_function_of_the_users_is_still_asked() -> None:
    """It makes the text that the model reads; the journal has the exception."""
    seen: list[Exception] = []

    def said(_context: Any, error: Exception) -> str:
        seen.append(error)
        return f"sorry: {error}"

    tool = function_tool(raises, failure_error_function=said)
    with Provider(rules([Call("raises", {"x": "y"})])) as provider:
        async with agent_of(provider, [tool]) as agent, uc.Runtime() as rt:
            result = await ran(undercroft_agent(agent, rt))
            trace = traced(rt)
    assert result.final_output == "sorry: bad y"
    assert [type(one) for one in seen] == [ValueError]
    [step] = [s for s in trace.steps if s.kind == "tool"]
    assert (step.status, step.error and step.error.type) == ("failed", "ValueError")


async def test_an_exception_that_ends_the_run_still_does() -> None:
    """Without a failure function the SDK raises, and so it does here; the turn failed."""
    tool = function_tool(raises, failure_error_function=None)
    with Provider(rules([Call("raises", {"x": "y"})])) as provider:
        async with agent_of(provider, [tool]) as agent, uc.Runtime() as rt:
            with pytest.raises(UserError, match="bad y") as caught:
                await ran(undercroft_agent(agent, rt))
            [head] = heads(rt)
    assert isinstance(caught.value.__cause__, ValueError)
    assert head.status == "failed"


@pytest.mark.parametrize("behavior", ["error_as_result", "raise_exception"])
async def test_a_tool_that_takes_too_long_is_late_as_before(behavior: Any) -> None:
    """The SDK's own limit counts from when the call begins, and does what its user chose."""

    @function_tool(timeout=0.05, timeout_behavior=behavior)
    async def slow() -> str:
        """Take for ever."""
        await asyncio.Event().wait()
        return ""

    with Provider(rules([Call("slow", {})])) as provider:
        async with agent_of(provider, [slow]) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt)
            if behavior == "raise_exception":
                with pytest.raises(Exception, match="timed out"):
                    await ran(guarded)
                return
            result = await ran(guarded)
    assert "timed out after 0.05 seconds" in result.final_output
    # It may change something, for all that anybody said.
    assert "in_doubt" in result.final_output


async def test_a_guardrail_of_the_users_keeps_a_call_from_running() -> None:
    """Its words reach the model; a sibling that would conflict is not kept waiting."""
    done: list[str] = []

    @tool_input_guardrail
    def no(data: Any) -> ToolGuardrailFunctionOutput:
        if "no" in data.context.tool_arguments:
            return ToolGuardrailFunctionOutput.reject_content("not that")
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(tool_input_guardrails=[no])
    async def put(what: str) -> str:
        """Put."""
        done.append(what)
        return what

    @function_tool(needs_approval=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    batch = [Call("put", {"what": "no"}), Call("put", {"what": "yes"})]
    assert await shown([put, pay], batch, guarded=True) == ["not that", "yes"]
    assert done == ["yes"]


async def test_a_refusal_of_a_tool_with_a_schema_of_its_output_is_no_output() -> None:
    """What was promised has a shape; the refusal goes out beside it, not as it."""

    @function_tool
    async def look(key: str) -> str:
        """Look."""
        return key

    @function_tool
    async def put(key: str) -> Found:
        """Put."""
        return Found(name=key, size=1)

    put.output_json_schema = Found.model_json_schema()
    effects = {"look": {"reads": "r/{key}"}, "put": {"writes": "r/{key}"}}
    batches = (
        [Call("put", {"key": "a"})],
        [Call("look", {"key": "a"})],
        [Call("put", {"key": "a"})],
    )
    with Provider(rules(*batches)) as provider:
        async with agent_of(provider, [look, put]) as agent, uc.Runtime() as rt:
            await ran(undercroft_agent(agent, rt, effects=effects))
        texts = [one.text for one in provider.requests[-1].results]
    assert "refused" in texts[0]
    assert texts[-1] == '{"name":"a","size":1}'


@pytest.mark.parametrize("arguments", [{"x": "1"}, {"x": "2"}])
async def test_two_calls_with_one_id_are_met_as_the_sdk_meets_them(arguments: Any) -> None:
    """The same call twice runs once; two of one id end the run, and nothing hangs."""
    done: list[str] = []

    @function_tool
    async def put(x: str) -> str:
        """Put."""
        done.append(x)
        return x

    calls = [Call("put", {"x": "1"}, "call_1"), Call("put", arguments, "call_1")]
    with Provider(rules(calls)) as provider:
        async with agent_of(provider, [put]) as agent, uc.Runtime() as rt:
            guarded = undercroft_agent(agent, rt)
            if arguments["x"] == "2":
                with pytest.raises(ModelBehaviorError):
                    await ran(guarded)
            else:
                await ran(guarded)
    assert done == ([] if arguments["x"] == "2" else ["1"])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(empty=True),
        Answer(refusal="I will not."),
        Answer(text="half", stop="length"),
        Answer(text="", stop="filter"),
        Answer(calls=[Call("put", '{"x": "1')], stop="length"),
    ],
)
@pytest.mark.parametrize("dialect", ["responses", "chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_that_are_none_end_as_without_it(
    answer: Answer, dialect: str, *, stream: bool
) -> None:
    """An empty choice, a refusal, a filter, a length stop: the same end, or the same error."""

    @function_tool
    async def put(x: str) -> str:
        """Put."""
        return x

    def model(request: Request) -> Answer:
        return answer if request.number == 0 else Answer(text="end")

    ends: list[Any] = []
    for guarded in (False, True):
        with Provider(model, strict=False) as provider:
            async with agent_of(provider, [put], dialect) as agent, uc.Runtime() as rt:
                try:
                    made = undercroft_agent(agent, rt) if guarded else agent
                    ends.append((await ran(made, stream=stream)).final_output)
                except Exception as error:  # noqa: BLE001  which one is what is compared
                    ends.append(type(error))
                if guarded:
                    assert all(head.status != "running" for head in heads(rt))
    assert ends[0] == ends[1]


def test_results_as_data_are_what_a_model_reads_of_them() -> None:
    """Plain data stays; what is none is written as the SDK would show it."""
    assert plain({"a": [1, None, True]}) == {"a": [1, None, True]}
    assert plain((1, 2)) == "(1, 2)"
    assert plain(ToolOutputText(text="x")) == {"type": "text", "text": "x"}
    assert plain([ToolOutputText(text="x")]) == [{"type": "text", "text": "x"}]
    assert plain(Found(name="a", size=1), typed=True) == {"name": "a", "size": 1}
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert isinstance(plain(deep), str)


async def test_hosted_tools_go_out_untouched() -> None:
    """What the provider runs itself is offered as it was."""
    with Provider([Answer(text="found")]) as provider:
        async with agent_of(provider, [WebSearchTool()]) as agent, uc.Runtime() as rt:
            result = await ran(undercroft_agent(agent, rt))
        assert [tool["type"] for tool in provider.requests[0].body["tools"]] == ["web_search"]
    assert result.final_output == "found"


async def test_output_types_and_tool_use_behaviour_work_as_before() -> None:
    """A typed output is parsed; a tool whose result ends the run ends the turn with it."""

    @function_tool
    async def put(x: str) -> str:
        """Put."""
        return f"put {x}"

    with Provider([Answer(text='{"name": "a", "size": 1}')]) as provider:
        async with agent_of(provider, [put], output_type=Found) as agent, uc.Runtime() as rt:
            assert (await ran(undercroft_agent(agent, rt))).final_output == Found(name="a", size=1)
            trace = traced(rt)
            assert trace.delivered == {"name": "a", "size": 1}
    with Provider([Answer(calls=[Call("put", {"x": "1"})])]) as provider:
        more = {"tool_use_behavior": "stop_on_first_tool"}
        async with agent_of(provider, [put], **more) as agent, uc.Runtime() as rt:
            assert (await ran(undercroft_agent(agent, rt))).final_output == "put 1"
            assert traced(rt).delivered == "put 1"


async def test_a_tool_outside_of_a_run_is_just_that_tool() -> None:
    """Whoever calls a guarded tool by hand calls the tool."""

    async def invoke(_context: Any, arguments: str) -> str:
        return arguments

    tool = FunctionTool("echo", "", {"type": "object", "properties": {}}, invoke)
    with Provider([]) as provider:
        async with agent_of(provider, [tool]) as agent:
            guarded = undercroft_agent(agent, uc.Runtime())
    [made] = guarded.tools
    assert isinstance(made, FunctionTool)
    assert await made.on_invoke_tool(None, "{}") == "{}"  # type: ignore[arg-type]
