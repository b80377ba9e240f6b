"""Turns that end in odd ways: the next one of the session reads the same in every process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    HANGS,
    Talk,
    apart,
    assert_same,
    change,
    check_crashes,
    look,
    order_tools,
    whole,
)
from undercroft.layers.context.policy import ContextPolicy

ROOM = ContextPolicy(limit_tokens=4000, reserved_tokens=100, result_max_share=0.2)

Going = Callable[[uc.Turn, str], Awaitable[str]]
ODD: dict[str, Going] = {}


def odd(fn: Going) -> Going:
    """Have a turn go like this whose message begins with the name of the function."""
    ODD[fn.__name__] = fn
    return fn


@odd
async def forgets(turn: uc.Turn, message: str) -> str:
    """Propose calls that nobody makes."""
    turn.context.user(message)
    await turn.model()
    return "forgotten"


@odd
async def forgets_and_asks(turn: uc.Turn, message: str) -> str:
    """Ask again while calls are open."""
    turn.context.user(message)
    await turn.model()
    turn.context.user("rest of it")
    return (await turn.model()).text


@odd
async def makes_some(turn: uc.Turn, message: str) -> str:
    """Make one call of two, and end."""
    turn.context.user(message)
    answer = await turn.model()
    await turn.calls(answer.calls[1:])
    return "some"


@odd
async def ends(turn: uc.Turn, message: str) -> str:
    """Make the calls, and end."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls)
    return "done"


@odd
async def one_by_one(turn: uc.Turn, message: str) -> str:
    """Make one call after the other, and end."""
    turn.context.user(message)
    for call in (await turn.model()).calls:
        await turn.calls([call])
    return "done"


@odd
async def backwards(turn: uc.Turn, message: str) -> str:
    """Make the calls in another order, and end."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls[::-1])
    return "done"


@odd
async def edits(turn: uc.Turn, message: str) -> str:
    """Make the calls with other arguments than were proposed, and end."""
    turn.context.user(message)
    answer = await turn.model()
    await turn.calls([uc.Call(c.name, {"order": "#B7"}, c.id) for c in answer.calls])
    return "done"


@odd
async def of_its_own(turn: uc.Turn, message: str) -> str:
    """Make calls that the model did not propose, before and after it is asked."""
    turn.context.user(message)
    await turn.calls([look("#C1")])
    await turn.model()
    await turn.calls([look("#C2"), change("#C2", "late")])
    return "done"


@odd
async def fails_first(turn: uc.Turn, message: str) -> str:
    """Fail before the model is asked."""
    turn.context.user(message)
    raise ValueError("no")


@odd
async def fails_last(turn: uc.Turn, message: str) -> str:
    """Fail after calls."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls)
    raise ValueError("no")


@odd
async def never_asks(turn: uc.Turn, message: str) -> str:
    """Answer without a model."""
    turn.context.user(message)
    turn.context.assistant("By rule: no.")
    return "By rule: no."


@odd
async def says_more(turn: uc.Turn, message: str) -> str:
    """Add something to the conversation after the last prompt."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls)
    turn.context.assistant("I have looked at #A1002 for you.")
    return "done"


@odd
async def pins_late(turn: uc.Turn, message: str) -> str:
    """Pin something after the last prompt."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls)
    turn.context.pin("Ada is a customer of ten years.")
    return "done"


@odd
async def at_once(turn: uc.Turn, message: str) -> str:
    """Run two batches side by side, of which the second ends first, and end."""
    turn.context.user(message)
    first, second = (await turn.model()).calls
    await asyncio.gather(turn.calls([first]), turn.calls([second]))
    return "done"


@odd
async def cut_short(turn: uc.Turn, message: str) -> str:
    """Stop waiting for calls of which one has ended."""
    turn.context.user(message)
    answer = await turn.model()
    with_limit = asyncio.wait_for(turn.calls(answer.calls), 0.05)
    try:
        await with_limit
    except TimeoutError:
        return "too slow"
    return "done"


@odd
async def misses_model(turn: uc.Turn, message: str) -> str:
    """Go on where the model does not answer."""
    turn.context.user(message)
    try:
        await turn.model()
    except uc.ModelError as error:
        turn.context.user(f"It said nothing ({len(str(error)) > 0}).")
    return (await turn.model()).text


