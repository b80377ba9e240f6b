"""The window of a session on the command line: over time, and what its last prompt shows."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.cli.conftest import EMAIL, Face
from tests.layers.context.sessions import Session, example, long
from tests.storage.places import opened
from undercroft.cli.chart import LOOKS, ROWS_MAX, Chart, legend, shares
from undercroft.cli.context import print_story
from undercroft.layers.context.story import tell
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    ItemRow,
    OverflowRow,
    PolicyRow,
    PromptRow,
    QualityRow,
    ReasonRow,
    ReportRow,
    Story,
    TurnRow,
)
from undercroft.model.event import encode_frame
from undercroft.model.message import Usage
from undercroft.model.outcome import TurnStatus
from undercroft.model.turn import TurnHead
from undercroft.storage.sqlite import SqliteStore

DB = "undercroft.db"
WILD = st.text(st.characters(codec="utf-8"), max_size=40)
HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every clock be that of Greenwich, so that a page is the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def journal(*sessions: Session) -> None:
    """Make a journal of sessions, as a runtime does."""

    async def make() -> None:
        async with opened(SqliteStore(DB, sync="never")) as store:
            for session in sessions:
                for events in session.turns:
                    turn_id = f"{events[0].turn_id}-{session.name}"  # type: ignore[union-attr]
                    at = events[0].at  # type: ignore[union-attr]
                    head = TurnHead(
                        turn_id, "handler", "shop:assist", session.name, TurnStatus.RUNNING, at
                    )
                    num = store.begin(head)
                    for event in events:
                        store.append(num, encode_frame([event]))
                    store.mark(num, TurnStatus.DONE, at)
            waiter = store.durable()
            if waiter is not None:
                await waiter

    asyncio.run(make())


PAGE = """\
s-1  8 prompts in 3 turns, 2 compactions, 1 alarm
"""


# ---------------------------------------------------------------------- what is not there


def test_without_a_journal_it_says_so(face: Face) -> None:
    """No journal is exit code 2 and names the option; none is made."""
    result = face.use("context", "s-1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no such file. Name the journal with --db." in " ".join(result.stderr.split())
    assert not Path(DB).exists()


def test_a_session_that_is_not_there_is_named(face: Face) -> None:
    """Neither a session nor a turn is exit code 2, and the name is shown harmless."""
    journal(example())
    for words in ([], ["--json"]):
        result = face.use("context", "s-\x1b[2J9", *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(r"undercroft: s-\x1b[2J9: there is no such session")
    assert "2 turns begin so" in face.use("context", "t-").stderr


def test_a_session_without_a_policy_says_how_to_give_one(face: Face) -> None:
    """Nothing is wrong with it, so the exit code is 0; there is nothing to draw either."""
    assert face.use("run", "app.py:order", "--input", EMAIL, "--session", "s-7").exit_code == 0
    result = face.use("context", "s-7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "s-7\n"
        "It has 1 turn, and none of them assembled a prompt under a context policy.\n"
        "Give one: uc.Runtime(…, context=uc.ContextPolicy(limit_tokens=…)).\n"
    )
    found = face.json("context", "s-7")
    assert (found["other_turns"], found["rows"], found["report"]) == (1, [], None)


# ---------------------------------------------------------------------- the page


def test_the_page_is_as_it_should_be(face: Face) -> None:
    """At 80 columns: bars by section, marks, what happened between prompts, totals, losses."""
    journal(example())
    result = face.use("context", "s-1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == PAGE


def test_a_turn_stands_for_its_session(face: Face) -> None:
    """A turn's id, its beginning and `last` lead to the session, if nothing is called so."""
    alone = Session(name=None)
    alone.turn()
    alone.prompt([("user", 10)])
    journal(example())
    for name in ("t-001-s-1", "t-002", "last"):
        assert face.json("context", name)["session"] == "s-1"
    journal(alone)
    found = face.json("context", "t-000-None")
    assert (found["session"], len(found["rows"])) == (None, 2)
    assert face.use("context", "t-000-None").stdout.startswith("a turn without a session  1 prompt")
    named = Session(name="last")
    named.turn()
    journal(named)
    assert face.json("context", "last")["session"] == "last"


def test_items_are_told_one_by_one(face: Face) -> None:
    """With --items each item has its kind, tokens, fate, reason and handle."""
    journal(example())
    text = face.use("context", "s-1", "--items").stdout
    rows = {line.split()[0]: line for line in text.splitlines() if re.match(r"  \d+\.\d+ ", line)}
    assert len(rows) == 16
    assert rows["0.0"].split() == ["0.0", "user", "120", "120", "kept"]
    assert re.match(r"  0\.2     result find_orde… +900 +45  elided +over the", rows["0.2"])
    assert "recall r0.2" in text
    assert "--items" not in text
    assert "--items" in face.use("context", "s-1").stdout


