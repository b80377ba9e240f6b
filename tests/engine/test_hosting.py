"""Where guests live: in any event loop, and for code that has none."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import undercroft as uc
from tests.engine.guesting import foreign
from undercroft.engine.hosting import caller_of

ROOT = Path(__file__).parents[2]
NOTE: contextvars.ContextVar[str] = contextvars.ContextVar("note")


def test_each_event_loop_has_a_runtime_of_its_own_on_one_journal(tmp_path: Path) -> None:
    """A service that calls `asyncio.run` again and again keeps one record."""
    rt = uc.Runtime(tmp_path / "journal.db")
    toolset = rt.toolset("loop", [foreign("look", reads="r")])
    seen: list[str] = []

    async def turn() -> None:
        guest = rt.guest(toolset, session="s")
        call = uc.Call("look", {}, "c")

        async def look() -> str:
            return "seen"

        await guest.saw([call])
        assert (await guest.call(call, look)).value == "seen"
        seen.append(guest.turn_id)
        await guest.end("done")

    for _ in range(3):
        asyncio.run(turn())

    async def listed() -> list[str]:
        async with uc.Runtime(tmp_path / "journal.db") as reader:
            return [head.turn_id for head in reader.turns(session="s")]

    assert asyncio.run(listed()) == seen[::-1]


def test_threads_wait_for_each_other_and_keep_their_own_context(tmp_path: Path) -> None:
    """Sync loops ask from threads: a tool runs in the thread that asked, one after the other."""
    rt = uc.Runtime(tmp_path / "journal.db")
    guest = rt.guest([foreign("withdraw")])
    batch = [uc.Call("withdraw", {"amount": k}, f"c{k}") for k in range(8)]
    order: list[tuple[int, str, str]] = []
    balance = [0]

    def tool(amount: int) -> int:
        had = balance[0]
        threading.Event().wait(0.001)
        balance[0] = had + 1
        order.append((amount, threading.current_thread().name, NOTE.get()))
        return amount

    results: dict[int, uc.Result] = {}

    def work(k: int) -> None:
        NOTE.set(f"note {k}")
        caller = rt.caller()
        caller.wait(lambda: guest.saw(batch))
        run = caller.lend(lambda: tool(k))
        results[k] = caller.wait(lambda: guest.call(batch[k], run))

    threads = [threading.Thread(target=work, args=(k,), name=f"T{k}") for k in reversed(range(8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rt.caller().wait(lambda: guest.end("done"))
    assert order == [(k, f"T{k}", f"note {k}") for k in range(8)]
    assert balance == [8]
    assert [results[k].value for k in range(8)] == list(range(8))


def test_what_a_thread_lends_itself_for_may_raise() -> None:
    """It is the call's failure, and leaves nobody waiting."""
    rt = uc.Runtime()
    guest = rt.guest([foreign("work", reads="r")])
    caller = rt.caller()

    def fails(error: Exception) -> None:
        raise error

    for k, error in enumerate([ValueError("no"), StopIteration()]):
        call = uc.Call("work", {}, f"c{k}")
        run = caller.lend(lambda error=error: fails(error))  # type: ignore[misc]  # bound now
        result = caller.wait(lambda call=call, run=run: guest.call(call, run))  # type: ignore[misc]
        assert result.error is not None
        assert result.error.type in {"ValueError", "RuntimeError"}
    caller.wait(guest.end)


async def test_a_thread_that_would_wait_for_itself_is_told() -> None:
    """Sync code within the event loop of an open runtime would block it for ever."""
    async with uc.Runtime() as rt:
        with pytest.raises(uc.DeclarationError, match="this call would block"):
            rt.caller()
        # From another thread it is that very loop that is asked.
        loop = asyncio.get_running_loop()
        caller = await asyncio.to_thread(caller_of, loop)
        found = await asyncio.to_thread(caller.wait, _name_of_loop)
        assert found == id(loop)


async def _name_of_loop() -> int:
    return id(asyncio.get_running_loop())


@pytest.mark.parametrize("how", ["async", "sync"])
def test_a_process_that_just_ends_closes_what_was_opened_for_it(how: str, tmp_path: Path) -> None:
    """No warning, no error, no hang, whichever way the loop was run."""
    program = f"""
import asyncio, undercroft as uc
rt = uc.Runtime({str(tmp_path / "j.db")!r})
async def put(x: int) -> int:
    "Put."
    return x
guarded = uc.guard([put], runtime=rt, session="s")
batch = [uc.Call("put", {{"x": 1}}, "c")]
if {how!r} == "async":
    print((asyncio.run(guarded.calls(batch)))[0].value)
else:
    print(rt.caller().wait(lambda: guarded.guest.calls(batch))[0].value)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")

    async def status() -> str:
        async with uc.Runtime(tmp_path / "j.db") as rt:
            return str(rt.turns()[0].status)

    # The task in which it began is over; a thread never said so, and can go on.
    assert asyncio.run(status()) == ("done" if how == "async" else "stopped")


def test_ctrl_c_in_a_tool_of_a_thread_ends_the_process_and_leaves_a_doubt(tmp_path: Path) -> None:
    """It is not taken for the tool's own failure: the process ends by it, the write is in doubt."""
    program = f"""
import time, undercroft as uc
from undercroft.model.foreign import ForeignTool
rt = uc.Runtime({str(tmp_path / "j.db")!r})
guest = rt.guest([ForeignTool("work")], session="s")
caller = rt.caller()

def work():
    print("begun", flush=True)
    time.sleep(60)

caller.wait(lambda: guest.call(uc.Call("work", {{}}, "c"), caller.lend(work)))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in err

    async def status() -> tuple[str, str]:
        async with uc.Runtime(tmp_path / "j.db") as rt:
            [head] = rt.turns()
            return str(head.status), str(rt.trace(head.turn_id).steps[0].status)

    assert asyncio.run(status()) == ("stopped", "in_doubt")
