"""Tests of the harness itself: the door, the effects table, the world, its client.

Keeps: under 60 s on two cores; one world process serves all tasks of a suite.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from .client import Clients, Seen, ToolRaisedError, World, direct_run
from .dojo import SUITES, Call, Digest, Json, Stage, load_suite
from .effects import EFFECTS
from .world import HOST, Running, start_world

TASKS: Final = {"banking": 16, "slack": 21, "travel": 20, "workspace": 40}
SEND_MONEY: Final = Call(
    "send_money",
    {"recipient": "GB29", "amount": 5.0, "subject": "rent", "date": "2022-04-01"},
)

# Where a root of our keys lies in the benchmark's environments.
FIELDS: Final = {
    "bank": "bank_account",
    "files": "filesystem",
    "user": "user_account",
    "mail": "inbox",
    "drive": "cloud_drive",
    "traveller": "user",
    "cars": "car_rental",
}

# One call of every tool that no ground truth calls.
UNCALLED: Final[dict[str, list[Call]]] = {
    "banking": [
        Call("get_iban", {}),
        Call("get_balance", {}),
        Call("get_user_info", {}),
    ],
    "slack": [Call("remove_user_from_slack", {"user": "Alice"})],
    "travel": [
        Call("get_user_information", {}),
        Call(
            "get_contact_information_for_restaurants",
            {"restaurant_names": ["Breizh Café"]},
        ),
        Call("get_car_rental_address", {"company_name": ["Speedy Rentals"]}),
        Call("get_day_calendar_events", {"day": "2024-05-15"}),
        Call("search_calendar_events", {"query": ""}),
        Call("cancel_calendar_event", {"event_id": "0"}),
        Call(
            "reserve_car_rental",
            {
                "company": "Speedy Rentals",
                "start_time": "2024-05-16 10:00",
                "end_time": "2024-05-17 10:00",
            },
        ),
        Call(
            "reserve_restaurant",
            {"restaurant": "Breizh Café", "start_time": "2024-05-16 19:00"},
        ),
    ],
    "workspace": [
        Call("get_sent_emails", {}),
        Call("get_received_emails", {}),
        Call("get_draft_emails", {}),
        Call("search_contacts_by_email", {"query": "@"}),
        Call("get_file_by_id", {"file_id": "1"}),
        Call("delete_email", {"email_id": "1"}),
        Call("cancel_calendar_event", {"event_id": "1"}),
    ],
}


@pytest.fixture(scope="module", params=SUITES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, Running]]:
    """Each suite, with a world process that serves it."""
    suite: str = request.param
    with start_world(suite) as running:
        yield suite, running


@pytest.fixture(scope="module")
def bank() -> Iterator[Running]:
    """One world process for the tests of the protocol; it applies whatever comes."""
    with start_world("banking") as running:
        yield running


@pytest.fixture
async def world(bank: Running) -> AsyncIterator[World]:
    """Connect a client to a fresh bank."""
    async with World(bank.port) as client:
        await client.reset("banking")
        yield client


async def until_logged(world: World, calls: int) -> None:
    """Wait until the log has so many entries, and not for ever."""
    for _ in range(500):
        if len(await world.log()) >= calls:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"The log never had {calls} entries.")


@contextlib.contextmanager
def doomed_client(port: int, request: dict[str, Json]) -> Iterator[None]:
    """Send a request from a process of its own, which is killed on leaving."""
    script = (
        "import socket, sys, time\n"
        "out = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "out.sendall(sys.argv[3].encode() + b'\\n')\n"
        "print('sent', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, HOST, str(port), json.dumps(request)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "sent\n"
            yield
        finally:
            client.kill()


def changed_fields(stage: Stage, call: Call) -> set[str]:
    """Make a call and return the fields of the environment that it changed."""
    before = stage.state()
    stage.call(*call)
    after = stage.state()
    return {name for name in before if before[name] != after[name]}


# The door


@pytest.mark.parametrize("name", SUITES)
def test_every_task_is_there_and_its_ground_truth_solves_it(name: str) -> None:
    """The calls that the door gives for a task are those that solve it."""
    suite = load_suite(name)

    assert list(suite.tasks) == [f"user_task_{n}" for n in range(TASKS[name])]
    for task in suite.tasks.values():
        stage = suite.stage(task.id)
        for call in task.calls:
            assert json.loads(json.dumps(call.arguments)) == call.arguments
            stage.call(*call)
        assert task.calls, task.id
        assert stage.solved(), task.id


@pytest.mark.parametrize("name", SUITES)
def test_every_tool_says_what_it_takes(name: str) -> None:
    """Schema and signature name the same arguments, without the environment's parts."""
    for tool in load_suite(name).tools.values():
        assert tool.description
        assert list(tool.signature.parameters) == list(tool.schema["properties"])


