"""Declaring what tools do that somebody else wrote: in code, in a file, and by their hints."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.engine.declaring import declared_of, read_effects
from undercroft.engine.foreign import tools_of
from undercroft.model.effect import Claim, Mode
from undercroft.model.foreign import ForeignTool, Hints

SCHEMA = {
    "type": "object",
    "properties": {"account": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["account"],
}


def foreign(**facts: Any) -> ForeignTool:
    """Return a tool of another library."""
    return ForeignTool("withdraw", "Takes money.", SCHEMA, **facts)


def test_what_is_declared_of_an_object_holds_for_the_tool_made_of_it() -> None:
    """By the tool itself, or by the function that it was made of."""

    def withdraw(account: str, amount: int) -> None:
        """Take money."""

    uc.declare(withdraw, writes="account/{account}", service="bank", approval=True, timeout_s=3)
    [by_function] = tools_of([foreign(origins=(object(), withdraw))], {})
    assert by_function.effect.claims == (Claim(Mode.WRITE, "account/{account}"),)
    assert (by_function.service, by_function.rules.approval) == ("bank", True)
    assert by_function.body.timeout_s == 3
    [plain] = tools_of([withdraw], {})
    assert plain.effect.claims == by_function.effect.claims
    assert plain.rules.approval


def test_a_declaration_goes_with_its_object() -> None:
    """Nothing is kept of a tool that is gone, and its place in memory says nothing of another."""

    def make() -> int:
        def gone() -> None:
            """Go."""

        uc.declare(gone, reads="r")
        assert declared_of((gone,)) is not None
        return id(gone)

    key = make()
    gc.collect()
    from undercroft.engine import declaring  # noqa: PLC0415  what is kept is nobody's business

    assert key not in declaring._said  # noqa: SLF001  likewise


def test_what_nobody_declared_is_exclusive_over_its_service() -> None:
    """Safe by default, as any tool is."""
    [made] = tools_of([foreign(service="bank")], {})
    assert not made.effect.declared
    assert made.body.changes
    assert made.declared.implicit == (("exclusive", "!service/bank"),)


def test_hints_are_hints_and_a_declaration_counts_more() -> None:
    """Read-only: it changes nothing, by its own word. Idempotent: it may be repeated."""
    [read] = tools_of([foreign(hints=Hints(read_only=True))], {})
    assert read.effect.declared
    assert not read.body.changes
    [again] = tools_of([foreign(hints=Hints(idempotent=True))], {})
    assert again.body.changes
    assert again.body.keyed
    [asked] = tools_of([foreign(hints=Hints(approval=True))], {})
    assert asked.rules.approval

    liar = foreign(hints=Hints(read_only=True, idempotent=True, approval=True))
    uc.declare(liar, writes="account/{account}", idempotent=False, approval=False)
    [said] = tools_of([liar], {})
    assert said.body.changes
    assert not said.body.keyed
    assert not said.rules.approval


def test_a_file_says_it_by_name(tmp_path: Path) -> None:
    """Every word that can be written in a file reaches the tool; it counts more than the code."""
    path = tmp_path / "undercroft.toml"
    path.write_text(
        """
        [tools.withdraw]
        writes = "account/{account}"
        service = "bank"
        approval = true
        expires_s = 60
        retry = 3
        timeout_s = 2.5
        needs = ["get_account"]
        read_first = false
        polls = true
        usd = 0.01
        idempotent = true

        [tools.get_account]
        reads = ["account/{account}", "limits"]
        """
    )
    get = ForeignTool("get_account", "", SCHEMA)
    mine = foreign()
    uc.declare(mine, reads="elsewhere")
    made = {tool.name: tool for tool in tools_of([mine, get], read_effects(path))}
    withdraw = made["withdraw"]
    assert withdraw.effect.claims == (Claim(Mode.WRITE, "account/{account}"),)
    assert withdraw.service == "bank"
    assert withdraw.rules.approval
    assert withdraw.rules.expires_s == 60
    assert withdraw.rules.needs == ("get_account",)
    assert withdraw.rules.shared == (("account", "amount"),)
    assert not withdraw.rules.read_first
    assert withdraw.polls
    assert withdraw.body.retry is not None
    assert withdraw.body.retry.attempts == 3
    assert (withdraw.body.timeout_s, withdraw.body.usd_nano) == (2.5, 10_000_000)
    assert withdraw.body.keyed
    assert [claim.key for claim in made["get_account"].effect.claims] == [
        "account/{account}",
        "limits",
    ]


@pytest.mark.parametrize(
    ("text", "problem", "mend"),
    [
        ("[tools.x]\nwrits = 'a'", "[tools.x]: there is no word 'writs'", "Did you mean writes?"),
        ("[tools.x]\nwrites = 3", "writes = 3 cannot be meant", "a text or a list"),
        ("[tools.x]\napproval = 1", "approval = 1 cannot be meant", "true or false"),
        ("[tools.x]\nretry = true", "retry = True cannot be meant", "a whole number"),
        ("[tools.x]\nverify = 'get'", "there is no word 'verify'", "There are: peeks"),
        ("[tool.x]\nwrites = 'a'", "it has a table 'tool'", "[tools.NAME]"),
        ("tools = 3", "its `tools` are no table", "[tools.NAME]"),
        ("[tools]\nx = 3", "[tools.x]: it is no table", 'reads = "…"'),
        ("[tools", "it is no TOML", "Mend it there"),
    ],
)
def test_a_file_that_cannot_be_meant_says_where(
    tmp_path: Path, text: str, problem: str, mend: str
) -> None:
    """The file, the table, the word, and what would do."""
    path = tmp_path / "undercroft.toml"
    path.write_text(text)
    with pytest.raises(uc.DeclarationError) as caught:
        read_effects(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)
    assert mend in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(uc.DeclarationError, match=r"gone\.toml: it cannot be read: No such file"):
        read_effects(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"writes": "account/{acount}"}, "a key names {acount}, which is not a parameter"),
        ({"writes": "a//b"}, "tool 'withdraw'"),
        ({"write": "a"}, "there is no word 'write'. Did you mean writes?"),
        ({"needs": "get"}, "needs='get' is no list"),
        ({"expires_s": 3}, "expires_s is 3"),
    ],
)
def test_what_cannot_be_meant_is_said_where_it_is_declared_or_met(
    words: dict[str, Any], problem: str
) -> None:
    """At once where the words are wrong, and with the tool where they do not fit it."""
    tool = foreign()
    with pytest.raises((uc.DeclarationError, ValueError)) as caught:  # noqa: PT012  either
        uc.declare(tool, **words)
        tools_of([tool], {})
    assert problem in str(caught.value)


def test_only_tools_are_declared() -> None:
    """One of ours says it itself, and a name is no tool."""

    @uc.tool(reads="r")
    async def look() -> str:
        """Look."""
        return ""

    with pytest.raises(uc.DeclarationError, match="it is declared already"):
        uc.declare(look, reads="r")
    with pytest.raises(uc.DeclarationError, match="a name is no tool"):
        uc.declare("look", reads="r")
    with pytest.raises(uc.DeclarationError, match="it is no tool"):
        tools_of([3], {})
    with pytest.raises(uc.DeclarationError, match="two tools have this name"):
        tools_of([look, look], {})
