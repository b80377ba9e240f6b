"""The app that the tests of the command line run; each test has a copy of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import undercroft as uc

EVIL = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]markup[/bold] :smile: \x9b2J \u202eesrever\u2066 "
    "\u200b \ufeff \U000e0041 \r\n\tnext \x00 漢字漢字 end"
)


def calm() -> bool:
    """Whether nothing is to go wrong any more."""
    return Path("calm").exists()


def count(name: str, line: str) -> None:
    """Note that something happened, in a file that outlives the process."""
    with Path(name).open("a") as file:
        file.write(f"{line}\n")


@dataclass(frozen=True)
class Order:
    """What somebody wants."""

    item: str
    count: int = 1


# ------------------------------------------------------------------ a workflow with a gate

order = uc.Workflow("order")


@order.resolve
async def customer(email: str) -> str:
    """Find the customer."""
    return email.partition("@")[0]


@order.read("crm/{customer}")
async def record(customer: str) -> dict[str, str]:
    """Read the record."""
    return {"name": customer, "tier": "gold"}


@order.approve
async def gate(record: dict[str, str]) -> bool:
    """Ask a person."""
    return record["tier"] == "gold"


@order.execute(appends="mail/{customer}")
async def send(record: dict[str, str], gate: uc.Approval, key: uc.IdempotencyKey) -> str:
    """Send a mail; the file counts how often."""
    del key
    count("sent.txt", f"{record['name']} by {gate.by}")
    return f"sent to {record['name']}, approved by {gate.by}"


@order.confirm
async def told(send: str) -> str:
    """Tell the user."""
    return send


# ------------------------------------------------------------------ inputs of many types

typed = uc.Workflow("typed")


@typed.resolve
async def days(order: Order, on: dt.date, urgent: bool = False) -> dict[str, object]:  # noqa: FBT001, FBT002  an input
    """Show that the inputs came with their types."""
    return {"item": order.item, "year": on.year, "urgent": urgent, "raw": b"\x00\xff"}


# ------------------------------------------------------------------ what goes wrong

wrong = uc.Workflow("wrong")


@wrong.read("x")
async def fails(name: str) -> str:
    """Fail."""
    raise ValueError(f"no {name}")


@wrong.read("y")
async def after(fails: str) -> str:
    """Never run."""
    return fails


degraded = uc.Workflow("degraded")


@degraded.gather(optional=True)
async def extra(name: str) -> str:
    """Fail, and be done without."""
    raise OSError(name)


@degraded.confirm
async def anyway(name: str = "-", extra: str | None = None) -> str:
    """Go on."""
    return f"{name} {extra}"


doubtful = uc.Workflow("doubtful")


@doubtful.execute(writes="bank/{account}")
async def pay(account: str) -> str:
    """Lose the answer."""
    if calm():
        return "paid now"
    raise uc.UnknownOutcomeError(account)


@doubtful.confirm
async def paid(pay: str) -> str:
    """Tell the user."""
    return pay


killed = uc.Workflow("killed")


@killed.read("a")
async def looked(name: str) -> str:
    """Read something."""
    return name


@killed.execute(writes="b")
async def written(looked: str) -> str:
    """End the process in the middle of a write."""
    if not calm():
        os.kill(os.getpid(), signal.SIGKILL)
    return looked


slow = uc.Workflow("slow")


@slow.read("a")
async def begun(name: str) -> str:
    """Say that the turn has begun; the file counts how often."""
    count("begun.txt", name)
    return name


@slow.read("b")
async def waits(begun: str) -> str:
    """Take long, the first time."""
    if not calm():
        await asyncio.sleep(60)
    return begun


many = uc.Workflow("many")


@many.resolve
async def items(count: int) -> list[int]:
    """Make a list."""
    return list(range(count))


@many.gather("x/{item}", each="items")
async def square(item: int) -> int:
    """Fan out over it."""
    return item * item


@many.confirm
async def total(square: list[int]) -> int:
    """Join it."""
    return sum(square)


evil = uc.Workflow("evil")


@evil.resolve
async def text(name: str) -> str:
    """Return text that would take over a terminal."""
    return f"{EVIL} {name}"


@evil.read("x")
async def raises(text: str) -> str:
    """Raise it, too."""
    raise ValueError(text * 20)


@evil.confirm
async def says(text: str) -> str:
    """And tell the user."""
    return text


flaky = uc.Workflow("flaky")
tries: list[int] = []


@flaky.read("x", retry=uc.Retry(attempts=3, wait_s=0.001))
async def third_time(name: str) -> str:
    """Succeed at the third attempt."""
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError(name)
    return name


# ------------------------------------------------------------------ a handler


@uc.tool(reads="crm/{account_id}")
async def look(account_id: str) -> str:
    """Look up a record."""
    return f"record of {account_id}"


@uc.tool(writes="crm/{account_id}", approval=True)
async def change(account_id: str, tier: str, key: uc.IdempotencyKey) -> str:
    """Change a record."""
    del key
    return f"{account_id} is {tier}"


@uc.handler(tools=[look, change])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do what the model proposes."""
    turn.context.user(message)
    while True:
        answer = await turn.model()
        if not answer.calls:
            return answer.text
        await turn.calls(answer.calls)


class Model:
    """Proposes by rule: something wrong, something refused, then what is right."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by how often it was asked."""
        asked = sum(message.role == "assistant" for message in request.messages)
        write = uc.Call("change", {"account_id": "a-1", "tier": EVIL})
        batches = [
            (uc.Call(f"nope {EVIL}"), write),
            (uc.Call("look", {"account_id": "a-1"}), write),
        ]
        return uc.Answer(calls=batches[asked]) if asked < len(batches) else uc.Answer("all done")


model = Model()

# ------------------------------------------------------------------ graphs that do not hold

unfit = uc.Workflow("unfit")


@unfit.read("x")
async def number(name: str) -> int:
    """Return a number."""
    return len(name)


@unfit.confirm
async def worded(number: str) -> str:
    """Take a text."""
    return number


careless = uc.Workflow("careless")


@careless.execute
async def writes() -> None:
    """Declare nothing."""


nothing = 7
