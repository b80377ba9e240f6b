"""What a turn asks its journal to keep through a power cut."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path

import undercroft as uc
from tests.engine.world import World
from undercroft import queries
from undercroft.model.event import AnyEvent, StepEnded, StepStarted, decode_frames
from undercroft.model.lease import Denied, Granted
from undercroft.ports import NOBODY, Outcomes, Wants
from undercroft.storage.sqlite import SqliteStore


class Watched(SqliteStore):
    """A journal that remembers which frames were to survive a power cut."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[tuple[list[AnyEvent], bool]] = []

    def append(
        self, num: int, frame: bytes, *, sync: bool = False, outcomes: Outcomes = ()
    ) -> None:
        """Queue a frame, and remember it."""
        self.asked.append((decode_frames([frame]), sync))
        super().append(num, frame, sync=sync, outcomes=outcomes)

    def intent(
        self,
        num: int,
        frame: bytes,
        wants: Wants,
        lapsed: Mapping[int, int] = NOBODY,
        *,
        again: bool = False,
    ) -> Awaitable[Granted | Denied]:
        """Queue an intent, which is always to survive a power cut, and remember it."""
        self.asked.append((decode_frames([frame]), True))
        return super().intent(num, frame, wants, lapsed, again=again)


async def test_intents_and_outcomes_of_writes_are_flushed_and_reads_are_not(
    tmp_path: Path,
) -> None:
    """A frame with the intent or outcome of a write is synced; a read-only turn never is."""
    world = World()
    writing, reading = uc.Workflow("writing"), uc.Workflow("reading")

    @writing.read("x")
    @reading.read("x")
    async def look() -> int:
        return world.read("x")

    @writing.execute(writes="x")
    async def change(look: int) -> int:
        return world.add("x", 1)

    async with uc.Runtime(store := Watched(tmp_path / "journal.db")) as rt:
        assert (await rt.run(reading)).status == "done"
        assert store.asked
        assert not any(sync for _, sync in store.asked)
        store.asked.clear()
        assert (await rt.run(writing)).status == "done"
    writes = {
        e.n for events, _ in store.asked for e in events if isinstance(e, StepStarted) and e.changes
    }
    assert len(writes) == 1
    for events, sync in store.asked:
        if any(isinstance(e, StepStarted | StepEnded) and e.n in writes for e in events):
            assert sync


async def test_a_body_that_changes_the_world_meets_its_intent_in_the_journal(
    tmp_path: Path,
) -> None:
    """When a write's body is called, another reader of the file already sees its intent."""
    path, seen = tmp_path / "journal.db", list[str]()
    flow = uc.Workflow("ahead")

    @flow.execute(writes="x")
    async def change(info: uc.TurnInfo) -> int:
        trace = queries.read_trace(str(path), info.turn_id)
        seen.extend(f"{s.step_id} {s.status}" for s in trace.steps)
        return 1

    async with uc.Runtime(path) as rt:
        assert (await rt.run(flow)).status == "done"
    assert seen == ["change.1 running"]
