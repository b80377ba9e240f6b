"""Bad input ends with a clear error that names the place and the mend; nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.engine.conftest import MakeRuntime
from undercroft.errors import StoreFullError
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing import run_virtual


class Odd(BaseException):
    """An exception that most code does not catch."""


class Opaque:
    """What is not data."""


def raising(error: BaseException) -> Callable[[], Any]:
    """Return a tool's body that raises."""

    async def body() -> str:
        raise error

    return body


async def cancels_itself() -> str:
    """Cancel the task that it runs in, and wait for it."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "never"


async def cancels_and_returns() -> str:
    """Cancel the task that it runs in, and return before that can be noticed."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "returned"


async def swallows_its_cancel() -> str:
    """Cancel the task, and go on all the same."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return "went on"


BODIES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "odd": (raising(Odd("odd")), "failed", "Odd: odd"),
    "exit": (raising(SystemExit(3)), "failed", "SystemExit: 3"),
    "interrupt": (raising(KeyboardInterrupt()), "failed", "KeyboardInterrupt"),
    "generator_exit": (raising(GeneratorExit()), "failed", "GeneratorExit"),
    "stop": (raising(StopAsyncIteration()), "failed", "StopAsyncIteration"),
    "cancelled_error": (raising(asyncio.CancelledError()), "failed", "it cancelled itself"),
    "cancels_itself": (cancels_itself, "failed", "it cancelled itself"),
    "cancels_and_returns": (cancels_and_returns, "ok", ""),
    "swallows": (swallows_its_cancel, "ok", ""),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("bounded", [False, True])
async def test_whatever_a_tool_raises_stays_its_own(
    kind: str, *, bounded: bool, runtime: MakeRuntime
) -> None:
    """A tool's BaseException or cancellation is its result; the loop and the turn go on."""
    body, status, said = BODIES[kind]
    tool = uc.tool(name="odd", reads="x", timeout_s=5 if bounded else None)(body)

    @uc.tool(reads="y")
    async def innocent() -> str:
        await asyncio.sleep(0)
        return "fine"

    @uc.handler(tools=[tool, innocent])
    async def work(turn: uc.Turn) -> list[str]:
        first = await turn.calls([uc.Call("odd"), uc.Call("innocent")])
        second = await turn.calls([uc.Call("innocent")])
        return [r.status if r.error is None else str(r.error) for r in (*first, *second)]

    async with runtime() as rt:
        outcome = await rt.run(work)
    assert outcome.status == "done"
    came, *rest = outcome.value
    assert rest == ["ok", "ok"]
    assert said in came if status == "failed" else came == "ok"


@pytest.mark.parametrize("kind", ["exit", "cancels_itself", "odd"])
async def test_whatever_a_step_raises_stays_its_own(kind: str, runtime: MakeRuntime) -> None:
    """A workflow's step that raises or cancels fails the turn, and only the turn."""
    body, _, said = BODIES[kind]
    flow = uc.Workflow("odd")
    flow.read("x")(body)
    async with runtime() as rt:
        outcome = await rt.run(flow)
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert said in str(outcome.error)
        other = uc.Workflow("fine")

        @other.read("y")
        async def fine() -> str:
            return "fine"

        assert (await rt.run(other)).value == "fine"


@pytest.mark.parametrize("kind", ["exit", "cancels_itself", "odd"])
async def test_whatever_a_handler_raises_fails_its_turn(kind: str, runtime: MakeRuntime) -> None:
    """The handler's own code may raise anything: its turn fails, and says what."""
    body, _, said = BODIES[kind]

    @uc.handler(tools=[])
    async def work(_turn: uc.Turn) -> str:
        return str(await body())

    async with runtime() as rt:
        outcome = await rt.run(work)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert said in str(outcome.error)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (Opaque(), "Opaque is not data"),
        ({"a": [1, {"b": Opaque()}]}, "at ['a'][1]['b']"),
        (2**70, "2**64"),
        ("\ud800", "surrogates"),
        (lambda: 0, "not data"),
    ],
)
async def test_what_cannot_be_recorded_is_an_error_at_its_step(
    value: object, where: str, runtime: MakeRuntime
) -> None:
    """A return value that is no data fails the step and says where in the value it stands."""

    @uc.tool(writes="x")
    async def odd() -> object:
        return value

    @uc.handler(tools=[odd])
    async def work(turn: uc.Turn) -> str:
        (result,) = await turn.calls([uc.Call("odd")])
        return f"{result.status} {result.error}"

    async with runtime() as rt:
        outcome = await rt.run(work)
        again = await rt.resume(outcome.turn_id)
    assert outcome == again
    assert outcome.value.startswith("failed EncodeError: Step odd: ")
    assert where in outcome.value
    assert "its effect has happened" in outcome.value
    assert "Return plain data" in outcome.value


