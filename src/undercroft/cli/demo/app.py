"""A subscription is renewed: the app of `undercroft demo`, and an example to copy from.

`renewal` is a workflow: its steps are known ahead, and a parameter that bears the name of a
step is an edge of the graph. `assist` is a handler: a model proposes calls, one batch after
the other. Both run on the same runtime, with the same promises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import undercroft as uc
from undercroft.cli.demo import world

ASK_ABOVE_EUROS = 100


@dataclass(frozen=True)
class Account:
    """A customer's record in the CRM."""

    id: str
    name: str
    plan: str


@dataclass(frozen=True)
class Invoice:
    """What a customer has paid before."""

    number: str
    euros: int


@dataclass(frozen=True)
class Offer:
    """What the renewal will cost."""

    text: str
    euros: int


# ------------------------------------------------------------------ a workflow

renewal = uc.Workflow("renewal")


@renewal.resolve
async def account(email: str) -> str:
    """Find out whose subscription it is."""
    return next(key for key, who in world.CUSTOMERS.items() if who["email"] == email)


@renewal.read("crm/{account}", service="crm")
async def record(account: str) -> Account:
    """Read the customer's record."""
    return await get_account(account)


@renewal.read("billing/{account}", service="billing")
async def invoices(account: str) -> list[Invoice]:
    """Read what was paid before; needs nothing of `record`, so it runs beside it."""
    await world.ask("read billing", account=account)
    return [Invoice(*invoice) for invoice in world.INVOICES[account]]


@renewal.prepare
async def offer(record: Account, invoices: list[Invoice]) -> Offer:
    """Work out the price: one more year for what the last one cost."""
    euros = sum(invoice.euros for invoice in invoices)
    return Offer(f"{record.name}, plan {record.plan}: one more year", euros)


async def find_hold(key: uc.IdempotencyKey) -> str | None:
    """Ask the bank for a hold; after a crash this says whether it was made."""
    return next((f"H-{key[:6]}" for _ in world.happened("hold", key=key)), None)


@renewal.execute(writes="bank/{account}/hold", service="bank", verify=find_hold)
async def hold(account: str, offer: Offer, key: uc.IdempotencyKey) -> str:
    """Put a hold on the card; no money is taken yet."""
    await world.ask("hold", account=account, euros=offer.euros, key=key)
    return f"H-{key[:6]}"


@renewal.approve
async def gate(offer: Offer) -> bool:
    """Say whether a person must agree first."""
    return offer.euros > ASK_ABOVE_EUROS


async def find_payment(key: uc.IdempotencyKey) -> str | None:
    """Ask the bank for a payment."""
    return next((f"P-{key[:6]}" for _ in world.happened("payment", key=key)), None)


@renewal.execute(writes="bank/{account}/payment", service="bank", verify=find_payment)
async def payment(hold: str, offer: Offer, gate: uc.Approval, key: uc.IdempotencyKey) -> str:
    """Take the money that is held, once somebody agreed."""
    await world.ask("payment", hold=hold, euros=offer.euros, by=gate.by, key=key)
    return f"P-{key[:6]}"


async def find_mail(key: uc.IdempotencyKey) -> bool:
    """Ask the mail server for a mail."""
    return bool(world.happened("mail", key=key))


@renewal.execute(appends="mail/{account}", service="smtp", verify=find_mail)
async def mail(payment: str, offer: Offer, key: uc.IdempotencyKey) -> bool:
    """Send the receipt."""
    await world.ask("mail", about=payment, text=offer.text, key=key)
    return True


@renewal.confirm
async def confirm(offer: Offer, payment: str, mail: bool) -> str:  # noqa: FBT001  a step's value
    """Tell the user what was done."""
    receipt = "A receipt is on its way." if mail else ""
    return f"{offer.text}, {offer.euros} € paid ({payment}). {receipt}".strip()


# ------------------------------------------------------------------ a handler


@uc.tool(reads="crm/{account_id}", service="crm")
async def get_account(account_id: str) -> Account:
    """Look up a customer's record."""
    await world.ask("read crm", account=account_id)
    changes = world.happened("plan", account=account_id)
    who = world.CUSTOMERS[account_id]
    return Account(account_id, who["name"], changes[-1]["plan"] if changes else who["plan"])


@uc.tool(writes="crm/{account_id}", service="crm", verify=get_account)
async def set_plan(account_id: str, plan: str, key: uc.IdempotencyKey) -> str:
    """Put a customer on another plan."""
    await world.ask("plan", account=account_id, plan=plan, key=key)
    return f"{account_id} is on plan {plan} now"


class HastyModel:
    """Stands in for a model: by rule, so that the demo needs no key.

    It wants to write at once. When it is refused it does what the refusal names as the next
    move, as a real model does.
    """

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Propose the next calls, or say that it is done."""
        account_id, plan = "acc-7", "team"
        change = uc.Call("set_plan", {"account_id": account_id, "plan": plan})
        last = request.messages[-1]
        if last.role == "user":
            return uc.Answer("I change the plan.", (change,))
        if last.content.startswith('{"refused"'):
            (reader,) = json.loads(last.content)["refused"]["facts"]["readers"]
            look = uc.Call(reader, {"account_id": account_id})
            return uc.Answer("I look first, then change it.", (look, change))
        return uc.Answer(f"Done: {last.content}.")


@uc.handler(tools=[get_account, set_plan], model=HastyModel())
async def assist(turn: uc.Turn, message: str) -> str:
    """Do what the user asks for, as long as the model has something to propose."""
    turn.context.system("You look after subscriptions.")
    turn.context.user(message)
    while True:
        answer = await turn.model()
        if not answer.calls:
            return answer.text
        await turn.calls(answer.calls)
