"""A loop of somebody else's in a process of its own: `python -m tests.engine.guest_child …`.

It makes one batch of two calls, `pay` and `look`, under a session, and says on stdout what came
of each. `pay` appends a line to a ledger; it dies where it is told to.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import undercroft as uc
from undercroft.model.foreign import ForeignTool

OBJECT = {"type": "object", "properties": {"account": {}}}
BATCH = [uc.Call("pay", {"account": "1"}, "c-pay"), uc.Call("look", {"account": "1"}, "c-look")]


def tools(approval: str, how: str, ledger: Path) -> list[ForeignTool]:
    """Return the tools, as `how` declares them."""
    pay, look = ForeignTool("pay", "", OBJECT), ForeignTool("look", "", OBJECT)
    words: dict[str, Any] = {"writes": "account/{account}", "approval": approval == "approve"}
    if how == "verify":
        words["verify"] = lambda: bool(ledger.read_text()) if ledger.exists() else False
    uc.declare(pay, **words, idempotent=how == "idempotent")
    uc.declare(look, reads="other/{account}")
    return [pay, look]


async def carry_out(call: uc.Call, ledger: Path, die: str) -> str:
    """Do what a call asks for."""
    if call.name == "look":
        return "seen"
    if die == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    with ledger.open("a") as book:
        book.write("paid\n")
    if die == "within":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.2 if die == "slow" else 0)
    return "paid"


async def main(journal: str, ledger: Path, approval: str, how: str, die: str) -> None:
    """Run the loop once."""
    # In development mode a slow step is told of, which says more of the machine than of the loop.
    asyncio.get_running_loop().slow_callback_duration = float("inf")
    runtime = uc.Runtime(journal)
    guest = runtime.guest(tools(approval, how, ledger), session="s-1", name="child")
    await guest.saw(BATCH)

    async def one(call: uc.Call) -> uc.Result:
        return await guest.call(call, lambda: carry_out(call, ledger, die))

    done = list(await asyncio.gather(*(one(call) for call in BATCH)))
    if done[0].status == "waiting" and die != "pause":
        await guest.decide(BATCH[0], granted=True, by="ada")
        done = list(await asyncio.gather(*(one(call) for call in BATCH)))
    said = {"turn": guest.turn_id, "calls": [[str(r.status), r.text] for r in done]}
    if die == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    outcome = await (guest.pause() if guest.waits else guest.end("done"))
    sys.stdout.write(json.dumps({**said, "status": str(outcome and outcome.status)}))


if __name__ == "__main__":
    journal, ledger, *words = sys.argv[1:]
    asyncio.run(main(journal, Path(ledger), *words))
