"""`check` of a loop that is somebody else's: what of its tools nobody declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Face

APP = '''
import undercroft as uc
from undercroft.model.foreign import ForeignTool, Hints

def get_account(account: str) -> str:
    """Look an account up."""
    return account

def withdraw(account: str, amount: int) -> str:
    """Take money."""
    return account

uc.declare(get_account, reads="account/{account}")
tools = [get_account, withdraw]
number = 3
'''


@pytest.fixture
def agents(face: Face) -> Face:
    """Return a folder with tools that are only in part declared."""
    (face.folder / "agents.py").write_text(APP)
    return face


def test_a_list_of_tools_is_checked_like_a_handler(agents: Face) -> None:
    """What is undeclared is named, with both places where it can be said; exit code 1."""
    result = agents.use("check", "agents.py:tools")
    said = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert "tool 'withdraw' declares no effect" in said
    assert "get_account" not in said
    assert 'uc.declare(withdraw, reads="…", writes="…", …)' in said
    assert '[tools.withdraw] writes = "…"' in said
    found = agents.json("check", "agents.py:tools")
    assert {finding["rule"] for finding in found["findings"]} == {
        "conflicts.undeclared_effect",
        "sequencing.unsettled_write",
    }


def test_what_a_file_declares_counts(agents: Face) -> None:
    """With all of it said, nothing is missing, and the resources are listed."""
    path = agents.folder / "undercroft.toml"
    path.write_text('[tools.withdraw]\nwrites = "account/{account}"\nidempotent = true\n')
    result = agents.use("check", "agents.py:tools", "--effects", str(path))
    assert result.exit_code == 0, result.output
    assert "nothing is missing" in result.stdout
    assert "account/{account}" in result.stdout


@pytest.mark.parametrize(
    ("target", "effects", "said"),
    [
        ("agents.py:tools", "[tools.withdrw]\nwrites = 'a'", "it declares 'withdrw', which"),
        ("agents.py:tools", "[tools.withdraw]\nwrits = 'a'", "Did you mean writes?"),
        ("agents.py:tools", "[tools", "it is no TOML"),
        ("agents.py:number", None, "it is of type int: no workflow, no handler, no agent"),
        ("agents.py:tols", None, "Did you mean tools?"),
        ("agents.py:number", "[tools]", "it declares its tools itself"),
    ],
)
def test_what_cannot_be_checked_says_why(
    agents: Face, target: str, effects: str | None, said: str
) -> None:
    """In one sentence on stderr, with exit code 2."""
    words = ["check", target]
    if effects is not None:
        path = Path(agents.folder / "undercroft.toml")
        path.write_text(effects)
        words += ["--effects", str(path)]
    result = agents.use(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
