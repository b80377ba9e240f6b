"""Large parts of frames are kept once and compressed, and come back byte for byte."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.storage.places import begun, committed, dense, head, noted, opened
from undercroft.errors import StoreCorruptError
from undercroft.storage.bodies import FRAME_BYTES_MIN, Bodies, Packer, is_packed, whole
from undercroft.storage.sqlite import SqliteStore

encode = msgspec.msgpack.encode
LONG = "The policy of the shop. " * 100

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from((LONG, "ü" * 300, LONG.encode(), b"\0" * 1_000))
    | st.builds(msgspec.msgpack.Ext, st.sampled_from((5, 101, 102, 103)), st.binary(max_size=20))
    | st.datetimes(timezones=st.just(dt.UTC))
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text(max_size=8) | st.integers(0, 99), inner, max_size=6)
    ),
    max_leaves=40,
)


@settings(max_examples=200)
@given(st.lists(st.lists(values, max_size=6), max_size=4))
@example([[msgspec.msgpack.Ext(101, b"x" * 16), LONG]])
@example([[[[[[LONG]]]], {"a": LONG, "b": [LONG] * 50}]])
def test_a_frame_comes_back_byte_for_byte(events: list[list[Any]]) -> None:
    """Whatever a frame holds, also what looks like a name of ours, is what is read again."""
    frame = encode(events)
    bodies: dict[bytes, bytes] = {}
    packed = Packer().pack(frame, bodies)
    assert len(packed) <= len(frame)
    assert Bodies(bodies.get).unpack(packed) == frame


@given(st.binary(max_size=3_000))
def test_what_is_no_frame_of_ours_stays_as_it_is(data: bytes) -> None:
    """A frame of a kind that is not known is stored whole."""
    frame = b"\xdc\xff" + data
    bodies: dict[bytes, bytes] = {}
    assert Bodies(bodies.get).unpack(Packer().pack(frame, bodies)) == frame


def test_a_body_is_handed_over_once() -> None:
    """What is known to be in the journal is not compressed again; what failed to commit is."""
    packer = Packer()
    first: dict[bytes, bytes] = {}
    packer.pack(noted(LONG), first)
    again: dict[bytes, bytes] = {}
    packer.pack(noted(LONG), again)
    assert again == first
    assert [whole(data) for data in first.values()] == [LONG.encode()]
    packer.note(first)
    later: dict[bytes, bytes] = {}
    packed = packer.pack(noted(LONG), later)
    assert not later
    assert Bodies(first.get).unpack(packed) == noted(LONG)


def test_small_frames_are_left_alone() -> None:
    """Most steps are small, and pay nothing."""
    frame = noted("x" * 200)
    assert len(frame) < FRAME_BYTES_MIN
    assert Packer().pack(frame, {}) is frame


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _packed, _bodies: (_packed, {}), id="missing"),
        pytest.param(
            lambda packed, bodies: (packed, {n: b"\x01" + b[5:] for n, b in bodies.items()}),
            id="damaged",
        ),
        pytest.param(lambda packed, bodies: (packed[:-3], bodies), id="cut-off"),
        pytest.param(lambda _packed, bodies: (b"\xc1", bodies), id="empty"),
    ],
)
def test_a_part_that_is_gone_is_an_error_that_says_so(spoil: Any) -> None:
    """Nothing is made up for what is missing or damaged."""
    bodies: dict[bytes, bytes] = {}
    packed = Packer().pack(encode([["a", LONG, {"x": dense("1", 900)}]]), bodies)
    assert is_packed(packed)
    packed, bodies = spoil(packed, bodies)
    with pytest.raises(StoreCorruptError, match=r"missing or damaged.*backup"):
        Bodies(bodies.get).unpack(packed)


async def test_all_turns_and_processes_share_bodies(tmp_path: Path) -> None:
    """The same text in many frames, turns and lives of a process is on disk once."""
    path = tmp_path / "journal.db"
    for life in range(3):
        async with opened(SqliteStore(path)) as store:
            for turn in range(4):
                num = await begun(store, f"t-{life}-{turn}", noted(LONG))
                store.append(num, noted(f"{LONG}{turn}"))
                await committed(store)
                assert store.frames(f"t-{life}-{turn}") == [noted(LONG), noted(f"{LONG}{turn}")]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM body").fetchone() == (5,)
        (size,) = connection.execute("SELECT sum(length(data)) FROM frame").fetchone()
    assert size < 24 * 100


async def test_a_body_that_was_not_committed_is_written_with_the_next_frame(
    tmp_path: Path,
) -> None:
    """A body whose transaction failed is not taken for known."""
    path = tmp_path / "journal.db"
    async with opened(SqliteStore(path)) as store:
        num = await begun(store, "t-1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER no BEFORE INSERT ON frame BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
            store.append(num, noted(LONG))
            with pytest.raises(Exception, match="no"):
                await committed(store)
            other.execute("DROP TRIGGER no")
        num = store.begin(head("t-2"))
        store.append(num, noted(LONG))
        await committed(store)
        assert store.frames("t-2") == [noted(LONG)]
