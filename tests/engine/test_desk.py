"""Where all steps of a runtime wait: what conflicts in order, the rest together, all bounded."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.engine.desk import Desk, Hold
from undercroft.layers.conflicts.keys import overlap
from undercroft.layers.conflicts.matrix import compatible
from undercroft.layers.conflicts.tree import Pairs
from undercroft.layers.parallelism.policy import Limits
from undercroft.testing import run_virtual

MODES = ["peek", "read", "append", "write", "exclusive"]
KEYS = ["", "a", "a/1", "a/1/x", "a/2", "a/*", "b"]
LIMITS = Limits(services={"one": 1, "two": 2})
# So long that nobody who waits for it has waited in vain.
ENDLESS_S = 1_000.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A step to come: when, for how long, and how it ends."""

    claims: Pairs
    service: str | None
    at_s: float
    took_s: float
    wait_s: float
    cancel_s: float | None
    fails: bool


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a job."""

    job: Job
    asked: int
    status: str
    asked_s: float
    began_s: float
    ended_s: float


# Coarse, so that things happen at the same instant.
moment = st.integers(0, 8).map(float)
claims = st.lists(st.tuples(st.sampled_from(MODES), st.sampled_from(KEYS)), max_size=2).map(tuple)


def jobs(*, patient: bool) -> st.SearchStrategy[list[Job]]:
    """Return jobs; patient ones wait for as long as it takes, and nobody cancels them."""
    return st.lists(
        st.builds(
            Job,
            claims=claims,
            service=st.sampled_from([None, "one", "two", "free"]),
            at_s=moment,
            took_s=moment,
            wait_s=st.just(ENDLESS_S) if patient else moment,
            cancel_s=st.none() if patient else st.none() | moment,
            fails=st.booleans(),
        ),
        max_size=12,
    )


def conflict(one: Pairs, other: Pairs) -> bool:
    """Whether two steps may not run side by side."""
    return any(
        not compatible(mode, other_mode) and overlap(key, other_key)
        for (mode, key), (other_mode, other_key) in product(one, other)
    )


class Office:
    """A desk, and a record of who had what and when."""

    def __init__(self) -> None:
        self.desk = Desk(LIMITS)
        self.ran: list[Ran] = []
        self.asked = 0

    async def do(self, job: Job) -> None:
        """Do one job, which ends as it may."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(job.at_s)
        asked, asked_s = self.asked, loop.time()
        self.asked += 1
        began_s, status = float("nan"), "cancelled"
        hold = self.desk.enter(job.claims, job.service, "job")
        try:
            if not await self.desk.wait(hold, job.wait_s):
                status = "late"
                return
            began_s = loop.time()
            await asyncio.sleep(job.took_s)
            status = "failed" if job.fails else "done"
            if job.fails:
                raise ValueError(job)
        finally:
            self.desk.leave(hold)
            self.ran.append(
                Ran(
                    job=job,
                    asked=asked,
                    status=status,
                    asked_s=asked_s,
                    began_s=began_s,
                    ended_s=loop.time(),
                )
            )

    async def run(self, todo: Sequence[Job]) -> None:
        """Do all jobs at once; cancel those that are to be."""
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self.do(job)) for job in todo]
        for job, task in zip(todo, tasks, strict=True):
            if job.cancel_s is not None:
                loop.call_later(job.at_s + job.cancel_s, task.cancel)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end, job in zip(ends, todo, strict=True):
            if isinstance(end, asyncio.CancelledError):
                assert job.cancel_s is not None
            else:
                assert end is None or (isinstance(end, ValueError) and job.fails)
        self.ran.sort(key=lambda ran: ran.asked)