@odd
async def model_fails(turn: uc.Turn, message: str) -> str:
    """Fail since the model does not answer."""
    turn.context.user(message)
    return (await turn.model()).text


@odd
async def cuts_model_off(turn: uc.Turn, message: str) -> str:
    """Stop waiting for the model, and say so to it."""
    turn.context.user(message)
    try:
        await asyncio.wait_for(turn.model(), 0.01)
    except TimeoutError:
        turn.context.user("It is too slow.")
    return (await turn.model()).text


@odd
async def calls_beside(turn: uc.Turn, message: str) -> str:
    """Ask again while the calls are under way."""
    turn.context.user(message)
    answer = await turn.model()
    calls = asyncio.ensure_future(turn.calls(answer.calls))
    await asyncio.sleep(0)
    turn.context.user("rest of it")
    text = (await turn.model()).text
    await calls
    return text


@odd
async def asks_twice_at_once(turn: uc.Turn, message: str) -> str:
    """Take the first of two answers that there is, and go on with its calls."""
    turn.context.user(message)
    first, second = await asyncio.gather(turn.model(), turn.model())
    await turn.calls((second.calls or first.calls)[:1])
    turn.context.user("rest of it")
    return (await turn.model()).text


@odd
async def makes_calls_twice(turn: uc.Turn, message: str) -> str:
    """Make the very same calls once more."""
    turn.context.user(message)
    answer = await turn.model()
    await turn.calls(answer.calls)
    await turn.calls(answer.calls)
    return (await turn.model()).text


@odd
async def results_come_late(turn: uc.Turn, message: str) -> str:
    """Say something between the calls and their results."""
    turn.context.user(message)
    answer = await turn.model()
    turn.context.user("rest of it, meanwhile")
    await turn.calls(answer.calls)
    return (await turn.model()).text


# What turns left behind, the newest last.
BEHIND: list[uc.Turn] = []


@odd
async def outlives(turn: uc.Turn, message: str) -> str:
    """Leave code behind that goes on talking when the next turn runs."""
    for old in BEHIND:
        with contextlib.suppress(uc.UndercroftError):
            old.context.user("Is it too late to say this?")
            old.context.pin("And this?")
    BEHIND[:] = [turn]
    turn.context.user(message)
    return (await turn.model()).text


@odd
async def cannot_be_written(turn: uc.Turn, message: str) -> str:
    """Say something at the end that no journal can hold."""
    turn.context.user(message)
    await turn.calls((await turn.model()).calls)
    turn.context.assistant("half a character: \ud83d")
    return "done"


@odd
async def cannot_be_asked(turn: uc.Turn, message: str) -> str:
    """Ask something that no journal can hold."""
    turn.context.user(f"{message} \ud83d")
    return (await turn.model()).text


@odd
async def cannot_be_pinned(turn: uc.Turn, message: str) -> str:
    """Pin something that no journal can hold."""
    turn.context.user(message)
    turn.context.pin("\ud83d")
    return "done"


def odd_tools() -> list[Any]:
    """Return tools that fail, are slow, say much, or have something stand in for them."""

    @uc.tool(peeks="a")
    async def boom(what: str) -> str:
        raise ValueError(f"no {what}")

    @uc.tool(peeks="a", fallback="a stale answer")
    async def backed(what: str) -> str:
        raise ConnectionError("down")

    @uc.tool(writes="b/{what}", read_first=False, fallback="noted down")
    async def backed_write(what: str, key: uc.IdempotencyKey) -> str:
        raise ConnectionRefusedError("down")

    @uc.tool(peeks="a")
    async def slow(what: str) -> str:
        await asyncio.sleep(0.01)
        return f"slowly {what}"

    @uc.tool(peeks="a")
    async def very_slow(what: str) -> str:
        await asyncio.sleep(5)
        return f"slowly {what}"

    @uc.tool(peeks="a")
    async def much(what: str) -> str:
        return f"much of {what}: " + "row, " * 3000

    @uc.tool(peeks="a")
    async def rich(what: str) -> dict[str, Any]:
        return {"what": what, "rows": [1, 2.5, None, True], "text": "ünï\n\u202e"}

    @uc.tool(writes="b/{what}", needs=[rich], read_first=False)
    async def strict(what: str, key: uc.IdempotencyKey) -> str:
        return what

    return [boom, backed, backed_write, slow, very_slow, much, rich, strict]


