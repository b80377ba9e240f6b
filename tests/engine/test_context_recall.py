"""The tool that fetches back what was left out: what it gives, to whom, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

import undercroft as uc
from tests.engine.talking import (
    InOrder,
    Model,
    Talk,
    apart,
    assert_same,
    check_crashes,
    events,
    talker,
    whole,
)
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import PromptAssembled, StepEnded
from undercroft.storage.memory import MemoryJournal, MemoryStore

BIG = ContextPolicy(limit_tokens=3000, reserved_tokens=200, result_max_share=0.2)
TEXT = "".join(f"row {i} of #R{i:05d}, ünï😀\n" for i in range(900))


def rows() -> list[Any]:
    """Return a tool with a huge result."""

    @uc.tool(peeks="rows")
    async def rows() -> str:
        """Return rows."""
        return TEXT

    return [rows]


def recall(**given: Any) -> uc.Call:
    """Propose to recall something."""
    return uc.Call("recall", given)


def last_results(model: Model) -> list[str]:
    """Return what the last prompt has of results, newest last."""
    return [m.content for m in model.requests[-1].messages if m.role == "tool"]


ROWS: list[Any] = [[uc.Call("rows", {})], "many"]


async def recalled(*calls: uc.Call, policy: ContextPolicy = BIG) -> tuple[list[Any], uc.Outcome]:
    """Return what recalling came to, in the turn after the one that it is of, and the outcome."""
    journal = MemoryJournal()
    model = Model({"rows": ROWS, "fetch": [list(calls), "end"]})
    options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        await rt.run(talker(rows()), message="rows please", session="s-1")
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        outcome = await rt.run(talker(rows()), message="fetch them", session="s-1")
    return last_results(model)[-len(calls) :], outcome


async def test_a_range_is_what_stands_there() -> None:
    """Characters, from and to, of the original; without an end as much as fits."""
    results, outcome = await recalled(
        recall(handle="r0.2", start=100, end=140),
        recall(handle="r0.2", start=len(TEXT) - 5),
        recall(handle="r0.2", start=7, end=7),
        recall(handle="r0.2", start=len(TEXT), end=len(TEXT)),
        recall(handle=" r0.2 ", end=3),
    )
    assert outcome.status == "done"
    assert results == [TEXT[100:140], TEXT[-5:], "", "", TEXT[:3]]


NONSENSE: dict[str, dict[str, Any] | str] = {
    "unknown": {"handle": "r9.9"},
    "of what is shown": {"handle": "r0.0"},
    "empty": {"handle": ""},
    "blank": {"handle": " "},
    "prose": {"handle": "the rows, please"},
    "path": {"handle": "../../etc/passwd"},
    "braces": {"handle": "{handle}"},
    "huge": {"handle": "r" + "9" * 2_000},
    "digits": {"handle": "r0.٣"},
    "big": {"handle": f"r0.{1 << 20}"},
    "surrogate": '{"handle": "\\ud800"}',
    "null byte": {"handle": "r0.2\x00"},
    "number": {"handle": 2},
    "none": {},
    "negative": {"handle": "r0.2", "start": -1},
    "backwards": {"handle": "r0.2", "start": 9, "end": 3},
    "negative end": {"handle": "r0.2", "end": -3},
    "beyond": {"handle": "r0.2", "start": 1 << 40},
    "beyond 64 bits": '{"handle": "r0.2", "start": 1180591620717411303424}',
    "a fraction": {"handle": "r0.2", "start": 1.5},
    "more": {"handle": "r0.2", "lines": 3},
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_answered_and_hurts_nobody(name: str) -> None:
    """The model reads what is wrong; the turn is as good as any."""
    (result,), outcome = await recalled(uc.Call("recall", NONSENSE[name]))
    assert outcome.status == "done", outcome
    assert outcome.missing == ()
    assert '"error"' in result or '"refused"' in result
    assert len(result) < 1500


async def test_a_part_that_ends_beyond_the_text_ends_with_it() -> None:
    """As slices do."""
    (result,), _ = await recalled(recall(handle="r0.2", start=len(TEXT) - 5, end=len(TEXT) + 99))
    assert result == TEXT[-5:]


@pytest.mark.parametrize("apart", [False, True], ids=["one process", "many"])
async def test_a_handle_expires_after_so_many_turns(*, apart: bool) -> None:
    """And says so; until then it gives the same bytes."""
    policy = ContextPolicy(
        limit_tokens=3000, reserved_tokens=200, result_max_share=0.2, recall_turns=2
    )
    journal = MemoryJournal()
    fetch: list[Any] = [[recall(handle="r0.2", start=0, end=30)], "end"]
    model = Model({"rows": ROWS, "fetch": fetch})
    options: dict[str, Any] = {"model": model, "context": policy, "ids": InOrder()}
    found = []
    store = MemoryStore(journal)
    texts = ["rows please", "fetch 1", "fetch 2", "fetch 3"]
    if apart:
        for text in texts:
            async with uc.Runtime(MemoryStore(journal), **options) as rt:
                await rt.run(talker(rows()), message=text, session="s-1")
            found.append(last_results(model)[-1])
    else:
        async with uc.Runtime(store, **options) as rt:
            for text in texts:
                await rt.run(talker(rows()), message=text, session="s-1")
                found.append(last_results(model)[-1])
    assert found[1:3] == [TEXT[:30]] * 2
    assert "expired" in found[3]


async def test_what_is_recalled_fits_as_it_is() -> None:
    """It is not cut once more as a result that is too large: its note says where to go on."""
    journal = MemoryJournal()
    model = Model({"rows": ROWS, "fetch": [[recall(handle="r0.2")], "end"]}, BIG)
    options: dict[str, Any] = {"model": model, "context": BIG, "ids": InOrder()}
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        await rt.run(talker(rows()), message="rows please", session="s-1")
        outcome = await rt.run(talker(rows()), message="fetch them", session="s-1")
    prompts = events(MemoryStore(journal), outcome.turn_id, PromptAssembled)
    assert all(prompt.capped == () for prompt in prompts)
    assert "the next begins at start=" in last_results(model)[-1]
    model.check()


async def test_recalling_survives_a_crash_and_is_the_same_in_another_process() -> None:
    """As any call does."""
    scripts: dict[str, Any] = {
        "rows": [*ROWS[:1], [recall(handle="r0.2", start=50, end=90)], "many"],
        "fetch": [
            [recall(handle="r0.2", start=0, end=20), recall(handle="r0.2", start=20, end=60)],
            [recall(handle="r7.7")],
            "end",
        ],
    }
    talk = Talk(lambda: talker(rows()), ["rows please", "fetch them", "bye"], scripts, BIG)
    one = await check_crashes(talk)
    assert_same((await apart(talk)).sent, one.sent)


async def test_recalling_the_same_again_is_no_circle() -> None:
    """Only what changes nothing and has nothing to say would be."""
    same = [recall(handle="r0.2", start=0, end=5)]
    scripts: dict[str, Any] = {"rows": ROWS, "fetch": [*[same] * 6, "end"]}
    talk = Talk(lambda: talker(rows()), ["rows please", "fetch them"], scripts, BIG)
    held = await whole(talk)
    results = events(held.store, held.outcomes[-1].turn_id, StepEnded)
    assert {e.status for e in results} == {"ok"}
    assert held.outcomes[-1].status == "done"


async def test_handles_that_a_prompt_names_can_be_recalled() -> None:
    """Each handle that stands in a tombstone or a cut gives the whole of what it stands for."""
    scripts: dict[str, Any] = {"rows": ROWS}
    journal, model = MemoryJournal(), Model(scripts, BIG)
    options: dict[str, Any] = {"model": model, "context": BIG, "ids": InOrder()}
    target = talker(rows())
    seen: list[str] = []
    async with uc.Runtime(MemoryStore(journal), **options) as rt:
        for i in range(8):
            await rt.run(target, message=f"rows please, time {i}", session="s-1")
        shown = "\n".join(m.content for m in model.requests[-1].messages)
        handles = [part.partition('"')[0] for part in shown.split('recall(handle="')[1:]]
        assert handles
        for handle in dict.fromkeys(handles):
            model.scripts = {"fetch": [[recall(handle=handle, start=0, end=40)], "end"]}
            await rt.run(target, message=f"fetch {handle}", session="s-1")
            seen.append(last_results(model)[-1])
    assert seen == [TEXT[:40]] * len(seen)