def check(office: Office) -> None:
    """No two jobs were together that may not be, and nobody was overtaken."""
    began = [ran for ran in office.ran if ran.began_s == ran.began_s]
    for at, later in enumerate(began):
        for earlier in began[:at]:
            if conflict(earlier.job.claims, later.job.claims):
                assert earlier.ended_s <= later.began_s
    for service, limit in LIMITS.services.items():
        there = [ran for ran in began if ran.job.service == service and ran.job.took_s]
        for ran in there:
            # As many as there are at the beginning of any of them.
            beside = [o for o in there if o.began_s <= ran.began_s < o.ended_s]
            assert len(beside) <= limit
    assert len(office.desk) == 0
    # A desk at which everybody was can be used by anybody.
    for name in (*LIMITS.services, "free", None):
        hold = office.desk.enter((("exclusive", ""),), name, "last")
        assert hold.ready
        office.desk.leave(hold)


@settings(max_examples=150)
@given(todo=jobs(patient=True))
def test_every_job_is_done(todo: list[Job]) -> None:
    """Patient jobs all get their turn, in the order of asking where they conflict."""
    office = Office()
    run_virtual(office.run(todo))
    assert len(office.ran) == len(todo)
    assert [ran.status for ran in office.ran] == [
        "failed" if ran.job.fails else "done" for ran in office.ran
    ]
    check(office)
    for at, ran in enumerate(office.ran):
        # Nobody waits without a reason.
        crowd = [o for o in office.ran if o is not ran and o.job.service == ran.job.service]
        earlier = office.ran[:at]
        if not any(conflict(o.job.claims, ran.job.claims) for o in earlier) and (
            ran.job.service not in LIMITS.services or not crowd
        ):
            assert ran.began_s == ran.asked_s


@settings(max_examples=250)
@given(todo=jobs(patient=False))
def test_whatever_happens_nothing_is_left(todo: list[Job]) -> None:
    """Jobs that are cancelled, fail or wait no longer keep nobody else from anything."""
    office = Office()
    run_virtual(office.run(todo))
    check(office)
    for ran in office.ran:
        if ran.status == "late":
            assert ran.ended_s == ran.asked_s + ran.job.wait_s
        elif ran.began_s == ran.began_s:
            assert ran.began_s <= ran.asked_s + ran.job.wait_s


def test_a_service_is_used_in_the_order_of_asking() -> None:
    """Two at a time get in, the others in turn, whatever each takes."""
    took_s = [5.0, 1.0, 1.0, 1.0, 3.0]
    office = Office()
    todo = [
        Job(
            claims=(("read", f"k/{at}"),),
            service="two",
            at_s=0.0,
            took_s=took,
            wait_s=ENDLESS_S,
            cancel_s=None,
            fails=False,
        )
        for at, took in enumerate(took_s)
    ]
    run_virtual(office.run(todo))
    assert [(ran.began_s, ran.ended_s) for ran in office.ran] == [
        (0.0, 5.0),
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, 3.0),
        (3.0, 6.0),
    ]


async def test_it_is_known_what_was_waited_for() -> None:
    """Who waits can say for which claim, or which service, and who had it."""
    desk = Desk(LIMITS)
    first = desk.enter((("write", "crm/7"),), "one", "turn-1")
    second = desk.enter((("read", "mail"), ("read", "crm")), None, "turn-2")
    third = desk.enter((("read", "news"),), "one", "turn-3")
    assert first.ready
    assert (second.ready, second.claim, second.behind) == (False, "read crm", "turn-1")
    assert (third.ready, third.claim) == (False, "service one")
    everything = desk.enter((("exclusive", ""),), None, "turn-4")
    assert everything.claim == "exclusive everything"
    for hold in (first, second, third, everything):
        desk.leave(hold)
    assert len(desk) == 0


