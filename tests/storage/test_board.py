"""What every store promises of its board: who writes, who may try, what is added up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.storage.places import MemoryPlace, Place, SqlitePlace, opened
from undercroft.errors import StoreBusyError, StoreCorruptError, StoreError
from undercroft.model.circuit import (
    Ask,
    Chain,
    CircuitChanged,
    News,
    Post,
    Prober,
    Spent,
    Stored,
    decode_change,
    encode_change,
)
from undercroft.ports import Board, Store
from undercroft.storage.read import open_reader
from undercroft.storage.sqlite import SqliteStore

CRM, MAIL = "crm", "mail"


def changed(
    now: str, *, service: str = CRM, was: str = "closed", runtime: int = 1
) -> CircuitChanged:
    """Return a transition."""
    return CircuitChanged(service, was, now, "failure_rate", 1.0, runtime=runtime)


def board_of(store: Store) -> Board:
    """Return the board of an open store."""
    assert store.board is not None
    return store.board


async def write(board: Board, now: str, epoch: int, *, since: int = 0) -> News:
    """Try to write a transition behind `epoch`."""
    change = changed(now, runtime=board.runtime)
    return await board.exchange(Post(since, chains={CRM: Chain(epoch, [change])}))


async def ask(board: Board, epoch: int, silent: tuple[int, int] | None = None) -> Prober | None:
    """Ask for the right to try a service; return who has it."""
    news = await board.exchange(Post(asks={CRM: Ask(epoch, silent)}))
    assert news.error is None
    return news.probers.get(CRM)


def two(place: Place) -> tuple[Store, Store]:
    """Return two stores of a journal."""
    return place.store(), place.store()


async def test_a_new_board_knows_nothing(place: Place) -> None:
    """On a new journal there is no news, and the position stays where it is."""
    async with opened(place.store()) as store:
        for _ in range(2):
            news = await board_of(store).exchange(Post())
            assert (news.upto, dict(news.last), news.anew, news.error) == (0, {}, False, None)
        assert await board_of(store).gauges() == []


async def test_others_are_told_of_a_transition_once(place: Place) -> None:
    """What one process writes another is told in its next exchange, and only then."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        assert (await board_of(two_).exchange(Post())).last == {}
        first = await write(board_of(one), "open", 0)
        assert first.last == {CRM: Stored(1, changed("open", runtime=one.runtime))}
        heard = await board_of(two_).exchange(Post())
        assert heard.last == first.last
        again = await board_of(two_).exchange(Post(since=heard.upto))
        assert again.last == {}
        assert again.upto == heard.upto


