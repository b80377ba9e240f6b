"""What tools return survives a journal as plain data, and nothing else is made of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.types import Command, Overwrite, Send

from undercroft.adapters.frameworks.langchain.results import data_of, returned_of
from undercroft.errors import EncodeError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


def kept(returned: Any) -> Any:
    """Return what comes out of a journal for what a tool returned."""
    data = msgspec.msgpack.decode(msgspec.msgpack.encode(data_of(returned)))
    return returned_of(data, name="tool", call_id="c1")


def result(content: Any = "x", **more: Any) -> ToolMessage:
    """Return a result as a tool node gets it."""
    return ToolMessage(content, tool_call_id="c1", name="tool", **more)


def test_a_result_of_plain_text_is_that_text() -> None:
    """Most are; whoever reads the journal reads what the tool said."""
    assert data_of(result("70 left")) == "70 left"


@pytest.mark.parametrize(
    "returned",
    [
        result([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]),
        result(artifact={"rows": [1, (2, 3)], 4: b"x"}),
        result(artifact=Document("page", metadata={"n": 1})),
        result(additional_kwargs={"k": 1}),
        Command(update={"messages": [result(), HumanMessage("h")], "n": 3}),
        Command(update={"messages": [RemoveMessage("m1")]}, goto="next"),
        Command(goto=[Send("node", {"x": 1})], graph=Command.PARENT),
        Command(update={"list": Overwrite([1])}),
        [result("a"), Command(update={"messages": [AIMessage("hi")]})],
    ],
    ids=str,
)
def test_what_a_tool_node_gets_comes_back_as_it_was(returned: Any) -> None:
    """Messages with artifacts and blocks, commands, and lists of them."""
    assert kept(returned) == returned


@given(PLAIN)
def test_any_plain_artifact_comes_back_as_it_was(artifact: Any) -> None:
    """Keys that are no text, or look like ours, included."""
    assert kept(result(artifact=[artifact])).artifact == [artifact]


def test_what_cannot_be_written_down_is_an_error_when_it_is_wanted() -> None:
    """And never quietly something else."""
    with pytest.raises(EncodeError, match="object"):
        kept(result(artifact=[object()]))


@given(st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_data_of_anybody_elses_is_no_message_unless_it_is_one(data: Any) -> None:
    """A value that a fallback or an older version recorded is text to the model."""
    assert returned_of(data, name="tool", call_id="c1") is None


def test_no_class_is_made_by_a_name_that_the_data_holds() -> None:
    """A journal that somebody wrote to can make messages, documents and commands: no more."""
    evil = {"lc": 1, "type": "constructor", "id": ["langchain_openai", "ChatOpenAI"], "kwargs": {}}
    assert returned_of({"$tuple": [evil]}, name="tool", call_id="c1") is None
    told = returned_of({"$command": {"update": {"x": evil}}}, name="tool", call_id="c1")
    assert told == Command(update={"x": evil})
    with pytest.raises(ValueError, match="type"):
        returned_of({"$message": {"type": "os.system", "data": {}}}, name="tool", call_id="c1")
