"""Runtimes in event loops that nobody closes."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
import undercroft as uc

def pay(n: int) -> str:
    return "paid"

async def turn(rt):
    guest = rt.guest(rt.toolset("g", [pay]))
    await guest.calls([uc.Call("pay", {"n": 1}, "a")])
    await guest.end("done")

loop = asyncio.new_event_loop()
loop.run_until_complete(turn(uc.Runtime("j.db")))
print("ran")
"""


def test_what_rests_is_closed_with_the_process(tmp_path: object) -> None:
    """A library may keep an event loop that it never closes: nothing is left open in it."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "undercroft" not in done.stderr
