"""Branches of a turn have windows of their own: compacted apart, in any order, in every life."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    TIGHT,
    InOrder,
    Model,
    Summariser,
    check_journal,
    events,
    look,
    order_tools,
    written,
)
from tests.engine.vendor import virtual
from undercroft.errors import StoreError
from undercroft.model.event import ContextCompacted, PromptAssembled
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

# A branch needs more than one compaction.
SCRIPT = [[look(f"#B{i}"), look(f"#B{i + 50}")] for i in range(4)]
SCRIPTS: dict[str, Any] = {
    **{f"do-{name}": [*SCRIPT, f"{name} is done"] for name in "abc"},
    "main": [[look("#A1001"), look("#A1002")], [look("#A1003")], "The turn is done."],
}


def several(pause: bool = False) -> Any:  # noqa: FBT001, FBT002  a part of a scenario
    """Return a handler of three branches side by side, beside its own conversation."""

    @uc.handler(tools=order_tools())
    async def work(turn: uc.Turn, message: str) -> list[str]:
        turn.context.system("You look after orders.")
        turn.context.user(message)

        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.system(f"You are {name}.")
                own.context.user(f"do-{name} " + message)
                return await loop(own)

        async def loop(line: uc.Turn) -> str:
            while True:
                answer = await line.model()
                if not answer.calls:
                    return answer.text
                await line.calls(answer.calls)

        return list(await asyncio.gather(*map(branch, "abc"), loop(turn)))

    return work


class Slowly(Model):
    """A model that takes its time, more for some prompts than for others."""

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        await asyncio.sleep(len(written(request)) % 7)
        return await super().complete(request)


ENDS = ["a is done", "b is done", "c is done", "The turn is done."]


@virtual
async def test_branches_are_compacted_apart() -> None:
    """Side by side, each by its own window, and written down under its own name."""
    store, model = MemoryStore(), Slowly(SCRIPTS, TIGHT)
    options: dict[str, Any] = {"model": model, "context": TIGHT, "summariser": Summariser()}
    async with uc.Runtime(store, ids=InOrder(), **options) as rt:
        outcome = await rt.run(several(), message="main", session="s-1")
        assert outcome.value == ENDS, outcome.error
        check_journal(store, outcome.turn_id)
        compacted = events(store, outcome.turn_id, ContextCompacted)
        assert {e.branch for e in compacted} >= {"a", "b", "c"}
        for name in ("", "a", "b", "c"):
            prompts = [
                e for e in events(store, outcome.turn_id, PromptAssembled) if e.branch == name
            ]
            assert len(prompts) == (3 if not name else 5)
        for request in model.requests:
            said = {m.content for m in request.messages if m.content.startswith("You are")}
            assert len(said) <= 1
        # The next turn reads what the turn itself said, and nothing of its branches.
        await rt.run(several(), message="main again", session="s-1")
    model.check()
    later = [r for r in model.requests if any(m.content == "main again" for m in r.messages)]
    assert not any(m.content.startswith("do-") for r in later[:1] for m in r.messages)


async def _held(options: dict[str, Any], fault: dict[str, int]) -> Any:
    """Run three branches, and resume them if their process dies; return all that was sent."""
    journal, model = MemoryJournal(), Slowly(SCRIPTS, TIGHT)
    target, summariser = several(), Summariser(took_s=3)
    said: dict[str, Any] = {
        "model": model,
        "context": TIGHT,
        "summariser": summariser,
        "targets": [target],
        **options,
    }
    store: MemoryStore = CrashingStore(journal, **fault)
    outcome = None
    async with uc.Runtime(store, ids=InOrder(), **said) as rt:
        try:
            outcome = await rt.run(target, message="main", session="s-1")
        except StoreError:
            # What was begun must not leak into the next life.
            await asyncio.sleep(100)
    commits = getattr(store, "commits", 0)
    if outcome is None:
        store = MemoryStore(journal)
        async with uc.Runtime(store, ids=InOrder(), **said) as rt:
            for found in (await rt.recover()).values():
                if isinstance(found, Exception):
                    raise AssertionError(f"{fault}: {found}") from found
            heads = rt.turns()
            if heads:
                outcome = await rt.resume(heads[0].turn_id)
            else:
                outcome = await rt.run(target, message="main", session="s-1")
    assert outcome.value == ENDS, (fault, outcome.error)
    try:
        check_journal(store, outcome.turn_id)
        model.check()
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error
    return Counter(model.sent), Counter(map(written, summariser.requests)), commits


@pytest.mark.parametrize("limited", [False, True], ids=["free", "one at a time"])
@pytest.mark.parametrize("when", ["crash_before", "crash_after"])
@virtual
async def test_branches_survive_a_crash_at_every_commit(when: str, *, limited: bool) -> None:
    """Each prompt of each branch is sent as it would have been; none is made up anew."""
    limits = uc.Limits(services={"model": 1, "summaries": 1}) if limited else None
    options: dict[str, Any] = {"limits": limits}
    calm, asked, commits = await _held(options, {})
    for commit in range(1, commits + 1):
        sent, summaries, _ = await _held(options, {when: commit})
        assert set(sent) == set(calm), f"{when} {commit}"
        assert set(summaries) == set(asked), f"{when} {commit}"


@virtual
async def test_a_branch_recalls_its_own() -> None:
    """Handles are of a window: the same one means something else in another."""

    @uc.tool(peeks="rows")
    async def rows(of: str) -> str:
        """Return rows."""
        return f"row of {of}; " * 800

    scripts: dict[str, Any] = {
        f"do-{name}": [
            [uc.Call("rows", {"of": name})],
            [uc.Call("recall", {"handle": "r0.2", "start": 0, "end": 9})],
            "end",
        ]
        for name in "ab"
    }

    @uc.handler(tools=[rows])
    async def work(turn: uc.Turn) -> list[str]:
        async def branch(name: str) -> str:
            async with turn.branch(name) as own:
                own.context.user(f"do-{name}")
                while (answer := await own.model()).calls:
                    results = await own.calls(answer.calls)
                return str(results[0].value)

        return list(await asyncio.gather(branch("a"), branch("b")))

    async with uc.Runtime(model=Model(scripts, TIGHT), context=TIGHT) as rt:
        outcome = await rt.run(work)
    assert outcome.value == ["row of a;", "row of b;"], outcome.error