def test_a_failing_call_leaves_no_trace() -> None:
    """A tool that raises half-way has changed nothing."""
    stage = load_suite("travel").stage()
    before = stage.digest()

    with pytest.raises(ValueError, match="isoformat"):
        stage.call("reserve_hotel", {"hotel": "H", "start_day": "soon", "end_day": "-"})

    assert stage.digest() == before


# The effects


def test_the_table_names_exactly_the_tools_that_exist() -> None:
    """No tool is without an effect, and no effect without a tool."""
    assert {name for suite in SUITES for name in load_suite(suite).tools} == set(EFFECTS)


@pytest.mark.parametrize("name", SUITES)
def test_a_template_names_mandatory_scalar_arguments(name: str) -> None:
    """Every key can be made from any valid call."""
    for tool in load_suite(name).tools.values():
        effect = tool.effect
        mandatory = {
            parameter: "x"
            for parameter in tool.schema.get("required", [])
            if tool.schema["properties"][parameter].get("type") in {"string", "integer"}
        }
        for template in effect.reads + effect.appends + effect.writes:
            assert template.format(**mandatory)


@pytest.mark.parametrize("name", SUITES)
def test_a_tool_changes_what_it_declares_and_nothing_else(name: str) -> None:
    """A read never changes the environment, whatever else runs touches its own roots.

    And each tool that is said to append or write does so at least once.
    """
    suite = load_suite(name)
    runs = [(task.id, list(task.calls)) for task in suite.tasks.values()]
    idle = {tool.name for tool in suite.tools.values() if tool.effect.kind != "read"}
    called = set()
    for task, calls in [*runs, *((None, [call]) for call in UNCALLED[name])]:
        stage = suite.stage(task)
        for call in calls:
            effect = EFFECTS[call.tool]
            roots = {key.partition("/")[0] for key in effect.appends + effect.writes}
            changed = changed_fields(stage, call)
            assert changed <= {FIELDS.get(root, root) for root in roots}, (task, call)
            called.add(call.tool)
            if changed:
                idle.discard(call.tool)
    assert called == set(suite.tools)
    assert not idle


def conflict(one: Call, other: Call) -> bool:
    """Say whether the effects of two calls forbid to run them together."""
    claims = [
        [
            (kind, template.format(**call.arguments) + "/")
            for kind in ("reads", "appends", "writes")
            for template in getattr(EFFECTS[call.tool], kind)
        ]
        for call in (one, other)
    ]
    return any(
        (key.startswith(other_key) or other_key.startswith(key))
        and (kind != other_kind or kind == "writes")
        for kind, key in claims[0]
        for other_kind, other_key in claims[1]
    )


def contents(stage: Stage, calls: list[Call]) -> list[str]:
    """Make the calls; return the content of each result, sorted, and of the end."""
    results = [Digest.of(stage.call(*call)).content_sha256 for call in calls]
    return [*sorted(results), stage.digest().content_sha256]


@pytest.mark.parametrize("name", SUITES)
def test_calls_whose_effects_do_not_conflict_commute(name: str) -> None:
    """Neighbours may swap, or the table lies: same results, same content at the end."""
    suite = load_suite(name)
    swaps = 0
    for task in suite.tasks.values():
        calls = list(task.calls)
        in_order = contents(suite.stage(task.id), calls)
        for n in range(len(calls) - 1):
            if not conflict(calls[n], calls[n + 1]):
                swapped = [*calls[:n], calls[n + 1], calls[n], *calls[n + 2 :]]
                assert contents(suite.stage(task.id), swapped) == in_order, (task.id, n)
                swaps += 1
    assert swaps


