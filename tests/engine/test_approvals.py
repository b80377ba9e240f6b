"""What a yes binds to: exact arguments, the state that was read, one journal, and a time."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import DecisionError
from undercroft.storage.memory import MemoryJournal, MemoryStore


@dataclass
class Bank:
    """A balance outside, and what was paid from it."""

    balance: int = 100
    paid: list[int] = field(default_factory=list)


def handler_of(bank: Bank, expires_s: float | None = None) -> Any:
    """Return a handler that reads a balance and asks before it pays."""

    @uc.tool(reads="bank/{account}")
    async def balance(account: str) -> int:
        return bank.balance

    @uc.tool(writes="bank/{account}", approval=True, expires_s=expires_s)
    async def pay(account: str, amount: int) -> int:
        bank.paid.append(amount)
        return amount

    @uc.handler(tools=[balance, pay])
    async def work(turn: uc.Turn) -> str:
        await turn.calls([uc.Call("balance", {"account": "a"})])
        (result,) = await turn.calls([uc.Call("pay", {"account": "a", "amount": 5})])
        return str(result.status)

    return work


def flow_of(bank: Bank, expires_s: float | None = None) -> Any:
    """Return a workflow that does the same behind a gate."""
    flow = uc.Workflow("paying")

    @flow.read("bank/a")
    async def balance() -> int:
        return bank.balance

    @flow.approve(expires_s=expires_s)
    async def gate(balance: int) -> bool:
        return True

    @flow.execute(writes="bank/a")
    async def pay(balance: int, gate: uc.Approval) -> str:
        bank.paid.append(5)
        return "ok"

    return flow


KINDS = pytest.mark.parametrize("kind", [handler_of, flow_of], ids=["handler", "workflow"])


@KINDS
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_yes_to_what_has_changed_is_asked_for_again(kind: Any, *, restarted: bool) -> None:
    """Nothing is paid, and the question says what was seen and what is there now."""
    bank, journal = Bank(), MemoryJournal()
    target = kind(bank)
    async with uc.Runtime(MemoryStore(journal), targets=[target]) as rt:
        asked = await rt.run(target)
        bank.balance = 7
        if not restarted:
            again = await rt.approve(asked.turn_id, by="ada")
    if restarted:
        async with uc.Runtime(MemoryStore(journal), targets=[target]) as rt:
            again = await rt.approve(asked.turn_id, by="ada")
    assert (again.status, again.waiting[0].void, bank.paid) == ("waiting", "changed", [])
    assert [(c.key, c.was, c.now) for c in again.waiting[0].changed] == [("bank/a", 100, 7)]
    assert again.waiting[0].fingerprint != asked.waiting[0].fingerprint
    async with uc.Runtime(MemoryStore(journal), targets=[target]) as rt:
        assert (await rt.resume(asked.turn_id)).waiting == again.waiting
        done = await rt.approve(asked.turn_id, by="ada")
        assert (done.status, bank.paid) == ("done", [5])
        words = [d.what for s in rt.trace(asked.turn_id).steps for d in s.decisions]
    assert words == ["approved", "void", "approved"]


@KINDS
async def test_a_yes_that_comes_too_late_counts_for_nothing(kind: Any) -> None:
    """After its time a yes is asked for again; within it, it holds."""
    bank = Bank()
    target = kind(bank, expires_s=0.2)
    async with uc.Runtime(targets=[target]) as rt:
        asked = await rt.run(target)
        assert asked.waiting[0].expires_at is not None
        await asyncio.sleep(0.25)
        late = await rt.approve(asked.turn_id, by="ada")
        assert (late.status, late.waiting[0].void, bank.paid) == ("waiting", "expired", [])
        assert (await rt.approve(asked.turn_id, by="ada")).status == "done"
    assert bank.paid == [5]


@KINDS
async def test_a_yes_is_used_in_one_copy_of_a_journal_only(kind: Any, tmp_path: Path) -> None:
    """A copy asks again for what was asked for, or granted, where it was copied from."""
    bank = Bank()
    target = kind(bank)
    async with uc.Runtime(tmp_path / "one.db", targets=[target]) as rt:
        asked = await rt.run(target)
    shutil.copy(tmp_path / "one.db", tmp_path / "two.db")
    ends = []
    for name in ("one.db", "two.db"):
        async with uc.Runtime(tmp_path / name, targets=[target]) as rt:
            ends.append(await rt.approve(asked.turn_id, by="ada"))
    assert [end.status for end in ends] == ["done", "waiting"]
    assert (ends[1].waiting[0].void, bank.paid) == ("copied", [5])


@KINDS
async def test_two_clicks_at_once_pay_once(kind: Any) -> None:
    """Whoever says yes again, at the same moment or later, changes nothing."""
    bank = Bank()
    target = kind(bank)
    async with uc.Runtime(targets=[target]) as rt:
        asked = await rt.run(target)
        clicks = [rt.approve(asked.turn_id, by="ada") for _ in range(2)]
        assert [o.status for o in await asyncio.gather(*clicks)] == ["done", "done"]
        assert (await rt.approve(asked.turn_id, by="ada")).status == "done"
    assert bank.paid == [5]


@KINDS
async def test_a_yes_to_what_was_seen_is_no_yes_to_something_else(kind: Any) -> None:
    """With the fingerprint of an earlier question a yes is refused; a beginning will do."""
    bank = Bank()
    target = kind(bank)
    async with uc.Runtime(targets=[target]) as rt:
        asked = await rt.run(target)
        seen = asked.waiting[0].fingerprint
        bank.balance = 7
        assert (await rt.approve(asked.turn_id, by="ada", fingerprint=seen)).status == "waiting"
        for old in (seen, seen[:8], seen[:4], ""):
            with pytest.raises(DecisionError, match="not what you saw"):
                await rt.approve(asked.turn_id, by="ada", fingerprint=old)
        now = (await rt.resume(asked.turn_id)).waiting[0].fingerprint
        assert bank.paid == []
        done = await rt.approve(asked.turn_id, by="ada", fingerprint=now[:8])
    assert (done.status, bank.paid) == ("done", [5])
