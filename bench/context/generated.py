"""A conversation of any length, made from a seed: what people say, calls, and their JSON results.

Of each message about as much as in recorded conversations of agents that serve customers: 91
tokens on average. Everybody and everything in it is made up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

SYSTEM = "You help customers with their orders. Ask before you change anything. " * 40
SAID = (
    "Hello, I would like to change something about my order {order}, please.",
    "My e-mail address is {email}, and the postcode should still be {zip}.",
    "I am {name}; the parcel was to be here on {day}, and it is not.",
    "It is item {item} that I want to send back, since it is not the size that I asked for.",
    "Could you put the ${amount} back on {card}, and not on the other one?",
    "No, that is not what I meant: the one of {day}, with two of them in it.",
    "That sounds good to me, go on with it.",
)
ANSWERED = (
    "I have found your order {order}. It holds three items and was sent on {day}.",
    "To return item {item} I need your word: it would be paid back to {card} within seven days.",
    "The difference comes to ${amount}. Would you like me to go ahead with that? Please say yes.",
    "Is there anything else that I can do for you today, concerning this order or another?",
    "It cannot be changed any more, since it has left the store; it can be sent back though.",
)
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gil", "Hana", "Ivo", "June")
COLOURS = ("red", "green", "blue", "black", "white")
SIZES = ("small", "medium", "large")
TOOLS = ("get_order", "get_account", "find_items", "send_back", "change_address")


class Customer:
    """Somebody who is talked with for a while, and what they talk about."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        name, number = chance.choice(NAMES), chance.randrange(1000, 10_000)
        self.facts = {
            "name": name,
            "email": f"{name.lower()}{number}@example.com",
            "zip": f"{chance.randrange(10_000, 100_000)}",
            "account": f"{name.lower()}_{number}",
        }
        self.renew()

    def renew(self) -> None:
        """Turn to another order."""
        chance = self._chance
        self.facts |= {
            "order": f"#A{chance.randrange(10**6, 10**7)}",
            "item": f"{chance.randrange(10**9, 10**10)}",
            "card": f"card_{chance.randrange(10**6, 10**7)}",
            "amount": f"{chance.randrange(500, 90_000) / 100:.2f}",
            "day": f"2026-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}",
        }

    def says(self, lines: tuple[str, ...], most: int) -> str:
        """Return some lines about it."""
        chosen = self._chance.sample(lines, self._chance.randint(1, most))
        return " ".join(line.format_map(self.facts) for line in chosen)

    def call(self) -> tuple[str, dict[str, Any]]:
        """Return a call about it: a tool, and what it is given."""
        tool = self._chance.choice(TOOLS)
        given: dict[str, Any] = {"order_id": self.facts["order"], "account": self.facts["account"]}
        if tool == "send_back":
            given |= {"item_ids": [self.facts["item"]], "pay_back_to": self.facts["card"]}
        return tool, given

    def result(self) -> str:
        """Return what a tool says of it."""
        chance = self._chance
        items = [
            {
                "item_id": f"{chance.randrange(10**9, 10**10)}",
                "name": f"shirt {chance.randrange(100)}",
                "price": chance.randrange(500, 20_000) / 100,
                "options": {"colour": chance.choice(COLOURS), "size": chance.choice(SIZES)},
            }
            for _ in range(chance.choice((2, 2, 3, 4, 5, 8)))
        ]
        items[0]["item_id"] = self.facts["item"]
        facts = {key: self.facts[key] for key in ("order", "account", "day", "card")}
        return json.dumps({**facts, "items": items, "total": self.facts["amount"]})


def conversation(messages: int, seed: int) -> list[dict[str, Any]]:
    """Return so many messages in OpenAI's form; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  nothing is secret here
    made = [{"role": "system", "content": SYSTEM}]
    turns = _turns(chance)
    while len(made) < messages:
        made += next(turns)
    return made[:messages]


def _turns(chance: random.Random) -> Iterator[list[dict[str, Any]]]:
    number = 0
    while True:
        customer = Customer(chance)
        for _ in range(chance.randint(3, 9)):
            turn: list[dict[str, Any]] = [{"role": "user", "content": customer.says(SAID, 3)}]
            for _ in range(chance.choice((0, 1, 1, 2))):
                number += 1
                name, given = customer.call()
                function = {"name": name, "arguments": json.dumps(given)}
                call = {"id": f"call_{number:08d}", "type": "function", "function": function}
                result = customer.result()
                turn += [
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": call["id"], "name": name, "content": result},
                ]
            turn.append({"role": "assistant", "content": customer.says(ANSWERED, 3)})
            yield turn
            if chance.random() < 0.4:  # noqa: PLR2004  every other time or so
                customer.renew()
