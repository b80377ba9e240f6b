"""The clocks and the ids of the machine that this runs on."""

from __future__ import annotations

import asyncio
import random
import secrets
import time


class SystemClock:
    """The clocks of this machine and of an event loop, the running one if none is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.wall_s = time.time
        self.now_s = (loop or asyncio.get_running_loop()).time

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


class SystemIds:
    """Ids that sort by time and cannot be guessed."""

    _last_ms = 0

    def turn(self, at: float) -> str:
        """Return a new id: milliseconds since 1970 and 48 random bits, both in hex.

        Of two ids the later one sorts later, also within a millisecond.
        """
        self._last_ms = max(int(at * 1000), self._last_ms + 1)
        return f"t-{self._last_ms:011x}-{secrets.token_hex(6)}"

    def jitter(self) -> float:
        """Return a number from 0 to below 1."""
        return random.random()  # noqa: S311  spreads retries; guards nothing
