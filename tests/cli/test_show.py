"""`show` and `turns`: six answers at a glance, whatever is in the journal."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.conftest import EMAIL, Face
from tests.cli.shop import EVIL
from undercroft.cli.console import out
from undercroft.cli.show import Page, print_page
from undercroft.cli.steps import print_step
from undercroft.cli.where import Where
from undercroft.layers.observability.answers import QUESTIONS, answer
from undercroft.layers.parallelism.report import report
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.trace import Decision, Life, Owned, StepTrace, Trace, Wait

# Bidi controls, spaces without width, tags: what hides or reorders.
HIDING = re.compile(
    "[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def harmless(text: str) -> bool:
    """Whether nothing in `text` does anything to a terminal but print."""
    controls = [c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    return not controls and not HIDING.search(text)


def fits(text: str, columns: int = 80) -> bool:
    """Whether no line is wider than the terminal, or ends in blanks."""
    return all(cell_len(line) <= columns and line == line.rstrip() for line in text.splitlines())


def test_the_page_answers_the_six_questions_in_order(face: Face, waiting: str) -> None:
    """The headings are the six questions; then comes what to do."""
    page = face.use("show", waiting).stdout
    places = [page.index(question) for question in (*QUESTIONS, "What now?")]
    assert places == sorted(places)
    assert 'email                  "ada@example.com"' in page
    assert "gate.3: waiting for a person" in page
    assert f"undercroft approve {waiting} gate.3 --by NAME" in page
    assert "Nothing yet." in page


def test_refusals_name_the_rule_and_the_next_move(face: Face) -> None:
    """Of a refused call the page shows the rule, the facts and what to do instead."""
    words = ("--input", '{"message": "hi"}', "--model", "app.py:model")
    face.use("run", "app.py:assist", *words)
    page = face.use("show", "last").stdout
    assert "refused: sequencing.unknown_tool" in page
    assert "change.3 refused: sequencing.read_first" in page
    assert "Next move: Read it with look, then propose change again." in page
    step = face.use("show", "last", "--step", "change.3").stdout
    assert "sequencing.read_first" in step
    assert "readers" in step


def test_what_went_well_only_in_the_end_is_told(face: Face) -> None:
    """A step that failed twice and then succeeded is no failure, but no secret either."""
    face.use("run", "app.py:flaky", "--input", '{"name": "net"}')
    assert "third_time.1 failed 2 times, then succeeded" in face.use("show", "last").stdout
    step = face.use("show", "last", "--step", "third_time").stdout
    assert "attempt 2 failed" in step


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["run", "app.py:evil", "--input", '{"name": "\\u001b[2J"}'], id="run"),
        pytest.param(["show", "last"], id="show"),
        pytest.param(["show", "last", "--all"], id="all"),
        pytest.param(["show", "last", "--step", "text"], id="step"),
        pytest.param(["show", "last", "--step", "raises"], id="step-with-error"),
        pytest.param(["turns"], id="turns"),
    ],
)
def test_hostile_text_does_nothing_to_a_terminal(face: Face, words: list[str]) -> None:
    """Control characters, markup and bidi overrides from tools are shown, never obeyed."""
    face.use(
        "run", "app.py:evil", "--input", '{"name": "\\u009b2J\\u202e"}', "--session", "\x1b[1m"
    )
    result = face.use(*words)
    assert harmless(result.stdout), result.stdout
    assert fits(result.stdout), result.stdout
    if words[0] != "turns":
        assert "[bold]markup[/bold]" in result.stdout
        assert "\\x1b[31mred" in result.stdout or "\\u001b[31mred" in result.stdout


def test_hostile_tool_names_and_arguments_do_nothing(face: Face) -> None:
    """What a model proposes is as hostile as what a tool returns."""
    words = ("--input", '{"message": "hi"}', "--model", "app.py:model")
    ran = face.use("run", "app.py:assist", *words)
    for result in (ran, face.use("show", "last"), face.use("show", "last", "--step", "2")):
        assert harmless(result.stdout), result.stdout
        assert fits(result.stdout), result.stdout
    raw = face.use("show", "last", "--json").stdout
    assert harmless(raw)


def test_no_page_is_wider_than_the_terminal(face: Face, waiting: str, doubted: str) -> None:
    """Every command keeps to 80 columns, and no line ends in blanks."""
    face.use("run", "app.py:wrong", "--input", '{"name": "x"}')
    face.use("run", "app.py:many", "--input", '{"count": 30}')
    for words in (
        ["turns"],
        ["show", waiting],
        ["show", doubted],
        ["show", "last"],
        ["show", "last", "--all"],
        ["show", waiting, "--step", "gate"],
        ["resume", waiting],
        ["resume", doubted],
        ["run", "app.py:wrong", "--input", '{"name": "x"}'],
        ["check", "app.py:careless"],
        ["check", "app.py:unfit"],
    ):
        result = face.use(*words)
        assert fits(result.stdout + result.stderr), result.stdout


def test_a_turn_of_5_000_steps_is_one_page(face: Face) -> None:
    """Long lists lose their middle and say how much, quickly; --all and --step show it."""
    face.use("run", "app.py:many", "--input", '{"count": 5000}')
    began_s = time.monotonic()
    page = face.use("show", "last").stdout
    assert time.monotonic() - began_s < 20.0  # a tenth of it alone; others may run beside
    assert len(page.splitlines()) < 90
    assert page.count("… 4,986 more: --all, or --step STEP for one") == 3
    assert "All 5,002 steps." in page
    assert "square[4999].5001" in page
    assert "square[2500].2502" not in page
    assert "square[2500].2502" in face.use("show", "last", "--all").stdout
    assert "6250000" in face.use("show", "last", "--step", "2502").stdout
    assert len(face.json("show", "last")["steps"]) == 5_002


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param("gaet.3", "Did you mean gate.3?", id="typo"),
        pytest.param("zzz", "undercroft show lists them", id="unknown"),
        pytest.param("99", "it has no step '99'", id="number"),
    ],
)
def test_a_step_that_is_not_there(face: Face, waiting: str, step: str, said: str) -> None:
    """A step that is not there is one message with what is near, exit code 2."""
    result = face.use("show", waiting, "--step", step)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


def test_a_turn_may_be_named_by_its_beginning(face: Face, waiting: str) -> None:
    """An unambiguous beginning is enough; an ambiguous or unknown one is exit code 2."""
    face.use("run", "app.py:many", "--input", '{"count": 1}')
    assert face.json("show", waiting[:-1])["turn_id"] == waiting
    assert face.json("show", "last")["target"] == "app:many"
    for wrong in ("t-", "t-zzz", "%", ""):
        result = face.use("show", wrong)
        assert result.exit_code == 2
        assert "undercroft turns" in " ".join(result.stderr.split())


def test_turns_are_listed_newest_first_and_by_status(face: Face, waiting: str) -> None:
    """A list can be narrowed by status and session, and says when there is more."""
    for count in range(3):
        given = f'{{"count": {count}}}'
        face.use("run", "app.py:many", "--input", given, "--session", f"s-{count}")
    assert [head["target"] for head in face.json("turns")] == ["app:many"] * 3 + ["app:order"]
    assert face.json("turns", "--status", "waiting")[0]["turn_id"] == waiting
    assert len(face.json("turns", "--status", "waiting", "--status", "done")) == 4
    assert len(face.json("turns", "--session", "s-1")) == 1
    few = face.use("turns", "--limit", "2")
    assert len(few.stdout.splitlines()) == 2
    assert "--limit" in few.stderr
    assert "No turns like that." in face.use("turns", "--status", "failed").stdout
    assert face.use("turns", "--status", "nope").exit_code == 2
    assert face.use("turns", "--limit", "0").exit_code == 2


def test_a_narrow_or_wide_terminal_is_used_as_it_is(face: Face, waiting: str) -> None:
    """The page keeps to the columns there are, from 60 on, and stops growing at 120."""
    for columns in (60, 100, 300):
        result = face.at(columns, "show", waiting)
        assert fits(result.stdout, min(columns, 120)), result.stdout


def test_show_reads_a_turn_with_its_session(face: Face) -> None:
    """A session is shown where there is one."""
    face.use("run", "app.py:order", "--input", EMAIL, "--session", "s-7")
    assert "session s-7" in face.use("show", "last").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--applied"], "it had happened, so it was not done again", id="applied"),
        pytest.param(["--not-applied"], "it had not happened, so it was done then", id="not"),
    ],
)
def test_a_settled_doubt_is_told(face: Face, doubted: str, words: list[str], said: str) -> None:
    """Of a write whose answer was lost the page says what became of it, and who said so."""
    assert "answer lost" in face.use("show", doubted).stdout
    Path("calm").touch()
    face.use("settle", doubted, *words, "--by", "grace")
    page = face.use("show", doubted).stdout
    assert f"pay.1 lost the answer; {said}" in " ".join(page.split())
    assert "says grace" in page


def test_a_word_is_not_lost_where_the_code_is_not_found(face: Face, waiting: str) -> None:
    """An approval counts even where its turn cannot go on at once, and the page says so."""
    Path("app.py").rename("gone.py")
    del sys.modules["app"]
    result = face.use("approve", waiting, "--by", "ada")
    assert result.exit_code == 2
    assert "What you said is recorded" in " ".join(result.stderr.split())
    page = face.use("show", waiting).stdout
    assert "gate.3: decided, but nobody has gone on with the turn" in page
    assert f"undercroft resume {waiting}" in page
    Path("gone.py").rename("app.py")
    assert face.json("resume", waiting)["status"] == "done"


# ------------------------------------------------------------------ side by side

NOON_S = 1_800_000_000.0


def ran(name: str, began_s: float, took_s: float, *causes: str, **facts: Any) -> StepTrace:
    """Return a step that began so long after noon; its number is at the end of its name."""
    return StepTrace(
        step_id=name,
        n=int(name.rpartition(".")[2]),
        name=name.rpartition(".")[0],
        kind="tool",
        status=StepStatus.OK,
        causes=causes,
        attempts=1,
        began_at=NOON_S + began_s,
        took_s=took_s,
        **facts,
    )


def turn_of(*steps: StepTrace) -> Trace:
    """Return a turn that is over."""
    end_s = max((step.began_at or 0) + (step.took_s or 0) for step in steps)
    return Trace(
        turn_id="t-018c3b5e7ff-0a1b2c3d4e5f",
        kind="handler",
        target="app:assist",
        session=None,
        status=TurnStatus.DONE,
        input={},
        began_at=NOON_S,
        ended_at=end_s,
        steps=steps,
        lives=(Life(NOON_S, end_s, "ended"),),
        delivered="done",
        parallelism=report(steps),
    )


class Printed:
    """What is printed of a turn or a step, at some width."""

    def __init__(self, capsys: pytest.CaptureFixture[str], env: pytest.MonkeyPatch) -> None:
        self.capsys, self.env = capsys, env

    def page(self, trace: Trace, *, everything: bool = False, columns: int = 80) -> str:
        """Return the page of a turn."""
        self.env.setenv("COLUMNS", str(columns))
        alive = False
        print_page(Page(out(), trace, answer(trace), Where("x.db"), alive, everything))
        return self._checked(columns)

    def took(self, trace: Trace, *, everything: bool = False, columns: int = 80) -> list[str]:
        """Return the lines that answer how long each step took, without their margin."""
        text = self.page(trace, everything=everything, columns=columns)
        lines = text.partition(QUESTIONS[4])[2].partition(QUESTIONS[5])[0].splitlines()
        return [line.removeprefix("    ") for line in lines if line]

    def step(self, step: StepTrace, columns: int = 80) -> str:
        """Return a step in full."""
        self.env.setenv("COLUMNS", str(columns))
        print_step(out(), turn_of(step), step)
        return self._checked(columns)

    def _checked(self, columns: int) -> str:
        text = self.capsys.readouterr().out
        assert fits(text, columns), text
        assert harmless(text), text
        return text


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Return what prints without a journal."""
    return Printed(capsys, monkeypatch)


