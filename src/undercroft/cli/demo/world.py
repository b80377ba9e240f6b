"""The world outside of the demo: a CRM, a bank and a mail server, in one file beside the journal.

They are no better than real ones: what they did, they did, and who asks twice is served twice.
So counting the lines of the file shows how often something really happened.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

CUSTOMERS = {
    "acc-7": {"name": "Ada", "email": "ada@example.com", "plan": "solo", "card": "…4242"},
}
INVOICES = {"acc-7": [("R-101", 90), ("R-102", 150)]}

# A step whose answer takes long, so that the demo can kill the process while it waits.
SLOW = "UNDERCROFT_DEMO_SLOW"
SLOW_S = 30.0
USUAL_S = 0.15


def path() -> Path:
    """Return the file: it lies beside the journal."""
    return Path(os.environ.get("UNDERCROFT_DB", "undercroft.db")).with_name("world.jsonl")


async def ask(what: str, **facts: Any) -> None:
    """Do something in the world; the answer takes its time."""
    line = json.dumps({"what": what, **facts}) + "\n"
    # One write, appended as a whole: another process may be doing the same.
    descriptor = os.open(path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
    await asyncio.sleep(SLOW_S if os.environ.get(SLOW) == what else USUAL_S)


def happened(what: str, **facts: Any) -> list[dict[str, Any]]:
    """Return everything of that kind that ever happened, with these facts."""
    try:
        lines = path().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [event for event in events if {"what": what, **facts}.items() <= event.items()]
