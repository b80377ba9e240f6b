"""The story of the demo: a process is killed in the middle of a payment, and nothing is lost.

Everything shown is real: the commands run as processes of their own, the kill is SIGKILL, and
each claim is checked against the world's own file before it is printed. Exit code 1 if one
does not hold.
"""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import out, print_command, put, say
from undercroft.cli.demo import world
from undercroft.cli.demo.children import Said, Stage
from undercroft.cli.options import Json
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.show import Page, print_page
from undercroft.cli.where import Where
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.trace import StepTrace, Trace
from undercroft.queries import list_turns, read_trace, six_answers

APP = "undercroft.cli.demo.app"
BY = "grace"
_READS = ("read crm", "read billing")
_WRITES = ("hold", "payment", "mail")


@dataclass(slots=True)
class _Story:
    """The story so far.

    Attributes:
        failed: Claims that did not hold.
        turns: Ids of the turns told about.
    """

    console: Console
    stage: Stage
    claims: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        line = f"━━ {text} "
        self.console.print()
        put(self.console, [Text(line + "━" * (self.console.width - len(line)), style="bold blue")])

    def tell(self, text: str) -> None:
        say(self.console, text, 2)
        self.console.print()

    def typed(self, *words: str) -> list[str]:
        """Print a command as somebody types it; return what to run."""
        print_command(self.console, ["undercroft", *words], "  $ ")
        return list(words)

    def said(self, said: Said) -> None:
        """Print what a process said."""
        lines = Text.from_ansi(said.text).split("\n")
        put(self.console, [Text.assemble(("  │ ", "dim"), line) for line in lines])

    def claim(self, text: str, *, holds: bool) -> None:
        """Print a claim that was checked."""
        self.claims.append(text)
        if not holds:
            self.failed.append(text)
        mark = ("✓", "bold green") if holds else ("✗ not so:", "bold red")
        say(self.console, Text.assemble(mark, " ", text), 2)

    def trace(self, turn_id: str) -> Trace:
        return read_trace(str(self.stage.journal), turn_id)