UPGRADE = turn_of(
    ran("model.1", 0, 0.5),
    ran("get_account.2", 0.5, 1.0, "model.1"),
    ran("get_invoices.3", 0.5, 2.0, "model.1"),
    ran("set_tier.4", 2.5, 1.0, "get_account.2", "get_invoices.3"),
    ran(
        "set_tier.5",
        3.5,
        1.0,
        "get_account.2",
        "get_invoices.3",
        waits=(Wait(1.0, "write crm/7", "set_tier.4"),),
    ),
    ran(
        "send_email.6",
        6.5,
        1.0,
        "get_invoices.3",
        waits=(
            Wait(2.0, "append mail/ada", "set_tier.5"),
            Wait(1.5, "service smtp", "t-018c3b5e7ff-ffffffffffff"),
            Wait(0.25, "limit turn", "set_tier.5"),
            Wait(0.25, "limit turn", ""),
        ),
    ),
)


def test_the_page_says_how_parallel_the_turn_was(printed: Printed) -> None:
    """Below the bars stands what was achieved, what was possible, and what steps waited for."""
    assert printed.took(UPGRADE)[-8:] == [
        "parallel  0.9 steps at a time, 1.9 possible: 6.50 s of work in 7.50 s",
        "critical  3.50 s  model.1 → get_invoices.3 → set_tier.4",
        "lost      4.00 s; what steps waited for:",
        "           2.00 s  send_email.6 for append mail/ada, behind set_tier.5",
        "           1.50 s  send_email.6 for service smtp, behind",
        "                   t-018c3b5e7ff-ffffffffffff",
        "           1.00 s  set_tier.5 for write crm/7, behind set_tier.4",
        "          … 2 more: --all",
    ]
    everything = printed.took(UPGRADE, everything=True)
    assert "           0.25 s  send_email.6 for limit turn" in everything
    assert not [line for line in everything if "--all" in line]


