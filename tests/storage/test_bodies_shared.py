"""Bodies that processes share: none is lost or damaged, whoever writes, dies or reads meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.places import begun, committed, noted, opened
from undercroft.model.event import AnyEvent, StepWaited, decode_frames, encode_frame
from undercroft.model.step import ErrorClass, Failure, Refusal
from undercroft.storage.bodies import Bodies, Packer, whole
from undercroft.storage.read import open_reader
from undercroft.storage.schema import BEGIN, FRAME, MIGRATIONS, connect, prepare
from undercroft.storage.sqlite import SqliteStore

LONG = "The policy of the shop. " * 40
encode = msgspec.msgpack.encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts |= st.sampled_from((LONG, "x" * 191, "x" * 192, "ü" * 200))
numbers = st.integers(-(2**63), 2**64 - 1)
data = st.recursive(
    st.none() | numbers | st.floats() | texts | st.binary(max_size=8) | st.just(b"\xc1" * 400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
by_type: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: numbers,
    msgspec.Raw: data.map(lambda value: msgspec.Raw(encode(value))),
    Failure: st.builds(Failure, texts, texts, st.sampled_from(ErrorClass), texts, texts),
    Refusal: st.builds(Refusal, texts, texts, texts, st.dictionaries(texts, data, max_size=3)),
}


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Return what a field of an event may hold."""
    if kind in by_type:
        return by_type[kind]
    parts = [part for part in get_args(kind) if part is not Ellipsis]
    if not parts:
        return st.from_type(kind)
    if type(None) in parts:
        return st.none() | of_type(next(part for part in parts if part is not type(None)))
    if get_args(kind)[-1] is Ellipsis:
        return st.lists(of_type(parts[0]), max_size=3).map(tuple)
    return st.tuples(*map(of_type, parts))


def events_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return events of one kind, with anything in each of their fields."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: of_type(hints[name]) for name in kind.__struct_fields__})


any_event = st.one_of([events_of(kind) for kind in get_args(AnyEvent)])


@settings(max_examples=60)
@given(st.lists(any_event, min_size=1, max_size=5))
def test_every_kind_of_event_comes_back_byte_for_byte(events: list[Any]) -> None:
    """Whatever fields an event has and however long they are, its frame is read as written."""
    frame = encode_frame(events)
    bodies: dict[bytes, bytes] = {}
    packed = Packer().pack(frame, bodies)
    assert Bodies(bodies.get).unpack(packed) == frame
    later = Packer()
    later.note(bodies)
    more: dict[bytes, bytes] = {}
    assert (later.pack(frame, more), more) == (packed, {})


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from tests.storage import test_bodies_shared as here
asyncio.run(here.write(sys.argv[1], int(sys.argv[2])))
"""
TURNS = 40


def text_of(turn: int) -> str:
    """Return what turn `turn` of every process says: the same, and most of it said before."""
    rng = random.Random(turn % 7)  # noqa: S311  not for secrets
    return LONG + "".join(rng.choices("abcdefghij ", k=2_000))


async def write(path: str, who: int) -> None:
    """Write turns that share their bodies with each other, and with other processes."""
    async with opened(SqliteStore(path, sync="never")) as store:
        _say("open")
        for turn in range(TURNS):
            num = await begun(store, f"t-{who}-{turn}", noted(text_of(turn)))
            store.append(num, noted(text_of(turn + 1)))
            await committed(store)
            _say(turn)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def child(path: Path, who: int) -> subprocess.Popen[str]:
    """Return a process that writes."""
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(who), root],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def check_whole(path: Path) -> int:
    """Check that all frames of a journal can be read; return how many turns it holds."""
    with open_reader(str(path)) as reader:
        heads = reader.heads(limit=1_000)
        for one in heads:
            events = decode_frames(reader.frames(one.turn_id) or [])
            turn = int(one.turn_id.rpartition("-")[2])
            said = [event.claim for event in events if isinstance(event, StepWaited)]
            assert said
            assert said == [text_of(turn), text_of(turn + 1)][: len(said)]
    return len(heads)


def test_processes_that_write_the_same_bodies_harm_nothing(tmp_path: Path) -> None:
    """Each text is there once; one process is killed, one goes on, and a third reads meanwhile."""
    path = tmp_path / "journal.db"
    asyncio.run(_made(path))
    victim, other = child(path, 1), child(path, 2)
    try:
        assert victim.stdout is not None
        for line in victim.stdout:
            if line.strip() == str(TURNS // 4):
                break
        victim.send_signal(signal.SIGKILL)
        give_up_s = time.monotonic() + 30
        while other.poll() is None:
            assert time.monotonic() < give_up_s
            check_whole(path)
            time.sleep(0.05)
        assert other.returncode == 0
    finally:
        for process in (victim, other):
            process.kill()
            process.communicate()
    assert TURNS + TURNS // 4 <= check_whole(path) < 2 * TURNS
    with closing(sqlite3.connect(path)) as connection:
        stored = [whole(body) for (body,) in connection.execute("SELECT data FROM body")]
    assert len(stored) == len(set(stored)) == 7


async def _made(path: Path) -> None:
    async with opened(SqliteStore(path, sync="never")):
        pass


@pytest.mark.parametrize("shared", [True, False])
async def test_a_body_of_another_process_is_found(tmp_path: Path, *, shared: bool) -> None:
    """What one process wrote, another refers to without writing it again, and both read it."""
    path = tmp_path / "journal.db"
    async with opened(SqliteStore(path)) as first, opened(SqliteStore(path)) as second:
        for turn, store in enumerate((first, second, first)):
            text = LONG if shared else f"{LONG}{turn}"
            await begun(store, f"t-{turn}", noted(text))
            await committed(store)
            for reader in (first, second):
                frames = reader.frames(f"t-{turn}")
                assert frames is not None
                assert text.encode() in frames[0]
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM body").fetchone()
    assert count == (1 if shared else 3)


async def test_a_journal_from_before_there_were_bodies_is_read_and_goes_on(tmp_path: Path) -> None:
    """Its large frames stay as they are, are read as they were, and new ones stand beside them."""
    path = tmp_path / "journal.db"
    with closing(connect(str(path))) as connection:
        before = next(at for at, step in enumerate(MIGRATIONS) if "TABLE body(" in step)
        prepare(connection, str(path), MIGRATIONS[:before])
        connection.execute(BEGIN, (1, "t-0", "handler", "shop:assist", None, "done", 1.0, 0))
        connection.execute(FRAME, (1, noted(LONG)))
    for _ in range(2):
        with open_reader(str(path)) as reader:
            assert reader.frames("t-0") == [noted(LONG)]
        async with opened(SqliteStore(path)) as store:
            assert store.frames("t-0") == [noted(LONG)]
            await begun(store, f"t-{store.runtime}", noted(LONG))
            assert store.frames(f"t-{store.runtime}") == [noted(LONG)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT data FROM frame WHERE turn=1").fetchone() == (
            noted(LONG),
        )
        assert connection.execute("SELECT count(*) FROM body").fetchone() == (1,)
