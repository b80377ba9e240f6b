"""Tools of ours as an MCP server: real clients of the SDK, by each door, in second processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from mcp import Client, StdioServerParameters, types

import undercroft as uc
from tests.frameworks.mcp.conftest import PLACES, ROOT, module
from undercroft.adapters.mcp import connect, mcp_server, serve_http
from undercroft.adapters.mcp.schemas import output_schema
from undercroft.errors import SettingError

WAYS = (("stdio", "auto"), ("http", "auto"), ("http", "legacy"))


class Bank:
    """The server, and what it holds."""

    def __init__(self, folder: Path) -> None:
        self.journal, self._balances = folder / "journal.db", folder / "balances.json"
        self.words = [str(self.journal), str(self._balances)]
        self._balances.write_bytes(msgspec.json.encode({"a": 100, "b": 100}))

    @property
    def balances(self) -> dict[str, int]:
        """What every account holds."""
        found: dict[str, int] = msgspec.json.decode(self._balances.read_bytes())
        return found

    def by_pipe(self, *more: str) -> StdioServerParameters:
        """Return how it is started by a client."""
        command, *args = module("bank", *self.words, *more)
        return StdioServerParameters(command=command, args=args, cwd=ROOT, env=PLACES)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Return a fresh bank."""
    return Bank(tmp_path)


@pytest.fixture
def url(bank: Bank) -> Iterator[str]:
    """Return where the bank is behind HTTP."""
    process = subprocess.Popen(
        module("bank", *bank.words, "--http"),
        cwd=ROOT,
        env=os.environ | PLACES,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest, bank: Bank) -> tuple[Any, str]:
    """Return a door of the bank, and an era of the protocol."""
    door, era = request.param
    return (request.getfixturevalue("url") if door == "http" else bank.by_pipe()), era


def read(result: types.CallToolResult) -> Any:
    """Return what a model reads."""
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


