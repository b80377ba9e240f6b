"""More healthy runs: what good agents do daily and a hasty rule would take for a fault.

Each function tells one run from a chance.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from bench.doctor.runs import Batch, Beat, Say
from bench.doctor.works import Caller


def changing_mind(chance: random.Random) -> list[Beat]:
    """Set a field twice, since the user changed their mind between."""
    call = Caller(chance)
    order = f"#A{chance.randrange(1000, 9999)}"
    address = {"order_id": order, "street": "4 Mill Lane", "city": "Ely"}
    other = {**address, "street": "19 Dock Road", "city": "Hull"}
    shown = json.dumps({"order_id": order, "state": "open", "city": "York"})
    beats: list[Beat] = [
        Say("system", "You work for a shop. Always obtain the customer's yes before any change."),
        Say("user", f"Hello, please send my order {order} to 4 Mill Lane in Ely instead."),
        Batch((call("get_order", {"order_id": order}, shown, key=order),)),
    ]
    for n, args in enumerate((address, other)):
        done = json.dumps({"ok": True, **args})
        beats += [
            Say(
                "assistant",
                f"I will send {order} to {args['street']}, {args['city']}. Is that right?",
            ),
            Say("user", chance.choice(("Yes, please.", "That's right, go ahead.", "Yes."))),
            Batch((call("set_order_address", args, done, writes=True, key=order),)),
            Say("assistant", f"{order} goes to {args['street']}, {args['city']} now."),
        ]
        if n == 0:
            beats.append(Say("user", "Sorry, I was wrong: make it 19 Dock Road in Hull, please."))
    beats += [Say("user", "Thank you!"), Say("assistant", "You are welcome.")]
    return beats


def paying(chance: random.Random) -> list[Beat]:
    """Pay the same amount to two people, and the rent to a third."""
    call = Caller(chance)
    people = [f"NL{chance.randrange(10**7, 10**8)}" for _ in range(3)]
    amounts = ["25.00", "25.00", chance.choice(("640.00", "25.00"))]
    balance = json.dumps({"account": "main", "balance": "1912.40", "currency": "EUR"})
    beats: list[Beat] = [
        Say("system", "You are a banking assistant. Make the transfers that the user asks for."),
        Say(
            "user",
            "Please pay " + ", ".join(f"{a} to {p}" for a, p in zip(amounts, people, strict=True)),
        ),
        Batch((call("get_balance", {"account": "main"}, balance, key="main"),)),
    ]
    for n, (amount, person) in enumerate(zip(amounts, people, strict=True)):
        args = {"to": person, "amount": amount, "reference": "shared costs"}
        done = json.dumps({"transfer_id": f"tr_{n}{chance.randrange(1000, 9999)}", "state": "sent"})
        beats.append(Batch((call("transfer_money", args, done, writes=True),)))
    beats.append(Say("assistant", "All three transfers have been made."))
    return beats


def failing_honestly(chance: random.Random) -> list[Beat]:
    """Fail to change something, say so, and hand over."""
    call = Caller(chance)
    sub = f"sub_{chance.randrange(1000, 9999)}"
    shown = json.dumps({"subscription_id": sub, "plan": "team", "state": "past_due"})
    why = chance.choice(("Error: subscription is past due", '{"error": "payment required"}'))
    told = chance.choice(
        (
            "I could not change the plan, since a payment is due. Please pay it first.",
            "I'm sorry, that was not possible: the subscription is past due.",
            "Unfortunately the change failed because of an open payment. Shall I get a colleague?",
        )
    )
    return [
        Say("system", "You help customers with their subscriptions."),
        Say("user", f"Move {sub} to the business plan, please."),
        Batch((call("get_subscription", {"subscription_id": sub}, shown, key=sub),)),
        Batch(
            (
                call(
                    "update_subscription",
                    {"subscription_id": sub, "plan": "business"},
                    why,
                    ok=False,
                    writes=True,
                    key=sub,
                ),
            )
        ),
        Say("assistant", told),
        Say("user", "I see, I will pay it first. Thanks."),
        Say("assistant", "All right. Goodbye!"),
    ]


def tidying(chance: random.Random) -> list[Beat]:
    """Change several records side by side, each by one call."""
    call = Caller(chance)
    issues = sorted({chance.randrange(100, 999) for _ in range(3)})
    listed = json.dumps([{"number": n, "title": f"issue {n}", "state": "open"} for n in issues])
    reads = tuple(
        call(
            "get_issue",
            {"number": n},
            json.dumps({"number": n, "title": f"issue {n}", "state": "open", "labels": []}),
            key=str(n),
        )
        for n in issues
    )
    closes = tuple(
        call(
            "close_issue",
            {"number": n, "reason": "stale"},
            json.dumps({"number": n, "state": "closed"}),
            writes=True,
            key=str(n),
        )
        for n in issues
    )
    return [
        Say("system", "You look after a project's issues."),
        Say("user", "Close the stale issues, please."),
        Batch((call("list_issues", {"label": "stale", "state": "open"}, listed),)),
        Batch(reads),
        Batch(closes),
        Say("assistant", f"I have closed {len(issues)} stale issues."),
    ]


def waiting(chance: random.Random) -> list[Beat]:
    """Watch a deployment that says the same for a while, with waits between."""
    call = Caller(chance)
    release = f"rel-{chance.randrange(100, 999)}"
    args = {"release": release}
    beats: list[Beat] = [
        Say("system", "You deploy services."),
        Say("user", f"Deploy {release} to production and tell me when it is up."),
        Batch((call("get_release", args, json.dumps({**args, "tests": "green"}), key=release),)),
        Batch(
            (
                call(
                    "deploy_release",
                    {**args, "environment": "production"},
                    json.dumps({**args, "state": "deploying"}),
                    writes=True,
                    key=release,
                ),
            )
        ),
    ]
    for _ in range(chance.choice((1, 2, 3))):
        state = json.dumps({**args, "state": "deploying", "ready": "0/3"})
        beats += [
            Batch((call("get_deployment_status", args, state, key=release),)),
            Batch((call("wait", {"seconds": 15}, "waited 15 s"),)),
        ]
    state = json.dumps({**args, "state": "up", "ready": "3/3"})
    beats += [
        Batch((call("get_deployment_status", args, state, key=release),)),
        Say("assistant", f"{release} is up: 3 of 3 instances are ready."),
    ]
    return beats


def retrying(chance: random.Random) -> list[Beat]:
    """Send a write again that was turned away before it could do anything."""
    call = Caller(chance)
    page = f"page-{chance.randrange(100, 999)}"
    args = {"page_id": page, "title": "Opening hours"}
    why = chance.choice(
        ('{"error": "rate limited, retry after 1 s", "code": 429}', "Error: 429 Too Many Requests")
    )
    shown = json.dumps({"page_id": page, "title": "Hours", "version": 4})
    turned = call("rename_page", args, why, ok=False, writes=True, key=page)
    done = call("rename_page", args, json.dumps({**args, "ok": True}), writes=True, key=page)
    return [
        Say("system", "You edit a site."),
        Say("user", f"Please rename {page} to 'Opening hours'."),
        Batch((call("get_page", {"page_id": page}, shown, key=page),)),
        Batch((turned,)),
        Batch((call("sleep", {"seconds": 1}, "ok"),)),
        Batch((done,)),
        Say("assistant", f"{page} is called 'Opening hours' now."),
    ]


def returning(chance: random.Random) -> list[Beat]:
    """Look the same up again, since the user came back after a while and asks how it stands."""
    call = Caller(chance)
    parcel = f"PX{chance.randrange(10**6, 10**7)}"
    beats: list[Beat] = [
        Say("system", "You answer questions about parcels."),
        Say("user", f"Where is {parcel}?"),
    ]
    for where in ("in the depot", chance.choice(("in the depot", "on the van"))):
        shown = json.dumps({"parcel": parcel, "where": where, "due": "2026-03-04"})
        beats += [
            Batch((call("track_parcel", {"parcel": parcel}, shown, key=parcel),)),
            Say("assistant", f"{parcel} is {where}; it is due on 4 March."),
        ]
        if len(beats) < 5:  # noqa: PLR2004
            beats.append(Say("user", "And now, has anything changed?"))
    beats += [Say("user", "Thanks."), Say("assistant", "Gladly.")]
    return beats


def handing_over(chance: random.Random) -> list[Beat]:
    """Pass a customer from one agent to another, who looks for itself and then acts."""
    call = Caller(chance)
    invoice = f"INV-{chance.randrange(1000, 9999)}"
    shown = json.dumps({"invoice_id": invoice, "total": "84.00", "state": "paid"})
    args = {"invoice_id": invoice, "amount": "84.00"}
    return [
        Say("system", "A front desk passes customers on to billing."),
        Say("user", f"I was charged twice for {invoice}. Please give me the money back."),
        Batch((call("get_invoice", {"invoice_id": invoice}, shown, key=invoice),), actor="desk"),
        Batch((call("transfer_to_billing", {"about": invoice}, "passed on"),), actor="desk"),
        Batch((call("get_invoice", {"invoice_id": invoice}, shown, key=invoice),), actor="billing"),
        Batch(
            (
                call(
                    "refund_invoice",
                    args,
                    json.dumps({**args, "state": "refunded"}),
                    writes=True,
                    key=invoice,
                ),
            ),
            actor="billing",
        ),
        Say("assistant", f"I have refunded 84.00 for {invoice}.", "billing"),
    ]


def verifying(chance: random.Random) -> list[Beat]:
    """Verify who is calling, as the system prompt demands, before a change is made."""
    call = Caller(chance)
    meter = f"MTR-{chance.randrange(1000, 9999)}"
    pin = str(chance.randrange(1000, 9999))
    shown = json.dumps({"meter_id": meter, "reading": "10442", "tariff": "day"})
    args = {"meter_id": meter, "tariff": "night"}
    done = json.dumps({**args, "ok": True})
    who = {"caller_pin": pin}
    return [
        Say("system", "Serve callers. Always call `verify_caller` before you change any meter."),
        Say("user", f"My pin is {pin}. Please put meter {meter} on the night tariff."),
        Batch((call("verify_caller", who, '{"verified": true}'),)),
        Batch((call("get_meter", {"meter_id": meter}, shown, key=meter),)),
        Batch((call("set_tariff", args, done, writes=True, key=meter),)),
        Say("assistant", f"Meter {meter} is on the night tariff now."),
    ]


DAILY: tuple[Callable[[random.Random], list[Beat]], ...] = (
    changing_mind,
    paying,
    failing_honestly,
    tidying,
    waiting,
    retrying,
    returning,
    handing_over,
    verifying,
)
