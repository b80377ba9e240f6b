"""What `undercroft check` is told of an agent of LangChain's, and of a version that is wrong."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.tools import StructuredTool, tool
from langgraph.prebuilt import ToolNode

import undercroft as uc
from undercroft.adapters.frameworks.langchain import Undercroft, tools_of
from undercroft.errors import DeclarationError

ROOT = Path(__file__).parents[3]


def pay(account: str) -> str:
    """Pay an account."""
    return account


@tool
def look(account: str) -> str:
    """Look at an account."""
    return account


class Model(GenericFakeChatModel):
    """Says nothing."""

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        """Return itself."""
        return self


def agents() -> list[Any]:
    """Return all that has tools."""
    model = Model(messages=iter([]))
    asks = HumanInTheLoopMiddleware({"pay": True})
    return [
        create_agent(model, [pay, look]),
        create_agent(model, [pay, look], middleware=[asks, Undercroft(uc.Runtime())]),
        ToolNode([pay, look]),
        [pay, look],
    ]


@pytest.mark.parametrize("agent", agents(), ids=["agent", "asking", "node", "list"])
def test_the_tools_of_an_agent_are_found(agent: Any) -> None:
    """With their schemas, and what they were made of, by which they are declared."""
    found = {one.name: one for one in tools_of(agent)}
    assert sorted(found) == ["look", "pay"]
    assert found["pay"].description == "Pay an account."
    assert list(found["pay"].schema["properties"]) == ["account"]
    assert pay in found["pay"].origins
    assert look in found["look"].origins


def test_what_a_person_is_asked_about_by_the_framework_is_told() -> None:
    """The middleware for approvals names its tools where it is made."""
    found = {one.name: one.hints.approval for one in tools_of(agents()[1])}
    assert found == {"pay": True, "look": False}


def test_annotations_of_mcp_are_hints() -> None:
    """As adapters of MCP hand them on, in the metadata of a tool."""
    made = StructuredTool.from_function(pay, metadata={"readOnlyHint": True})
    (found,) = tools_of([made])
    assert found.hints.read_only
    assert not found.hints.destructive


@pytest.mark.parametrize("given", [7, "agent", [], object()])
def test_what_has_no_tools_is_refused(given: Any) -> None:
    """The error says what can be given."""
    with pytest.raises(DeclarationError, match="ToolNode"):
        tools_of(given)


@pytest.mark.parametrize("version", ["1.3.9", "2.0.0", "0.3"])
def test_a_version_that_was_never_tried_is_refused_at_import(version: str) -> None:
    """The error names what is installed, the range, and the mend."""
    code = (
        "import importlib.metadata as m; real = m.version;"
        f"m.version = lambda name: {version!r} if name == 'langchain' else real(name);"
        "import undercroft.adapters.versions as v; v.version = m.version;"
        "import undercroft.adapters.frameworks.langchain"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    said = done.stderr.splitlines()[-1]
    assert f"langchain {version} is installed" in said
    assert "pip install 'undercroft[langchain]'" in said
    assert importlib.metadata.version("langchain") not in said
