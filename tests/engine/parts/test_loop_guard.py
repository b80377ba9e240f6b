"""A loop guard by itself: a circle is refused before it is gone round once more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from undercroft.engine.parts.loop_guard import LoopGuard
from undercroft.errors import DeclarationError, LoopError, SettingError
from undercroft.layers.breakers.policy import LoopPolicy


class Query(BaseModel):
    """Arguments that are a model."""

    words: str


@dataclass
class Page:
    """Arguments that are a dataclass."""

    number: int


class Client:
    """What is no data."""


class Recursive(list[Any]):
    """Data that holds itself."""


async def call(guard: LoopGuard, arguments: dict[str, Any], **options: Any) -> None:
    """Make one call that comes to nothing."""
    async with guard.call("get", arguments, **options):
        pass


async def test_the_same_call_is_refused() -> None:
    """A decorated function runs as often as allowed with the same arguments; then it says why."""
    guard, ran = LoopGuard(), 0

    @guard
    async def search(words: str, limit: int = 10) -> list[str]:
        """Find."""
        nonlocal ran
        ran += 1
        return [words] * limit

    assert search.__doc__ == "Find."
    assert await search("a", 2) == ["a", "a"]
    assert await search("a", limit=2) == ["a", "a"]
    assert await search(limit=2, words="a") == ["a", "a"]
    with pytest.raises(LoopError) as caught:
        await search("a", 2)
    assert ran == 3
    assert "search" in caught.value.service
    assert "3 times with the same arguments and came to 'ok' each time" in caught.value.problem
    assert "other arguments" in caught.value.mend
    assert await search("a") == ["a"] * 10, "another limit is another call"
    with pytest.raises(TypeError):
        await search()  # type: ignore[call-arg]


async def test_a_change_lets_the_same_be_read_again() -> None:
    """After a change that was not made before, everything may be asked again."""
    guard = LoopGuard()

    @guard
    async def read(key: str) -> str:
        return key

    @guard(changes=True, name="crm.write")
    async def write(key: str, value: int) -> None:
        if value < 0:
            msg = "less than nothing"
            raise ValueError(msg)

    for value in range(20):
        await read("7")
        await write("7", value)
    for _ in range(3):
        await read("7")
    with pytest.raises(ValueError, match="less"):
        await write("7", -1)
    with pytest.raises(LoopError):
        await read("7")
    for _ in range(3):
        await write("7", 1)
    with pytest.raises(LoopError, match=r"^crm\.write: "):
        await write("7", 1)


async def test_polling_may_go_on() -> None:
    """What is declared to poll is never refused."""
    guard = LoopGuard()

    @guard(polls=True)
    async def status() -> str:
        return "busy"

    for _ in range(100):
        assert await status() == "busy"


async def test_errors_are_classes_of_results() -> None:
    """A call that fails in the same way again and again is refused; another way counts anew."""
    guard, errors = LoopGuard(), [KeyError(1), ValueError(), KeyError(2), ValueError(), KeyError(3)]

    async def attempt(error: Exception) -> None:
        async with guard.call("get", {"id": 7}):
            raise error

    for error in errors:
        with pytest.raises(type(error)):
            await attempt(error)
    with pytest.raises(LoopError, match="KeyError"):
        await attempt(ValueError())


async def test_a_cancelled_call_does_not_count() -> None:
    """Nobody knows what a call that was cut off would have come to."""
    guard = LoopGuard()

    async def slow() -> None:
        async with guard.call("get"):
            await asyncio.sleep(60)

    for _ in range(10):
        task = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await call(guard, {})


async def test_calls_at_the_same_time_count_each() -> None:
    """Of ten identical calls at once as many run as allowed."""
    guard = LoopGuard()

    @guard
    async def get() -> int:
        await asyncio.sleep(0)
        return 7

    results = await asyncio.gather(*[get() for _ in range(10)], return_exceptions=True)
    assert [type(result) for result in results].count(LoopError) == 7


@pytest.mark.parametrize(
    "same",
    [
        lambda: {"b": 1, "a": {"d": 2, "c": [3]}},
        lambda: dict(reversed({"b": 1, "a": {"d": 2, "c": [3]}}.items())),
        lambda: {"q": Query(words="a"), "p": Page(2)},
        lambda: {"at": datetime(2030, 1, 1, tzinfo=UTC), "raw": b"x", "none": float("nan")},
        lambda: {"set": {str(number) for number in range(50)}},
        lambda: {"huge": 10**40, "deep": [[[10**40]]]},
        lambda: {1: "one", ("a", 2): 10**40},
    ],
)
async def test_what_says_the_same_is_the_same(same: Any) -> None:
    """Data is compared by what it says, in whatever objects it stands."""
    guard = LoopGuard()
    for _ in range(3):
        await call(guard, same())
    with pytest.raises(LoopError):
        await call(guard, same())


async def test_other_objects_are_not_the_same() -> None:
    """What is no data is itself and no other, also when its place in memory is used again."""
    guard, client = LoopGuard(), Client()
    for number in range(1_000):
        await call(guard, {"client": Client(), "n": 1})
        await call(guard, {"client": [Client()], "n": 1})
        await call(guard, {"client": {"deep": Client()}, "n": number % 2})
    for _ in range(3):
        await call(guard, {"client": client, "n": 1})
    with pytest.raises(LoopError):
        await call(guard, {"client": client, "n": 1})


async def test_whatever_is_given_is_compared() -> None:
    """Arguments that hold themselves, and results that are no data, do no harm."""
    guard, recursive = LoopGuard(), Recursive()
    recursive.append(recursive)
    for _ in range(3):
        async with guard.call("get", {"it": recursive}) as made:
            made.result = object()
    with pytest.raises(LoopError):
        await call(guard, {"it": recursive})


async def test_answers_that_lead_to_nothing_are_told() -> None:
    """A model that goes round over many calls is told after so many answers, and then ended."""
    guard = LoopGuard(LoopPolicy(stale_steps_max=4, redirects_max=1))
    for _ in range(5):
        guard.step()
        guard.said("Let me think.")
    with pytest.raises(LoopError, match="last 4 answers of the model led to nothing new") as caught:
        guard.step()
    assert caught.value.service == "the model"
    assert not guard.over
    assert guard.redirects == 1
    async with guard.call("get") as made:
        made.result = "something new"
    guard.step()
    for _ in range(3):
        guard.said("Let me think.")
        guard.step()
    guard.said("Let me think.")
    with pytest.raises(LoopError, match="ends here"):
        guard.step()
    assert guard.over
    guard.progress()
    assert not guard.over
    guard.step()


async def test_each_conversation_begins_anew() -> None:
    """After a reset nothing is known, and of two guards none knows of the other."""
    guard, other = LoopGuard(LoopPolicy(repeats_max=1, redirects_max=0)), LoopGuard()
    await call(guard, {})
    await call(other, {})
    with pytest.raises(LoopError):
        await call(guard, {})
    assert guard.over
    guard.reset()
    assert not guard.over
    await call(guard, {})


async def test_an_error_without_a_text_is_an_error() -> None:
    """An error whose text cannot be read is passed on as it is."""

    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    guard = LoopGuard()
    with pytest.raises(SpeechlessError):
        async with guard.call("get"):
            raise SpeechlessError


@pytest.mark.parametrize("fn", [len, lambda: None, 7])
def test_a_guard_is_for_async_functions(fn: Any) -> None:
    """What cannot be awaited is refused where it is decorated."""
    with pytest.raises(DeclarationError, match="async"):
        LoopGuard()(fn)


def test_a_guard_has_a_policy() -> None:
    """What is no policy fails where it is given."""
    with pytest.raises(SettingError, match="policy"):
        LoopGuard(3)  # type: ignore[arg-type]


async def test_an_object_that_is_called_like_an_async_function_is_one() -> None:
    """Whatever is awaited when it is called can be decorated."""

    class Tool:
        async def __call__(self, number: int) -> int:
            return 2 * number

    work = LoopGuard(LoopPolicy(repeats_max=1))(Tool())
    assert await work(4) == 8
