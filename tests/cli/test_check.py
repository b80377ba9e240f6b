"""`check`: what is missing in a declaration, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.cli.conftest import Face
from undercroft.cli.demo import app as demo
from undercroft.engine.check import check
from undercroft.errors import DeclarationError


def rules(target: object) -> set[str]:
    """Return the rules that `target` breaks."""
    return {finding.rule for finding in check(target)}


@pytest.mark.parametrize("target", [demo.renewal, demo.assist], ids=["workflow", "handler"])
def test_the_example_is_clean(target: Any) -> None:
    """The app that newcomers copy from lacks nothing."""
    assert check(target) == []


def test_a_graph_that_does_not_hold_is_an_error() -> None:
    """What `build` raises is the one finding; nothing else can be said of such a graph."""
    flow = uc.Workflow("flow")

    @flow.read
    async def first(second: str) -> str:
        return second

    @flow.read
    async def second(first: str) -> str:
        return first

    (finding,) = check(flow)
    assert (finding.rule, finding.severity) == ("sequencing.graph", "error")
    assert "circle" in finding.message
    assert finding.mend


def test_a_write_that_nobody_can_settle_is_a_finding() -> None:
    """A write needs a verify or an idempotency key, or a crash leaves it to a person."""
    flow = uc.Workflow("flow")

    @flow.read("a")
    async def seen() -> str:
        return ""

    @flow.execute(writes="a")
    async def bare(seen: str) -> str:
        return seen

    @flow.execute(writes="b")
    async def keyed(seen: str, key: uc.IdempotencyKey) -> str:
        return seen + key

    @flow.execute(writes="c", verify=seen)
    async def verified(seen: str) -> str:
        return seen

    @flow.confirm
    async def told(bare: str, keyed: str, verified: str) -> str:
        return bare + keyed + verified

    found = [f.place for f in check(flow) if f.rule == "sequencing.unsettled_write"]
    assert found == ["step 'bare' of workflow 'flow'"]


def test_a_used_value_without_annotation_is_a_finding() -> None:
    """On a resume such a value comes back as plain data; where nobody uses it, no matter."""
    flow = uc.Workflow("flow")

    @flow.resolve
    async def untyped():  # type: ignore[no-untyped-def]  # noqa: ANN202  the point
        return 1

    @flow.resolve
    async def meant() -> Any:
        return 1

    @flow.confirm
    async def told(untyped: int, meant: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  the point
        return untyped + meant

    found = [f.place for f in check(flow) if f.rule == "sequencing.untyped_value"]
    assert found == ["step 'untyped' of workflow 'flow'"]


def test_tools_are_checked_one_by_one() -> None:
    """A tool without effect, description or a way to settle it, or whose needs are not offered."""

    @uc.tool(reads="x/{a}")
    async def look(a: str) -> str:
        """Look."""
        return a

    @uc.tool(service="crm", needs=[look])
    async def bare(a: str) -> str:
        return a

    @uc.handler(tools=[bare])
    async def loop(turn: uc.Turn) -> None:
        del turn

    assert rules(loop) == {
        "conflicts.undeclared_effect",
        "sequencing.needs_unoffered",
        "sequencing.undescribed_tool",
        "sequencing.unsettled_write",
    }
    undeclared = next(f for f in check(loop) if f.rule == "conflicts.undeclared_effect")
    assert "service 'crm'" in undeclared.message


def test_only_workflows_and_handlers_can_be_checked() -> None:
    """Anything else is an error of the caller's."""
    with pytest.raises(DeclarationError, match="neither a workflow nor a handler"):
        check(7)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        pytest.param("undercroft.cli.demo.app:renewal", 0, id="clean"),
        pytest.param("app.py:careless", 1, id="warnings"),
        pytest.param("app.py:unfit", 1, id="error"),
        pytest.param("app.py:nothing", 2, id="no-target"),
        pytest.param("nowhere.py:x", 2, id="no-file"),
    ],
)
def test_the_exit_code_says_whether_something_is_missing(
    face: Face, target: str, code: int
) -> None:
    """0 clean, 1 findings, 2 could not run; findings are on stdout."""
    result = face.use("check", target)
    assert result.exit_code == code
    assert bool(result.stdout) == (code != 2)
    assert bool(result.stderr) == (code == 2)
    if code != 2:
        assert bool(face.json("check", target)) == (code == 1)


def test_a_graph_that_fails_where_it_is_written_is_a_finding_too(face: Face) -> None:
    """Two steps of one name are found while the module is imported, and are no crash."""
    Path("twice.py").write_text(
        "import undercroft as uc\nflow = uc.Workflow('f')\n"
        "@flow.read\nasync def a() -> str: return ''\n"
        "@flow.read\nasync def a() -> str: return ''\n"
    )
    (finding,) = face.json("check", "twice.py:flow")
    assert finding["rule"] == "sequencing.graph"
    assert "two steps are called 'a'" in finding["message"]
