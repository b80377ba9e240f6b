"""A write rests on what the turn saw last; whatever others changed since is in question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import overlap, within
from undercroft.layers.conflicts.policy import declare, modes_of
from undercroft.layers.conflicts.versions import (
    VERSION_CHARS_MAX,
    Known,
    Seen,
    in_question,
    version_of,
    watched,
)
from undercroft.model.lease import Wrote

PLAIN = ["", "a", "a/1", "a/1/x", "a/2", "b", "b/1"]
WILD = ["a/*", "*/1", "*/*/x"]
LEAVES = ["/".join(parts) for parts in product("abc", "123", "xy")]
READER = object()

Did = tuple[str, str]


def by_key(seen: Seen) -> str:
    """Return what puts what was seen in order."""
    return seen.key


def check_about(noted: Sequence[str], keys: Sequence[str]) -> None:
    """What is known of a key is the last word on all that overlaps with it, each once."""
    known, model = Known(), dict[str, Seen]()
    for position, key in enumerate(noted):
        model[key] = Seen(key, f"v{position}", position)
        known.note(model[key])
    for key in keys:
        expected = [seen for seen in model.values() if overlap(seen.key, key)]
        assert sorted(known.about(key), key=by_key) == sorted(expected, key=by_key)


@given(noted=st.lists(st.sampled_from(PLAIN), max_size=15))
def test_what_is_known_is_found(noted: list[str]) -> None:
    """A write finds all that was seen of what it changes, of what that lies in, and below it."""
    check_about(noted, PLAIN + WILD)


@given(noted=st.lists(st.sampled_from(PLAIN + WILD), max_size=15))
def test_what_is_known_is_found_with_stars(noted: list[str]) -> None:
    """That holds for what was read under a key with a `*` as well."""
    check_about(noted, PLAIN + WILD)


@given(noted=st.lists(st.sampled_from(PLAIN), max_size=10), key=st.sampled_from(PLAIN + WILD))
def test_an_own_write_outdates_what_was_seen(noted: list[str], key: str) -> None:
    """After a write of its own a turn has no version of what overlaps with it, and a reader."""
    known = Known()
    for position, at in enumerate(noted):
        known.note(Seen(at, "v", position, READER, declared=True, value=b"old"))
    known.wrote(key, 100)
    for seen in known.about(""):
        outdated = overlap(seen.key, key)
        assert seen.version == ("" if outdated else "v")
        assert seen.value == (b"" if outdated else b"old")
        assert (seen.reader, seen.declared) == (READER, True)


# What may be out of date

wrote = st.lists(
    st.builds(
        Wrote,
        key=st.sampled_from(PLAIN),
        position=st.integers(0, 9),
        turn_id=st.sampled_from(["me", "you", "they"]),
        dirty=st.booleans(),
    ),
    max_size=6,
)
seen = st.builds(
    Seen,
    key=st.sampled_from(PLAIN + WILD),
    version=st.sampled_from(["", "v"]),
    position=st.integers(-1, 9),
    reader=st.sampled_from([None, READER]),
    declared=st.booleans(),
    value=st.sampled_from([b"", b"value"]),
)


@given(seen=seen, wrote=wrote)
def test_in_question_is_what_another_turn_changed_since(seen: Seen, wrote: list[Wrote]) -> None:
    """What others wrote later, or were cut off at, is in question; what they did before is not."""
    others = [w for w in wrote if w.turn_id != "me" and overlap(w.key, seen.key)]
    reasons = {"dirty" for w in others if w.dirty} | {
        "written" for w in others if w.position > seen.position
    }
    found = in_question(seen, wrote, "me")
    if reasons:
        assert found in reasons
    elif seen.reader is None or not seen.identity:
        assert not found  # there is nothing to compare it with
    elif seen.position < 0:
        assert found == "resumed"
    else:
        assert found == ("version" if seen.declared else "")


def missed(did: Sequence[Did], *, own_writes: bool) -> bool:
    """Whether a turn could write on what another one had changed, unseen and unasked.

    `read` and `write` are of the turn, `other` is a write of another one.
    """
    known = Known()
    last: dict[str, Wrote] = {}
    unseen: dict[str, set[str]] = {}  # by what was read, the leaves that changed since
    for position, (what, key) in enumerate(did, start=1):
        if what == "read":
            known.note(Seen(key, "v", position, READER))
            unseen[key] = set()
        elif what == "other":
            last[key] = Wrote(key, position, "you")
            for at, leaves in unseen.items():
                leaves |= {leaf for leaf in LEAVES if within(leaf, key) and within(leaf, at)}
        elif own_writes:
            others = [w for w in last.values() if overlap(w.key, key) and w.turn_id != "me"]
            questioned = any(in_question(s, others, "me") for s in known.about(key))
            behind = any(within(leaf, key) for leaves in unseen.values() for leaf in leaves)
            if behind and not questioned:
                return True
            if not questioned:  # else it would be refused, or read again
                known.wrote(key, position)
                last[key] = Wrote(key, position, "me")
                for leaves in unseen.values():
                    leaves -= {leaf for leaf in leaves if within(leaf, key)}
    others = list(last.values())
    return any(
        leaves and not in_question(seen, others, "me")
        for seen in known.about("")
        for at, leaves in unseen.items()
        if at == seen.key
    )


did = st.lists(
    st.tuples(st.sampled_from(["read", "write", "other"]), st.sampled_from(PLAIN)), max_size=20
)


@given(did=did)
def test_no_change_by_others_goes_unnoticed(did: list[Did]) -> None:
    """Whatever others changed of what a turn read is in question."""
    assert not missed(did, own_writes=False)


@given(did=did)
def test_no_change_by_others_goes_unnoticed_after_own_writes(did: list[Did]) -> None:
    """That holds too where the turn wrote to a part of what it had read."""
    assert not missed(did, own_writes=True)


def test_writing_a_part_is_not_seeing_the_whole() -> None:
    """The turn read all of crm, another changed crm/9, it wrote crm/7: crm is in question."""
    known = Known()
    known.note(Seen("crm", "v", 10, READER))
    theirs = Wrote("crm/9", 20, "you")
    known.wrote("crm/7", 30)
    (whole,) = known.about("crm")
    assert in_question(whole, [theirs], "me") == "written"


# Versions


@given(one=st.binary(max_size=40), other=st.binary(max_size=40))
def test_without_a_version_the_result_is_compared(one: bytes, other: bytes) -> None:
    """Results have the same version exactly if they are the same."""
    assert (version_of(None, one) == version_of(None, other)) == (one == other)
    assert version_of(None, one)


@given(value=st.integers())
def test_a_declared_version_counts_alone(value: int) -> None:
    """Where a tool says what its version is, the rest of the result may change."""
    record = {"rev": value, "rest": 1}
    assert version_of(record, b"one", lambda r: r["rev"]) == str(value)
    assert version_of(record, b"other", lambda r: r["rev"]) == str(value)


@given(tail=st.text(max_size=5), other=st.text(max_size=5))
def test_a_version_is_bounded(tail: str, other: str) -> None:
    """However long what a tool calls its version, little of it is kept."""
    versions = [version_of(text, b"", lambda v: "x" * 10_000 + v) for text in (tail, other)]
    assert all(len(version) <= VERSION_CHARS_MAX for version in versions)


def test_long_versions_are_told_apart() -> None:
    """Versions that differ only late differ."""
    long = "x" * VERSION_CHARS_MAX
    assert version_of(long + "1", b"", str) != version_of(long + "2", b"", str)


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_version_is_one_too(empty: str | None) -> None:
    """A tool that finds no version has one all the same: what it read is as it was."""
    version = version_of({}, b"{}", lambda _: empty)
    seen = Seen("k", version, 1, READER, declared=True, value=b"{}")
    assert seen.identity == version_of({}, b"{}", lambda _: empty)
    other = version_of({"a": 1}, b'{"a":1}', lambda _: empty)
    assert other != seen.identity


@given(raw=st.binary(min_size=1, max_size=20))
def test_a_version_is_worked_out_when_it_is_asked_for(raw: bytes) -> None:
    """What was read and kept has the version that it would have had at once."""
    assert Seen("k", "", 1, READER, value=raw).identity == version_of(None, raw)
    assert Seen("k", "v", 1, READER, value=raw).identity == "v"
    assert Seen("k", "", 1, READER).identity == ""


def test_only_reads_of_what_is_written_are_watched() -> None:
    """Peeks, and reads of what no tool writes, need no version."""
    tools = {
        "find": declare(modes_of(None, "crm/{id}", None, None, None), pure=False),
        "glance": declare(modes_of("crm/{id}", None, None, None, None), pure=False),
        "news": declare(modes_of(None, "news", None, None, None), pure=False),
        "log": declare(modes_of(None, "log/{day}", None, None, None), pure=False),
        "put": declare(modes_of(None, None, None, "crm/{id}/name", None), pure=False),
        "note": declare(modes_of(None, None, "log/{day}", None, None), pure=False),
    }
    assert watched(tools) == {"find"}
