"""The window of a session on the command line: over time, and what its last prompt shows."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import undercroft as uc
from tests.cli.conftest import EMAIL, Face
from tests.layers.context.ideal import ideal
from tests.layers.context.sessions import Session, any_event, example, long
from tests.storage.places import opened
from undercroft.cli.chart import LOOKS, ROWS_MAX, Chart, legend, shares
from undercroft.cli.context import print_story
from undercroft.layers.context.story import tell
from undercroft.layers.context.story_rows import PromptRow, Story
from undercroft.model.event import AnyEvent, ContextOpened, encode_frame
from undercroft.model.message import Answer, ModelRequest, Usage
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure
from undercroft.model.turn import TurnHead
from undercroft.storage.sqlite import SqliteStore
from undercroft.testing.model import ScriptedModel

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
s-1  9 prompts in 3 turns, 2 compactions, 1 alarm
A window of 10,000 tokens, 1,000 of them kept free for the answer; compacted
above 7,200, down to 4,500. Policy HASH.

  █ system  ▓ tools  ▚ pins  ▒ ledger  ░ summaries  ━ recent  ─ current
  ┊ low water  ╎ high water  · kept free for the answer  │ limit
  CACHED: sent before / cached, as the provider says

turn 0  t-000  2023-11-14 22:14:20  quality 98
  STEP     0     low 3,500┊ high 6,300╎ 8,000│            TOKENS  CACHED QUALITY
  model.1  ██▓▓▚─         ┊           ╎   ···│             1,210    0/0%       -
  model.3  ██▓▓▚─────     ┊           ╎   ···│             2,170  56/56%     100
    ✂ result of list_invoices cut on arrival: 12,400 → 1,700 tokens, recall r0.4
  model.5  ██▓▓▚──────────┊─          ╎   ···│             3,910  55/55%      98
turn 1  t-001  2023-11-14 22:15:26  quality 71
  model.1  ██▓▓▓▚━━━━━━━━━┊━━─        ╎   ···│             4,210  93/93%      98
  model.4  ██▓▓▚━━━━━━━━━━┊━────────  ╎   ···│             5,740  73/73%      97
    ▾ compacted: 6,530 → 4,245 tokens; 1 elided, 3 summarised
      summary by summary.5, 2,610 tokens in and 240 out
  model.7  ██▓▓▚▒░━───────┊───        ╎   ···│             4,245  26/26%      90
    ! alarm: context quality fell to 71; what the user had said was no longer
      there when it was used
turn 2  t-002  2023-11-14 22:16:32  quality unknown
    ● policy changed: limit_tokens 8,000 → 10,000, high_share 0.9 → 0.8
  STEP     0                   high 7,200╎     10,000│    TOKENS  CACHED QUALITY
  model.1  ██▓▓▚▒░━━━━━━━━━━━━─────      ╎        ···│     5,545  77/77%      80
    ▾ compacted, since it would not have fitted: 10,195 → 7,890 tokens; 3
      elided, 2 dropped
    ✗ summary not used: it names an order that nobody spoke of
    ! above low water: system, tools and pins take 1,090 tokens, and what may
      not be taken yet 6,800
  model.4  ██▓▓▚▒░━━──────────┊──────────╎───     ···│     7,890  14/14%       -
✗ model.6  ██▓▓▚▒░━━──────────┊──────────╎────────────     9,780    81/-       -
    ✗ not sent: context: the prompt does not fit the window

  tokens      34,920 sent, as counted; the provider says 34,920
  cache       51% of what was sent had been sent before; hits as reported: 51%
  quality     84 of 100, from 26 observations: support 90, liveness 80, repeats
              100, re-asks 50, contradiction 100
  summaries   1 of 2 could not be used

What the last prompt shows, model.6 of turn 2
                ITEMS    TOKENS     SHOWN  WHY
  kept             10     8,140     8,140
  elided            4     3,040       180  over the high-water mark; can be
                                           recalled
  summarised        3    12,500         0  over the high-water mark
  dropped           2       300         0  over the high-water mark
  undercroft context s-1 --items
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
    for name, said in ((" ", "SESSION: it is empty."), ("\udcff", "no journal can hold such a")):
        result = face.use("context", name)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "should not happen" not in result.stderr


def test_a_session_without_a_policy_says_how_to_give_one(face: Face) -> None:
    """Nothing is wrong with it, so the exit code is 0; there is nothing to draw either."""
    ran = face.use("run", "app.py:order", "--input", EMAIL, "--session", "s-7")
    assert ran.exit_code == 0, ran.stderr
    result = face.use("context", "s-7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "s-7\n"
        "It has 1 turn, and none of them assembled a prompt under a context policy.\n"
        "Give one: uc.Runtime(…, context=uc.ContextPolicy(limit_tokens=…)).\n"
    )
    found = face.json("context", "s-7")
    assert (found["other_turns"], found["rows"], found["report"]) == (1, [], None)


def test_it_explains_itself_with_an_example(face: Face) -> None:
    """Help fits 80 columns, names what --json holds, and shows an example."""
    result = face.use("context", "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "Example: undercroft context s-1 --items" in text
    for key in ("session", "turns", "other_turns", "quality", "report", "rows", "what"):
        assert key in text
    assert all(cell_len(line) <= 80 for line in result.stdout.splitlines())
    assert face.use("context").exit_code == 2


# ---------------------------------------------------------------------- the page


def test_the_page_is_as_it_should_be(face: Face) -> None:
    """At 80 columns: bars by section, marks, what happened between prompts, totals, losses."""
    journal(example())
    result = face.use("context", "s-1")
    assert (result.exit_code, result.stderr) == (0, "")
    (opened,) = [e for e in example().turns[2] if isinstance(e, ContextOpened)]
    assert result.stdout == PAGE.replace("HASH", opened.policy)


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
    assert len(rows) == 19
    assert rows["0.0"].split() == ["0.0", "user", "120", "120", "kept"]
    assert re.match(r"  0\.2    result find_ord… +900 +45  elided +over the", rows["0.2"])
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
            "status", "sent",
        },
        "compaction": {
            "n", "branch", "at", "why", "before", "after", "target", "fates", "items", "ledger",
            "summary", "summary_step", "summary_usage", "failed", "short", "forgot",
        },
        "alarm": {"n", "at", "quality", "level", "why"},
        "overflow": {"n", "error"},
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
    assert "Each row is the largest of up to 9 prompts; --all has a row for each" in text
    assert text.count("▾ compacted") == 20
    full = face.use("context", "s-1", "--all").stdout
    assert len(prompts_of(full)) == 200
    assert "--all" not in full


def test_both_ends_of_each_compaction_have_a_row(face: Face) -> None:
    """Where there is room for them, the rows round a compaction show what it did."""
    session = long(60)
    journal(session)
    rows = face.json("context", "s-1")["rows"]
    before = [a["tokens"] for a, b in pairwise(rows) if b["what"] == "compaction"]
    after = [b["tokens"] for a, b in pairwise(rows) if a["what"] == "compaction"]
    text = face.use("context", "s-1").stdout
    assert 20 <= len(prompts_of(text)) <= ROWS_MAX
    lines = text.splitlines()
    marked = [place for place, line in enumerate(lines) if "▾" in line]
    for at, was, now in zip(marked, before, after, strict=True):
        assert f"{was:,}" in lines[at - 1]
        assert f"{now:,}" in lines[at + 1]
    said = f"{len(prompts_of(text))} of 60 prompts, compactions with both ends; --all has a row"
    assert said in text


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


def test_what_is_alike_is_counted_where_rows_are_put_together() -> None:
    """Compactions, alarms and cut results of one row are said in few lines, and none is lost."""
    session = Session()
    for _ in range(ROWS_MAX * 4):
        session.turn()
        session.compact(failed="it is prose", short="too much is pinned")
        session.prompt([("user", 1)], capped=[("result", 900, 1)] * 2)
        session.alarm(50, "reads were repeated")
    text = drawn(tell("s", session.turns))
    assert text.count("compacted 4 times, last ") == ROWS_MAX
    assert text.count("summaries not used: 4") == ROWS_MAX
    assert text.count("ended above low water: 4") == ROWS_MAX
    assert text.count("and 5 more results were cut: --all") == ROWS_MAX
    assert text.count("reads were repeated (and 2 before)") == ROWS_MAX
    assert text.count("! alarm: ") == ROWS_MAX * 2
    full = drawn(tell("s", session.turns), everything=True)
    for said in ("▾ compacted: ", "summary not used: it is prose", "! alarm: context quality"):
        assert full.count(said) == ROWS_MAX * 4
    assert full.count("✂ item ") == ROWS_MAX * 8


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


def test_what_is_larger_than_any_window_does_not_dwarf_the_rest() -> None:
    """The scale is that of the window; a bar that goes beyond it says so."""
    session = Session(fixed=(1_000, 0, 0))
    session.turn()
    session.prompt([("user", 3_000)])
    session.prompt([("user", 90_000)], error=Failure("ContextOverflowError", "too much"))
    small, large = prompts_of(drawn(tell("s", session.turns)))
    assert small.count("█") > 3
    assert "─»" in large


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
    assert "the provider reported no hits" in " ".join(text.split())


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


@settings(max_examples=120)
@given(
    st.lists(st.lists(any_event(WILD), max_size=8), max_size=4),
    st.sampled_from([60, 80, 120]),
    st.booleans(),
)
def test_any_page_fits(turns: list[list[AnyEvent]], width: int, everything: bool) -> None:  # noqa: FBT001
    """Whatever a journal holds, a page is as wide as the terminal at most, and harmless."""
    for line in page(tell("s\x1b", turns), width, everything=everything).split("\n"):
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


# ---------------------------------------------------------------------- a real session


@uc.tool(reads="orders/{customer}")
async def find_orders(customer: str) -> list[dict[str, str]]:
    """List the orders of a customer."""
    return [
        {"id": f"#A{1000 + place}", "item": "a lamp of brass", "state": f"left at door {place}"}
        for place in range(60)
    ]


@uc.tool(reads="order/{order}")
async def get_order(order: str) -> dict[str, Any]:
    """Return an order."""
    return {"id": order, "lines": [{"sku": f"S-{n:04}", "text": "brass"} for n in range(20)]}


@uc.handler(tools=[find_orders, get_order])
async def assist(turn: uc.Turn, message: str) -> str:
    """Help a customer."""
    turn.context.system("You help the customers of a shop. Be brief.")
    turn.context.user(message)
    while True:
        answer = await turn.model()
        if not answer.calls:
            return answer.text
        await turn.calls(answer.calls)


class Provider:
    """A model that says how large its prompts were, and how much of them it had cached."""

    def __init__(self) -> None:
        self.script = ScriptedModel([
            [uc.Call("find_orders", {"customer": "ada"})],
            [uc.Call("get_order", {"order": "#A1001"}), uc.Call("get_order", {"order": "#A1002"})],
            "It was sent.",
        ])  # fmt: skip
        self.last = ""

    async def complete(self, request: ModelRequest) -> Answer:
        """Say the next line."""
        text = "\x00".join(message.content for message in request.messages)
        same = (place for place, (a, b) in enumerate(zip(text, self.last, strict=False)) if a != b)
        shared = next(same, min(len(text), len(self.last)))
        self.last = text
        said = await self.script.complete(request)
        usage = Usage(len(text) // 3 + 300, 20, shared // 3)
        return msgspec.structs.replace(said, usage=usage)


class Writer:
    """A model that writes ideal summaries, or prose where it is told to."""

    def __init__(self, *, prose: bool = False) -> None:
        self.prose = prose

    async def complete(self, request: ModelRequest) -> Answer:
        """Summarise."""
        text = "So much was said." if self.prose else ideal(request.messages)
        return Answer(text, (), Usage(900, 90))


def served(path: str, turns: Sequence[int], summariser: Writer | None = None) -> None:
    """Run turns of a session in a runtime of its own."""

    async def serve() -> None:
        policy = uc.ContextPolicy(limit_tokens=4_000, reserved_tokens=500)
        async with uc.Runtime(path, model=Provider(), context=policy, summariser=summariser) as rt:
            for turn in turns:
                message = f"Where is my order #A{1001 + turn}? I am ada{turn}@example.com."
                outcome = await rt.run(assist, message=message, session="s-1")
                assert outcome.status == "done", outcome.error

    asyncio.run(serve())


def test_a_real_session_is_told_whole(face: Face) -> None:
    """What a runtime journals of a session adds up, with summaries and results that were cut."""
    served(DB, range(6), Writer())
    found = face.json("context", "s-1")
    prompts = [row for row in found["rows"] if row["what"] == "prompt"]
    compactions = [row for row in found["rows"] if row["what"] == "compaction"]
    assert len(prompts) == 18
    assert len(found["turns"]) == 6
    for row in prompts:
        assert row["tokens"] <= 3_500
        assert row["sections"]["tools"] > 0
    assert any(row["summary_step"].startswith("summary.") for row in compactions)
    assert any(row["capped"] for row in prompts)
    assert any(row["cached_reported"] for row in prompts)
    items = found["report"]["items"]
    # Seven messages a turn, and the last answer was in no prompt.
    assert len({item["id"] for item in items}) == len(items) == 6 * 7 - 1
    assert {item["tool"] for item in items if item["kind"] == "result"} == {
        "find_orders", "get_order",
    }  # fmt: skip
    last = prompts[-1]["sections"]
    shown = sum(item["shown_tokens"] for item in items)
    assert shown == last["recent"] + last["current"]
    assert sum(last.values()) >= shown
    text = face.use("context", "s-1", "--items").stdout
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    for said in ("✂ result of find_orders", "▾ compacted", "summary by summary.", "quality  "):
        assert said in text, said


def test_a_summary_that_was_refused_is_told(face: Face) -> None:
    """Why a summary was not used stands beside the compaction that did without it."""
    served(DB, range(4), Writer(prose=True))
    text = face.use("context", "s-1", "--all").stdout
    assert "✗ summary not used: " in text
    assert re.search(r"summaries +(\d) of \1 could not be used", text)


def test_it_does_not_matter_which_process_ran_a_turn(face: Face) -> None:
    """A session over several processes has the same story as in one."""
    served("one.db", range(4))
    for turn in range(4):
        served("many.db", [turn])
    told = [
        [
            (row["what"], row.get("tokens"), row.get("sections"), row.get("after"))
            for row in face.json("context", "s-1", "--db", path)["rows"]
        ]
        for path in ("one.db", "many.db")
    ]
    assert told[0] == told[1]
