"""The ideal summariser: it copies every identifier that it is shown, and nothing else.

It knows what will be scored, which no model does, so that what is lost with it was lost by
whoever called it: never shown, cut before it was shown, or left out of what was made of its
summary. The same one writes the summaries of all peers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bench.context.scored import Wanted, place, unescaped


class Ideal:
    """Copies what is scored of a session.

    Attributes:
        asked: How often it was asked.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._values = sorted(wanted.every)
        self.asked = 0

    def copied(self, text: str) -> list[str]:
        """Return the identifiers that stand in a text, as they are written there."""
        shown = unescaped(text)
        searched = shown.casefold()
        written = shown if len(shown) == len(searched) else searched
        found = []
        for value in self._values:
            at = place(searched, value)
            if at >= 0:
                found.append(written[at : at + len(value)])
        return found

    def prose(self, text: str) -> str:
        """Summarise a text for whoever takes any text."""
        self.asked += 1
        return "Identifiers: " + ", ".join(self.copied(text))

    def answer(self, request: str) -> str:
        """Summarise as Undercroft's request asks for it: a JSON object, with sources."""
        self.asked += 1
        asked = json.loads(request)
        left = dict.fromkeys(asked["identifiers"])
        done: set[str] = set()
        facts: list[dict[str, Any]] = []

        def fact(values: Iterable[str], source: str) -> None:
            new = {value.casefold(): value for value in values if value.casefold() not in done}
            if new:
                done.update(new)
                facts.append({"text": ", ".join(new.values()), "sources": [source]})

        for summary in asked["earlier"]:
            for entries in summary.values():
                for entry in entries if isinstance(entries, list) else ():
                    fact(self.copied(entry["text"]), entry["id"])
        for message in asked["messages"]:
            cut = message.get("cut_identifiers", ())
            there = [value for value in left if value in message["text"]]
            for value in (*there, *cut):
                left.pop(value, None)
            fact((*self.copied(message["text"]), *there, *cut), message["id"])
        if left:  # of what was said before, or of what is cut
            source = asked["messages"][-1]["id"]
            fact(left, source)
        return json.dumps({"facts": facts}, ensure_ascii=False)