class Person:
    """Somebody at a client, who says one word after the other."""

    def __init__(self, *words: str) -> None:
        self._words = list(words)
        self.asked: list[str] = []

    async def __call__(
        self,
        context: object,  # noqa: ARG002  the SDK gives it
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult:
        """Answer what a server asks."""
        self.asked.append(params.message)
        word = self._words.pop(0)
        if not word:
            return types.ElicitResult(action="cancel")
        return types.ElicitResult(action="accept", content={"approve": word == "yes", "by": "ada"})


async def test_what_is_listed(way: tuple[Any, str]) -> None:
    """Schemas and annotations say what was declared, and nothing where nothing was."""
    place, era = way
    async with Client(place, mode=era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert client.server_info is not None
        assert client.server_info.name == "bank"
    hints = {
        name: tool.annotations and tool.annotations.model_dump(exclude_none=True)
        for name, tool in tools.items()
    }
    assert hints == {
        "get_account": {"read_only_hint": True},
        "withdraw": {"read_only_hint": False, "destructive_hint": True, "idempotent_hint": False},
        "close": {"read_only_hint": False, "destructive_hint": True, "idempotent_hint": False},
        "post": {"read_only_hint": False, "destructive_hint": False, "idempotent_hint": False},
        "undeclared": None,
    }
    assert tools["withdraw"].input_schema["required"] == ["account", "amount"]
    assert tools["withdraw"].description == "Take an amount from an account."
    wraps = tools["withdraw"].output_schema
    assert wraps is not None
    assert wraps["properties"]["result"]["type"] == "integer"


async def test_calls_pass_the_layers(way: tuple[Any, str], bank: Bank) -> None:
    """A write before its read is refused with what to do; after it, two of them both count."""
    place, era = way
    async with Client(place, mode=era) as client:
        early = await client.call_tool("withdraw", {"account": "a", "amount": 30})
        looked = await client.call_tool("get_account", {"account": "a"})
        both = await asyncio.gather(
            *(
                client.call_tool("withdraw", {"account": "a", "amount": amount})
                for amount in (30, 50)
            )
        )
        wrong = await client.call_tool("withdraw", {"account": "a"})
        unknown = await client.call_tool("nothing", {})
        failed = await client.call_tool("get_account", {"account": "zzz"})
    assert early.is_error
    assert early.structured_content["refused"]["rule"] == "sequencing.read_first"
    assert not looked.is_error
    assert looked.structured_content["result"] == {"account": "a", "balance": 100}
    assert [result.structured_content for result in both] == [{"result": 70}, {"result": 20}]
    assert bank.balances["a"] == 20
    assert wrong.structured_content["refused"]["rule"] == "sequencing.arguments"
    assert unknown.structured_content["refused"]["rule"] == "sequencing.unknown_tool"
    assert failed.is_error
    assert "KeyError" in read(failed)


async def test_a_person_decides_at_the_client(way: tuple[Any, str], bank: Bank) -> None:
    """Who can be asked is asked what would be done: no is a refusal, silence waits, yes does it."""
    place, era = way
    person = Person("no", "", "yes")
    async with Client(place, mode=era, elicitation_callback=person) as client:
        await client.call_tool("get_account", {"account": "a"})
        no, silence, yes = [await client.call_tool("close", {"account": "a"}) for _ in range(3)]
    assert no.structured_content["refused"]["rule"] == "sequencing.rejected"
    assert "ada" in read(no)
    assert silence.structured_content["refused"]["rule"] == "sequencing.approval"
    assert yes.structured_content == {"result": "a is closed"}
    assert person.asked == ['May close be called with {"account":"a"}?'] * 3
    assert bank.balances == {"b": 100}


async def test_nobody_can_be_asked(bank: Bank) -> None:
    """A client that cannot ask is told the command; once it was run, the same call is done once."""
    place = bank.by_pipe()
    async with Client(place) as client:
        await client.call_tool("get_account", {"account": "a"})
        waits = await client.call_tool("close", {"account": "a"})
        told = waits.structured_content["refused"]
        command = told["next"].split("`")[1].split()
        assert command[:2] == ["undercroft", "approve"]
        again = await client.call_tool("close", {"account": "a"})
        assert again.is_error
        assert again.structured_content["refused"]["facts"] == told["facts"]
        assert "a" in bank.balances
        approved = await asyncio.to_thread(
            subprocess.run,
            [*module_of("undercroft"), *command[1:-1], "ada", "--db", str(bank.journal)],
            cwd=ROOT,
            env=os.environ | PLACES,
            capture_output=True,
            text=True,
            check=False,
        )
        done = await client.call_tool("close", {"account": "a"})
    assert not done.is_error, (read(done), approved.stdout, approved.stderr)
    assert bank.balances == {"b": 100}


def module_of(name: str) -> list[str]:
    """Return the command that runs a module."""
    return [*module("x")[:2], name]


async def test_approvals_elsewhere(bank: Bank) -> None:
    """Where the client's word is not enough, it is not asked for."""
    person = Person("yes")
    async with Client(bank.by_pipe("--elsewhere"), elicitation_callback=person) as client:
        await client.call_tool("get_account", {"account": "a"})
        waits = await client.call_tool("close", {"account": "a"})
    assert waits.structured_content["refused"]["rule"] == "sequencing.approval"
    assert person.asked == []


async def test_our_own_client(bank: Bank) -> None:
    """Both ends are ours: what the server declares reaches the loop as hints."""
    server = connect(module("bank", *bank.words), service="bank", cwd=ROOT, env=PLACES)
    async with server:
        tools = {tool.name: tool for tool in await server.tools()}
        guarded = uc.guard(list(tools.values()))
        looked, paid = await guarded.calls(
            [
                uc.Call("get_account", {"account": "a"}, "1"),
                uc.Call("withdraw", {"account": "a", "amount": 30}, "2"),
            ]
        )
        await guarded.end()
    assert tools["get_account"].hints.read_only
    assert looked.value == {"account": "a", "balance": 100}
    assert paid.value == 70


@asynccontextmanager
async def served(tools: list[Any], **settings: Any) -> AsyncIterator[tuple[uc.Runtime, str]]:
    """Serve tools behind HTTP, in this process."""
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with uc.Runtime() as rt:
        server = mcp_server(tools, rt, name="here", **settings)
        task = asyncio.create_task(serve_http(server, port=0, ready=found.set_result))
        try:
            yield rt, await found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_turn_is_what_a_client_does_until_it_is_silent() -> None:
    """One turn for all calls of a client, ended by silence; another client has another turn."""

    @uc.tool(peeks="x")
    async def look() -> str:
        """Look."""
        return "seen"

    async with (
        served([look], turn_idle_s=0.05) as (rt, url),
        Client(url, mode="legacy") as one,
        Client(url, mode="legacy") as two,
    ):
        for client in (one, one, two):
            await client.call_tool("look", {})
        async with asyncio.timeout(10):
            while sum(turn.status == "done" for turn in rt.turns()) < 2:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
        await one.call_tool("look", {})
        turns = rt.turns()
    assert len(turns) == 3
    assert len({turn.session for turn in turns}) == 2


async def test_a_call_that_is_called_off(bank: Bank) -> None:
    """A client that wants an answer no more stops the call: one that only looks ends at once."""
    began, ended = asyncio.Event(), asyncio.Event()

    @uc.tool(peeks="x")
    async def wait() -> None:
        """Wait."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served([wait]) as (_, url), Client(url) as client:
        call = asyncio.create_task(client.call_tool("wait", {}))
        await began.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(10):
            await ended.wait()


async def test_a_loop_is_refused_in_the_end() -> None:
    """A client that goes round in circles is told so, and heard no more until it was silent."""
    runs = 0

    @uc.tool(writes="x")
    async def fail() -> None:
        """Fail."""
        nonlocal runs
        runs += 1
        raise ValueError("no")

    async with served([fail]) as (_, url), Client(url) as client:
        said = [read(await client.call_tool("fail", {})) for _ in range(12)]
    assert runs == 3
    assert sum("breakers.repeat" in text for text in said) == 2
    assert all("ends here" in text for text in said[5:])


async def test_only_this_machine_is_served() -> None:
    """An address that others can reach is refused; so is a page that another host served."""

    @uc.tool(peeks="x")
    async def look() -> str:
        """Look."""
        return "seen"

    server = mcp_server([look], uc.Runtime(), name="here")
    for host in (".".join("0000"), "::", "example.org", "192.168.1.1"):
        with pytest.raises(SettingError, match="loopback"):
            await serve_http(server, port=0, host=host)
    with pytest.raises(SettingError, match="turn_idle_s"):
        mcp_server([look], uc.Runtime(), name="here", turn_idle_s=0)
    with pytest.raises(SettingError, match="approvals"):
        mcp_server([look], uc.Runtime(), name="here", approvals="never")  # type: ignore[arg-type]


async def test_pages_of_others_are_not_served() -> None:
    """A request that names another host, or comes from a page of another origin, is refused."""

    @uc.tool(peeks="x")
    async def look() -> str:
        """Look."""
        return "seen"

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepts = {"accept": "application/json, text/event-stream"}
    async with served([look]) as (_, url), httpx2.AsyncClient(headers=accepts) as client:
        for more in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
            answer = await client.post(url, json=body, headers=more)
            assert answer.status_code in (403, 421), answer.text


async def test_what_a_client_wrote_it_owns_until_it_is_silent() -> None:
    """Another client's write waits for the end of that turn, and is made then."""
    made: list[int] = []

    @uc.tool(writes="account/{account}", read_first=False)
    async def pay(account: str, amount: int) -> int:
        """Pay."""
        made.append(amount)
        return amount

    async with (
        served([pay], turn_idle_s=0.3) as (rt, url),
        Client(url, mode="legacy") as one,
        Client(url, mode="legacy") as two,
    ):
        await one.call_tool("pay", {"account": "a", "amount": 1})
        later = await two.call_tool("pay", {"account": "a", "amount": 2})
        first = next(turn for turn in rt.turns() if turn.status == "done")
    assert made == [1, 2]
    assert not later.is_error
    assert first is not None


def test_output_schemas() -> None:
    """What is no object is wrapped into one; what says nothing has none."""
    assert output_schema(Any) is None
    assert output_schema(None) is None
    listed = output_schema(list[int])
    assert listed is not None
    assert listed.wrap([1]) == {"result": [1]}
    plain = output_schema(dict[str, int])
    assert plain is not None
    assert plain.wrap({"a": 1}) == {"a": 1}
