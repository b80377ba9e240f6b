"""A well-behaved server of the SDK's, in a process of its own: what it does is written to a file.

python -m tests.frameworks.mcp.shop LEDGER [--http PORT]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import ToolAnnotations
from pydantic import BaseModel

LEDGER = Path(sys.argv[1])
READS = ToolAnnotations(read_only_hint=True)
shop = MCPServer("shop")


class HowMuch(BaseModel):
    """What is wanted to be known."""

    much: int = 0


def note(line: str) -> None:
    """Write down that something happened, such that a kill cannot undo it."""
    with LEDGER.open("a") as ledger:
        ledger.write(f"{line}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def die_if_told() -> None:
    """Die between the effect and the answer, once, where a file beside the ledger says so."""
    told = LEDGER.with_suffix(".die")
    if told.exists():
        told.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


@shop.tool(annotations=READS)
def balance(account: str) -> int:
    """Return the balance of an account."""
    note(f"read {account}")
    die_if_told()
    return 100


@shop.tool()
def pay(account: str, amount: int) -> dict[str, int]:
    """Pay an amount."""
    note(f"pay {account} {amount}")
    die_if_told()
    return {"paid": amount}


@shop.tool(annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=True))
def set_tier(account: str, tier: str) -> str:
    """Set the tier of an account."""
    note(f"tier {account} {tier}")
    die_if_told()
    return tier


@shop.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True))
def wipe(account: str) -> str:
    """Forget an account."""
    note(f"wipe {account}")
    return "gone"


@shop.tool()
def fail(why: str) -> str:
    """Fail."""
    note(f"fail {why}")
    raise ValueError(why)


@shop.tool(annotations=READS)
def slow(seconds: float) -> str:
    """Take a while."""
    time.sleep(seconds)
    return "done"


@shop.tool()
def picture() -> list[str | Image]:
    """Show something."""
    return ["a dot", Image(data=b"\x89PNG dot", format="png")]


async def how_much() -> Elicit[HowMuch]:
    """Ask whoever uses the client."""
    return Elicit("How much?", HowMuch)


@shop.tool()
def ask_first(answer: Annotated[HowMuch, Resolve(how_much)]) -> int:
    """Want to know something first."""
    note("asked")
    return answer.much


@shop.tool()
async def learn(name: str, ctx: Context) -> str:
    """Learn a tool of another name."""

    def learnt(account: str) -> str:
        return f"{name} {account}"

    shop.add_tool(learnt, name=name, description=f"Do {name}.")
    await ctx.notify_tools_changed()
    return name


@shop.tool()
async def forget(name: str, ctx: Context) -> str:
    """Forget a tool."""
    shop.remove_tool(name)
    await ctx.notify_tools_changed()
    return name


def main() -> None:
    """Serve by standard input and output, or on a free port of loopback that is printed."""
    if "--http" not in sys.argv:
        shop.run()
        return
    import socket  # noqa: PLC0415  only for this door

    import uvicorn  # noqa: PLC0415  likewise

    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", int(sys.argv[-1])))
        door.listen()
        print(f"http://127.0.0.1:{door.getsockname()[1]}/mcp", flush=True)  # noqa: T201
        config = uvicorn.Config(shop.streamable_http_app(), log_level="critical", lifespan="on")
        uvicorn.Server(config).run([door])


if __name__ == "__main__":
    main()