def demo(
    *,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep", metavar="DIR", help="Keep the journal here; a temporary folder if left out."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Kill a payment in its middle, and see that it happens exactly once. No key needed."""
    console = out()
    folder = Path(keep or tempfile.mkdtemp(prefix="undercroft-demo-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(folder, console.width - 4, console.is_terminal and not console.no_color)
    if stage.journal.exists():
        raise CannotRunError("--keep", f"{folder} holds a demo already", "Name another folder.")
    # The world lies beside the journal, and is read here to check every claim.
    os.environ["UNDERCROFT_DB"] = str(stage.journal)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        story = _Story(Console(file=nowhere, width=80) if as_json else console, stage)
        _tell(story)
    if as_json:
        print_json(
            {
                "journal": str(stage.journal),
                "turns": story.turns,
                "claims": [
                    {"claim": claim, "holds": claim not in story.failed} for claim in story.claims
                ],
            }
        )
    raise typer.Exit(1 if story.failed else 0)


def _tell(story: _Story) -> None:
    say(
        story.console,
        "Undercroft at work, without a model, a key or a server. The bank, the CRM and the mail "
        "server of this story are one file that counts: who asks them twice is served twice.",
    )
    turn_id = _killed(story)
    _resumed(story, turn_id)
    _approved_twice(story, turn_id)
    _refused(story)
    story.title("5. What happened? The journal knows, and nothing runs again")
    story.typed("show", turn_id)
    story.console.print()
    _show(story, turn_id)
    _farewell(story, turn_id)


# ------------------------------------------------------------------ the acts


def _killed(story: _Story) -> str:
    story.title("1. A process is killed while the bank is at work")
    story.tell(
        "Ada's subscription is renewed: two reads side by side, an offer, then the bank puts a "
        "hold on her card. Once it has, and before anybody could write that down: kill -9."
    )
    words = story.typed(
        "run", f"{APP}:renewal", "--input", '{"email": "ada@example.com"}', "--session", "ada"
    )
    code = story.stage.kill_when(words, "hold", lambda: world.happened("hold"))
    put(story.console, [Text("  │ Killed", style="red")])
    (head,) = list_turns(str(story.stage.journal), limit=1)
    story.turns.append(head.turn_id)
    hold = _step(story.trace(head.turn_id), "hold")
    story.console.print()
    story.claim("The process is gone: SIGKILL.", holds=code == -signal.SIGKILL)
    story.claim("The world: 1 hold on Ada's card.", holds=_counts("hold") == [1])
    story.claim(
        f"The journal: {hold.step_id} began. It cannot know how that ended.",
        holds=hold.status is StepStatus.RUNNING and hold.changes,
    )
    return head.turn_id


def _resumed(story: _Story, turn_id: str) -> None:
    story.title("2. Another process goes on where the first one was")
    story.tell(
        "What is recorded does not run again. The hold is in doubt, so the bank is asked first "
        "(verify=find_hold). Then a person has to agree, and the process may end."
    )
    said = story.stage.run(story.typed("resume", turn_id))
    story.said(said)
    trace = story.trace(turn_id)
    hold = _step(trace, "hold")
    story.console.print()
    story.claim(
        "The reads did not run again: each was asked once.", holds=_counts(*_READS) == [1, 1]
    )
    story.claim(
        "The bank said that the hold was there: still 1 hold.",
        holds=_counts("hold") == [1] and [d.how for d in hold.decisions] == ["verify"],
    )
    story.claim(
        "The turn is parked: no process, no lock, for as long as it takes.",
        holds=said.code == 0 and trace.status is TurnStatus.WAITING,
    )


def _approved_twice(story: _Story, turn_id: str) -> None:
    story.title("3. Somebody clicks “approve” twice")
    story.tell("Two processes say yes at the same moment. The money must be taken once:")
    words = story.typed("approve", turn_id, "gate", "--by", BY)
    story.typed(*words)
    both = story.stage.run_together([words, words])
    story.said(both[0])
    story.console.print()
    story.claim(
        "Both were told that the turn is done.",
        holds=[said.code for said in both] == [0, 0] and both[0].text == both[1].text,
    )
    story.claim(
        "The world: 1 hold, 1 payment, 1 mail. Exactly once.", holds=_counts(*_WRITES) == [1, 1, 1]
    )


def _refused(story: _Story) -> None:
    story.title("4. A model wants to write before it has read")
    story.tell(
        "Now a handler: a model proposes the calls (here one made of rules, so that no key is "
        "needed). A write to a record that was not read in this turn is refused, and the "
        "refusal names the next move."
    )
    said = story.stage.run(
        story.typed("run", f"{APP}:assist", "--input", '{"message": "Put acc-7 on plan team."}')
    )
    story.said(said)
    (head,) = list_turns(str(story.stage.journal), limit=1)
    story.turns.append(head.turn_id)
    trace = story.trace(head.turn_id)
    story.console.print()
    for step in trace.steps:
        if step.refusal is not None:
            say(story.console, Text.assemble(("⊘ ", "yellow"), (step.step_id, "bold")), 2)
            say(story.console, step.refusal.message, 4)
            say(story.console, step.refusal.next, 4)
    names = [(step.name, step.status.value) for step in trace.steps if step.kind != "model"]
    story.claim(
        "It mended its plan: read first, then written. 1 change of plan.",
        holds=said.code == 0
        and names == [("set_plan", "refused"), ("get_account", "ok"), ("set_plan", "ok")]
        and _counts("plan") == [1],
    )


def _show(story: _Story, turn_id: str) -> None:
    trace = story.trace(turn_id)
    where = Where(str(story.stage.journal))
    print_page(Page(story.console, trace, six_answers(trace), where, alive=False, everything=False))


def _farewell(story: _Story, turn_id: str) -> None:
    story.title("Look around yourself")
    put(
        story.console,
        [Text(f"  export UNDERCROFT_DB={shlex.quote(str(story.stage.journal))}", style="bold")],
    )
    for words in (
        ["turns"],
        ["show", turn_id, "--step", "hold"],
        ["show", "last"],
        ["check", f"{APP}:renewal"],
    ):
        print_command(story.console, ["undercroft", *words], "  ")
    story.console.print()
    source = Path(__file__).with_name("app.py")
    put(story.console, [Text(f"  The app: {source}", style="dim")])
    if story.failed:
        story.console.print()
        say(story.console, f"{len(story.failed)} of the claims above did not hold.", 0, "bold red")


def _step(trace: Trace, name: str) -> StepTrace:
    return next(step for step in trace.steps if step.name == name)


def _counts(*what: str) -> list[int]:
    return [len(world.happened(one)) for one in what]