def test_the_json_is_stable(face: Face) -> None:
    """A program finds everything under its name, in the order in which it happened."""
    journal(example())
    found = face.json("context", "s-1")
    assert set(found) == {"session", "turns", "other_turns", "rows", "quality", "report"}
    rows = {row["what"]: set(row) - {"what", "turn_id", "turn"} for row in found["rows"]}
    assert rows == {
        "policy": {
            "hash", "was", "at", "limit_tokens", "reserved_tokens", "high_tokens", "low_tokens",
            "changed", "settings",
        },
        "prompt": {
            "n", "step_id", "branch", "at", "policy", "limit_tokens", "reserved_tokens",
            "high_tokens", "low_tokens", "tokens", "sections", "new_items", "new_tokens", "capped",
            "cached_expected", "cached_reported", "tokens_reported", "anchored", "quality",
            "status",
        },
        "compaction": {
            "n", "branch", "at", "why", "before", "after", "target", "fates", "items", "ledger",
            "summary", "summary_n", "summary_usage", "failed", "short", "forgot",
        },
        "alarm": {"n", "at", "quality", "level", "why"},
        "overflow": {"at", "error"},
    }  # fmt: skip
    assert set(found["report"]) == {"turn_id", "turn", "step_id", "tokens", "reasons", "items"}
    assert set(found["report"]["items"][0]) == {
        "id", "name", "kind", "tool", "tokens", "shown_tokens", "fate", "reason", "handle",
    }  # fmt: skip
    assert set(found["quality"]) == {"turn", "session", "parts", "seen", "at"}
    assert found["quality"]["parts"]["support"] == 0.9


# ---------------------------------------------------------------------- long sessions


def prompts_of(text: str) -> list[str]:
    """Return the rows of prompts."""
    return [line for line in text.splitlines() if re.search(r"model\.\d+ +█", line)]


def test_a_long_session_is_a_page(face: Face) -> None:
    """What is put together is said; --all has a row for each prompt."""
    journal(long(200))
    text = face.use("context", "s-1").stdout
    assert 20 <= len(prompts_of(text)) <= ROWS_MAX
    assert len(text.splitlines()) < 4 * ROWS_MAX
    assert "Each row is the largest of up to 9 prompts; each: --all" in text
    assert text.count("▾ compacted") == 20
    full = face.use("context", "s-1", "--all").stdout
    assert len(prompts_of(full)) == 200
    assert "--all" not in full


def test_both_ends_of_each_compaction_have_a_row(face: Face) -> None:
    """Where there is room for them, the rows round a compaction show what it did."""
    session = long(60)
    journal(session)
    rows = face.json("context", "s-1")["rows"]
    before = [
        a["tokens"] for a, b in zip(rows, rows[1:], strict=False) if b["what"] == "compaction"
    ]
    after = [b["tokens"] for a, b in zip(rows, rows[1:], strict=False) if a["what"] == "compaction"]
    text = face.use("context", "s-1").stdout
    assert 20 <= len(prompts_of(text)) <= ROWS_MAX
    lines = text.splitlines()
    marked = [place for place, line in enumerate(lines) if "▾" in line]
    for at, was, now in zip(marked, before, after, strict=True):
        assert f"{was:,}" in lines[at - 1]
        assert f"{now:,}" in lines[at + 1]
    assert f"{len(prompts_of(text))} of 60 prompts, compactions with both ends; each: --all" in text


def test_what_is_put_together_keeps_its_order() -> None:
    """The largest prompt of a stretch stands before a compaction that it led to."""
    text = drawn(tell("s-1", long(200).turns))
    largest = 0
    for line in text.splitlines():
        if found := re.search(r"([\d,]+) → ", line):
            assert int(found[1].replace(",", "")) <= largest
            largest = 0
        elif found := re.search(r"([\d,]+) +\d+/", line):
            largest = max(largest, int(found[1].replace(",", "")))


# ---------------------------------------------------------------------- bars


def drawn(story: Story, width: int = 80, *, everything: bool = False) -> str:
    """Return the chart of a story as text."""
    console = Console(file=io.StringIO(), width=width)
    return "\n".join(line.plain for line in Chart(story, console, everything=everything).lines())


