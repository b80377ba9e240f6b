"""What tools return: to the model as ever, and after a resume as plain data."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, ImageUrl, ToolReturn
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ToolReturnPart,
    UserPromptPart,
)

from tests.frameworks.pydantic_ai.bank import agent_of, model_at, proposes
from tests.provider import Call, Provider
from undercroft.adapters.frameworks.pydantic_ai.results import plain, rebuilt

PIXEL = BinaryContent(b"\x89PNG...", media_type="image/png")


class Account(BaseModel):
    """A structure of the user's own."""

    name: str
    since: dt.date


@dataclass
class Note:
    """Another."""

    text: str


VALUES: list[Any] = [
    "text",
    7,
    None,
    [1, {"a": [True, 2.5]}],
    {"kind": "binary"},
    Account(name="ada", since=dt.date(2020, 1, 2)),
    Note("x"),
    (1, 2),
    PIXEL,
    ["see", PIXEL, ImageUrl("https://example.org/a.png")],
    ToolReturn(return_value={"ok": True}, content=["look", PIXEL], metadata={"n": 1}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
async def test_a_recorded_result_reads_like_the_live_one(tmp_path: Path, value: Any) -> None:
    """A run that goes on from saved messages says to the model what the first one would have."""
    called = 0

    async def look() -> Any:
        nonlocal called
        called += 1
        return value

    with Provider(proposes(Call("look", {}, id="a")), strict=False) as provider:
        async with model_at(provider) as model:
            live = await agent_of(model, [look], tmp_path / "j.db").run("go")
            # As it was before the call ran.
            begun = live.all_messages()[:2]
            kept = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(begun))
            again = await agent_of(model, [look], tmp_path / "j.db").run(message_history=kept)
        assert provider.requests[1].body["messages"] == provider.requests[2].body["messages"]
    assert called == 1
    first, second = (_returned(result.all_messages()[2]) for result in (live, again))
    assert [part.model_response_str() for part in first] == [
        part.model_response_str() for part in second
    ]
    assert [_files(part) for part in first] == [_files(part) for part in second]


def _returned(message: Any) -> list[ToolReturnPart]:
    assert isinstance(message, ModelRequest)
    assert any(isinstance(part, ToolReturnPart | UserPromptPart) for part in message.parts)
    return [part for part in message.parts if isinstance(part, ToolReturnPart)]


def _files(part: ToolReturnPart) -> list[Any]:
    return [getattr(file, "data", None) or getattr(file, "url", None) for file in part.files]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_result_is_plain_data(value: Any) -> None:
    """Nothing but what JSON has is written down, and what comes back says the same."""
    data = plain(value)
    assert plain(rebuilt(json.loads(json.dumps(data)))) == data