def test_waiting_is_drawn_before_the_bar(printed: Printed) -> None:
    """A bar begins, thinly, where its step was ready, and in earnest where it began."""
    bars = {line.split()[0]: line for line in printed.took(UPGRADE) if "━" in line}
    assert "┄" not in bars["set_tier.4"]
    assert "┄━" in bars["set_tier.5"]
    assert bars["set_tier.5"].index("┄") == bars["set_tier.4"].index("━")
    assert bars["send_email.6"].count("┄") > bars["set_tier.5"].count("┄")


def test_waiting_is_not_drawn_over_the_time_between_two_lives(printed: Printed) -> None:
    """What a step waited for before its process died is no part of the life that ran it."""
    waits = (Wait(3.0, "write crm/7", "t-1"),)
    turn = turn_of(ran("look.1", 0, 1.0), ran("put.2", 3600, 1.0, waits=waits))
    lives = (Life(NOON_S, NOON_S + 1, "parked"), Life(NOON_S + 3600, NOON_S + 3601, "ended"))
    bars = {
        line.split()[0]: line for line in printed.took(replace(turn, lives=lives)) if "━" in line
    }
    assert "┄" not in bars["put.2"]


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("count", [40, 5_000])
def test_a_long_critical_path_loses_its_middle(printed: Printed, count: int, columns: int) -> None:
    """Of a path that does not fit the ends are shown and the rest is counted; --all has it."""
    chain = [ran("step_number.1", 0, 1.0)]
    chain += [ran(f"step_number.{n}", n, 1.0, f"step_number.{n - 1}") for n in range(2, count + 1)]
    beside = ran(f"beside.{count + 1}", 0, count / 2)
    turn = turn_of(*chain, beside)
    began_s = time.monotonic()
    lines = printed.took(turn, columns=columns)
    assert time.monotonic() - began_s < 2
    place = next(i for i, line in enumerate(lines) if line.startswith("critical"))
    path = " ".join(lines[place : place + 2])
    assert "step_number.1 →" in path
    assert f"→ step_number.{count}" in path
    shown = path.count("step_number.")
    assert f"… {count - shown:,} more …" in path
    assert lines[place + 2].startswith("lost")
    whole = " ".join(printed.took(turn, everything=True, columns=columns))
    full = whole.partition(" critical  ")[2]
    assert full.count("step_number.") == count


