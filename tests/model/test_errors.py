"""Every error says where, what and the mend; its facts are fields; it survives pickling."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re
from typing import Any

import pytest

from undercroft import errors
from undercroft.errors import StoreError, UndercroftError

TREE: list[type[UndercroftError]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, UndercroftError)
]


FOR_PROGRAMS = {"step", "rule", "status", "code", "retry_after_s", "retry_in_s", "text"}
# Told in the problem, by whoever raises it.
FOR_PROGRAMS |= {"tokens", "limit_tokens", "reserved_tokens"}


def made(kind: type[UndercroftError]) -> UndercroftError:
    """Return an error whose facts are the names of its parameters, as text."""
    if kind.__init__ is Exception.__init__:
        return kind("what happened")
    names = list(inspect.signature(kind).parameters)
    values: list[Any] = [("one", "two") if name == "steps" else f"the {name}" for name in names]
    return kind(*values)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_says_where_what_and_how_to_mend_it(kind: type[UndercroftError]) -> None:
    """The text of an error holds all that a person needs, and each fact is a field."""
    error = made(kind)
    facts = {name: value for name, value in vars(error).items() if isinstance(value, str)}
    if not facts:
        assert str(error) == "what happened"
        return
    for name, value in facts.items():
        assert getattr(error, name) == value
        # Some are for programs only: their problem says the same in words.
        assert value in str(error) or name in FOR_PROGRAMS
    assert len(facts) >= 3
    if hasattr(error, "mend"):
        assert str(error).endswith("the mend")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[UndercroftError]) -> None:
    """Errors cross processes, such as a pool of workers, with their facts."""
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(again) is kind
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)


def test_the_tree_is_drawn_as_it_is() -> None:
    """The docstring shows every error, below the one that it is a kind of."""
    drawn: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ │├└─]*)([A-Z]\w*Error)\b", line):
            depth, name = len(found[1]), found[2]
            while stack and stack[-1][0] >= depth:
                stack.pop()
            drawn[name] = stack[-1][1] if stack else ""
            stack.append((depth, name))
    assert drawn == {
        kind.__name__: "" if kind is UndercroftError else bases(kind)[0] for kind in TREE
    }


def bases(kind: type) -> list[str]:
    """Return the names of our own errors that `kind` is derived from."""
    return [base.__name__ for base in kind.__mro__[1:] if issubclass(base, UndercroftError)]


def test_no_standard_name_is_reused() -> None:
    """Whoever catches `TimeoutError` never has to ask which."""
    assert not [kind.__name__ for kind in TREE if hasattr(builtins, kind.__name__)]


@pytest.mark.parametrize("kind", [k for k in TREE if issubclass(k, StoreError)])
def test_a_store_error_names_its_file(kind: type[StoreError]) -> None:
    """Whatever is wrong with a journal, its path is in the error."""
    error = kind("folder/x.db", "it is full", "Make room.")
    assert error.path == "folder/x.db"
    assert str(error) == "Journal folder/x.db: it is full. Make room."
