"""The five programs: what is asked, how the scripted model behaves, and what is measured.

A framework says how a conversation is held, paused, approved, kept and resumed in it; everything
else is the same for all. The model is plain rules over what it is shown, so a framework that shows
it something else is answered something else.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from bench.frameworks.world import World
from tests.provider import Answer, Call, Model, Provider, Request

ROOT = Path(__file__).resolve().parents[2]
REQUESTS_MAX = 1_000
DEADLINE_S = 900.0
CHILD_S = 120.0
KILLED = -9

Measured = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation is held.

    Attributes:
        url: Of the provider, without a path.
        world: What is acted on; its folder keeps what the framework saves, too.
        guarded: Whether Undercroft is under it.
        mode: Which of the framework's ways to pause, if it has several.
    """

    url: str
    world: World
    guarded: bool = False
    mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """How conversations go in a framework; each of the functions holds one.

    Attributes:
        name: As people call it.
        module: That its conversations are in, to run them in other processes.
        packages: Whose versions matter.
        answer: From a prompt to the final text.
        pause: From a prompt to where a person must say yes to `pay`; saves what there is to save.
        approve: From what was saved, with a yes, to the final text.
        begin: From a prompt to the final text, saving on the way what the framework can save.
        resume: From what `begin` saved to the final text, as the framework documents it.
        modes: Its ways to pause.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    answer: Callable[[Place, str], Awaitable[str]]
    pause: Callable[[Place, str], Awaitable[None]]
    approve: Callable[[Place], Awaitable[str]]
    begin: Callable[[Place, str], Awaitable[str]]
    resume: Callable[[Place], Awaitable[str]]
    modes: tuple[str, ...] = ("",)


# ------------------------------------------------------------------ the model


def proposes(*calls: Call) -> Model:
    """Return a model that proposes a batch once, and then quotes what it came to."""

    def model(request: Request) -> Answer:
        if not any(one.calls for one in request.said):
            return Answer(calls=calls)
        return Answer(text="; ".join(shown.text for shown in request.results))

    return model


def insists(call: Call, tries_max: int) -> Model:
    """Return a model that proposes the same call again and again, until nothing else is left."""

    def model(request: Request) -> Answer:
        if request.number + 1 >= tries_max:
            return Answer(text=f"I gave up after {len(request.results)} tries")
        return Answer(calls=[call])

    return model


# ------------------------------------------------------------------ the programs


async def two_withdrawals(framework: Framework, *, guarded: bool) -> Measured:
    """30 and 50 from 100, proposed in one batch: 20 is left if none is lost."""
    model = proposes(
        Call("withdraw", {"account": "ada", "amount": 30}),
        Call("withdraw", {"account": "ada", "amount": 50}),
    )
    with _Stage(model, guarded=guarded) as stage:
        said = await framework.answer(stage.place(), "Withdraw 30 and 50 from ada.")
        return {"balance": stage.world.balance("ada"), "said": said}


async def approval_with_siblings(framework: Framework, *, guarded: bool) -> Measured:
    """A batch of a payment that needs a yes, interest on the same account, and a note.

    Proposed in that order, so that 55 is right: 100 - 50, and 10 % on what is left.
    """
    model = proposes(
        Call("pay", {"account": "ada", "amount": 50}),
        Call("add_interest", {"account": "ada", "percent": 10}),
        Call("write_note", {"text": "ada asked for it"}),
    )
    measured: Measured = {}
    for mode in framework.modes:
        with _Stage(model, guarded=guarded) as stage:
            place = stage.place(mode)
            await framework.pause(place, "Pay 50 from ada, then add 10 %, and note it.")
            held = [one for one in ("add_interest", "write_note") if one not in place.world.order()]
            place.world.did("yes")
            said = await framework.approve(place)
            order = place.world.order()
            one = {"balance": place.world.balance("ada"), "held": held, "order": order}
            measured[mode or "only"] = {**one, "said": said}
    return measured["only"] if framework.modes == ("",) else measured


async def approval_answered_twice(framework: Framework, *, guarded: bool) -> Measured:
    """A saved payment of 50 is approved by two processes: one after the other, and at once."""
    model = proposes(Call("pay", {"account": "ada", "amount": 50}))
    measured: Measured = {}
    for how in ("one_by_one", "at_once"):
        with _Stage(model, guarded=guarded) as stage:
            place = stage.place(framework.modes[0])
            await framework.pause(place, "Pay 50 from ada.")
            # Both are there, with all that takes them time to load, before either says yes.
            children = [await Child.ready(framework, "approve", place) for _ in range(2)]
            if how == "at_once":
                place.world.expect(payers=2)
                ended = await asyncio.gather(*(child.go() for child in children))
            else:
                ended = [await child.go() for child in children]
            paid = place.world.order().count("pay")
            balance = place.world.balance("ada")
            measured[how] = {"paid": paid, "balance": balance, "ended": ended}
    return measured


async def effect_before_a_crash(framework: Framework, *, guarded: bool) -> Measured:
    """A process is killed right after a payment of 50; another resumes what was saved."""
    model = proposes(Call("pay", {"account": "ada", "amount": 50}))
    with _Stage(model, guarded=guarded) as stage:
        place = stage.place()
        place.world.arm()
        doomed = await Child.ready(framework, "begin", place, "Pay 50 from ada.")
        killed = await doomed.go()
        if killed != {"exit": KILLED}:
            raise RuntimeError(f"{framework.name}: the process was not killed: {killed}")
        resumed = await (await Child.ready(framework, "resume", place)).go()
        paid = place.world.order().count("pay")
        return {"paid": paid, "balance": place.world.balance("ada"), "resumed": resumed}


async def fails_for_ever(framework: Framework, *, guarded: bool) -> Measured:
    """A tool answers with the same error each time, and the model tries again each time."""
    model = insists(Call("charge", {"card": "4242"}), REQUESTS_MAX)
    with _Stage(model, guarded=guarded) as stage:
        stopped, ended = "", ""
        try:
            ended = await framework.answer(stage.place(), "Charge the card.")
        except Exception as error:  # noqa: BLE001  how a framework stops it is what is measured
            stopped, ended = type(error).__name__, str(error)[:120]
        calls, requests = stage.world.order().count("charge"), len(stage.provider.requests)
        return {"calls": calls, "requests": requests, "stopped": stopped, "ended": ended}


Program = Callable[..., Awaitable[Measured]]

PROGRAMS: dict[str, Program] = {
    one.__name__: one
    for one in (
        two_withdrawals,
        approval_with_siblings,
        approval_answered_twice,
        effect_before_a_crash,
        fails_for_ever,
    )
}


class _Stage:
    """A world and a provider, for as long as a program takes."""

    def __init__(self, model: Model, *, guarded: bool) -> None:
        self._folder = TemporaryDirectory(prefix="frameworks-")
        self._guarded = guarded
        self.world = World.new(Path(self._folder.name))
        self.provider = Provider(model, requests_max=REQUESTS_MAX, deadline_s=DEADLINE_S)

    def __enter__(self) -> Self:
        self.provider.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.provider.__exit__(kind, *error)
        finally:
            self._folder.cleanup()

    def place(self, mode: str = "") -> Place:
        return Place(self.provider.url, self.world, self._guarded, mode)


# ------------------------------------------------------------------ other processes


class Child:
    """A process that holds a conversation, once it is told to `go`.

    Args:
        process: That has loaded its framework.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def ready(cls, framework: Framework, part: str, place: Place, *prompt: str) -> Child:
        """Start one and wait until it has loaded its framework.

        Args:
            framework: Whose conversation.
            part: Which of its functions: `approve`, `begin` or `resume`.
            place: Where.
            prompt: For those that take one.
        """
        facts = [place.url, str(place.world.folder), place.mode, "yes" if place.guarded else "no"]
        command = [sys.executable, "-m", framework.module, "--part", part, *facts, *prompt]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{framework.name}: a process did not come up for {part!r}")
        return cls(process)

    async def go(self) -> Measured:
        """Let it begin, and return what it says at its end: `said`, `error` or `exit`."""
        try:
            told, _ = await asyncio.wait_for(self._process.communicate(b"go\n"), CHILD_S)
        except TimeoutError:
            self._process.kill()
            raise
        if self._process.returncode:
            return {"exit": self._process.returncode}
        answer: Measured = json.loads(told.splitlines()[-1])
        return answer


def serve_part(framework: Framework, arguments: Sequence[str]) -> None:
    """Be the process that `Child` starts."""
    part, url, folder, mode, guarded, *prompt = arguments
    place = Place(url, World(Path(folder)), guarded == "yes", mode)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.stdin.readline() != "go\n":
        return  # whoever started it has gone
    try:
        told = {"said": asyncio.run(getattr(framework, part)(place, *prompt))}
    except Exception as error:  # noqa: BLE001  how a framework refuses is what is measured
        told = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    sys.stdout.write(json.dumps(told) + "\n")
