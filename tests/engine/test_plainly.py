"""Functions as people write them, called by name as models do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import undercroft as uc
from undercroft.engine import plainly
from undercroft.engine.plainly import by_name
from undercroft.testing import run_virtual


def ran(fn: Any, **arguments: Any) -> uc.Result:
    """Return what comes of one call of a plain function under a guard."""

    async def main() -> uc.Result:
        guarded = uc.guard([fn])
        [result] = await guarded.calls([uc.Call(fn.__name__, arguments)])
        return result

    return run_virtual(main())


def schema(fn: Any) -> dict[str, Any]:
    """Return what a model is told of the arguments of a plain function."""
    [spec] = uc.guard([fn]).tools
    return spec.parameters


def positional(a: int, b: str = "b", /, c: int = 3, *, d: int = 4) -> list[Any]:  # noqa: D103  without a docstring, as many are
    return [a, b, c, d]


def variadic(a: int, *rest: int, **more: str) -> list[Any]:  # noqa: D103  likewise
    return [a, rest, more]


def test_positional_only_and_variadic_parameters_have_names_like_any() -> None:
    """`*args` is a list and `**kwargs` an object, under their own names; without a docstring."""
    assert ran(positional, a=1).value == [1, "b", 3, 4]
    assert ran(positional, a=1, b="x", c=5, d=6).value == [1, "x", 5, 6]
    assert ran(variadic, a=1).value == [1, [], {}]
    assert ran(variadic, a=1, rest=[2, 3], more={"x": "y"}).value == [1, [2, 3], {"x": "y"}]
    assert schema(variadic)["required"] == ["a"]
    assert schema(variadic)["properties"]["rest"]["items"] == {"type": "integer"}
    refused = ran(variadic, a=1, more={"x": 3})
    assert refused.refusal is not None
    assert "more.x" in refused.refusal.message


def test_what_is_yielded_is_a_list() -> None:
    """Also of an async generator."""

    def numbers(upto: int) -> Iterator[int]:
        yield from range(upto)

    async def slowly(upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            await asyncio.sleep(1)
            yield number

    assert ran(numbers, upto=3).value == [0, 1, 2]
    assert ran(slowly, upto=3).value == [0, 1, 2]


def test_a_generator_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not all of the memory."""
    monkeypatch.setattr(plainly, "YIELDS_MAX", 100)

    def endless() -> Iterator[int]:
        while True:
            yield 1

    result = ran(endless)
    assert result.error is not None
    assert "yielded more than 100 times" in result.error.message


def test_an_error_that_is_returned_is_an_error() -> None:
    """Some hand it back where others raise it."""

    def careful() -> object:
        return ValueError("no such account")

    async def later() -> object:
        return ValueError("no such account")

    for fn in (careful, later):
        assert str(ran(fn).error) == "ValueError: no such account"


def test_what_is_no_data_is_an_error_that_says_so() -> None:
    """Such as an image object; bytes are data."""

    class Image:
        """No data."""

    def draw() -> object:
        return Image()

    def read() -> bytes:
        return b"\x89PNG"

    assert "Image is not data" in str(ran(draw).error)
    assert ran(read).value == b"\x89PNG"
    assert ran(read).text  # a model reads text


def test_methods_and_objects_that_can_be_called() -> None:
    """A bound method is its function without self; an object has a name only if it says so."""

    class Shop:
        """Sells."""

        async def sell(self, what: str) -> str:
            """Sell it."""
            return f"sold {what}"

        def __call__(self, what: str) -> str:
            return what

    shop = Shop()
    assert ran(shop.sell, what="it").value == "sold it"
    with pytest.raises(uc.DeclarationError, match="it has no name"):
        uc.guard([shop])
    with pytest.raises(uc.DeclarationError, match="it is no tool"):
        uc.guard([Shop])


def test_a_plain_function_stays_one() -> None:
    """Its name, its docstring and its types are what a model is told."""

    def add(a: int, b: int = 2) -> int:
        """Add up."""
        return a + b

    made = by_name(add)
    assert made(1) == 3
    assert made.__doc__ == "Add up."
    [spec] = uc.guard([add]).tools
    assert (spec.name, spec.description) == ("add", "Add up.")
    assert spec.parameters["properties"]["b"] == {"default": 2, "type": "integer"}
