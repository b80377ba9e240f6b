"""Tools of MCP servers under the six layers, by each door: real servers in second processes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import Client, StdioServerParameters, types

import undercroft as uc
from tests.frameworks.mcp.conftest import PLACES, ROOT, Ledger, Shop, WebShop, module
from undercroft.adapters.mcp import (
    Connection,
    McpLimits,
    Refreshing,
    ServerUnreachableError,
    connect,
    mcp_tools,
)
from undercroft.adapters.mcp.results import read_result
from undercroft.engine.check import check
from undercroft.errors import DeclarationError, DomainError, SettingError
from undercroft.model.foreign import ForeignTool
from undercroft.model.step import ErrorClass, StepStatus
from undercroft.testing import ScriptedModel


def named(tools: list[ForeignTool]) -> dict[str, ForeignTool]:
    """Return tools by their names."""
    return {tool.name: tool for tool in tools}


async def once(guest: Any, tool: str, /, **arguments: Any) -> uc.Result:
    """Return what comes of one call."""
    result: uc.Result = (await guest.calls([uc.Call(tool, arguments)]))[0]
    return result


async def test_two_lines_for_a_loop_of_ones_own(shop: Shop, ledger: Ledger) -> None:
    """Tools of a server are guarded as any others: order, checks, failures as values."""
    async with shop() as server:
        guarded = uc.guard(await server.tools())
        results = await guarded.calls(
            [
                uc.Call("balance", {"account": "a"}, "1"),
                uc.Call("pay", {"account": "a", "amount": 30}, "2"),
                uc.Call("pay", {"account": "a", "amount": 50}, "3"),
                uc.Call("fail", {"why": "so"}, "4"),
                uc.Call("pay", {"account": "a"}, "5"),
                uc.Call("nothing", {}, "6"),
            ]
        )
        await guarded.end()
    assert [r.value for r in results[:3]] == [100, {"paid": 30}, {"paid": 50}]
    assert results[3].error is not None
    assert results[3].error.error_class is ErrorClass.DOMAIN
    assert [r.refusal.rule for r in results[4:] if r.refusal] == [
        "sequencing.arguments",
        "sequencing.unknown_tool",
    ]
    assert ledger.lines == ["read a", "pay a 30", "pay a 50", "fail so"]


async def test_in_a_handler_with_declarations(shop: Shop, ledger: Ledger) -> None:
    """`uc.handler` takes them, and `uc.declare` and `effects=` count more than hints."""
    async with shop(prefix="shop_") as server:
        tools = named(await server.tools())
        uc.declare(tools["shop_balance"], reads="account/{account}")
        words = {"shop_pay": {"writes": "account/{account}", "approval": True}}

        @uc.handler(tools=list(tools.values()), effects=words)
        async def assist(turn: uc.Turn, message: str) -> str:
            turn.context.user(message)
            while True:
                answer = await turn.model()
                if not answer.calls:
                    return answer.text
                await turn.calls(answer.calls)

        pay = uc.Call("shop_pay", {"account": "a", "amount": 1}, "1")
        look = uc.Call("shop_balance", {"account": "a"}, "2")
        model = ScriptedModel([[pay], [look, pay], "paid"])
        async with uc.Runtime(model=model, targets=[assist]) as rt:
            waits = await rt.run(assist, message="pay")
            assert ledger.lines == ["read a"]  # the first was refused: nothing had been read
            done = await rt.approve(waits.turn_id, waits.waiting[0].step_id, by="ada")
    assert (done.status, done.value) == ("done", "paid")
    assert ledger.lines[-1] == "pay a 1"


async def test_check_says_what_is_missing(web: WebShop) -> None:
    """What destroys, by its own word, is to be approved or verified; what is read-only is fine."""
    only = ["balance", "set_tier", "wipe"]
    async with connect(web.url, service="shop", only=only) as server:
        tools = await server.tools()

    @uc.handler(tools=tools)
    async def loop(turn: uc.Turn) -> None: ...

    found = [(f.place, f.rule) for f in check(loop)]
    assert ("tool 'wipe'", "sequencing.unapproved_destructive") in found
    assert [rule for place, rule in found if place == "tool 'balance'"] == []
    assert ("tool 'set_tier'", "sequencing.unsettled_write") not in found

    @uc.handler(tools=tools, effects={"wipe": {"writes": "account/{account}", "approval": True}})
    async def asked(turn: uc.Turn) -> None: ...

    assert "sequencing.unapproved_destructive" not in [f.rule for f in check(asked)]


async def test_killed_between_effect_and_answer(ledger: Ledger) -> None:
    """A write is in doubt and happens once; an idempotent one is repeated; a read only failed."""
    command = module("shop", str(ledger.path))
    async with connect(command, service="shop", cwd=ROOT, env=PLACES) as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools()))
        ledger.die_next()
        paid = await once(guest, "pay", account="a", amount=1)
        ledger.die_next()
        read = await once(guest, "balance", account="a")
        ledger.die_next()
        tier = await once(guest, "set_tier", account="a", tier="gold")
        after = await once(guest, "balance", account="b")
        outcome = await guest.end()
    assert paid.status is StepStatus.IN_DOUBT
    assert ledger.lines.count("pay a 1") == 1
    assert read.error is not None
    assert read.error.error_class is ErrorClass.TRANSIENT
    assert (tier.value, ledger.lines.count("tier a gold")) == ("gold", 2)
    assert after.value == 100
    assert outcome is not None
    assert outcome.status == "in_doubt"


async def test_killed_behind_http(web: WebShop, ledger: Ledger) -> None:
    """By HTTP as well: what was under way is in doubt, and whoever is back is found again."""
    async with connect(web.url, service="shop") as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools()))
        ledger.die_next()
        paid = await once(guest, "pay", account="a", amount=1)
        web.kill()
        web.start()
        after = await once(guest, "balance", account="b")
        await guest.end()
    assert paid.status is StepStatus.IN_DOUBT
    assert after.value == 100
    assert ledger.lines == ["pay a 1", "read b"]


async def test_what_cannot_be_reached_was_not_called(web: WebShop, ledger: Ledger) -> None:
    """A write to a server that is gone did not happen: it failed, and nobody is in doubt."""
    async with connect(web.url, service="shop") as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools()))
        web.kill()
        first = await once(guest, "pay", account="a", amount=1)
        second = await once(guest, "pay", account="a", amount=2)
        web.start()
        third = await once(guest, "pay", account="a", amount=3)
        await guest.end()
    # Of the first the SDK cannot say whether it was sent.
    assert first.status in (StepStatus.IN_DOUBT, StepStatus.FAILED)
    assert second.error is not None
    assert (second.error.type, second.error.error_class) == (
        "ServerUnreachableError",
        ErrorClass.TRANSIENT,
    )
    assert third.value == {"paid": 3}
    assert ledger.lines == ["pay a 3"]


async def test_a_deadline_of_ours_ends_what_is_slow(shop: Shop) -> None:
    """The deadline that was declared counts, and not that of the SDK."""
    async with shop() as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools(), {"slow": {"timeout_s": 0.2}}))
        late = await once(guest, "slow", seconds=1.0)
        well = await once(guest, "slow", seconds=0.0)
        await guest.end()
    assert late.error is not None
    assert late.error.type == "DeadlineError"
    assert well.value == "done"


async def test_a_changed_list_is_seen(shop: Shop) -> None:
    """A tool that is learnt is there at the next look, one that is forgotten is not."""
    async with shop() as server, uc.Runtime() as rt:
        kept = Refreshing(rt, "loop", [server])
        guest = rt.guest(await kept.toolset())
        made = await kept.toolset()
        assert await kept.toolset() is made
        await once(guest, "learn", name="dance")
        async with asyncio.timeout(10):
            while "dance" not in guest.handler.tools:
                await kept.refresh(guest)
        assert (await once(guest, "dance", account="a")).value == "dance a"
        await once(guest, "forget", name="dance")
        async with asyncio.timeout(10):
            while "dance" in guest.handler.tools:
                await kept.refresh(guest)
        gone = await once(guest, "dance", account="a")
        assert gone.refusal is not None
        await guest.end()


async def test_who_asks_back_is_declined_or_answered(shop: Shop, ledger: Ledger) -> None:
    """What a server wants to know first is declined, unless somebody is there to say it."""

    async def answer(context: object, params: object) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"much": 1})

    async with shop() as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools()))
        declined = await once(guest, "ask_first")
        await guest.end()
    assert declined.error is not None
    assert ledger.lines == []
    async with shop(elicitation_callback=answer) as server, uc.Runtime() as rt:
        guest = rt.guest(rt.toolset("loop", await server.tools()))
        assert (await once(guest, "ask_first")).value == 1
        await guest.end()


async def test_names_of_two_servers(web: WebShop) -> None:
    """Tools of one name are told apart by prefixes; without them that is an error."""

    def shop(service: str, prefix: str = "") -> Connection:
        return connect(web.url, service=service, prefix=prefix)

    async with shop("one") as one, shop("two") as two, uc.Runtime() as rt:
        with pytest.raises(DeclarationError, match="two tools have this name"):
            rt.toolset("loop", [*await one.tools(), *await two.tools()])
    async with (
        shop("one", "one_") as one,
        shop("two") as two,
        uc.Runtime() as rt,
    ):
        made = rt.toolset("loop", [*await one.tools(), *await two.tools()])
        assert made.tools["one_pay"].service == "one"
        assert made.tools["pay"].service == "two"


async def test_a_session_of_ones_own(ledger: Ledger) -> None:
    """`mcp_tools` takes an open session or client of the SDK, and leaves it to its owner."""
    command, *words = module("shop", str(ledger.path))
    place = StdioServerParameters(command=command, args=words, cwd=ROOT, env=PLACES)
    for mode in ("auto", "legacy"):
        async with Client(place, mode=mode) as client:
            # As its owner might have set it; the handshake of a slow machine may take longer.
            client.session._session_read_timeout_seconds = 0.2  # noqa: SLF001
            tools = named(await mcp_tools(client))
            assert tools["pay"].service == "shop"
            guarded = uc.guard([tools["pay"], tools["slow"]])
            paid, slow = await guarded.calls(
                [
                    uc.Call("pay", {"account": mode, "amount": 1}),
                    uc.Call("slow", {"seconds": 1.0}),
                ]
            )
            await guarded.end()
            assert await mcp_tools(client.session, service="mine")
        assert paid.value == {"paid": 1}
        assert slow.value == "done"  # the SDK's own limit is off


async def test_pictures_and_other_content(web: WebShop) -> None:
    """What is not text is described, and its bytes are kept only for who asks for them."""
    async with (
        connect(web.url, service="shop", only=["picture"]) as server,
        connect(web.url, service="shop", only=["picture"], media=True) as other,
    ):
        for crm, kept in ((server, False), (other, True)):
            guarded = uc.guard(await crm.tools())
            (shown,) = await guarded.calls([uc.Call("picture")])
            await guarded.end()
            text, picture = shown.value
            assert text == "a dot"
            assert (picture["type"], picture["mime_type"]) == ("image", "image/png")
            assert picture["size_bytes"] == len(b"\x89PNG dot")
            assert ("data" in picture) is kept


def content(*blocks: types.ContentBlock, structured: Any = None) -> types.CallToolResult:
    """Return a result."""
    return types.CallToolResult(content=list(blocks), structured_content=structured)


def test_results_as_plain_data() -> None:
    """Each kind of result is data that a journal keeps and a model can read."""
    text = types.TextContent(text="x")
    blob = base64.b64encode(b"sound").decode()
    table: list[tuple[types.CallToolResult, Any]] = [
        (content(), None),
        (content(text), "x"),
        (content(text, text), ["x", "x"]),
        (content(structured={"a": 1}), {"a": 1}),
        (content(types.TextContent(text='{"a":1}'), structured={"a": 1}), {"a": 1}),
        (content(types.TextContent(text="7"), structured={"result": 7}), 7),
        (content(text, text, structured={"result": ["x", "x"]}), ["x", "x"]),
        (content(text, structured={"a": 1}), {"structured": {"a": 1}, "content": ["x"]}),
        (
            content(types.AudioContent(data=blob, mime_type="audio/wav")),
            {
                "type": "audio",
                "mime_type": "audio/wav",
                "size_bytes": 5,
                "sha256": hashlib.sha256(b"sound").hexdigest(),
            },
        ),
        (
            content(types.ImageContent(data="!", mime_type="image/png")),
            {
                "type": "image",
                "mime_type": "image/png",
                "problem": "it is no base64",
                "chars": 1,
            },
        ),
        (
            content(types.ResourceLink(uri="file:///a", name="a", size=3)),
            {"type": "resource_link", "uri": "file:///a", "name": "a", "size_bytes": 3},
        ),
        (
            content(
                types.EmbeddedResource(
                    resource=types.TextResourceContents(uri="file:///a", text="t")
                )
            ),
            {"type": "resource", "uri": "file:///a", "text": "t"},
        ),
    ]
    for result, data in table:
        read = read_result(result, McpLimits(), media=False)
        assert read == data
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(read)) == data
    cut = read_result(content(structured={"a": "x" * 99}), McpLimits(result_bytes=9), media=False)
    assert cut["cut"] == '{"a":"xxx'
    failed = types.CallToolResult(content=[text], is_error=True)
    with pytest.raises(DomainError, match=r"^x$"):
        read_result(failed, McpLimits(), media=False)


def test_settings_are_checked_where_they_are_written() -> None:
    """A setting that cannot be meant is an error at once."""
    with pytest.raises(SettingError, match="tools_max"):
        McpLimits(tools_max=0)
    with pytest.raises(SettingError, match="timeout_s"):
        connect("http://127.0.0.1/mcp", service="x", timeout_s=0)
    with pytest.raises(SettingError, match="prefix"):
        connect("http://127.0.0.1/mcp", service="x", prefix="a b")
    with pytest.raises(SettingError, match="service"):
        connect("http://127.0.0.1/mcp", service="")
    with pytest.raises(DeclarationError, match="is no URL"):
        connect("server.py", service="x")


async def test_nobody_there() -> None:
    """A URL at which nobody listens is named, and was not called."""
    with pytest.raises(ServerUnreachableError, match="'nobody' cannot be reached"):
        async with connect("http://127.0.0.1:9/mcp", service="nobody"):
            pass


async def test_a_long_answer_by_http(web: WebShop, tmp_path: Path) -> None:
    """What comes by HTTP is bounded, too."""
    limits = McpLimits(message_bytes=20_000)
    async with connect(web.url, service="shop", limits=limits) as server:
        tools = await server.tools()
        guarded = uc.guard(tools)
        long, short = await guarded.calls(
            [
                uc.Call("set_tier", {"account": "a", "tier": "x" * 30_000}),
                uc.Call("set_tier", {"account": "a", "tier": "x"}),
            ]
        )
        await guarded.end()
    assert long.status is StepStatus.IN_DOUBT
    assert short.value == "x"


def test_it_says_what_it_is(ledger: Ledger) -> None:
    """A connection shows its server, not how it is reached."""
    made: Connection = connect("http://127.0.0.1/mcp", service="x", headers={"key": "secret"})
    assert repr(made) == "<undercroft MCP server 'x': 0 tools>"
