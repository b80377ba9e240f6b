"""What tools, steps and handlers may say of resources, versions and approvals."""

from __future__ import annotations

import math
from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import DeclarationError, GraphError, SettingError
from undercroft.layers.conflicts.resource import Resource

ACCOUNT = Resource("crm/{id}", aliases=["customers/{id}"], fence="version")


@uc.tool(reads=ACCOUNT, service="crm", version=len)
async def get(id: str) -> str:  # noqa: A002  as models call it
    """Get."""
    return id


@uc.tool(writes="customers/{who}/tier", service="crm", approval=True, expires_s=60)
async def put(who: str) -> str:
    """Put."""
    return who


@uc.tool(service="crm")
async def silent(who: str) -> str:
    """Do something."""
    return who


@uc.tool(writes=[lambda who, **more: f"x/{who}/{len(more)}", "log/{who}"])
async def made(who: str, other: int = 0) -> str:
    """Write."""
    return f"{who}{other}"


def loop(*tools: Any, resources: Any = ()) -> Any:
    """Return a handler with these tools."""

    @uc.handler(tools=tools, resources=resources)
    async def handler(turn: uc.Turn) -> None:
        del turn

    return handler


def test_a_handler_knows_its_tools_by_one_spelling() -> None:
    """The resources that any tool names hold for all; what was declared stays as it was."""
    handler = loop(get, put, silent, made)
    assert handler.resources.items == (ACCOUNT,)
    assert put.effect.keys(*uc_modes()) == ("customers/{who}/tier",)
    assert handler.declared["put"].held({"who": 7}) == (
        ("write", "crm/7/tier"),
        ("peek", "!service/crm"),
    )
    assert handler.declared["silent"].held({"who": 7}) == (("exclusive", "!service/crm"),)
    assert handler.declared["made"].pairs({"who": 7, "other": 1}) == (
        ("write", "x/7/1"),
        ("write", "log/7"),
    )
    assert handler.strength("crm/7/tier") == "version"
    assert loop(put).declared["put"] is put.declared
    assert loop(put).strength("crm/7") == "advisory"


def uc_modes() -> tuple[Any, ...]:
    """Return all modes."""
    return tuple(type(put.effect.claims[0].mode))


def test_readers_are_found_by_any_spelling() -> None:
    """A write under one name needs a read under the other."""

    @uc.tool(writes="customers/{id}")
    async def drop(id: str) -> str:  # noqa: A002  as models call it
        """Drop."""
        return id

    handler = loop(get, drop)
    ((name, template),) = handler.readers["drop"]
    assert (name, template.may_yield("crm/7")) == ("get", True)


def test_what_is_said_of_a_call_reaches_the_engine() -> None:
    """Service, version and expiry are kept where the engine looks for them."""
    assert (get.body.service, put.body.service) == ("crm", "crm")
    assert get.body.version is len
    assert get.body.plain
    assert (get.rules.expires_s, put.rules.expires_s) == (None, 60)

    flow = uc.Workflow("flow")

    @flow.read(ACCOUNT, service="crm", version=len)
    async def record(id: str) -> str:  # noqa: A002  as models call it
        return id

    @flow.approve(expires_s=30)
    async def gate(record: str) -> bool:
        return bool(record)

    def key(record: str, gate: uc.Approval) -> str:
        return f"customers/{record}" if gate.granted else "never"

    @flow.execute(writes=key, service="crm")
    async def write(record: str, gate: uc.Approval) -> str:
        return record

    program = flow.build()
    read, asked, written = program.ops
    assert (read.body.version, read.body.service) == (len, "crm")
    assert (read.expires_s, asked.expires_s) == (None, 30)
    assert written.declared.held({"record": "7", "gate": uc.Approval(granted=True)}) == (
        ("write", "crm/7"),
        ("peek", "!service/crm"),
    )
    assert {name for name, _ in written.key_steps} == {"record", "gate"}
    assert program.strength("crm/7") == "version"


@pytest.mark.parametrize("expires_s", [0, -1, math.nan, "60", True])
def test_an_expiry_is_a_time(expires_s: Any) -> None:
    """A word that counts for no time, or for a text, is refused where it is written."""
    with pytest.raises(SettingError, match="expires_s"):
        uc.tool(writes="x", approval=True, expires_s=expires_s)(asks)
    with pytest.raises(SettingError, match="expires_s"):
        uc.Workflow("flow").approve(expires_s=expires_s)(asks)


async def asks(a: str) -> bool:
    """Ask."""
    return bool(a)


def test_only_what_is_approved_expires() -> None:
    """Where nobody is asked there is no word to expire."""
    with pytest.raises(SettingError, match="nobody has to approve"):
        uc.tool(writes="x", expires_s=60)(asks)
    with pytest.raises(SettingError, match="nobody has to approve"):
        uc.Workflow("flow").read("x", expires_s=60)(asks)


@pytest.mark.parametrize("version", ["etag", 7, asks])
def test_a_version_is_made_by_a_plain_function(version: Any) -> None:
    """What cannot be called, or has to be awaited, is refused."""
    with pytest.raises(DeclarationError, match="is not a plain function"):
        uc.tool(reads="x", version=version)(asks)


@pytest.mark.parametrize("keys", [{}, {"writes": "x"}, {"peeks": "x"}])
def test_a_version_is_of_what_is_read(keys: Any) -> None:
    """A tool that reads nothing has no state to tell from another."""
    with pytest.raises(DeclarationError, match="declares no reads="):
        uc.tool(version=len, **keys)(asks)


def test_a_key_function_asks_for_what_there_is() -> None:
    """A function that names no argument of the tool, or no step, is refused like a template."""
    with pytest.raises(DeclarationError, match=r"names \{b\}, which is not a parameter"):
        uc.tool(reads=lambda b: b)(asks)
    flow = uc.Workflow("flow")
    flow.read(reads=lambda b: b)(asks)
    with pytest.raises(GraphError, match=r"names \{b\}"):
        flow.build()
    no_keys: Any
    for no_keys in (asks, get):
        with pytest.raises(DeclarationError, match="is async"):
            uc.tool(reads=no_keys)(asks)


def test_a_key_function_is_given_by_name() -> None:
    """In a decorator a nameless function would be taken for the step itself."""
    with pytest.raises(DeclarationError, match="reads="):
        uc.Workflow("flow").read(lambda a: f"crm/{a}")


def test_bad_resources_fail_where_they_are_given() -> None:
    """What is no list of resources, or holds two for one key, is refused at once."""
    twice = [ACCOUNT, Resource("other/{id}", aliases=["customers/{id}"])]
    resources: Any
    for resources in (ACCOUNT, ["crm/{id}"], 7, twice):
        with pytest.raises(DeclarationError):
            loop(resources=resources)
        with pytest.raises(DeclarationError):
            uc.Workflow("flow", resources=resources)
    assert loop(get, resources=[ACCOUNT]).resources.items == (ACCOUNT,)


def test_a_normal_that_fails_on_a_literal_fails_at_the_declaration() -> None:
    """What can be known without any value is not left to the first turn."""

    def fails(text: str) -> str:
        raise LookupError(text)

    bad = Resource("x/{a}", normal={"a": fails})

    @uc.tool(reads="x/7")
    async def look() -> str:
        """Look."""
        return ""

    with pytest.raises(DeclarationError, match=r"tool 'look'.*raised LookupError"):
        loop(look, resources=[bad])
