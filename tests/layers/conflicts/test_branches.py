"""Of two branches of a turn, one writes to a resource, unless it was handed over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.conflicts.branches import Branches
from undercroft.layers.conflicts.keys import overlap, within

BRANCHES = ["", "left", "right", "left/in"]
PLAIN = ["", "a", "a/1", "a/1/x", "a/2", "b", "b/1"]
WILD = ["a/*", "*/1", "*/*/x"]
# Whatever is claimed, it is some of these.
LEAVES = ["/".join(parts) for parts in product("abc", "123", "xy")]

Op = tuple[str, str, str, str]


def ops(keys: Sequence[str]) -> st.SearchStrategy[list[Op]]:
    """Return what branches may do: write, hand over, close."""
    branch = st.sampled_from(BRANCHES)
    what = st.sampled_from(["write", "write", "hand", "close"])
    return st.lists(st.tuples(what, st.sampled_from(keys), branch, branch), max_size=25)


class Model:
    """Who owns each leaf."""

    def __init__(self) -> None:
        self.owner: dict[str, str] = {}

    def foreign(self, key: str, branch: str) -> set[str]:
        """Return the other branches that own some of `key`."""
        return {
            owner for leaf, owner in self.owner.items() if within(leaf, key) and owner != branch
        }

    def own(self, key: str, branch: str) -> None:
        """Make `branch` the owner of all of `key`."""
        self.owner |= {leaf: branch for leaf in LEAVES if within(leaf, key)}

    def close(self, branch: str, heir: str) -> None:
        """Give all that a branch owns to its heir."""
        self.owner = {k: heir if owner == branch else owner for k, owner in self.owner.items()}


def check(done: Sequence[Op], keys: Sequence[str], *, parts: bool) -> None:
    """Compare what branches may do with the model; `parts`: also hand over parts of what is owned.

    As the engine does, a branch writes only where nobody else owns anything.
    """
    branches, model = Branches(), Model()
    owned: set[str] = set()
    for what, key, one, other in done:
        if what == "close":
            if one != other:
                branches.close(one, other)
                model.close(one, other)
        elif what == "write":
            found = branches.foreign(key, one)
            expected = model.foreign(key, one)
            if found is None:
                assert not expected
                branches.own(key, one)
                model.own(key, one)
                owned.add(key)
            else:
                path, owner = found
                assert owner in expected
                assert overlap(path, key)
        elif parts or not any(overlap(key, k) and not within(k, key) for k in owned):
            in_the_way = model.foreign(key, one)
            third = branches.hand_over(key, one, other)
            if third is None:
                assert not in_the_way
                model.own(key, other)
                owned.add(key)
            else:
                assert third in in_the_way
        for at, branch in product(keys, BRANCHES):
            assert (branches.foreign(at, branch) is None) == (not model.foreign(at, branch))


@given(done=ops(PLAIN))
def test_a_resource_has_one_writer(done: list[Op]) -> None:
    """Whoever writes first owns it, with all that lies in it; others may not touch it."""
    check(done, PLAIN, parts=False)


@given(done=ops(PLAIN + WILD))
def test_a_resource_has_one_writer_with_stars(done: list[Op]) -> None:
    """That holds for keys with a `*` as well."""
    check(done, PLAIN + WILD, parts=False)


@given(done=ops(PLAIN))
def test_a_part_may_be_handed_over(done: list[Op]) -> None:
    """What was handed over belongs to the taker, though the giver keeps what it lies in."""
    check(done, PLAIN, parts=True)


@given(done=ops(PLAIN + WILD))
def test_a_part_may_be_handed_over_with_stars(done: list[Op]) -> None:
    """That holds for keys with a `*` as well."""
    check(done, PLAIN + WILD, parts=True)


def test_a_taker_may_write_what_it_was_given() -> None:
    """The turn owns an account, hands its notes to a branch, and the branch may write them."""
    branches = Branches()
    branches.own("crm/7", "")
    assert branches.hand_over("crm/7/notes", "", "helper") is None
    assert branches.foreign("crm/7/notes", "helper") is None
    assert branches.foreign("crm/7/notes", "") == ("crm/7/notes", "helper")
    assert branches.foreign("crm/7/mails", "") is None


def test_a_star_elsewhere_takes_nothing_back() -> None:
    """A taker may write what it was given, whatever is owned elsewhere under a `*`."""
    branches = Branches()
    branches.own("mail/*", "")
    branches.own("crm/7", "")
    assert branches.hand_over("crm/7/notes", "", "helper") is None
    assert branches.foreign("crm/7/notes", "helper") is None


def test_only_the_owner_hands_over() -> None:
    """What a third branch owns is not for others to give away, nor is what it lies in."""
    branches = Branches()
    branches.own("a/1", "left")
    assert branches.hand_over("a", "right", "") == "left"
    assert branches.hand_over("a/1/x", "right", "") == "left"
    assert branches.foreign("a", "left") is None
    assert branches.hand_over("a", "left", "right") is None
    assert branches.foreign("a/1", "left") == ("a/1", "right") or branches.foreign(
        "a/1", "left"
    ) == ("a", "right")


def test_what_nobody_wrote_may_be_handed_over() -> None:
    """A resource can be promised to a branch before anybody writes to it."""
    branches = Branches()
    assert branches.hand_over("a", "", "left") is None
    assert branches.foreign("a/1", "") == ("a", "left")


def test_a_branch_that_closes_leaves_all_to_its_heir() -> None:
    """Nothing is without an owner because a branch closed."""
    branches = Branches()
    branches.own("a", "left/in")
    branches.own("b", "right")
    branches.close("left/in", "left")
    assert branches.foreign("a", "left") is None
    assert branches.foreign("a", "left/in") == ("a", "left")
    assert branches.foreign("b", "left") == ("b", "right")