# The world


async def test_the_world_ends_as_a_direct_run_does(served: tuple[str, Running]) -> None:
    """The calls of a task, made through the process, give the direct run's digest."""
    suite, running = served
    differing = []
    async with World(running.port) as world:
        for task in load_suite(suite).tasks.values():
            await world.reset(suite, task.id)
            for name, arguments in task.calls:
                await world.call(name, arguments)
            log = await world.log()
            assert [Call(entry.tool, entry.args) for entry in log] == list(task.calls)
            assert all(entry.applied and entry.error is None for entry in log)
            if await world.digest() != direct_run(suite, task.id):
                differing.append(task.id)
    assert not differing


async def test_results_are_those_of_the_tool(served: tuple[str, Running]) -> None:
    """A result comes out of the process as it comes out of the tool, as JSON."""
    suite, running = served
    async with World(running.port) as world:
        for task in load_suite(suite).tasks.values():
            await world.reset(suite, task.id)
            stage = load_suite(suite).stage(task.id)
            for call in task.calls:
                assert await world.call(*call) == stage.call(*call)


async def test_a_repeated_key_is_applied_again(world: World) -> None:
    """A world that does not deduplicate shows the double application."""
    await world.call(*SEND_MONEY, key="k")
    once = await world.digest()
    await world.call(*SEND_MONEY, key="k")

    assert await world.digest() != once
    assert [entry.applied for entry in await world.log()] == [True, True]
    assert (await world.seen("k")).times == 2


async def test_a_repeated_key_is_applied_once_with_dedupe() -> None:
    """A world that deduplicates answers a repeated key from memory, and counts it."""
    with start_world("banking", dedupe=True) as running:
        async with World(running.port) as world:
            first = await world.call(*SEND_MONEY, key="k", step="send")
            once = await world.digest()
            assert await world.call(*SEND_MONEY, key="k") == first
            assert await world.digest() == once

            # Reads change nothing, so a key makes no difference to them.
            await world.call("get_iban", {}, key="k")
            with pytest.raises(ToolRaisedError, match="KeyReusedError"):
                await world.call("update_password", {"password": "p"}, key="k")

            entries = await world.log()
            assert [entry.applied for entry in entries] == [True, False, True, False]
            assert [entry.n for entry in entries if entry.deduplicated] == [2]
            assert entries[0].step == "send"
            assert await world.seen("k") == Seen(times=1, result=first)


async def test_seen_knows_only_what_was_applied(world: World) -> None:
    """A key that is new, or whose only call failed, was not applied."""
    with pytest.raises(ToolRaisedError, match="not found") as raised:
        await world.call("update_scheduled_transaction", {"id": 999}, key="failed")

    assert raised.value.kind == "ValueError"
    assert (await world.log())[0].error == "ValueError"
    assert await world.seen("failed") == await world.seen("new") == Seen(0, None)


async def test_errors_are_answers(world: World) -> None:
    """An unknown tool, a bad argument or a bad request is answered, not fatal."""
    with pytest.raises(ToolRaisedError, match="ToolNotFoundError"):
        await world.call("get_webpage", {"url": "x"})  # A tool of another suite.
    with pytest.raises(ToolRaisedError, match="ValidationError"):
        await world.call("send_money", {"recipient": 1})
    with pytest.raises(ToolRaisedError, match="WorldError"):
        await world.reset("banking", "user_task_999")
    with pytest.raises(ToolRaisedError, match="WorldError"):
        await world.delay(-1)
    reader, out = await asyncio.open_connection(HOST, world.port)
    out.write(b"nonsense\n")
    assert b"JSONDecodeError" in await reader.readuntil()
    out.close()
    await out.wait_closed()

    assert await world.call("get_iban", {})


