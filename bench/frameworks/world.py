"""What the programs act on: a bank in a file, tools as users write them, and a ledger of effects.

The ledger is what really happened: each tool writes a line the moment its effect is there, whatever
its framework makes of it. Nothing here is guarded; that two withdrawals lose one is the point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

OPENING = 100
SLOW_S = 6.0
"""The bank takes this long for a sum of 1, and less for larger ones: of 30 and 50, 30 is last."""

CROWD_S = 10.0
"""How long a payment waits for another that may never come."""

DECLINED = "error: the card was declined"

Tool: TypeAlias = Callable[..., Awaitable[str]]


@dataclass(frozen=True, slots=True)
class World:
    """A folder with a bank and a ledger.

    Attributes:
        folder: Where both are; processes share it.
    """

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> World:
        """Return a world with one account."""
        folder.mkdir(parents=True, exist_ok=True)
        world = cls(folder)
        world.put("ada", OPENING)
        return world

    def balance(self, account: str) -> int:
        """Return what an account holds."""
        return int(json.loads(self._bank.read_text())[account])

    def put(self, account: str, sum_: int) -> None:
        """Write what an account holds."""
        draft = self._bank.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({account: sum_}))
        draft.replace(self._bank)

    def did(self, what: str, **facts: Any) -> None:
        """Write an effect down."""
        line = json.dumps({"what": what, "at_ns": time.time_ns(), "process": os.getpid(), **facts})
        ledger = os.open(self.folder / "ledger.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(ledger, line.encode() + b"\n")
            os.fsync(ledger)
        finally:
            os.close(ledger)

    def ledger(self) -> list[dict[str, Any]]:
        """Return all effects, in the order in which they happened."""
        kept = self.folder / "ledger.jsonl"
        return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []

    def order(self) -> list[str]:
        """Return what happened, in its order, without the facts."""
        return [str(one["what"]) for one in self.ledger()]

    def arm(self) -> None:
        """Let the next payment be the last thing that its process does."""
        self._bomb.touch()

    def die_if_armed(self) -> None:
        """Kill this process as the kernel would, once."""
        if self._bomb.exists():
            self._bomb.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def expect(self, payers: int) -> None:
        """Let no payment end before so many processes have begun one, or a while has passed."""
        (self.folder / "expected").write_text(str(payers))

    async def crowd(self) -> None:
        """Wait for the other payers, if any are expected.

        What happens "at once" would else be a question of how fast a process starts.
        """
        expected = self.folder / "expected"
        if not expected.exists():
            return
        payers = int(expected.read_text())
        (self.folder / f"payer-{os.getpid()}").touch()
        until_s = time.monotonic() + CROWD_S
        while time.monotonic() < until_s:
            if len(list(self.folder.glob("payer-*"))) >= payers:
                return
            await asyncio.sleep(0.01)

    @property
    def _bank(self) -> Path:
        return self.folder / "bank.json"

    @property
    def _bomb(self) -> Path:
        return self.folder / "armed"


def tools(world: World) -> dict[str, Tool]:
    """Return the tools, by their names; all are plain async functions."""

    async def withdraw(account: str, amount: int) -> str:
        """Withdraw an amount from an account."""
        held = world.balance(account)
        await asyncio.sleep(SLOW_S / amount)
        world.put(account, held - amount)
        world.did("withdraw", amount=amount, held=held)
        return f"withdrew {amount}, {account} has {held - amount}"

    async def pay(account: str, amount: int) -> str:
        """Pay an amount from an account."""
        held = world.balance(account)
        await world.crowd()
        await asyncio.sleep(SLOW_S / amount)
        world.put(account, held - amount)
        world.did("pay", amount=amount, held=held)
        world.die_if_armed()
        return f"paid {amount}, {account} has {held - amount}"

    async def add_interest(account: str, percent: int) -> str:
        """Add interest to an account."""
        held = world.balance(account)
        await asyncio.sleep(SLOW_S / 100)
        world.put(account, held + held * percent // 100)
        world.did("add_interest", percent=percent, held=held)
        return f"{account} has {held + held * percent // 100} with interest"

    async def write_note(text: str) -> str:
        """Write a note for the file."""
        world.did("write_note", text=text)
        return "noted"

    async def charge(card: str) -> str:
        """Charge a card."""
        world.did("charge", card=card)
        return DECLINED

    return {one.__name__: one for one in (withdraw, pay, add_interest, write_note, charge)}
