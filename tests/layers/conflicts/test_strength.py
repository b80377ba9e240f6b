"""Each written resource says how a lapsed owner is kept from it, and never more than is so."""

from __future__ import annotations

from typing import Any

import pytest

from undercroft.layers.conflicts.policy import declare
from undercroft.layers.conflicts.resource import Resource, Resources
from undercroft.layers.conflicts.strength import ResourceRow, Strengths, Use
from undercroft.model.effect import Mode, Strength


def use(name: str, *, fenced: bool = False, versioned: bool = False, **modes: Any) -> Use:
    """Return a tool with these keys."""
    by_mode = {Mode(mode.removesuffix("s")): keys for mode, keys in modes.items()}
    return Use(name, declare(by_mode, pure=False), fenced, versioned)


def test_strength_is_worked_out_from_those_who_use_it() -> None:
    """By fence, else by version, else not at all."""
    known = Strengths(
        [
            use("set", fenced=True, writes="crm/{id}"),
            use("get", versioned=True, reads="bill/{id}"),
            use("look", reads="mail/{id}"),
            use("pay", writes="bill/{no}/paid"),
            use("send", writes="mail/{id}", appends="log"),
        ]
    )
    assert known.rows == (
        ResourceRow("crm/{id}", ("set",), Strength.CHECKED),
        ResourceRow("bill/{no}/paid", ("pay",), Strength.VERSION),
        ResourceRow("mail/{id}", ("send",), Strength.ADVISORY),
    )
    assert known("crm/7") is Strength.CHECKED
    assert known("bill/7/paid") is Strength.VERSION
    assert known("mail/7") is Strength.ADVISORY
    assert known("other") is Strength.ADVISORY


def test_the_weakest_writer_decides() -> None:
    """A resource that one tool writes without its fence does not check it."""
    known = Strengths(
        [use("a", fenced=True, writes="crm/{id}"), use("b", writes=["crm/{x}", "crm/{x}/y"])]
    )
    assert known.rows[0] == ResourceRow("crm/{id}", ("a", "b"), Strength.ADVISORY)
    assert known("crm/7") is Strength.ADVISORY
    known = Strengths(
        [use("a", fenced=True, writes="crm/{id}"), use("b", writes=lambda id: f"x/{id}")]  # noqa: A006  a parameter
    )
    assert known("crm/7") is Strength.ADVISORY


def test_what_is_read_in_part_has_no_version() -> None:
    """The version of a part says nothing of the whole; that of the whole says all of a part."""
    part = use("get", versioned=True, reads="crm/{id}/notes")
    assert Strengths([part, use("set", writes="crm/{id}")])("crm/7") is Strength.ADVISORY
    whole = use("get", versioned=True, reads="crm/{id}")
    assert Strengths([whole, use("set", writes="crm/{id}/notes")]).rows[0].strength == "version"


@pytest.mark.parametrize("key", ["crm", "crm/7", ""])
def test_a_prefix_is_as_strong_as_what_lies_in_it(key: str) -> None:
    """While not all of a key is known the same holds for what is."""
    known = Strengths([use("set", fenced=True, writes="crm/{id}/{part}")])
    assert known(key) is (Strength.CHECKED if key else Strength.ADVISORY)


def test_what_is_declared_counts() -> None:
    """A resource that says how strong it is, is that strong; a delay says how long."""
    resources = Resources(
        (Resource("crm/{id}", fence="delay", delay_s=5), Resource("bill/{id}", fence="version"))
    )
    known = Strengths(
        [use("set", fenced=True, writes=["crm/{x}", "crm/{x}/y", "mail/{x}"])], resources
    )
    assert known.rows == (
        ResourceRow("crm/{x}", ("set",), Strength.DELAY, 5),
        ResourceRow("crm/{x}/y", ("set",), Strength.DELAY, 5),
        ResourceRow("mail/{x}", ("set",), Strength.CHECKED),
    )
    assert (known("crm/7"), known("mail/7"), known("bill/1")) == ("delay", "checked", "version")
