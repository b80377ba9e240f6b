"""`check`: what is missing in a declaration, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.cli.conftest import Face
from undercroft.cli.demo import app as demo
from undercroft.engine.check import check, resources_of, strengths
from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.resource import Resource
from undercroft.layers.conflicts.strength import ResourceRow
from undercroft.model.effect import Strength
from undercroft.model.finding import Finding


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
    for asked in (check, resources_of, strengths):
        with pytest.raises(DeclarationError, match="neither a workflow nor a handler"):
            asked(7)


# ------------------------------------------------------------------ races


def only(rule: str, target: object) -> list[Finding]:
    """Return what `target` is told by one rule."""
    return [finding for finding in check(target) if finding.rule == rule]


def withdrawals(*, ordered: bool) -> uc.Workflow:
    """Return two withdrawals from one account, one after the other or not."""
    flow = uc.Workflow("bank")

    @flow.resolve
    async def account(name: str) -> str:
        return name

    @flow.execute(writes="bank/{account}")
    async def first(account: str) -> str:
        return account

    async def second(account: str) -> str:
        return account

    async def second_after(account: str, first: str) -> str:
        return account + first

    second_after.__name__ = "second"
    flow.execute(writes="bank/{account}/balance")(second_after if ordered else second)
    return flow


def test_two_unordered_writes_are_a_race() -> None:
    """The finding names both steps, both claims and the edge; with that edge it is gone."""
    (race,) = only("conflicts.race", withdrawals(ordered=False))
    assert race.severity == "error"
    assert race.place == "steps 'first' and 'second' of workflow 'bank'"
    assert "write bank/{account} " in race.message
    assert "write bank/{account}/balance" in race.message
    assert "Give 'second' the parameter `first`" in race.mend
    assert only("conflicts.race", withdrawals(ordered=True)) == []


def test_a_race_of_phases_is_ordered_by_phase() -> None:
    """A read that races with a write comes first, since no edge runs backwards."""
    flow = uc.Workflow("flow")

    @flow.execute(writes="crm/{name}")
    async def write(name: str) -> str:
        return name

    @flow.gather("crm/{name}/notes")
    async def notes(name: str = "x") -> str:
        return name

    (race,) = only("conflicts.race", flow)
    assert "Give 'write' the parameter `notes`" in race.mend


def test_a_step_that_declares_nothing_races_with_its_service() -> None:
    """Undeclared access is exclusive, so whatever else talks to the service has to be ordered."""
    flow = uc.Workflow("flow")

    @flow.read("crm/{name}", service="crm")
    async def look(name: str) -> str:
        return name

    @flow.read("mail/{name}", service="mail")
    async def mails(name: str) -> str:
        return name

    @flow.execute(service="crm")
    async def silent(name: str = "") -> str:
        return name

    (race,) = only("conflicts.race", flow)
    assert race.place.startswith("steps 'look' and 'silent'")
    assert "exclusive all of service 'crm'" in race.message

    @flow.execute
    async def wild(name: str = "") -> str:
        return name

    assert len(only("conflicts.race", flow)) == 4
    assert any("exclusive everything" in race.message for race in only("conflicts.race", flow))


def test_what_may_be_missing_claims_more() -> None:
    """A key of an optional step may end before it, so the part that is always known counts."""

    def made(*, optional: bool) -> uc.Workflow:
        flow = uc.Workflow("flow")

        @flow.resolve(optional=optional)
        async def folder(name: str) -> str:
            return name

        @flow.execute(writes="drive/{folder}/a")
        async def one(folder: str | None) -> str:
            return folder or ""

        @flow.execute(writes="drive/{name}/b")
        async def other(name: str, folder: str | None) -> str:
            return name + (folder or "")

        return flow

    assert only("conflicts.race", made(optional=False)) == []
    assert only("conflicts.race", made(optional=True))


def test_other_spellings_race_too() -> None:
    """Two names of one resource conflict like one."""
    known = Resource("crm/{id}", aliases=["customers/{id}"])

    def made(*resources: Resource) -> uc.Workflow:
        flow = uc.Workflow("flow", resources=resources)

        @flow.execute(writes="crm/{name}")
        async def one(name: str) -> str:
            return name

        @flow.execute(writes="customers/{name}/notes")
        async def other(name: str) -> str:
            return name

        return flow

    assert only("conflicts.race", made()) == []
    assert only("conflicts.race", made(known))


@pytest.mark.parametrize(
    ("key", "race"), [("crm/{one}", False), ("crm/{name}", True), ("crm/all", True)]
)
def test_items_of_a_fan_out_race(key: str, *, race: bool) -> None:
    """Items run beside each other: each must write what its key alone names."""
    flow = uc.Workflow("flow")

    @flow.resolve
    async def names(name: str) -> list[str]:
        return [name]

    @flow.execute(writes=key, each="names")
    async def write(one: str, name: str = "x") -> str:
        return one + name

    found = only("conflicts.fan_out_race", flow)
    assert bool(found) == race
    assert all("{one}" in finding.mend for finding in found)


def test_claims_that_say_nothing_are_found() -> None:
    """A claim within another one of the same step is a sign of a mistake, in both kinds."""

    @uc.tool(writes=["crm/{a}", "crm/{a}/notes"])
    async def both(a: str) -> str:
        """Write."""
        return a

    @uc.handler(tools=[both])
    async def loop(turn: uc.Turn) -> None:
        del turn

    (finding,) = only("conflicts.self_overlap", loop)
    assert finding.severity == "warning"
    assert "write crm/{a}/notes" in finding.message

    flow = uc.Workflow("flow")

    @flow.read(["crm", "crm/{name}"])
    async def look(name: str) -> str:
        return name

    assert [f.place for f in only("conflicts.self_overlap", flow)] == [
        "step 'look' of workflow 'flow'"
    ]


def test_resources_that_cannot_be_told_apart_are_a_finding() -> None:
    """Where two steps name resources of which one key may be either, `check` says so."""
    flow = uc.Workflow("flow")

    @flow.read(Resource("crm/{name}", aliases=["c/{name}"]))
    async def one(name: str) -> str:
        return name

    @flow.read(Resource("mail/{name}", aliases=["c/{name}"]))
    async def other(name: str) -> str:
        return name

    (finding,) = check(flow)
    assert (finding.rule, finding.severity) == ("conflicts.ambiguous_resource", "error")
    assert resources_of(flow) == []


# ------------------------------------------------------------------ resources


@uc.tool(reads="crm/{id}", version=lambda record: record["etag"])
async def get(id: str) -> dict[str, str]:  # noqa: A002  as models call it
    """Get."""
    return {"etag": id}


@uc.tool(writes="crm/{id}")
async def put(id: str, key: uc.IdempotencyKey) -> str:  # noqa: A002  as models call it
    """Put."""
    return id + key


@uc.tool(writes="bank/{id}")
async def pay(id: str, fence: uc.Fence, key: uc.IdempotencyKey) -> str:  # noqa: A002  as models call it
    """Pay."""
    return f"{id}{fence}{key}"


@uc.handler(
    tools=[get, put, pay], resources=[Resource("bank/{x}/card", fence="delay", delay_s=2.5)]
)
async def assist(turn: uc.Turn) -> None:
    """Do something."""
    del turn


def test_every_written_resource_says_how_strong_its_fence_is() -> None:
    """Declared, or worked out: by a fence that it takes, by a version, or not at all."""
    assert resources_of(assist) == [
        ResourceRow("crm/{id}", ("put",), Strength.VERSION),
        ResourceRow("bank/{id}", ("pay",), Strength.CHECKED),
    ]
    strength = strengths(assist)
    assert [strength(key) for key in ("crm/7", "bank/7", "bank/7/card", "x")] == [
        *("version", "checked", "delay", "advisory")
    ]
    flow = withdrawals(ordered=True)
    assert [row.writers for row in resources_of(flow)] == [("first",), ("second",)]
    assert strengths(flow)("bank/7") is Strength.ADVISORY


def test_the_table_of_resources_is_no_finding(face: Face) -> None:
    """It stands below whatever is missing, in text and in JSON, and leaves the exit code alone."""
    result = face.use("check", "undercroft.cli.demo.app:assist")
    assert result.exit_code == 0
    assert "nothing is missing" in result.stdout
    last = result.stdout.rstrip().splitlines()[-1]
    assert last.split() == ["crm/{account_id}", "set_plan", "advisory"]
    said = face.json("check", "undercroft.cli.demo.app:assist")
    assert said["resources"] == [
        {
            "key": "crm/{account_id}",
            "writers": ["set_plan"],
            "strength": "advisory",
            "delay_s": 0.0,
        }
    ]


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
        assert bool(face.json("check", target)["findings"]) == (code == 1)


def test_a_graph_that_fails_where_it_is_written_is_a_finding_too(face: Face) -> None:
    """Two steps of one name are found while the module is imported, and are no crash."""
    Path("twice.py").write_text(
        "import undercroft as uc\nflow = uc.Workflow('f')\n"
        "@flow.read\nasync def a() -> str: return ''\n"
        "@flow.read\nasync def a() -> str: return ''\n"
    )
    said = face.json("check", "twice.py:flow")
    assert said["resources"] == []
    (finding,) = said["findings"]
    assert finding["rule"] == "sequencing.graph"
    assert "two steps are called 'a'" in finding["message"]
