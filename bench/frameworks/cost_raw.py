"""What `uc.guard` adds to a call in a loop of one's own; see `costs`."""

from __future__ import annotations

import asyncio
import platform
import tempfile
from pathlib import Path

import undercroft as uc
from bench.frameworks.costs import MEMORY, OWN, READ, WRITE, Once, measured, said

CALLS = 2_000
# So many calls are a turn: as many as turns have.
TURN_CALLS = 50


async def look(n: int) -> str:
    """Look at something."""
    return f"page {n}"


async def put(n: int) -> str:
    """Change something."""
    return f"page {n}"


def under(rt: uc.Runtime, name: str) -> Once:
    """Return what makes a call with Undercroft under the loop."""
    guarded = uc.guard([look, put], runtime=rt)

    async def once(n: int) -> object:
        [result] = await guarded.calls([uc.Call(name, {"n": n}, f"c{n}")])
        if n % TURN_CALLS == 0:
            await guarded.end()
        return result

    return once


async def main() -> None:
    """Measure, and say what was found."""
    uc.declare(look, reads="page/{n}")
    uc.declare(put, writes="page/{n}", read_first=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        async with uc.Runtime() as memory, uc.Runtime(path) as file:
            ways = {
                OWN: look,
                MEMORY: under(memory, "look"),
                READ: under(file, "look"),
                WRITE: under(file, "put"),
            }
            found = await measured(ways, calls=CALLS)
    said("a loop of one's own", {"python": platform.python_version()}, found)


if __name__ == "__main__":
    asyncio.run(main())
