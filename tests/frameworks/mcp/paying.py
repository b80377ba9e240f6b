"""A loop that pays by the shop, and is killed: between intent and outcome, or once it has paid.

python -m tests.frameworks.mcp.paying JOURNAL URL before|after
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import undercroft as uc
from undercroft.adapters.mcp import connect

CALL = uc.Call("pay", {"account": "a", "amount": 1}, "call-1")
SESSION = "s-1"


def die(*_: Any) -> Any:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Pay, and be killed."""
    journal, url, when = sys.argv[1:]
    async with connect(url, service="shop") as server, uc.Runtime(journal) as rt:
        tools = await server.tools()
        guest = rt.guest(rt.toolset("payer", tools), session=SESSION)
        pay = next(tool for tool in tools if tool.name == "pay")

        async def run() -> Any:
            assert pay.call is not None
            value = await pay.call(dict(CALL.arguments))  # type: ignore[arg-type]
            if when == "before":
                die()
            return value

        await guest.saw([CALL])
        await guest.call(CALL, run)
        die()


if __name__ == "__main__":
    asyncio.run(main())