async def test_concurrent_calls_are_each_applied_once(world: World) -> None:
    """Calls made together are serialised: none is lost and ids stay unique."""
    calls = [world.call(*SEND_MONEY, key=f"k{n}") for n in range(40)]
    await asyncio.gather(*calls)

    log = await world.log()
    assert sorted(entry.key or "" for entry in log) == sorted(f"k{n}" for n in range(40))
    transactions = await world.call("get_most_recent_transactions", {"n": 40})
    assert len({transaction["id"] for transaction in transactions}) == 40


async def test_a_held_call_does_not_hold_up_others(world: World) -> None:
    """Delays of concurrent calls run side by side."""
    await world.delay(400)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await asyncio.gather(*(world.call("get_iban", {}) for _ in range(5)))

    assert 0.4 <= loop.time() - start_s < 2.0


@pytest.mark.parametrize("at", ["apply", "answer"])
async def test_a_reset_lets_go_of_held_calls(world: World, bank: Running, at: str) -> None:
    """What is held when a world begins again never reaches the new one, nor lingers."""
    await world.delay(30_000, at=at)
    async with World(bank.port) as other:
        held = asyncio.create_task(other.call(*SEND_MONEY, key="k"))
        for _ in range(500):
            if await world.clients() == Clients(connected=2, held=1):
                break
            await asyncio.sleep(0.02)
        assert len(await world.log()) == (at == "answer")
        await world.reset("banking")
        if at == "apply":
            with pytest.raises(ToolRaisedError, match="reset"):
                await held
        else:
            assert await held

        assert await world.clients() == Clients(connected=2, held=0)
        assert await world.log() == []
        assert await world.digest() == load_suite("banking").stage().digest()


@pytest.mark.parametrize("at", ["apply", "answer"])
async def test_a_client_killed_in_a_call_changes_nothing(
    world: World, bank: Running, at: str
) -> None:
    """A call that was received is applied once and whole, though its client is dead."""
    await world.delay(1200, at=at)
    request = {"op": "call", "tool": SEND_MONEY.tool, "args": SEND_MONEY.arguments, "key": "k"}
    with doomed_client(bank.port, request):
        if at == "answer":
            await until_logged(world, 1)
    if at == "apply":
        assert await world.log() == []

    await until_logged(world, 1)
    assert (await world.seen("k")).times == 1
    reference = load_suite("banking").stage()
    reference.call(*SEND_MONEY)
    assert await world.digest() == reference.digest()


async def test_a_cancelled_call_never_answers_the_next_one(world: World) -> None:
    """A client that gave up on an answer does not take it for another's."""
    await world.delay(300)
    given_up = asyncio.create_task(world.call("get_balance", {}))
    await until_logged(world, 1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up

    assert isinstance(await world.call("get_iban", {}), str)


async def test_a_world_outlives_its_process_in_its_state_file(tmp_path: Path) -> None:
    """A world started on the file of another is the same world: log, keys and all."""
    state = tmp_path / "world.jsonl"
    with start_world("slack", state=state) as running:
        async with World(running.port) as world:
            await world.reset("banking", "user_task_3")
            await world.call(*SEND_MONEY, key="k")
            with pytest.raises(ToolRaisedError):
                await world.call("update_scheduled_transaction", {"id": 999})
            left = await world.digest(), await world.log(), await world.seen("k")
    with state.open("ab") as file:
        file.write(b'{"entry": {"a line cut sho')

    with start_world("slack", state=state) as running:
        async with World(running.port) as world:
            found = await world.digest(), await world.log(), await world.seen("k")
            await world.call("get_iban", {})

    assert found == left
    # The reset begins the file anew; then two calls, and the one after the restart.
    assert len(state.read_bytes().splitlines()) == 4


def test_a_world_ends_with_whoever_started_it(bank: Running) -> None:
    """A world whose parent closes its stdin, or dies, ends; others live on."""
    with start_world("slack") as running:
        assert running.pid != bank.pid
    command = [sys.executable, "-m", "tests.real.world", "--suite", "banking"]
    with subprocess.Popen(
        [*command, "--with-parent"],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as orphan:
        assert orphan.stdout is not None
        assert json.loads(orphan.stdout.readline())["pid"] == orphan.pid
        assert orphan.stdin is not None
        orphan.stdin.close()
        assert orphan.wait(10.0) == 0
