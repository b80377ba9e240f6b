"""Real processes on one journal: writing at once, killed, paused, reading, without rights."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.child import Child, run
from tests.storage.places import begun, committed, noted, opened
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import Claimed, Held
from undercroft.storage.read import open_reader
from undercroft.storage.sqlite import SqliteStore

TURNS = 300


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    """Two processes open a new journal and write hundreds of turns each: all are whole."""
    with Child("write", path, "a", TURNS) as a, Child("write", path, "b", TURNS) as b:
        for child in (a, b):
            child.hear()
        for child in (a, b):
            child.tell()
        for child in (a, b):
            assert child.hear() == {"done": True}
            assert child.process.wait(30) == 0

    with open_reader(str(path)) as reader:
        rows = reader.heads(limit=2 * TURNS + 1)
        assert len(rows) == 2 * TURNS
        assert {row.status for row in rows} == {TurnStatus.DONE}
        for name in "ab":
            for k in range(TURNS):
                assert reader.frames(f"t-{name}-{k:04}") == [
                    noted(f"{name} {k} {step} {half}") for step in range(3) for half in "ab"
                ]


async def test_a_killed_process_is_seen_at_once(path: Path) -> None:
    """As soon as a process is killed its turns can be claimed, with all that was durable."""
    async with opened(SqliteStore(path)) as store:
        with Child("hold", path, 3) as child:
            pid = child.hear()["pid"]
            for k in range(3):
                answer = await store.claim(f"t-{k}", 2.0)
                assert isinstance(answer, Held)
                assert str(pid) in answer.holder
            assert store.unfinished() == []

            child.send(signal.SIGKILL)

            assert store.unfinished() == ["t-0", "t-1", "t-2"]
            assert [row.held for row in store.heads()] == [False] * 3
            for k in range(3):
                claimed = await store.claim(f"t-{k}", 2.0)
                assert isinstance(claimed, Claimed)
                assert claimed.frames == [noted("one")]
                store.append(claimed.num, noted("two"))
            await committed(store)
            assert store.frames("t-2") == [noted("one"), noted("two")]


async def test_a_paused_process_is_not_dead(path: Path) -> None:
    """A process that only stands still keeps its turns, however long, and goes on with them."""
    async with opened(SqliteStore(path)) as store:
        with Child("hold", path, 1) as child:
            child.hear()
            child.send(signal.SIGSTOP)
            assert isinstance(await store.claim("t-0", 2.0), Held)
            assert store.unfinished() == []

            child.send(signal.SIGCONT)
            child.tell()

            assert child.hear() == {"error": None}
            assert store.frames("t-0") == [noted("one"), noted("more")]


async def test_a_process_that_was_declared_dead_records_nothing_more(path: Path) -> None:
    """Whoever lost its turns and goes on regardless is told so, and writes nothing."""
    async with opened(SqliteStore(path)) as store:
        with Child("hold", path, 2) as child:
            child.hear()
            child.tell("lapse")
            child.hear()
            child.tell()
            assert child.hear() == {"error": None}, "nobody took anything yet"

            assert isinstance(await store.claim("t-1", 2.0), Claimed)
            child.tell()

            assert child.hear() == {"error": "FencedError"}
            assert store.frames("t-0") == [noted("one"), noted("more")]
            assert isinstance(await store.claim("t-0", 3.0), Claimed)


def test_a_reader_sees_only_whole_commits(path: Path) -> None:
    """While one process writes another reads: it never waits, and never sees half a commit."""
    with Child("write", path, "a", TURNS) as writer:
        writer.hear()
        with Child("watch", path) as reader:
            reader.hear()
            writer.tell()
            assert writer.hear() == {"done": True}
            reader.tell()
            seen = reader.hear()
    assert seen["halves"] == seen["backwards"] == 0
    assert seen["reads"] > 0
    assert seen["most"] > 0


def test_readers_do_not_mind_processes_that_come_and_go(path: Path) -> None:
    """Reading works at the very moments in which another process opens or closes the journal."""
    write_some(path, "first")
    with Child("watch", path) as reader:
        reader.hear()
        for k in range(3):
            write_some(path, f"w{k}")
        reader.tell()
        assert reader.hear()["most"] == 20


def write_some(path: Path, name: str) -> None:
    """Let another process open a journal, write five turns and close it."""
    with Child("write", path, name, 5) as writer:
        writer.hear()
        writer.tell()
        assert writer.hear() == {"done": True}
        assert writer.process.wait(30) == 0


# Without rights


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that every user of the machine may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o777)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "written"),
    [
        pytest.param(0o444, 0o777, "StoreReadOnlyError.*it may not be written", id="file"),
        pytest.param(0o666, 0o555, "StoreReadOnlyError.*it may not be written", id="folder"),
        pytest.param(0o444, 0o555, "StoreReadOnlyError.*it may not be written", id="both"),
        pytest.param(0o000, 0o777, "StoreError.*it cannot be opened", id="unreadable"),
    ],
)
async def test_a_journal_that_may_not_be_written_is_refused(
    shared: Path, file_mode: int, folder_mode: int, written: str
) -> None:
    """Who may not write the journal is told so by name, with the mend; nothing is changed."""
    path = shared / "folder" / "journal.db"
    path.parent.mkdir()
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
    before = path.read_bytes()
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)

    said = run("unprivileged", path)

    path.parent.chmod(0o777)
    assert re.search(f"{written}.*Check", said["write"])
    assert str(path) in said["write"]
    assert path.read_bytes() == before


def protect(folder: Path) -> None:
    """Let nobody but root write the files of a folder."""
    for file in folder.iterdir():
        file.chmod(0o444)


async def test_who_may_only_read_sees_who_is_alive(shared: Path) -> None:
    """A reader without the right to write sees which turns are held, as anybody does."""
    path = shared / "journal.db"
    async with opened(SqliteStore(path)) as store:
        await begun(store, "t-1", noted("one"))
        protect(shared)
        assert run("unprivileged", path)["read"] == "t-1"