async def test_a_cyclic_value_is_an_error_at_its_step(runtime: MakeRuntime) -> None:
    """A value that holds itself is refused like any other that is no data."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    flow = uc.Workflow("cyclic")

    @flow.read("x")
    async def odd() -> object:
        return cyclic

    async with runtime() as rt:
        outcome = await rt.run(flow)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.type == "EncodeError"


def stubborn(log: list[str]) -> Callable[[], Any]:
    """Return a body that ignores being cancelled, once."""

    async def body() -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            log.append("ignored")
        await asyncio.sleep(1000)
        return "at last"

    return body


async def for_ever() -> str:
    """Never return."""
    await asyncio.Event().wait()
    return "never"


@pytest.mark.parametrize("stubbornly", [False, True])
def test_a_step_that_never_returns_ends_at_its_deadline(*, stubbornly: bool) -> None:
    """A read past its timeout fails with what to do, also one that ignores being cancelled."""

    async def main() -> tuple[uc.Outcome, float]:
        flow = uc.Workflow("slow")
        body = stubborn([]) if stubbornly else for_ever
        body.__name__ = "body"
        flow.read("x", timeout_s=2.0)(body)
        async with uc.Runtime() as rt:
            outcome = await rt.run(flow)
            return outcome, asyncio.get_running_loop().time()

    outcome, took_s = run_virtual(main())
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.type == "DeadlineError"
    assert "within 2 s" in outcome.error.message
    assert "Raise timeout_s" in outcome.error.message
    assert took_s < 10


@pytest.mark.parametrize("stubbornly", [False, True])
def test_a_turn_that_never_ends_ends_at_its_deadline(*, stubbornly: bool) -> None:
    """A turn past its own timeout fails, with what still ran named; the runtime goes on."""

    async def main() -> tuple[uc.Outcome, uc.Trace]:
        body = stubborn([]) if stubbornly else for_ever
        tool = uc.tool(name="look", reads="x")(body)

        @uc.handler(tools=[tool])
        async def work(turn: uc.Turn) -> str:
            await turn.calls([uc.Call("look")])
            return "done"

        async with uc.Runtime() as rt:
            outcome = await rt.run(work, timeout_s=5)
            return outcome, rt.trace(outcome.turn_id)

    outcome, trace = run_virtual(main())
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "did not end within 5 s" in outcome.error.message
    assert [(s.name, s.status) for s in trace.steps] == [("look", "failed")]


def test_a_write_past_its_deadline_is_in_doubt() -> None:
    """Nobody can say whether a write that was cut off happened: it is never done again."""

    async def main() -> tuple[list[uc.Outcome], list[str]]:
        log: list[str] = []

        @uc.tool(writes="x", timeout_s=2.0)
        async def put() -> str:
            log.append("put")
            return await for_ever()

        @uc.handler(tools=[put])
        async def work(turn: uc.Turn) -> str:
            (result,) = await turn.calls([uc.Call("put")])
            return f"{result.status} {result.value}"

        async with uc.Runtime(targets=[work]) as rt:
            first = await rt.run(work)
            again = await rt.resume(first.turn_id)
            settled = await rt.settle(first.turn_id, applied=True, by="ada", value="so it is")
            return [first, again, settled], log

    (first, again, settled), log = run_virtual(main())
    assert (first.status, again.status) == ("in_doubt", "in_doubt")
    assert [d.step_id for d in first.in_doubt] == [d.step_id for d in again.in_doubt] == ["put.1"]
    assert (settled.status, settled.value) == ("done", "ok so it is")
    assert log == ["put"]


async def test_a_thread_that_never_returns_does_not_hold_the_turn() -> None:
    """A function that is not async and hangs is left behind at its deadline."""
    release = threading.Event()
    flow = uc.Workflow("hanging")

    @flow.read("x", timeout_s=0.05)
    def hang() -> bool:
        return release.wait(30)

    began = time.monotonic()
    async with uc.Runtime() as rt:
        outcome = await rt.run(flow)
    release.set()
    assert outcome.status == "failed"
    assert time.monotonic() - began < 10


async def test_a_full_disk_stops_the_turn_and_loses_nothing(tmp_path: Path) -> None:
    """What was committed before the disk was full is there, and the turn goes on from it."""
    path = tmp_path / "journal.db"
    ran: list[int] = []

    @uc.tool(writes="x/{k}")
    async def put(k: int, key: uc.IdempotencyKey) -> str:
        ran.append(k)
        # Of a text that can be compressed, a disk would hold any number.
        return random.Random(k).randbytes(15_000).hex()  # noqa: S311  not for secrets

    @uc.handler(tools=[put])
    async def work(turn: uc.Turn) -> int:
        return len([await turn.calls([uc.Call("put", {"k": k})]) for k in range(20)])

    class SmallDisk(SqliteStore):
        async def open(self) -> None:
            await super().open()
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            self._connection.execute(f"PRAGMA max_page_count={pages + 40}")

    async with uc.Runtime(SmallDisk(path), targets=[work]) as rt:
        with pytest.raises(StoreFullError, match=r"the disk is full.*Make room"):
            await rt.run(work)
        small = uc.Workflow("small")

        @small.read("y")
        async def other() -> int:
            return 1

    done_before = list(ran)
    assert 0 < len(done_before) < 20
    async with uc.Runtime(path, targets=[work]) as rt:
        (head,) = rt.turns()
        outcomes = await rt.recover()
        outcome = outcomes[head.turn_id]
        assert isinstance(outcome, uc.Outcome)
        assert (outcome.status, outcome.value) == ("done", 20)
    # Only the write whose outcome could not be recorded is done again, under its key.
    repeated = [k for k in set(ran) if ran.count(k) > 1]
    assert repeated in ([], [done_before[-1]])
    assert sorted(set(ran)) == list(range(20))


async def test_a_journal_that_is_none_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A file of something else is an error that names it, and its bytes stay as they were."""
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(uc.StoreError, match=r"notes\.txt.*cannot be read as a journal"):
        async with uc.Runtime(path):
            pass
    assert path.read_bytes() == before
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE mine(x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(uc.StoreError, match="a database of something else"):
        async with uc.Runtime(foreign):
            pass
    assert foreign.read_bytes() == before


def test_settings_outside_their_range_fail_where_they_are_written() -> None:
    """A nonsense setting is a SettingError that names it and its range."""
    for bad in (0, -1, float("nan")):
        with pytest.raises(uc.UndercroftError, match="turn_timeout_s"):
            uc.Runtime(turn_timeout_s=bad)
        with pytest.raises(uc.UndercroftError, match="timeout_s"):
            uc.tool(reads="x", timeout_s=bad)(for_ever)
    with pytest.raises(uc.UndercroftError, match="sync is 'sometimes'"):
        uc.Runtime(sync="sometimes")  # type: ignore[arg-type]
    with pytest.raises(uc.UndercroftError, match="turn_max"):
        uc.Limits(turn_max=0)


async def test_a_runtime_that_is_not_open_says_so() -> None:
    """Using a runtime outside of its context is an error that shows how to open it."""
    rt = uc.Runtime()
    with pytest.raises(uc.DeclarationError, match="async with"):
        await rt.run(uc.Workflow("x"))
    async with rt:
        with pytest.raises(uc.DeclarationError, match="neither a workflow nor a handler"):
            await rt.run(for_ever)
