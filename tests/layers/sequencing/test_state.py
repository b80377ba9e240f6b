"""A call runs only after what it needs; a write only after a read of the same resource."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.sequencing.policy import CallRules
from undercroft.layers.sequencing.state import Done, refuse_order

TOOLS = st.sampled_from(["get", "find", "send"])
NAMES = ("a", "b", "c")
VALUES = st.sampled_from([1, "1", None, True, [1], {"x": 1}])
ARGUMENTS = st.dictionaries(st.sampled_from(NAMES), VALUES)
PARAMETERS = st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(tuple)
PARTS = st.sampled_from(["crm", "7", "70", "notes", "x"])
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@dataclass
class Naive:
    """What `Done` is: a list of everything that happened, looked through each time."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def called(self, tool: str, parameters: tuple[str, ...], arguments: dict[str, Any]) -> bool:
        """Whether a call of `tool` had the same values."""
        # Text and type, since to Python True is 1, and to a journal it is not.
        wanted = [repr(arguments.get(name)) for name in parameters]
        return any(
            name == tool and [repr(given_.get(p)) for p in parameters] == wanted
            for name, given_ in self.calls
        )

    def covered(self, key: str) -> bool:
        """Whether a resource was read that is `key` or holds it."""
        return any(key.split("/")[: len(r.split("/"))] == r.split("/") for r in self.read)


@given(
    watched=st.lists(st.tuples(TOOLS, PARAMETERS), max_size=4),
    happened=st.lists(st.tuples(TOOLS, ARGUMENTS, st.lists(KEYS, max_size=2)), max_size=6),
    asked=ARGUMENTS,
    key=KEYS,
)
def test_what_is_done_is_what_happened(
    watched: list[tuple[str, tuple[str, ...]]],
    happened: list[tuple[str, dict[str, Any], list[str]]],
    asked: dict[str, Any],
    key: str,
) -> None:
    """`Done` answers as a list of everything that happened would, without keeping it."""
    done, naive = Done(watched), Naive()
    for tool, arguments, read in happened:
        done.note(tool, arguments, read)
        naive.calls.append((tool, arguments))
        naive.read += read
    for tool, parameters in watched:
        assert done.called(tool, parameters, asked) == naive.called(tool, parameters, asked)
    assert done.covered(key) == naive.covered(key)


@pytest.mark.parametrize(
    ("read", "key", "covered"),
    [
        ("crm/7", "crm/7", True),
        ("crm/7", "crm/7/notes", True),
        ("crm", "crm/7/notes/1", True),
        ("crm/7", "crm/70", False),
        ("crm/7", "crm", False),
        ("crm/7/notes", "crm/7", False),
        ("crm/7", "mail/7", False),
        ("crm/%2F", "crm/%2F/x", True),
    ],
)
def test_a_read_covers_its_subtree(read: str, key: str, *, covered: bool) -> None:
    """Reading a resource is reading what lies in it, and nothing that only begins alike."""
    done = Done()
    done.note("get", {}, [read])
    assert done.covered(key) is covered


RULES = CallRules("set_tier", needs=("get", "find"), shared=(("id",), ()))


def done_with(*calls: tuple[str, dict[str, Any]], read: tuple[str, ...] = ()) -> Done:
    """Return what is done after some calls."""
    done = Done([("get", ("id",)), ("find", ())])
    for tool, arguments in calls:
        done.note(tool, arguments, read)
    return done


def test_a_call_waits_for_what_it_needs() -> None:
    """A needed tool must have succeeded for the same arguments; the refusal says which to call."""
    arguments = {"id": 7, "tier": "gold"}
    for done in (
        done_with(),
        done_with(("find", {})),
        done_with(("find", {}), ("get", {"id": 8})),
        done_with(("find", {}), ("get", {"id": "7"})),
    ):
        refusal = refuse_order(RULES, arguments, {}, done)
        assert refusal is not None
        assert refusal.rule == "sequencing.needs"
        assert refusal.facts == {"needs": "get", "arguments": {"id": 7}}
        assert "set_tier needs get" in refusal.message
        assert "id=7" in refusal.message
        assert refusal.next.startswith("Call get for id=7")

    refusal = refuse_order(RULES, arguments, {}, done_with(("get", {"id": 7, "other": 1})))
    assert refusal is not None
    assert refusal.facts == {"needs": "find", "arguments": {}}
    both = done_with(("get", {"id": 7}), ("find", {"anything": 1}))
    assert refuse_order(RULES, arguments, {}, both) is None


def test_a_write_waits_for_a_read_of_what_it_writes() -> None:
    """A resource that some tool reads is read before it is written; the refusal says with what."""
    rules = CallRules("set_tier")
    unread = {"crm/7": ("get", "find")}
    refusal = refuse_order(rules, {}, unread, done_with(("get", {}), read=("crm/70",)))
    assert refusal is not None
    assert refusal.rule == "sequencing.read_first"
    assert refusal.facts == {"key": "crm/7", "readers": ["get", "find"]}
    assert "set_tier writes crm/7" in refusal.message
    assert refusal.next.startswith("Read it with get or find")

    assert refuse_order(rules, {}, unread, done_with(("get", {}), read=("crm",))) is None
    assert refuse_order(rules, {}, {}, done_with()) is None
    blind = CallRules("set_tier", read_first=False)
    assert refuse_order(blind, {}, unread, done_with()) is None


def test_every_resource_that_is_written_is_read_first() -> None:
    """Of several resources the first that was not read is named."""
    unread = {"crm/7": ("get",), "crm/8": ("get",)}
    done = done_with(("get", {}), read=("crm/7",))
    refusal = refuse_order(CallRules("merge"), {}, unread, done)
    assert refusal is not None
    assert refusal.facts["key"] == "crm/8"


def test_a_refusal_does_not_repeat_long_arguments() -> None:
    """What a model reads back is short, however long what it wrote."""
    rules = CallRules("send", needs=("get",), shared=(("text",),))
    refusal = refuse_order(rules, {"text": "x" * 100_000}, {}, Done([("get", ("text",))]))
    assert refusal is not None
    assert len(refusal.message) + len(refusal.next) < 500
