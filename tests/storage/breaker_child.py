"""Another process that calls a service: `python -m tests.storage.breaker_child PATH …`.

It says a line of JSON at each change of its breaker, and one for each word that it is told.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.storage.child import ROOT, Child
from undercroft.engine.sharing import Sharing
from undercroft.engine.system import SystemClock
from undercroft.layers.breakers.adaptive import AdaptiveLimit
from undercroft.layers.breakers.board import LastError
from undercroft.layers.breakers.policy import BreakerPolicy, LimitPolicy
from undercroft.layers.breakers.state import BreakerState, Circuit
from undercroft.storage.sqlite import SqliteStore

CRM = "crm"


class Caller(Child):
    """The other process, as a test talks to it."""

    def __init__(self, path: Path, *, open_s: float = 30.0, half_open_s: float = 60.0) -> None:
        module = "tests.storage.breaker_child"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(path), str(open_s), str(half_open_s)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Of its breaker, heard while something else was listened for.
        self.changes: deque[dict[str, Any]] = deque()
        self.runtime = int(self.hear()["runtime"])

    def until(self, state: str) -> float:
        """Return when its breaker next went to `state`, by the clock of the machine."""
        while True:
            said = self.changes.popleft() if self.changes else self.hear()
            if said.get("state") == state:
                return float(said["at_s"])

    def ask(self, word: str) -> dict[str, Any]:
        """Tell it a word and return what it answers."""
        self.tell(word)
        return self.answer(word)

    def answer(self, word: str) -> dict[str, Any]:
        """Return what it answers to a word that it was told."""
        while (said := self.hear()).get("word") != word:
            self.changes.append(said)
        return said


# ---------------------------------------------------------------------- in the other process


def say(**words: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


@dataclass
class Gate:
    """A service as this process calls it."""

    circuit: Circuit
    limit: AdaptiveLimit
    attempts: int = 0
    retries: int = 0
    usd_nano: int | None = None
    last_error: LastError | None = None
    permit: int = 0


async def obey(word: str, gate: Gate, sharing: Sharing) -> dict[str, Any]:
    """Do what the parent says."""
    circuit, now_s = gate.circuit, time.monotonic
    if word == "fail":
        while permit := circuit.admit(now_s(), probe=False):
            circuit.failed(permit, now_s(), 0.01)
        return {}
    if word == "call":
        began_s, probe = now_s(), True
        if circuit.ready_to_probe(now_s()):
            probe = await sharing.may_probe(CRM)
        gate.permit = circuit.admit(now_s(), probe=probe)
        return {"permit": gate.permit, "took_s": now_s() - began_s}
    if word in ("good", "bad"):
        ended = circuit.succeeded if word == "good" else circuit.failed
        ended(gate.permit, now_s(), 0.01)
    elif word == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    elif word == "room":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {"state": str(circuit.state_at(now_s())), "ready": circuit.ready_to_probe(now_s())}


async def listen(gate: Gate, sharing: Sharing) -> None:
    """Obey the parent until it has nothing more to say."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        word = line.strip()
        said = await obey(word, gate, sharing)
        say(word=word, **({"is": said.pop("state")} if "state" in said else {}), **said)


async def main(path: str, open_s: str, half_open_s: str) -> None:
    """Call a service on the journal at `path`, as told."""
    clock, store = SystemClock(), SqliteStore(path, sync="never")
    await store.open()
    sharing = Sharing(store.board, clock)
    await sharing.start()
    policy = BreakerPolicy(
        failure_rate=None,
        failures_max=2,
        open_s=float(open_s),
        half_open_s=float(half_open_s),
        probes=1,
    )
    tell = partial(sharing.tell, CRM)
    circuit = Circuit(policy, clock.now_s(), name=CRM, tell=tell)
    gate = Gate(circuit, AdaptiveLimit(LimitPolicy()))
    sharing.watch(CRM, gate)
    say(runtime=store.runtime)
    listening = asyncio.ensure_future(listen(gate, sharing))
    state: BreakerState | None = None
    longest_s, last_s = 0.0, time.monotonic()
    while not listening.done():
        if circuit.state is not state:
            state = circuit.state
            say(state=str(state), at_s=time.monotonic())
        await asyncio.sleep(0.005)
        longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
    await sharing.stop()
    await store.close()
    say(longest_s=longest_s)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