async def test_of_two_that_open_at_once_one_writes(place: Place) -> None:
    """A transition behind an epoch that somebody wrote behind already is not written."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        news = await asyncio.gather(*(write(board_of(s), "open", 0) for s in (one, two_)))
        assert news[0].last == news[1].last
        assert news[0].last[CRM].epoch == 1
        assert [n.error for n in news] == [None, None]
        late = await board_of(two_).exchange(
            Post(since=1, chains={CRM: Chain(0, [changed("open")])})
        )
        assert late.last == {}


async def test_a_chain_is_written_whole_or_not_at_all(place: Place) -> None:
    """Several transitions take as many epochs; those that came too late take none."""
    async with opened(place.store()) as store:
        board = board_of(store)
        chain = [
            changed("open"),
            changed("half_open", was="open"),
            changed("closed", was="half_open"),
        ]
        news = await board.exchange(Post(chains={CRM: Chain(0, chain), MAIL: Chain(4, chain)}))
        assert news.last == {CRM: Stored(3, chain[-1])}
        news = await board.exchange(Post(since=news.upto, chains={CRM: Chain(2, chain)}))
        assert news.last == {}


async def test_who_begins_is_told_how_all_services_stand(place: Place) -> None:
    """A process that begins is told the last transition of each service, of however many."""
    async with opened(place.store()) as store:
        for k in range(5):
            for name in (CRM, MAIL):
                change = changed("open", service=name)
                await board_of(store).exchange(Post(chains={name: Chain(k, [change])}))
        async with opened(place.store()) as late:
            news = await board_of(late).exchange(Post())
            assert {name: stored.epoch for name, stored in news.last.items()} == {CRM: 5, MAIL: 5}


async def test_one_process_may_probe(place: Place) -> None:
    """Of processes that ask at once one gets the right, and keeps it when it asks again."""
    stores = [place.store() for _ in range(4)]
    async with opened(stores[0]), opened(stores[1]), opened(stores[2]), opened(stores[3]):
        boards = [board_of(store) for store in stores]
        await write(boards[0], "open", 0)
        answers = await asyncio.gather(*(ask(board, 1) for board in boards))
        assert len({answer and answer.runtime for answer in answers}) == 1
        winner = next(b for b in boards if answers[0] and b.runtime == answers[0].runtime)
        for board in boards:
            again = await ask(board, 1)
            assert again is not None
            assert again.runtime == winner.runtime


@pytest.mark.parametrize("state", ["closed", "forced_open", "observe_only", "disabled"])
async def test_only_what_is_open_is_probed(place: Place, state: str) -> None:
    """Nobody gets the right to try a service that is not open."""
    async with opened(place.store()) as store:
        await write(board_of(store), state, 0)
        assert await ask(board_of(store), 1) is None


async def test_who_does_not_know_how_a_service_stands_may_not_probe(place: Place) -> None:
    """The right is given only to who knows the last transition."""
    async with opened(place.store()) as store:
        await write(board_of(store), "open", 0)
        for epoch in (0, 2):
            assert await ask(board_of(store), epoch) is None


@pytest.mark.parametrize("state", ["open", "closed", "forced_open"])
async def test_a_transition_ends_the_right(place: Place, state: str) -> None:
    """After the next transition the right is anybody's again, or nobody's if it is not open."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await write(board_of(one), "open", 0)
        await ask(board_of(one), 1)
        await write(board_of(one), "half_open", 1)
        taken = await ask(board_of(two_), 2)
        assert taken is not None
        assert taken.runtime == one.runtime
        await write(board_of(one), state, 2)
        answer = await ask(board_of(two_), 3)
        assert (answer.runtime if answer else None) == (two_.runtime if state == "open" else None)


async def test_whoever_writes_that_it_tries_has_the_right(place: Place) -> None:
    """A half-open transition carries the right, also of who tried without asking."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await write(board_of(one), "open", 0)
        await write(board_of(one), "half_open", 1)
        answer = await ask(board_of(two_), 2)
        assert answer is not None
        assert answer.runtime == one.runtime


async def test_a_right_that_is_given_back_is_anybody_s(place: Place) -> None:
    """A right can be given back by who has it, and by nobody else."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await write(board_of(one), "open", 0)
        await ask(board_of(one), 1)
        await board_of(two_).exchange(Post(gives_back=[CRM]))
        answer = await ask(board_of(two_), 1)
        assert answer is not None
        assert answer.runtime == one.runtime
        await board_of(one).exchange(Post(gives_back=[CRM]))
        answer = await ask(board_of(two_), 1)
        assert answer is not None
        assert answer.runtime == two_.runtime


async def test_a_dead_prober_loses_its_right_at_once(place: Place) -> None:
    """The right of a process that ended is given to the next one that asks."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await write(board_of(one), "open", 0)
        await ask(board_of(one), 1)
        await write(board_of(one), "half_open", 1)
        place.declare_dead(one)
        answer = await ask(board_of(two_), 2)
        assert answer is not None
        assert answer.runtime == two_.runtime


async def test_a_silent_prober_loses_its_right_to_who_watched_it(place: Place) -> None:
    """Whoever names the beat at which the holder fell silent gets the right; a beat keeps it."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await write(board_of(one), "open", 0)
        await write(board_of(one), "half_open", 1)
        seen = await ask(board_of(two_), 2)
        assert seen is not None
        news = await board_of(one).exchange(Post(beats=[CRM]))
        assert news.probers[CRM].beat > seen.beat
        kept = await ask(board_of(two_), 2, seen)
        assert kept is not None
        assert kept.runtime == one.runtime
        taken = await ask(board_of(two_), 2, kept)
        assert taken is not None
        assert taken.runtime == two_.runtime
        news = await board_of(one).exchange(Post(beats=[CRM]))
        assert news.probers[CRM] == taken


async def test_a_process_that_leaves_takes_its_figures_and_rights_back(place: Place) -> None:
    """After `close` nothing is shown of a process, and others may try what it tried."""
    one, two_ = two(place)
    async with opened(two_):
        async with opened(one):
            await write(board_of(one), "open", 0)
            await ask(board_of(one), 1)
            await board_of(one).exchange(Post(gauges={CRM: b"figures"}))
            assert await board_of(two_).gauges() == [(one.runtime, b"figures")]
        assert await board_of(two_).gauges() == []
        answer = await ask(board_of(two_), 1)
        assert answer is not None
        assert answer.runtime == two_.runtime