def test_there_is_no_word_on_parallelism_where_there_was_no_room_for_it(printed: Printed) -> None:
    """One step alone says nothing of it; steps that each need the one before have lost nothing."""
    alone = printed.took(turn_of(ran("look.1", 0, 1.0)))
    assert not [line for line in alone if "parallel" in line or "critical" in line]
    chain = turn_of(ran("look.1", 0, 1.0), ran("put.2", 1, 1.0, "look.1"))
    assert printed.took(chain)[-1] == "parallel  nothing to gain: each step used the one before it"
    beside = turn_of(ran("look.1", 0, 1.0), ran("look.2", 0, 1.0))
    assert printed.took(beside)[-3:] == [
        "parallel  2.0 steps at a time, 2.0 possible: 2.00 s of work in 1.00 s",
        "critical  1.00 s  look.1",
        "lost      next to nothing",
    ]


def test_a_step_tells_what_it_waited_for_and_what_it_owns(printed: Printed) -> None:
    """In full a step has its branch, its waits, its fences, and what became of a person's word."""
    step = ran(
        "set_tier.5",
        0,
        1.0,
        branch="research",
        waits=(Wait(1.0, "write crm/7", "t-1"), Wait(0.5, "service crm", "")),
        owned=(
            Owned(("crm/7", "crm/8"), 1_012, ("checked", "version")),
            Owned(("mail/1", "mail/2"), 13, ("delay", "advisory"), "t-9", dirty=True),
        ),
        decisions=(
            Decision("approved", "person", "ada", NOON_S, "fine"),
            Decision("void", "changed", "", NOON_S),
            Decision("void", "expired", "", NOON_S),
            Decision("applied", "verify", "get_account", NOON_S),
        ),
    )
    text = printed.step(step)
    for line in (
        "  branch      research",
        "  waited      1.00 s for write crm/7, behind t-1",
        "              0.50 s for service crm",
        "  owns        crm/7, fence 1,012, which the resource checks",
        "              crm/8, fence 1,012, held by the version written to",
        "  owns        mail/1, fence 13, held by waiting out the lease",
        "              mail/2, fence 13, advisory: nothing holds a lapsed owner back",
        "              taken over from turn t-9, whose lease had lapsed",
        "              dirty: that turn was cut off in the middle of a write to it",
    ):
        assert f"{line}\n" in text
    assert "approved by ada: fine" in text
    assert "void, and asked again: the record has changed since" in " ".join(text.split())
    assert "void, and asked again: it was given too late" in " ".join(text.split())
    assert "applied says get_account (verify)" in text
    plain = printed.step(ran("look.1", 0, 1.0))
    assert not [word for word in ("branch", "waited", "owns") if word in plain]


