"""Summaries of a context that is used alone: used, refused, late, given up; and what is heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engine.parts.test_context import LARGE, filled, long, step
from tests.layers.context.ideal import ideal
from tests.layers.context.providers import check_anthropic, check_openai
from undercroft.engine.parts.context import CacheUse, Context
from undercroft.layers.context.items import Fate
from undercroft.layers.context.policy import ContextPolicy, ContextShare
from undercroft.model.message import Answer, Message, ModelRequest, Usage
from undercroft.testing.clock import run_virtual

POLICY = ContextPolicy(
    limit_tokens=4_000,
    reserved_tokens=400,
    high_share=0.9,
    low_share=0.5,
    shares=(ContextShare(section="summaries", priority=30, max_share=0.5),),
)

Ask = Callable[[list[dict[str, str]]], Awaitable[str]]


def summary(messages: list[dict[str, str]]) -> str:
    """Return what somebody ideal would write."""
    asked = [Message("system" if m["role"] == "system" else "user", m["content"]) for m in messages]
    return ideal(asked)


async def writes(messages: list[dict[str, str]]) -> str:
    """Write what somebody ideal would."""
    return summary(messages)


async def talk(ctx: Context, first: int, count: int) -> list[Any]:
    """Let a conversation go on as a careful caller would; return what compactions did."""
    done = []
    for number in range(first, first + count):
        ctx.add(step(number))
        made = await ctx.compact()
        if made is not None:
            done.append(made)
        check_openai(ctx.openai())
        check_anthropic(*ctx.anthropic())
        assert ctx.tokens <= POLICY.capacity_tokens
    return done


# ---------------------------------------------------------------------- summaries


def test_a_summary_stands_for_what_was_said() -> None:
    """Where somebody writes summaries, old messages give way to one, shown as data."""

    async def main() -> None:
        ctx = Context(POLICY, summarise=writes)
        assert await ctx.compact() is None
        done = await talk(ctx, 0, 40)
        assert not done[0].failed
        assert sum(made.summary is not None for made in done) >= 2
        assert ctx.report().of(Fate.SUMMARISED)
        assert ctx.openai()[0]["role"] == "user"
        other = Context(POLICY).load(ctx.dump())
        assert json.dumps(other.openai()) == json.dumps(ctx.openai())

    run_virtual(main())


def test_a_client_of_a_model_writes_summaries() -> None:
    """A `ModelClient` will do: it is asked with the same request."""

    class Client:
        """Answers as somebody ideal would."""

        asked: list[ModelRequest] = []  # noqa: RUF012  of a test

        async def complete(self, request: ModelRequest) -> Answer:
            """Answer."""
            self.asked.append(request)
            return Answer(ideal(request.messages))

    async def main() -> None:
        ctx = Context(POLICY, summarise=Client())
        await talk(ctx, 0, 20)
        assert ctx.report().of(Fate.SUMMARISED)
        assert Client.asked[0].messages[0].role == "system"

    run_virtual(main())


async def nothing(_messages: Any) -> str:
    """Write nothing."""
    return ""


async def prose(_messages: Any) -> str:
    """Write prose."""
    return "They talked about orders, and all went well."


async def raises(_messages: Any) -> str:
    """Fail."""
    msg = "the model is down"
    raise ConnectionError(msg)


async def wrong_type(_messages: Any) -> str:
    """Return what is no text."""
    return {"facts": []}  # type: ignore[return-value]


async def invents(messages: Any) -> str:
    """Write of an order that nobody mentioned."""
    made = json.loads(summary(messages))
    made["facts"][0]["text"] += "; #Z987654 was refunded"
    return json.dumps(made)


async def too_long(messages: Any) -> str:
    """Write more than what is summarised."""
    made = json.loads(summary(messages))
    made["facts"][0]["text"] += " and so on" * 5_000
    return json.dumps(made)


async def hangs(_messages: Any) -> str:
    """Never come back, whatever anybody says."""
    while True:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(100)
            raise


async def cancels(_messages: Any) -> str:
    """Cancel oneself."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (nothing, "empty"),
        (prose, ""),
        (raises, "ConnectionError: the model is down"),
        (wrong_type, "it returned dict, and not text"),
        (invents, "#Z987654"),
        (too_long, ""),
        (hangs, "it took longer than 5 s"),
        (cancels, "it cancelled itself"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_summary_that_is_no_good_changes_nothing_and_elision_goes_on(bad: Ask, why: str) -> None:
    """Whatever is wrong with a summary, history is as it was, and the prompt fits without it."""
    asked = 0

    async def counted(messages: list[dict[str, str]]) -> str:
        nonlocal asked
        asked += 1
        return await bad(messages)

    async def main() -> None:
        ctx = Context(POLICY, summarise=counted, summary_timeout_s=5)
        done = await talk(ctx, 0, 40)
        failed = [made.failed for made in done if made.failed]
        assert len(failed) == asked == 3, "three in a row stop trying"
        assert all(made.summary is None for made in done)
        assert len(done) > 3
        assert why in failed[0] or why == "empty"
        assert failed[0]
        assert not ctx.report().of(Fate.SUMMARISED)
        alone = Context(POLICY)
        for number in range(40):
            alone.add(step(number))
        asked_of = [line.tokens for line in ctx.report().lines]
        assert asked_of == [line.tokens for line in alone.report().lines]

    run_virtual(main())


def test_a_summary_that_works_begins_the_count_anew() -> None:
    """Only failures in a row stop trying: after a good summary it is tried three times more."""
    said: list[bool] = []

    async def moody(messages: list[dict[str, str]]) -> str:
        said.append(len(said) % 3 == 2)
        return summary(messages) if said[-1] else ""

    async def main() -> None:
        ctx = Context(POLICY, summarise=moody)
        await talk(ctx, 0, 80)
        assert len(said) > 6

    run_virtual(main())


def test_what_is_said_while_a_summary_is_written_stays() -> None:
    """A conversation may go on meanwhile; nothing that was said is lost."""

    async def main() -> None:
        ctx: Context

        async def slow(messages: list[dict[str, str]]) -> str:
            ctx.add(step(91))
            await asyncio.sleep(1)
            ctx.add(step(92))
            return summary(messages)

        ctx = Context(POLICY, summarise=slow)
        for number in range(30):
            ctx.add(step(number, 20))
        made = await ctx.compact()
        assert made is not None
        assert made.summary is not None
        contents = json.dumps(ctx.openai())
        assert long(91) in contents
        assert long(92) in contents
        check_openai(ctx.openai())

    run_virtual(main())


def test_a_prompt_that_is_wanted_sooner_does_not_wait_for_a_summary() -> None:
    """A prompt makes room by itself; a summary that comes after that is for another window."""

    async def main() -> None:
        ctx: Context

        async def slow(messages: list[dict[str, str]]) -> str:
            check_openai(ctx.openai())
            return summary(messages)

        ctx = Context(POLICY, summarise=slow)
        for number in range(30):
            ctx.add(step(number, 20))
        assert await ctx.compact() is None
        assert not ctx.report().of(Fate.SUMMARISED)

    run_virtual(main())


def test_two_compactions_do_not_run_at_a_time() -> None:
    """Of two at once the second waits, and finds nothing left to do; in a new loop it goes on."""
    asked = 0

    async def slow(messages: list[dict[str, str]]) -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        return summary(messages)

    ctx = Context(POLICY, summarise=slow)

    async def main() -> None:
        for number in range(30):
            ctx.add(step(number, 20))
        made = await asyncio.gather(ctx.compact(), ctx.compact())
        assert [one is None for one in made] == [False, True]

    run_virtual(main())
    assert asked == 1
    run_virtual(main())
    assert asked == 2


def test_who_cancels_a_compaction_cancels_the_summary() -> None:
    """A compaction that is cancelled ends at once, changes nothing, and can be made again."""
    ended: list[str] = []

    async def slow(messages: list[dict[str, str]]) -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return summary(messages)

    async def main() -> None:
        ctx = Context(POLICY, summarise=slow)
        for number in range(30):
            ctx.add(step(number, 20))
        before = ctx.dump()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ctx.compact(), 1)
        await asyncio.sleep(0)
        assert ended == ["cancelled"]
        assert ctx.dump() == before
        assert await ctx.compact() is not None

    run_virtual(main())


