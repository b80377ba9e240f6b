"""Servers that mean no good cost a call, and never the loop: they are bounded, and left alone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.message import SessionMessage

import undercroft as uc
from undercroft.adapters.mcp import Connection, McpLimits, ServerUnreachableError, connect
from undercroft.adapters.mcp.stdio import Lines
from undercroft.errors import DeclarationError
from undercroft.model.step import ErrorClass, StepStatus

HOSTILE = str(Path(__file__).with_name("hostile.py"))
DEADLINES = {name: {"timeout_s": 0.3} for name in ("hang", "hang_writing")}


def hostile(*modes: str, **settings: Any) -> Connection:
    """Return a server that means no good."""
    return connect([sys.executable, HOSTILE, *modes], service="hostile", **settings)


@asynccontextmanager
async def used(server: Connection, **effects: Any) -> AsyncIterator[tuple[uc.Runtime, Any]]:
    """Have the tools of a server used by a loop."""
    async with server, uc.Runtime() as rt:
        tools = await server.tools()
        guest = rt.guest(rt.toolset("loop", tools, {**DEADLINES, **effects}))
        try:
            yield rt, guest
        finally:
            await guest.end()


async def once(guest: Any, tool: str, /, **arguments: Any) -> uc.Result:
    """Return what comes of one call."""
    result: uc.Result = (await guest.calls([uc.Call(tool, arguments)]))[0]
    return result


async def test_what_hangs_is_ended_by_our_deadline() -> None:
    """A read that hangs is transient, a write is unknown; the server is there for the next call."""
    async with used(hostile()) as (_, guest):
        read = await once(guest, "hang")
        write = await once(guest, "hang_writing")
        after = await once(guest, "passing")
    assert read.error is not None
    assert (read.error.type, read.error.error_class) == ("DeadlineError", ErrorClass.TRANSIENT)
    assert write.status is StepStatus.IN_DOUBT
    assert after.value == "passed"


async def test_what_dies_in_the_middle_is_started_again() -> None:
    """A write that was under way is in doubt and not repeated, a read failed; then all is well."""
    async with used(hostile()) as (_, guest):
        write = await once(guest, "die")
        read = await once(guest, "die_reading")
        after = await once(guest, "passing")
    assert write.status is StepStatus.IN_DOUBT
    assert read.error is not None
    assert read.error.error_class is ErrorClass.TRANSIENT
    assert "'hostile' is gone" in read.error.message
    assert after.value == "passed"


async def test_a_flood_of_bytes_is_not_read() -> None:
    """An answer that is too long costs its call; what is shorter than that is cut, and says so."""
    limits = McpLimits(message_bytes=3 << 20, result_bytes=1_000)
    async with used(hostile(limits=limits), flood={"peeks": "x"}) as (_, guest):
        lost = await once(guest, "flood", mib=50)
        cut = await once(guest, "flood", mib=2)
        after = await once(guest, "passing")
    assert lost.error is not None
    assert lost.error.error_class is ErrorClass.TRANSIENT
    assert "more than 3,145,728 bytes" in lost.error.message
    assert len(cut.value) < 1_200
    assert "the rest was cut off" in cut.value
    assert after.value == "passed"


async def test_a_write_whose_answer_is_not_read_is_in_doubt() -> None:
    """Nobody knows what an answer says that was too long to read."""
    async with used(hostile(limits=McpLimits(message_bytes=1 << 20))) as (_, guest):
        assert (await once(guest, "flood", mib=3)).status is StepStatus.IN_DOUBT


async def test_lines_hold_no_more_than_one_message() -> None:
    """However much comes without an end, what is held stays within the limit and one chunk."""
    heard: list[Any] = []

    async def send(message: SessionMessage | Exception) -> None:
        heard.append(message)

    lines = Lines(send, 1_000)
    await lines.take(b'{"jsonrpc":"2.0","id":"seven","result":{"x":"')
    for _ in range(2_000):
        await lines.take(b"x" * 900)
        assert lines.held_bytes <= 2_000
    await lines.take(b'"}}\n{"jsonrpc":"2.0","method":"after"}\n' + b"y" * 5_000 + b"\n")
    told, after = (item.message for item in heard)
    assert (told.id, told.error.code) == ("seven", -32700)
    assert after.method == "after"


async def test_a_flood_of_notifications_costs_nothing_but_time() -> None:
    """The call goes on, and a list that is said to change thousands of times is listed once."""
    async with used(hostile()) as (_, guest):
        assert (await once(guest, "flood_notes", notes=3_000)).value == "done"
        assert (await once(guest, "passing")).value == "passed"


async def test_garbage_is_passed_over() -> None:
    """Lines that are no messages, and answers to nothing, change nothing."""
    async with used(hostile("noise")) as (_, guest):
        assert (await once(guest, "garbage")).value == "done"
        assert (await once(guest, "passing")).value == "passed"


async def test_answers_that_are_none() -> None:
    """What cannot be read is unknown for a write; an error means what its code says."""
    async with used(hostile(), no_result={"peeks": "x"}, crash={"peeks": "y"}) as (_, guest):
        unread = await once(guest, "no_result")
        off = await once(guest, "off_schema")
        refused = await once(guest, "refuse")
        crashed = await once(guest, "crash")
    assert unread.error is not None
    assert unread.error.error_class is ErrorClass.TRANSIENT
    assert off.status is StepStatus.IN_DOUBT
    assert refused.error is not None
    assert refused.error.error_class is ErrorClass.PERMANENT
    assert "No such thing." in refused.error.message
    assert crashed.error is not None
    assert crashed.error.error_class is ErrorClass.TRANSIENT


async def test_what_can_hardly_be_written_is_tamed() -> None:
    """A result that no journal could keep is kept in part, since the call was made."""
    async with used(hostile()) as (_, guest):
        result = await once(guest, "odd")
        unread = await once(guest, "odd", half=True)
    assert unread.status is StepStatus.IN_DOUBT
    assert result.status is StepStatus.OK
    assert result.value["big"] == hex(10**60)
    assert "nested too deeply" in result.text


async def test_who_asks_back_is_declined() -> None:
    """Nobody gives a server the user's model, or a word of the user's, without being told to."""
    async with used(hostile()) as (_, guest):
        said = (await once(guest, "sample")).value
    assert said == "Sampling not supported; Elicitation not supported"


async def test_a_list_that_changes_is_seen_without_a_restart() -> None:
    """What vanished is refused with what there is; a changed schema counts at once."""
    async with hostile() as server, uc.Runtime() as rt:
        before = await server.tools()
        assert await server.tools() is before
        guest = rt.guest(rt.toolset("loop", before))
        await once(guest, "change")
        gone = await once(guest, "passing")
        assert gone.error is not None
        assert gone.error.error_class is ErrorClass.DOMAIN
        assert "'passing' is no tool of 'hostile' any more; it has: change, crash" in (
            gone.error.message
        )
        after = await server.tools()
        assert after is not before
        guest.use(rt.toolset("loop", after))
        unknown, lacking = await guest.calls([uc.Call("passing"), uc.Call("refuse")])
        await guest.end()
    assert unknown.refusal is not None
    assert lacking.refusal is not None
    assert unknown.refusal.rule == "sequencing.unknown_tool"
    assert lacking.refusal.facts["missing"] == ["now"]
    same = {tool.name: tool for tool in before}
    changed = [tool for tool in after if same[tool.name] is not tool]
    assert [tool.name for tool in changed] == ["refuse"]
    # What was declared of it is known of it still.
    assert changed[0].origins == (same["refuse"],)


async def test_lists_that_do_not_end_or_do_not_fit() -> None:
    """A list is bounded, and what is wrong with it names the server and the mend."""
    for mode, problem in (("pages", "do not end"), ("many", "more than 500 tools")):
        async with hostile(mode) as server:
            with pytest.raises(DeclarationError, match=problem):
                await server.tools()
    async with hostile("twice") as server:
        with pytest.raises(DeclarationError, match=r"both 'a_b'.*only="):
            await server.tools()
    async with hostile("twice", only=["a.b"]) as server:
        assert [tool.name for tool in await server.tools()] == ["a_b"]
    async with hostile("loud", limits=McpLimits(description_chars=100)) as server:
        assert len((await server.tools())[0].description) < 120
    async with hostile(only=["hang", "nothing"]) as server:
        with pytest.raises(DeclarationError, match="has no tool nothing"):
            await server.tools()


async def test_servers_that_cannot_be_spoken_to() -> None:
    """Another version, no program and a program that ends at once are told apart, with a mend."""
    with pytest.raises(DeclarationError, match=r"another version of the protocol.*1999"):
        async with hostile("old"):
            pass
    with pytest.raises(ServerUnreachableError, match="FileNotFoundError"):
        async with connect(["/nowhere/to/be/found"], service="lost"):
            pass
    with pytest.raises(ServerUnreachableError, match="'brief'"):
        async with connect([sys.executable, "-c", ""], service="brief"):
            pass
    closed = hostile()
    with pytest.raises(DeclarationError, match="async with"):
        await closed.tools()


async def test_whoever_starts_a_mute_server_can_give_up() -> None:
    """A start that is called off leaves no process behind."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hostile("mute").__aenter__(), 1)
    shown = await asyncio.create_subprocess_exec(
        "ps", "--ppid", str(os.getpid()), "-o", "args=", stdout=asyncio.subprocess.PIPE
    )
    left, _ = await shown.communicate()
    assert b"hostile.py mute" not in left


async def test_hints_may_be_lies() -> None:
    """Whoever does not trust a server takes its word for nothing that makes a call easier."""
    async with hostile() as trusted, hostile(trust_hints=False) as other:
        told = {tool.name: tool.hints for tool in await trusted.tools()}
        untold = {tool.name: tool.hints for tool in await other.tools()}
    assert told["lie"].read_only
    assert told["late"].idempotent
    assert not untold["lie"].read_only
    assert not untold["late"].idempotent


async def test_a_server_that_keeps_failing_is_left_alone() -> None:
    """The breaker of a server opens on what its transport says, and its tools are refused."""
    async with used(hostile()) as (rt, guest):
        results = [await once(guest, "die_reading", n=n) for n in range(30)]
        assert rt is not None
    rules = {result.refusal.rule for result in results if result.refusal is not None}
    assert "breakers.open" in rules