def odd_handler() -> Any:
    """Return a handler whose turns go as their message says."""
    tools = [*order_tools(), *odd_tools()]

    @uc.handler(tools=tools)
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.system("You look after orders.")
        going = ODD.get(message.split(" ", 1)[0])
        if going is not None:
            return await going(turn, message)
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    return talk


TWO = [[look("#A1001"), look("#A1002")], "end"]
SCRIPTS: dict[str, Any] = {
    **dict.fromkeys(ODD, TWO),
    "forgets_and_asks": TWO,
    "rest": lambda _: "rest is said",
    "asks_twice_at_once": lambda _: [look("#A1001"), look("#A1002")],
    "at_once": [[uc.Call("slow", {"what": "x"}), look("#A1001")]],
    "cut_short": [[look("#A1002"), uc.Call("very_slow", {"what": "x"})]],
    "misses_model": [ValueError("x")],
    "outlives": lambda _: "end",
    "cuts_model_off": [HANGS],
    "results_come_late": TWO,
    "calls_beside": [[look("#A1001"), uc.Call("slow", {"what": "x"})]],
    "It": lambda _: "It is fine.",
    "model_fails": [ValueError("x")],
    "look": [[look("#A1001")], "It is open."],
}


def odd_talk(*says: str, **options: Any) -> Talk:
    """Return a session of odd turns, with ordinary ones after them."""
    says = (*says, "look at #A1001", "bye")
    return Talk(odd_handler, says, {**SCRIPTS, **options.pop("scripts", {})}, ROOM, **options)


@pytest.mark.parametrize("name", ODD)
async def test_a_turn_after_an_odd_one_is_the_same_in_another_process(name: str) -> None:
    """What the journal does not hold of a turn, the next one does not read either."""
    talk = odd_talk(f"{name} one", f"{name} two")
    assert_same((await apart(talk)).sent, (await whole(talk)).sent)


CALLS: dict[str, list[uc.Call]] = {
    "fails": [uc.Call("boom", {"what": "x"}), look("#A1001")],
    "backed": [uc.Call("backed", {"what": "x"})],
    "backed_write": [uc.Call("backed_write", {"what": "x"}), look("#A1001")],
    "unknown": [uc.Call("nothing", {"what": "x"}), uc.Call("nothing", {"what": "y"})],
    "unfit": [uc.Call("look", {"what": 7}), look("#A1001"), uc.Call("look", "{no")],
    "json": [uc.Call("look", '{"order": "#A1001"}'), uc.Call("look", '{"order":"#A1002"}')],
    "out_of_order": [uc.Call("strict", {"what": "x"}), uc.Call("rich", {"what": "x"})],
    "equal": [look("#A1001"), look("#A1001"), look("#A1001")],
    "mixed": [look("#A1001"), uc.Call("look", {"order": 3}), look("#A1002")],
    "much": [uc.Call("much", {"what": "#D1"}), uc.Call("much", {"what": "#D2"})],
    "rich": [uc.Call("rich", {"what": "x"})],
    "recalls": [uc.Call("recall", {"handle": "r0.1"})],
    "none": [],
}


@pytest.mark.parametrize("going", ["ends", "one_by_one", "usual"])
@pytest.mark.parametrize("name", CALLS)
async def test_what_calls_came_to_is_the_same_in_another_process(name: str, going: str) -> None:
    """Results that no prompt of their turn showed read as they would have."""
    scripts = {going: [CALLS[name], "end"]}
    talk = odd_talk(f"{going} one", f"{going} two", scripts=scripts)
    assert_same((await apart(talk)).sent, (await whole(talk)).sent)


# Left out are those in which something else comes first when it is recorded.
@pytest.mark.parametrize("name", sorted(set(ODD) - {"cut_short", "at_once", "calls_beside"}))
async def test_an_odd_turn_survives_a_crash(name: str) -> None:
    """Resumed after a crash at any commit it goes on as it would have, and so does the next."""
    await check_crashes(odd_talk(f"{name} one"))