async def test_who_waits_for_a_service_holds_its_claims() -> None:
    """A step that has its claims and no place yet goes before those that ask for them later."""
    desk = Desk(LIMITS)
    inside = desk.enter((), "one", "1")
    waits = desk.enter((("write", "a"),), "one", "2")
    later = desk.enter((("write", "a"),), None, "3")
    assert (waits.ready, later.ready) == (False, False)
    desk.leave(inside)
    assert (waits.ready, later.ready) == (True, False)
    desk.leave(waits)
    assert later.ready


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_hold_that_comes_too_late_is_given_back(cancelled: bool) -> None:  # noqa: FBT001
    """Time is up, or the wait is cancelled, in the tick in which the claims are free."""
    desk = Desk(LIMITS)
    first = desk.enter((("write", "a"),), "one", "1")
    second = desk.enter((("write", "a"),), "one", "2")
    third = desk.enter((("write", "a"),), "one", "3")
    waiter = asyncio.create_task(desk.wait(second, 0.0 if not cancelled else 60.0))
    last = asyncio.create_task(desk.wait(third, 60.0))
    await asyncio.sleep(0)
    if cancelled:
        desk.leave(first)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    else:
        asyncio.get_running_loop().call_soon(desk.leave, first)
        await waiter
        desk.leave(second)
    assert await last
    desk.leave(third)
    assert len(desk) == 0


async def test_leaving_twice_does_nothing() -> None:
    """What was given back is given back once."""
    desk = Desk(Limits(services={"one": 1}))
    first = desk.enter((("write", "a"),), "one", "1")
    desk.leave(first)
    second = desk.enter((("write", "a"),), "one", "2")
    third = desk.enter((("write", "a"),), "one", "3")
    desk.leave(first)
    assert (second.ready, third.ready) == (True, False)
    desk.leave(second)
    assert third.ready


async def test_narrowing_lets_others_in() -> None:
    """A hold that keeps less lets those in that waited for the rest, and never grows."""
    desk = Desk(LIMITS)
    wide = desk.enter((("write", "crm"),), None, "1")
    mine = desk.enter((("write", "crm/7"),), None, "2")
    other = desk.enter((("write", "crm/8"),), None, "3")
    waiter = asyncio.create_task(desk.wait(other, 60.0))
    await asyncio.sleep(0)
    desk.narrow(wide, ("write", "crm"), "crm/7")
    assert await waiter
    assert not mine.ready
    with pytest.raises(ValueError, match="never widens"):
        desk.narrow(wide, ("write", "crm/7"), "crm")
    with pytest.raises(ValueError, match="does not claim"):
        desk.narrow(wide, ("write", "crm"), "crm/7")
    for hold in (wide, mine, other):
        desk.leave(hold)
    assert len(desk) == 0


async def test_who_waits_may_narrow_itself_free() -> None:
    """A hold that waits for what it turns out not to want is ready, and goes on."""
    desk = Desk(Limits(services={"one": 1}))
    first = desk.enter((("write", "crm/7"),), None, "1")
    wide = desk.enter((("write", "crm"),), "one", "2")
    waiter = asyncio.create_task(desk.wait(wide, 60.0))
    await asyncio.sleep(0)
    desk.narrow(wide, ("write", "crm"), "crm/8")
    assert await waiter
    assert (first.ready, wide.ready) == (True, True)
    for hold in (first, wide):
        desk.leave(hold)
    assert len(desk) == 0


def test_a_thousand_that_give_up_leave_nothing() -> None:
    """Those that waited in vain are forgotten once whoever held has gone."""

    async def main() -> None:
        desk = Desk(LIMITS)
        first = desk.enter((("write", "a"),), "one", "holder")

        async def vain(at: int) -> None:
            hold = desk.enter((("write", f"a/{at}"),), "one", "vain")
            assert not await desk.wait(hold, 1.0 + at % 7)

        await asyncio.gather(*(vain(at) for at in range(1_000)))
        assert len(desk) == 1
        desk.leave(first)
        assert len(desk) == 0

    def holds() -> int:
        gc.collect()
        return sum(isinstance(one, Hold) for one in gc.get_objects())

    before = holds()
    run_virtual(main())
    assert holds() <= before