# ---------------------------------------------------------------------- what providers report


def reported(**more: Any) -> SimpleNamespace:
    """Return a usage as a client library has it: an object."""
    return SimpleNamespace(**more)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(5_000, 7, 4_000),
        {"prompt_tokens": 5_000, "prompt_tokens_details": {"cached_tokens": 4_000}},
        reported(
            prompt_tokens=5_000,
            completion_tokens=7,
            prompt_tokens_details=reported(cached_tokens=4_000),
        ),
        {"input_tokens": 5_000, "input_tokens_details": {"cached_tokens": 4_000}},
        {
            "input_tokens": 100,
            "output_tokens": 7,
            "cache_creation_input_tokens": 900,
            "cache_read_input_tokens": 4_000,
        },
        reported(
            input_tokens=100,
            cache_creation_input_tokens=900,
            cache_read_input_tokens=4_000,
            service_tier="standard",
        ),
    ],
)
def test_what_a_provider_counted_is_what_counts(usage: Any) -> None:
    """Usage is read in each provider's words; the next prompt is estimated from it."""
    ctx = Context(LARGE)
    ctx.user(long(1, 1_100))
    ctx.openai()
    counted = ctx.tokens
    assert counted > 5_000
    assert ctx.heard(usage) == ""
    assert ctx.tokens == 5_000
    assert ctx.cache == CacheUse(0, 4_000)
    ctx.assistant("Yes.")
    ctx.user("Sure?")
    assert 5_000 < ctx.tokens < 5_060
    ctx.openai()
    ctx.heard(usage)
    # By our own count: what was sent before just so.
    assert ctx.cache == CacheUse(counted, 4_000)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        reported(),
        7,
        "many",
        {"prompt_tokens": 0},
        {"prompt_tokens": -5},
        {"prompt_tokens": 10**30},
        {"prompt_tokens": 10**15},
        {"prompt_tokens": float("nan")},
        {"prompt_tokens": "12"},
        {"prompt_tokens": True},
        {"prompt_tokens": None, "input_tokens": None},
        {"input_tokens": 0, "cache_read_input_tokens": None},
        {"prompt_tokens": 1},
    ],
)
def test_numbers_that_cannot_be_true_are_not_believed(usage: Any) -> None:
    """Usage that is absent, zero or absurd is ignored, and it is said why; our own count holds."""
    ctx = Context(LARGE)
    ctx.user(long(1, 500))
    ctx.openai()
    counted = ctx.tokens
    assert ctx.heard(usage)
    assert ctx.tokens == counted
    assert Context(LARGE).load(ctx.dump()).tokens == counted


def test_a_report_is_of_the_prompt_before_a_compaction() -> None:
    """After a compaction nothing is estimated from what was heard before it."""
    ctx = filled()
    ctx.heard({"prompt_tokens": ctx.tokens - 50, "completion_tokens": 1})
    number = 100
    while not ctx.pressure:
        ctx.add(step(number))
        number += 1
    ctx.openai()
    assert ctx.tokens == ctx.report().tokens
