"""Answers that stream: asked for again before they began, and never after."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelAPIError

import undercroft as uc
from tests.frameworks.pydantic_ai.bank import agent_of, model_at
from tests.provider import Answer, Cut, Provider, Reply, Status


async def test_a_stream_that_never_began_is_asked_for_again() -> None:
    """Nobody has read anything of it yet."""
    script: list[Reply] = [Status(status=503, headers={"retry-after": "0"}), Answer(text="hello")]
    with Provider(script) as provider:
        async with model_at(provider) as model, agent_of(model, []).run_stream("hi") as stream:
            assert await stream.get_output() == "hello"
        assert len(provider.requests) == 2


async def test_a_stream_that_broke_is_not_asked_for_again(tmp_path: Path) -> None:
    """What was read cannot be taken back: the reader is told, and the record says so."""
    script = [Cut(answer=Answer(text="once upon a time there was"), events=2)]
    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider(script) as provider:
            async with model_at(provider) as model:
                agent = agent_of(model, [], runtime=rt)
                with pytest.raises(ModelAPIError):
                    async with agent.run_stream("hi") as stream:
                        await stream.get_output()
            assert len(provider.requests) == 1
        (turn,) = rt.turns()
        assert turn.status == "failed"
        (step,) = rt.trace(turn.turn_id).steps
        assert step.status == "failed"
        assert step.error is not None
        assert "broke off" in step.error.message


async def test_a_reader_who_leaves_ends_the_asking(tmp_path: Path) -> None:
    """The rest of an answer that nobody reads is of no interest, and holds nothing up."""
    with Provider([Answer(text="once upon a time there was a king")]) as provider:
        async with uc.Runtime(tmp_path / "j.db") as rt:
            async with model_at(provider) as model:
                agent = agent_of(model, [], runtime=rt)
                async with agent.run_stream("hi") as stream:
                    async for _ in stream.stream_text(debounce_by=None):
                        break
            (turn,) = rt.turns()
            assert turn.status != "running"


async def test_what_streamed_to_the_user_is_what_they_were_told(tmp_path: Path) -> None:
    """A turn that streamed its answer ends as any other."""
    async with uc.Runtime(tmp_path / "j.db") as rt:
        with Provider([Answer(text="hello")]) as provider:
            async with (
                model_at(provider) as model,
                agent_of(model, [], runtime=rt).run_stream("hi") as stream,
            ):
                assert await stream.get_output() == "hello"
        (turn,) = rt.turns()
        assert turn.status == "done"
        assert rt.trace(turn.turn_id).delivered == "hello"