async def test_figures_of_dead_processes_are_not_shown(place: Place) -> None:
    """Figures are those of live processes; each replaces or takes back its own."""
    one, two_ = two(place)
    async with opened(one), opened(two_):
        await board_of(one).exchange(Post(gauges={CRM: b"1", MAIL: b"2"}))
        await board_of(two_).exchange(Post(gauges={CRM: b"3"}))
        await board_of(one).exchange(Post(gauges={CRM: b"4", MAIL: b""}))
        expected = [(one.runtime, b"4"), (two_.runtime, b"3")]
        assert await board_of(two_).gauges() == expected
        place.declare_dead(one)
        assert await board_of(two_).gauges() == expected[1:]


async def test_spending_is_added_up_over_processes(place: Place) -> None:
    """What is spent on one account is the sum of all that all processes ever spent on it."""
    account, other = ("session", "s-1"), ("service", "s-1")
    for _ in range(3):
        async with opened(place.store()) as store:
            for _ in range(2):
                spends = {account: Spent(1, 2, 3, 4, 5), other: Spent(1)}
                await board_of(store).exchange(Post(spends=spends))
    async with opened(place.store()) as store:
        news = await board_of(store).exchange(Post(totals=[account, other, ("x", "y")]))
        assert news.totals == {
            account: Spent(6, 12, 18, 24, 30),
            other: Spent(6),
            ("x", "y"): Spent(),
        }


async def test_names_may_be_anything(place: Place) -> None:
    """Services and accounts are named by users: quotes, colours and nothing at all are fine."""
    name = "a'\"; DROP TABLE circuit; --\x00\x1b[31m☃"
    async with opened(place.store()) as store:
        change = changed("open", service=name)
        post = Post(chains={name: Chain(0, [change])}, spends={(name, ""): Spent(1)})
        news = await board_of(store).exchange(post)
        assert news.last == {name: Stored(1, change)}
        news = await board_of(store).exchange(Post(totals=[(name, "")]))
        assert news.totals == {(name, ""): Spent(1)}


def test_a_transition_of_a_newer_undercroft_can_be_read() -> None:
    """Fields that a later version adds at the end do not keep this one from reading the rest."""
    change = changed("open")
    data = encode_change([*(getattr(change, f) for f in change.__struct_fields__), "new"])
    assert decode_change(data) == change
    short = encode_change(["crm", "closed", "open", "failure_rate", 1.0])
    assert decode_change(short).runtime == 0


# ---------------------------------------------------------------------- in a file


async def test_a_board_leaves_no_thread_behind(path: Path) -> None:
    """After `close` the thread of a board is gone, used or not."""

    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "undercroft-board"]

    async with opened(SqliteStore(path)) as store:
        await board_of(store).exchange(Post())
        assert threads() == [], "nothing was told, so nothing was looked at"
        await write(board_of(store), "open", 0)
        assert threads() == ["undercroft-board"]
    assert threads() == []


@pytest.mark.alone
async def test_a_locked_file_can_be_heard(path: Path) -> None:
    """While somebody else writes, a board says within 250 ms that it could not, and what is new."""
    async with opened(SqliteStore(path)) as one, opened(SqliteStore(path)) as two_:
        await board_of(two_).exchange(Post())
        await write(board_of(one), "open", 0)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            began_s = time.monotonic()
            post = Post(chains={MAIL: Chain(0, [changed("open", service=MAIL)])})
            news = await board_of(two_).exchange(post)
            assert time.monotonic() - began_s < 0.25
            connection.execute("ROLLBACK")
        assert isinstance(news.error, StoreBusyError)
        assert set(news.last) == {CRM}
        news = await board_of(two_).exchange(post._replace(since=news.upto))
        assert news.error is None
        assert set(news.last) == {MAIL}


async def test_a_deleted_file_is_not_made_anew(path: Path) -> None:
    """Without its file a board raises, and leaves the place as it is."""

    def left() -> list[Path]:
        return list(path.parent.iterdir())

    async with opened(SqliteStore(path)) as store:
        await write(board_of(store), "open", 0)
        for file in left():
            file.unlink()
        for _ in range(2):
            with pytest.raises(StoreError, match="no such file"):
                await board_of(store).exchange(Post())
        assert left() == []
    assert left() == []


