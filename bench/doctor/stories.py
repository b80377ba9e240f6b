"""Healthy runs of made-up agents, from a seed: what good agents do daily, and nothing worse.

What is legitimate and looks like a fault is in them on purpose: paging, a retry after a transient
error, arguments corrected after a validation error, polling with a wait, reads side by side, a
second look after a write or after the user came back, a second write to what was tested between.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.doctor.daily import DAILY, changing_mind
from bench.doctor.domains import DOMAINS, Change, Domain
from bench.doctor.domains_kept import KEPT
from bench.doctor.runs import Batch, Beat, Call, Run, Say
from bench.doctor.works import WORKS

_OPENINGS = (
    "Hi, {ask}, please. You find it under {fact}.",
    "Hello! I am {fact}. Could you {ask}?",
    "{ask}. It belongs to {fact}.",
    "Morning. I would like you to {ask}; look under {fact}.",
)
_OFFERS = (
    "I have found it. I will {does}. Shall I go ahead (yes/no)?",
    "Here is what I am about to do: {does}. Do you confirm?",
    "To be sure: you want me to {does}. Please reply yes to proceed.",
)
_YESES = (
    "Yes, please.",
    "yes",
    "Yes, go ahead.",
    "Sure, do it.",
    "I confirm.",
    "Correct, proceed.",
)
_THANKS = ("Thank you, that is all.", "Great, bye!", "Perfect, thanks.", "Thanks, nothing else.")
_TRANSIENT = (
    "Error: 503 Service Unavailable",
    "Error: request timed out, please try again later",
    '{"error": "rate limit exceeded, retry after 2 seconds", "code": 429}',
    "ConnectionError: connection reset by peer",
)


class Teller:
    """Tells one run."""

    def __init__(self, domain: Domain, chance: random.Random) -> None:
        self._domain = domain
        self._chance = chance
        self.beats: list[Beat] = [Say("system", domain.system)]
        self._number = 0
        self._records: dict[str, dict[str, str]] = {}

    def tell(self) -> list[Beat]:
        """Return what happens."""
        chance, domain = self._chance, self._domain
        fact = f"u{chance.randrange(1000, 9999)}@example.com"
        own = [self._record() for _ in range(chance.choice((1, 2, 3)))]
        target = chance.choice(own)
        wanted = chance.sample(domain.changes, chance.choice((1, 1, 2, 2)))
        asks = [self._filled(change, target) for change in wanted]
        described = " and ".join(self._asked(change, value, "it") for change, value in asks)
        self._say("user", chance.choice(_OPENINGS).format(ask=described, fact=fact))
        self._find(fact, own)
        self._read(target if chance.random() < 0.6 else own, needed=True)  # noqa: PLR2004
        for change, value in asks:
            self._change(target, change, value)
        if chance.random() < 0.4:  # noqa: PLR2004
            self._read(target)
        self._say("assistant", self._done(target, asks))
        others = [one for one in own if one != target]
        if others and chance.random() < 0.5:  # noqa: PLR2004
            self._again(chance.choice(others))
        self._say("user", chance.choice(_THANKS))
        self._say("assistant", "You are welcome. Goodbye!")
        return self.beats

    def _again(self, other: str) -> None:
        change = self._chance.choice(self._domain.changes)
        value = self._filled(change, other)[1]
        self._say("user", f"One more thing: {self._asked(change, value, other)}.")
        self._read(other)
        self._change(other, change, value)
        self._say("assistant", self._done(other, [(change, value)]))

    def _find(self, fact: str, own: list[str]) -> None:
        given: dict[str, Any] = {self._domain.find_by: fact}
        pages = [own[:1], own[1:]] if len(own) > 1 and self._chance.random() < 0.4 else [own]  # noqa: PLR2004
        for n, page in enumerate(pages):
            asked = {**given, "page": n + 1} if len(pages) > 1 else given
            found = [{self._domain.id_field: key} for key in page]
            result = json.dumps({"results": found, "more": n + 1 < len(pages)})
            if self._domain.plain:
                result = f"{len(page)} {self._domain.noun}(s): " + ", ".join(page)
                result += ". There are more on the next page." if n + 1 < len(pages) else "."
            self._shaky(self._call(self._domain.find, asked, result))

    def _read(self, keys: str | list[str], *, needed: bool = False) -> None:
        each = [keys] if isinstance(keys, str) else keys
        calls = tuple(
            self._call(
                self._domain.get,
                {self._domain.id_field: key},
                self._shown(key),
                key=key,
                needs=(key,) if needed else (),
            )
            for key in each
        )
        if len(calls) == 1:
            self._shaky(calls[0])
        else:
            self.beats.append(Batch(calls))

    def _change(self, key: str, change: Change, value: str) -> None:
        chance, domain = self._chance, self._domain
        does = change.does.format(id=key, value=value)
        if domain.confirms:
            self._say("assistant", chance.choice(_OFFERS).format(does=does))
            self._say("user", chance.choice(_YESES))
        given = {domain.id_field: key, change.field: value}
        if chance.random() < 0.15:  # noqa: PLR2004
            wrong = {**given, change.field: value.upper() + "!"}
            why = f"Error: invalid value for '{change.field}'; one of {', '.join(change.values)}"
            self.beats.append(
                Batch((self._call(change.tool, wrong, why, ok=False, writes=True, key=key),))
            )
        self._records[key][change.field] = value
        ok: dict[str, Any] = {"status": "success", domain.id_field: key, change.field: value}
        result = f"OK: {domain.noun} {key} updated." if domain.plain else json.dumps(ok)
        self.beats.append(Batch((self._call(change.tool, given, result, writes=True, key=key),)))

    def _shaky(self, call: Call) -> None:
        """Let a read fail once for a passing reason, now and then."""
        if self._chance.random() < 0.12:  # noqa: PLR2004
            why = self._chance.choice(_TRANSIENT)
            self.beats.append(Batch((replace(call, result=why, ok=False),)))
            call = replace(call, id=self._id())
        self.beats.append(Batch((call,)))

    def _record(self) -> str:
        chance = self._chance
        key = self._domain.ids.format(n=chance.randrange(10_000, 99_999))
        self._records[key] = {k: chance.choice(v) for k, v in self._domain.facts.items()}
        return key

    def _shown(self, key: str) -> str:
        facts = self._records[key]
        if self._domain.plain:
            said = "; ".join(f"{name}: {value}" for name, value in facts.items())
            return f"{self._domain.noun.title()} {key}. {said}."
        return json.dumps({self._domain.id_field: key, **facts})

    def _filled(self, change: Change, _key: str) -> tuple[Change, str]:
        return change, self._chance.choice(change.values)

    def _asked(self, change: Change, value: str, key: str) -> str:
        return change.asks.format(id=key if key != "it" else f"my {self._domain.noun}", value=value)

    def _done(self, key: str, asks: list[tuple[Change, str]]) -> str:
        return " ".join(change.done.format(id=key, value=value) for change, value in asks)

    def _say(self, role: str, text: str) -> None:
        self.beats.append(Say(role, text))

    def _id(self) -> str:
        self._number += 1
        return f"call_{self._number:04d}"

    def _call(self, name: str, args: dict[str, Any], result: str, **more: Any) -> Call:
        took = self._chance.randrange(80, 900) / 1000
        return Call(name=name, args=args, result=result, id=self._id(), took_s=took, **more)


def healthy(count: int, seed: int = 1, *, kept: bool = False) -> list[Run]:
    """Return so many healthy runs, of every domain and kind of work in turn.

    Args:
        count: How many.
        seed: Of everything that is left to chance in them.
        kept: Whether to take the domains that rules were not first made with, and no others.
    """
    made = []
    kinds: list[Domain | Callable[[random.Random], list[Beat]]] = [
        *DOMAINS,
        *WORKS,
        *DAILY,
    ]
    if kept:
        kinds = [*KEPT]
    for n in range(count):
        kind = kinds[n % len(kinds)]
        chance = random.Random(f"{seed}/{n}")  # noqa: S311  nothing is secret here
        if isinstance(kind, Domain):
            beats, name, confirms = Teller(kind, chance).tell(), kind.name, kind.confirms
        else:
            beats, name, confirms = kind(chance), kind.__name__, kind is changing_mind
        made.append(
            Run(
                trace_id=f"{name}/{seed}/{n}",
                source=name,
                beats=tuple(beats),
                confirms=confirms,
            )
        )
    return made
