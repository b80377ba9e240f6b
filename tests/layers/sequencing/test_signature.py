"""What a function asks for is read from its signature, or its declaration is wrong."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

from undercroft.errors import DeclarationError
from undercroft.layers.sequencing.signature import Parameter, plain, read_signature, refuse_reserved
from undercroft.model.inject import Deadline, Fence, IdempotencyKey, TurnInfo

if TYPE_CHECKING:
    from somewhere import Missing  # type: ignore[import-not-found]


def read(fn: Callable[..., Any], **names: Any) -> Any:
    """Return the signature of a tool."""
    return read_signature(fn, "tool 'work'", names)


async def everything(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917  the point
    plain_: int,
    untyped,  # noqa: ANN001  what a user may leave out
    noted: Annotated[str, "a note"],
    key: IdempotencyKey,
    noted_key: Annotated[IdempotencyKey, "a note"],
    maybe_key: IdempotencyKey | None = None,
    old_key: Optional[Fence] = None,  # noqa: UP045  as somebody else may write it
    limit: int = 50,
    *,
    fence: Fence,
    deadline: Deadline,
    info: TurnInfo,
    named: list[int] | None = None,
) -> dict[str, int]:
    """Do everything at once."""
    raise NotImplementedError


def test_a_signature_is_read_as_it_is_written() -> None:
    """Parameters keep their order, types and defaults; annotations may be text."""
    signature = read(everything)
    assert [(p.name, p.required) for p in signature.parameters] == [
        ("plain_", True),
        ("untyped", True),
        ("noted", True),
        ("limit", False),
        ("named", False),
    ]
    assert signature.parameter("plain_") == Parameter(
        "plain_", int, signature.parameters[0].default
    )
    assert signature.parameter("untyped").annotation is Any
    assert plain(signature.parameter("noted").annotation) is str
    assert signature.parameter("limit").default == 50
    assert signature.parameter("named").annotation == list[int] | None
    assert signature.parameter("nobody") is None
    assert signature.returns == dict[str, int]
    assert signature.is_async


def test_what_the_runtime_fills_in_is_hidden() -> None:
    """Injected parameters are known by their type, also noted ones and those that may be None."""
    assert read(everything).injected == {
        "key": IdempotencyKey,
        "noted_key": IdempotencyKey,
        "maybe_key": IdempotencyKey,
        "old_key": Fence,
        "fence": Fence,
        "deadline": Deadline,
        "info": TurnInfo,
    }


def test_a_sync_function_is_told_apart() -> None:
    """Whether a function is async is known, and what it returns without an annotation is Any."""

    def work(n: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  what a user may leave out
        return n

    signature = read(work)
    assert not signature.is_async
    assert signature.returns is Any


def test_no_parameters_and_no_value_is_a_signature_too() -> None:
    """A function may ask for nothing and return nothing."""

    async def work() -> None:
        return

    signature = read(work)
    assert signature.parameters == ()
    assert signature.returns is type(None)


def test_annotations_may_name_what_is_local() -> None:
    """Types that are defined beside the function can be named, if they are handed over."""

    class Local:
        pass

    async def work(thing: Local, things: list[Local]) -> Local:
        return thing

    signature = read(work, Local=Local)
    assert signature.parameter("thing").annotation is Local
    assert signature.parameter("things").annotation == list[Local]
    assert signature.returns is Local


def test_leading_parameters_can_be_left_out() -> None:
    """The turn of a handler is not the caller's to give."""

    async def assist(turn: Any, message: str) -> str:
        return message

    signature = read_signature(assist, "handler 'assist'", {}, skip=1)
    assert [p.name for p in signature.parameters] == ["message"]


def test_a_wrapped_function_is_read_through() -> None:
    """A decorator that keeps the signature does not hide it."""

    async def work(n: int, key: IdempotencyKey) -> str:
        return str(n)

    @functools.wraps(work)
    async def wrapped(*args: Any, **kwargs: Any) -> str:
        return await work(*args, **kwargs)

    signature = read(wrapped)
    assert [p.name for p in signature.parameters] == ["n"]
    assert set(signature.injected) == {"key"}


@pytest.mark.parametrize("name", ["session", "timeout_s"])
def test_an_input_is_not_called_like_a_keyword_of_run(name: str) -> None:
    """A name that `run` takes for itself is refused where the input is declared."""
    refuse_reserved("workflow 'w'", ["email", "sessions", "timeout"])
    with pytest.raises(DeclarationError, match=f"workflow 'w': input '{name}' is also a keyword"):
        refuse_reserved("workflow 'w'", ["email", name])


def generator(n: int) -> Iterator[int]:
    """Yield instead of returning."""
    yield n


async def async_generator(n: int) -> AsyncIterator[int]:
    """Yield instead of returning."""
    yield n


def positional(n: int, /, m: int) -> None:
    """Take a parameter that has no name for the caller."""


def variadic(*numbers: int) -> None:
    """Take any number of arguments."""


def named_variadic(**numbers: int) -> None:
    """Take any arguments by name."""


def missing(thing: Missing) -> None:
    """Name a type that is there for type checkers only."""


def misspelt(thing: functools.Misssing) -> None:  # type: ignore[name-defined]
    """Name a type that its module does not have."""


def unreadable(thing: "1 +") -> None:  # type: ignore[valid-type]  # noqa: F722
    """Have a note for an annotation."""


@pytest.mark.parametrize(
    ("fn", "problem", "mend"),
    [
        (generator, "it is a generator", "Return a list instead of yielding."),
        (async_generator, "it is a generator", "Return a list instead of yielding."),
        (positional, "parameter n: int cannot be filled in by name", "a name and a type"),
        (variadic, "parameter *numbers: int cannot be filled in by name", "a name and a type"),
        (named_variadic, "parameter **numbers: int cannot be", "a name and a type"),
        (missing, "its annotations name 'Missing', which is not defined here", "TYPE_CHECKING"),
        (misspelt, "its annotations name 'Misssing', which is not", "module level"),
        (unreadable, "its annotations cannot be read", "Annotate it with types"),
    ],
)
def test_what_cannot_be_filled_in_is_a_wrong_declaration(
    fn: Callable[..., Any], problem: str, mend: str
) -> None:
    """A function that cannot be called by name, or not be understood, names its place and mend."""
    with pytest.raises(DeclarationError) as caught:
        read(fn)
    error = caught.value
    assert error.place == "tool 'work'"
    assert problem.replace("'", "") in error.problem.replace("'", "")
    assert mend in error.mend