def page(story: Story, width: int, *, everything: bool = False, items: bool = True) -> str:
    """Return a whole page as text."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    print_story(console, story, everything=everything, items=items)
    return file.getvalue()


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(list(LOOKS)), st.integers(0, 10**9), max_size=7),
    st.integers(0, 90),
)
def test_a_bar_is_shared_out_whole(sections: dict[str, int], length: int) -> None:
    """Columns add up to the bar; what is there is seen, and more tokens never get less."""
    given_columns = shares(sections, length)
    there = {name: tokens for name, tokens in sections.items() if tokens}
    assert sum(given_columns.values()) == (length if there else 0)
    if length >= len(there):
        assert set(given_columns) == set(there)
    assert list(given_columns) == [name for name in there if name in given_columns]
    for name, tokens in there.items():
        for other, more in there.items():
            if tokens > more:
                assert given_columns.get(name, 0) >= given_columns.get(other, 0) - 1


def test_a_bar_is_as_long_as_its_prompt_is_large() -> None:
    """Twice the tokens are twice the columns, and a full window reaches its limit."""
    session = Session(fixed=(0, 0, 0))
    session.turn()
    session.prompt([("user", 2_000)])
    session.prompt([("result", 2_000)])
    session.prompt([("result", 4_000)])
    rows = [row for row in tell("s", session.turns).rows if isinstance(row, PromptRow)]
    chart = Chart(tell("s", session.turns), Console(width=80))
    lengths = [len(re.findall("[─┊╎]", chart.bar(row).plain.rstrip(" ·│╎┊"))) for row in rows]
    assert lengths[2] == chart.bar_columns
    assert abs(2 * lengths[0] - lengths[1]) <= 1
    assert abs(4 * lengths[0] - lengths[2]) <= 3


def test_sections_are_told_apart_without_colour() -> None:
    """Each section has a fill of its own, which the legend explains; marks are no fills."""
    fills = [fill for fill, _ in LOOKS.values()]
    assert len(set(fills)) == len(fills) == 7
    for width in (60, 80, 120):
        lines = legend(width)
        assert all(cell_len(line.plain) <= width for line in lines)
        text = " ".join(" ".join(line.plain for line in lines).split())
        for section, (fill, _) in LOOKS.items():
            assert f"{fill} {section}" in text
        for mark in ("low water", "high water", "limit"):
            assert mark in text
    assert not set(fills) & set("┊╎│·")


def test_colours_are_for_terminals(face: Face) -> None:
    """A terminal sees sections in colour; what is piped holds no escape sequences."""
    story = tell("s-1", example().turns)
    file = io.StringIO()
    print_story(
        Console(file=file, width=80, force_terminal=True, color_system="standard"), story,
        everything=False, items=False,
    )  # fmt: skip
    assert "\x1b[34m" in file.getvalue()
    journal(example())
    assert "\x1b" not in face.process("context", "s-1").stdout


# ---------------------------------------------------------------------- nothing, and anything


@pytest.mark.parametrize("tokens", [0, 1])
def test_nothing_is_divided_by_nothing(tokens: int) -> None:
    """A prompt of no tokens, without items, under a policy that is not known, is drawn."""
    session = Session(fixed=(tokens, 0, 0))
    session.turn()
    session.events.pop()
    session.prompt()
    text = page(tell("s", session.turns), 80)
    assert "model.1" in text
    assert "Nothing but its system text, tools and pins." in text


def test_a_provider_that_says_nothing_of_its_cache_is_not_said_to_miss() -> None:
    """Without any reported hit only the expected ones are shown."""
    session = Session()
    session.turn()
    for _ in range(2):
        session.prompt([("user", 1_090)], usage=Usage(100, 1))
    text = page(tell("s", session.turns), 80)
    assert re.search(r"3,270 +67%", text)
    assert "67/" not in text
    assert "the provider reported no hits" in text


def test_branches_are_told(face: Face) -> None:
    """A prompt of a branch is marked as such, and the turn itself where it goes on."""
    session = Session()
    session.turn()
    session.prompt([("user", 10)])
    session.prompt([("user", 20)], branch="b\u202eranch")
    session.prompt([("result", 10)])
    text = drawn(tell("s", session.turns))
    assert text.count(r"in branch b\u202eranch") == text.count("in the turn itself") == 1


def test_a_step_that_failed_stands_out() -> None:
    """A prompt whose model did not answer is marked without colour too."""
    row = msgspec.structs.replace(
        next(r for r in tell("s", example().turns).rows if isinstance(r, PromptRow)),
        status="failed",
    )
    assert "\n✗ model.1" in "\n" + drawn(Story("s", (), 0, (row,), None, None))


NUMBERS = st.integers(0, 3) | st.integers(-(2**40), 2**60)
MAYBE = st.none() | NUMBERS
FLOATS = st.floats()
ITEMS = st.builds(ItemRow, NUMBERS, WILD, WILD, WILD, NUMBERS, NUMBERS, WILD, WILD, WILD)
ROWS = st.one_of(
    st.builds(
        PolicyRow, WILD, NUMBERS, WILD, WILD, FLOATS, *[MAYBE] * 4,
        st.dictionaries(WILD, st.tuples(WILD, MAYBE), max_size=3), st.just({}),
    ),
    st.builds(
        PromptRow, WILD, NUMBERS, NUMBERS, WILD, WILD, st.none(), WILD, MAYBE, NUMBERS, MAYBE,
        MAYBE, NUMBERS, st.dictionaries(st.sampled_from(list(LOOKS)), st.integers(0, 2**40)),
        NUMBERS, NUMBERS, st.lists(ITEMS, max_size=5).map(tuple), NUMBERS, MAYBE, MAYBE,
        st.booleans(), MAYBE, WILD,
    ),
    st.builds(
        CompactionRow, WILD, NUMBERS, NUMBERS, WILD, FLOATS, WILD, NUMBERS, NUMBERS, NUMBERS,
        st.dictionaries(WILD | st.just("elided"), NUMBERS, max_size=3), st.just(()), WILD, MAYBE,
        MAYBE, st.none() | st.builds(Usage, NUMBERS, NUMBERS, NUMBERS), WILD, WILD,
        st.lists(NUMBERS, max_size=2).map(tuple),
    ),
    st.builds(AlarmRow, WILD, NUMBERS, NUMBERS, FLOATS, MAYBE, FLOATS, WILD),
    st.builds(OverflowRow, WILD, NUMBERS, FLOATS, WILD),
)  # fmt: skip
QUALITY = st.none() | st.builds(
    QualityRow, MAYBE, MAYBE,
    st.dictionaries(WILD, st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    NUMBERS, FLOATS,
)  # fmt: skip
STORIES = st.builds(
    Story, st.none() | WILD,
    st.lists(st.builds(TurnRow, WILD, NUMBERS, FLOATS, WILD, QUALITY), max_size=2).map(tuple),
    st.integers(0, 2**60), st.lists(ROWS, max_size=9).map(tuple), QUALITY,
    st.none() | st.builds(
        ReportRow, WILD, NUMBERS, WILD, NUMBERS,
        st.lists(
            st.builds(ReasonRow, WILD, WILD, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=3
        ).map(tuple),
        st.lists(ITEMS, max_size=3).map(tuple),
    ),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(STORIES, st.sampled_from([60, 80, 120]), st.booleans())
def test_any_story_fits(story: Story, width: int, everything: bool) -> None:  # noqa: FBT001
    """Whatever names and figures a journal holds, a page is as wide as the terminal, and harmless."""
    for line in page(story, width, everything=everything).split("\n"):
        assert cell_len(line) <= width
        assert not HARMFUL.search(line)


def test_hostile_names_are_shown_harmless(face: Face) -> None:
    """A session, a tool, a reason or an error cannot move the cursor or change colours."""
    evil = "a\x1b[2J\u202eb"
    session = Session(name=evil)
    session.turn()
    session.prompt([("result", 400)], capped=[("result", 900, 90)], tools=[evil, evil])
    session.leave([0], "elided", evil, 20)
    session.compact(failed=evil, short=evil, why=evil)
    session.prompt([("user", 10)])
    session.alarm(3, evil)
    journal(session)
    for words in ([], ["--items"], ["--all"], ["--json"]):
        shown = face.use("context", evil, *words)
        assert shown.exit_code == 0
        assert "\x1b" not in shown.stdout
        assert "\u202e" not in shown.stdout
        assert "2J" in shown.stdout


def test_other_commands_read_such_a_turn(face: Face) -> None:
    """`show` explains a turn with a window like any other, and tells how large prompts were."""
    journal(example())
    assert face.use("show", "t-001").exit_code == 0
    steps: list[dict[str, Any]] = json.loads(face.use("show", "t-001", "--json").stdout)["steps"]
    assert [s["prompt_tokens"] for s in steps if s["step_id"] == "model.1"] == [4210]
    assert face.use("check", DB).exit_code == 0
