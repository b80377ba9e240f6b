"""`demo`: the story is told to its end, and every claim in it holds."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len

from tests.cli.conftest import Face
from undercroft.layers.observability.answers import QUESTIONS


def test_the_demo_runs_to_its_end(face: Face) -> None:
    """A killed payment happens exactly once, a hasty model mends its plan, six answers follow."""
    result = face.process("demo", "--keep", "shown")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 hold, 1 payment, 1 mail. Exactly once." in result.stdout
    assert "It mended its plan" in result.stdout
    assert "hold.5 was cut off in its middle; it had happened" in result.stdout
    assert [q for q in QUESTIONS if q not in result.stdout] == []
    assert "✗ not so" not in result.stdout
    told = result.stdout.partition("Look around yourself")[0]
    assert all(cell_len(line) <= 80 for line in told.splitlines())


def test_the_demo_leaves_a_journal_to_look_around_in(face: Face) -> None:
    """The commands that it ends with work on the journal that it kept."""
    said = face.process("demo", "--keep", "kept", "--json")
    assert said.returncode == 0
    report = face.decoded(said.stdout)
    assert all(claim["holds"] for claim in report["claims"])
    assert len(report["claims"]) >= 8
    journal = ("--db", report["journal"])
    for turn_id in report["turns"]:
        assert face.json("show", turn_id, *journal)["status"] == "done"
    page = face.use("show", report["turns"][0], "--step", "hold", *journal).stdout
    assert "applied says find_hold (verify)" in page
    again = face.use("demo", "--keep", "kept")
    assert again.exit_code == 2
    assert "holds a demo already" in " ".join(again.stderr.split())
    assert Path("kept/world.jsonl").exists()