async def test_a_damaged_transition_is_said_to_be_one(path: Path) -> None:
    """A row that is no transition is an error that names the journal, and breaks nothing else."""
    async with opened(SqliteStore(path)) as store:
        await write(board_of(store), "open", 0)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE circuit SET data=x'c1'")
            connection.commit()
        with pytest.raises(StoreCorruptError, match=r"journal\.db"):
            await board_of(store).exchange(Post())
        with (
            pytest.raises(StoreCorruptError, match=r"journal\.db"),
            open_reader(str(path)) as reader,
        ):
            reader.circuits()


# ---------------------------------------------------------------------- against a model


NAMES = st.sampled_from([CRM, MAIL])
STATES = st.sampled_from(["closed", "open", "open", "half_open", "half_open", "forced_open"])


class Boards(RuleBasedStateMachine):
    """Three processes exchange at random; a model that keeps every event says what is so."""

    place: Place
    size = 3

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.events: list[tuple[Any, ...]] = []
        self.stores: list[Store] = []
        self.dead: set[int] = set()
        self.since: dict[int, int] = {}

    def make_place(self) -> Place:
        """Return where the journal is kept."""
        return MemoryPlace()

    @initialize()
    def begin(self) -> None:
        """Open the stores."""
        self.place = self.make_place()
        for _ in range(self.size):
            store = self.place.store()
            self.runner.run(store.open())
            self.stores.append(store)
            self.since[store.runtime] = 0

    def teardown(self) -> None:
        """Close the stores."""
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()

    # The model: nothing but what happened, looked through from the beginning each time.

    def written(self, service: str) -> list[CircuitChanged]:
        """Return the transitions of a service."""
        return [e[1] for e in self.events if e[0] == "changed" and e[1].service == service]

    def holder(self, service: str) -> int | None:
        """Return the process that has the right to try a service."""
        holder = None
        for kind, *said in self.events:
            if kind == "changed" and said[0].service == service:
                holder = said[1] if said[0].now == "half_open" else None
            elif kind == "given" and said[0] == service:
                holder = said[1]
            elif kind == "back" and said == [service, holder]:
                holder = None
        return holder

    def may(self, service: str, runtime: int, epoch: int, *, silent: bool) -> bool:
        """Whether a process must be given the right."""
        written, holder = self.written(service), self.holder(service)
        if epoch != len(written) or (written and written[-1].now not in ("open", "half_open")):
            return False
        return holder in (None, runtime) or holder in self.dead or silent

    def alive(self, which: int) -> Store | None:
        """Return a store whose process lives."""
        store = self.stores[which]
        return None if store.runtime in self.dead else store

    def exchange(self, store: Store, post: Post) -> News:
        """Exchange, and check that the news is what happened since."""
        runtime = store.runtime
        news = self.runner.run(board_of(store).exchange(post._replace(since=self.since[runtime])))
        assert news.error is None
        assert not news.anew
        return news

    def check_news(self, store: Store, news: News) -> None:
        """Check what a process is told of transitions."""
        since = self.since[store.runtime]
        changes = [e[1] for e in self.events if e[0] == "changed"]
        expected = {c.service for c in changes[since:]}
        assert set(news.last) == expected
        for service, stored in news.last.items():
            written = self.written(service)
            assert stored == Stored(len(written), written[-1])
        assert news.upto == len(changes)
        self.since[store.runtime] = news.upto

    @rule(which=st.integers(0, 2), service=NAMES, states=st.lists(STATES, min_size=1, max_size=3),
          off=st.sampled_from([0, 0, 0, -1, 1]))  # fmt: skip
    def write(self, which: int, service: str, states: list[str], off: int) -> None:
        """Write a chain, behind the last transition or elsewhere."""
        store = self.alive(which)
        if store is None:
            return
        epoch = len(self.written(service))
        changes = [changed(s, service=service, runtime=store.runtime) for s in states]
        news = self.exchange(store, Post(chains={service: Chain(epoch + off, changes)}))
        if off == 0:
            self.events += [("changed", change, store.runtime) for change in changes]
        self.check_news(store, news)

    @rule(which=st.integers(0, 2), service=NAMES, off=st.sampled_from([0, 0, 0, -1, 1]),
          watched=st.booleans(), stale=st.booleans())  # fmt: skip
    def ask(self, which: int, service: str, off: int, *, watched: bool, stale: bool) -> None:
        """Ask for a right, perhaps of a holder that was watched."""
        store = self.alive(which)
        if store is None:
            return
        epoch, silent = len(self.written(service)) + off, None
        if watched:
            seen = self.exchange(store, Post(asks={service: Ask(-1)}))
            self.check_news(store, seen)
            silent = seen.probers.get(service)
            if silent is not None and stale:
                silent = Prober(silent.runtime, silent.beat - 1)
        silenced = silent is not None and not stale
        before = self.holder(service)
        news = self.exchange(store, Post(asks={service: Ask(epoch, silent)}))
        if self.may(service, store.runtime, epoch, silent=silenced):
            self.events.append(("given", service, store.runtime))
            assert news.probers[service].runtime == store.runtime
        else:
            prober = news.probers.get(service)
            assert (prober.runtime if prober else None) == before
        self.check_news(store, news)

    @rule(which=st.integers(0, 2), service=NAMES)
    def beat(self, which: int, service: str) -> None:
        """Say that probes get on, or learn that somebody else has the right."""
        store = self.alive(which)
        if store is not None:
            news = self.exchange(store, Post(beats=[service]))
            prober, holder = news.probers.get(service), self.holder(service)
            assert (prober.runtime if prober else None) == holder
            self.check_news(store, news)

    @rule(which=st.integers(0, 2), service=NAMES)
    def give_back(self, which: int, service: str) -> None:
        """Give a right back, had or not."""
        store = self.alive(which)
        if store is not None:
            news = self.exchange(store, Post(gives_back=[service]))
            self.events.append(("back", service, store.runtime))
            self.check_news(store, news)

    @rule(which=st.integers(0, 2), service=NAMES, data=st.binary(max_size=3))
    def gauge(self, which: int, service: str, data: bytes) -> None:
        """Tell figures, or take them back."""
        store = self.alive(which)
        if store is not None:
            news = self.exchange(store, Post(gauges={service: data}))
            self.events.append(("gauge", service, store.runtime, data))
            self.check_news(store, news)

    @rule(which=st.integers(0, 2), name=NAMES, amounts=st.tuples(*[st.integers(0, 9)] * 5))
    def spend(self, which: int, name: str, amounts: tuple[int, int, int, int, int]) -> None:
        """Spend something, and ask what all spent."""
        store = self.alive(which)
        if store is None:
            return
        account = ("session", name)
        self.events.append(("spent", name, amounts))
        post = Post(spends={account: Spent(*amounts)}, totals=[account])
        news = self.exchange(store, post)
        all_spent = [e[2] for e in self.events if e[0] == "spent" and e[1] == name]
        assert news.totals == {
            account: Spent(*(sum(unit) for unit in zip(*all_spent, strict=True)))
        }
        self.check_news(store, news)

    @precondition(lambda self: len(self.dead) < 2)
    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        """Let a process end without a word."""
        store = self.stores[which]
        if store.runtime not in self.dead and len(self.dead) < 2:
            self.place.declare_dead(store)
            self.dead.add(store.runtime)

    @invariant()
    def figures(self) -> None:
        """The figures that are shown are the last ones of each live process."""
        if not self.stores:
            return
        told: dict[tuple[int, str], bytes] = {}
        for kind, *said in self.events:
            if kind == "gauge":
                told[said[1], said[0]] = said[2]
        expected = [
            (runtime, data)
            for (runtime, _), data in sorted(told.items())
            if data and runtime not in self.dead
        ]
        store = next(s for s in self.stores if s.runtime not in self.dead)
        assert self.runner.run(board_of(store).gauges()) == expected


Boards.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemoryBoards = Boards.TestCase


@pytest.fixture
def in_a_file(tmp_path: Path) -> Callable[[], Place]:
    """Return what makes places in files."""
    counter = iter(range(1_000_000))
    return lambda: SqlitePlace(tmp_path / f"{next(counter)}.db")


def test_boards_in_files_do_the_same(in_a_file: Callable[[], Place]) -> None:
    """What holds for boards in memory, whatever is done to them, holds for those in a file."""
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415  only here

    class InFiles(Boards):
        def make_place(self) -> Place:
            return in_a_file()

    run_state_machine_as_test(
        InFiles, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )
