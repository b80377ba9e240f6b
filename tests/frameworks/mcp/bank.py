"""Tools of ours as a server, in a process of its own.

python -m tests.frameworks.mcp.bank JOURNAL BALANCES [--http | --elsewhere]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

import undercroft as uc
from undercroft.adapters.mcp import mcp_server, serve_http, serve_stdio

BALANCES = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("nowhere")


class Account(msgspec.Struct):
    """What an account holds."""

    account: str
    balance: int


def balances() -> dict[str, int]:
    """Return all balances."""
    found: dict[str, int] = msgspec.json.decode(BALANCES.read_bytes())
    return found


@uc.tool(reads="account/{account}", service="bank")
async def get_account(account: str) -> Account:
    """Return what an account holds."""
    return Account(account, balances()[account])


@uc.tool(writes="account/{account}", service="bank")
async def withdraw(account: str, amount: int) -> int:
    """Take an amount from an account."""
    left = balances()
    await asyncio.sleep(0.02)  # Whoever writes in between is overwritten.
    left[account] -= amount
    BALANCES.write_bytes(msgspec.json.encode(left))
    return left[account]


@uc.tool(writes="account/{account}", service="bank", approval=True)
async def close(account: str) -> str:
    """Close an account."""
    left = balances()
    del left[account]
    BALANCES.write_bytes(msgspec.json.encode(left))
    return f"{account} is closed"


@uc.tool(appends="letters")
def post(text: str) -> None:
    """Post a letter."""


def undeclared(text: str) -> str:
    """Do who knows what."""
    return text


TOOLS = [get_account, withdraw, close, post, undeclared]


async def main() -> None:
    """Serve."""
    runtime = uc.Runtime(sys.argv[1])
    approvals = "elsewhere" if "--elsewhere" in sys.argv else "ask"
    server = mcp_server(TOOLS, runtime, name="bank", approvals=approvals)  # type: ignore[arg-type]
    if "--http" in sys.argv:
        await serve_http(server, port=0, ready=lambda url: print(url, flush=True))  # noqa: T201
    else:
        await serve_stdio(server)


if __name__ == "__main__":
    asyncio.run(main())