@pytest.mark.parametrize("columns", [60, 80])
def test_hostile_claims_do_nothing_to_a_terminal(printed: Printed, columns: int) -> None:
    """Keys, branches and strengths are as hostile as what they were made of, and as long."""
    bad = EVIL * 40
    step = ran(
        "put.2",
        1,
        1.0,
        branch=bad,
        waits=(Wait(1.0, bad, bad),) * 30,
        owned=(Owned((bad,) * 30, 1, (bad,) * 30, bad, dirty=True),),
        decisions=(Decision("void", bad, "", NOON_S),),
    )
    turn = turn_of(ran("look.1", 0, 1.0), step, ran(f"{EVIL}.3", 2, 1.0, "put.2"))
    page = printed.page(turn, columns=columns)
    assert len(page.splitlines()) < 60
    printed.page(turn, everything=True, columns=columns)
    printed.step(step, columns)


def test_json_has_the_parallelism_of_a_turn(face: Face) -> None:
    """For programs the record has every figure, and of each step its waits and what it owns."""
    face.use("run", "app.py:many", "--input", '{"count": 3}')
    trace = face.json("show", "last")
    said = trace["parallelism"]
    assert said["critical_path"][0] == "items.1"
    assert said["critical_path"][-1] == "total.5"
    assert 0 < said["critical_s"] <= said["elapsed_s"]
    assert 0 < said["achieved"] <= said["possible"]
    assert said["waits"] == []
    assert "  parallel  " in face.use("show", "last").stdout
    step = face.json("show", "last", "--step", "total")
    assert (step["branch"], step["waits"], step["owned"]) == ("", [], [])
