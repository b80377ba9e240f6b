"""`undercroft replay`: what a person is told of a turn that is run once more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Face

APP = '''
from pathlib import Path
import undercroft as uc

def note(what):
    with Path("called").open("a") as file:
        file.write(what)

@uc.tool(reads="crm/{account_id}")
async def get_account(account_id: str) -> dict[str, str]:
    """Read."""
    note("get ")
    return {"id": account_id, "tier": "silver"}

@uc.tool(writes="crm/{account_id}")
async def set_tier(account_id: str, tier: str) -> str:
    """Write."""
    note("set ")
    return f"{account_id} is {tier}"

async def work(turn, message):
    turn.context.user(message)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text

@uc.handler(tools=[get_account, set_tier])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    return await work(turn, message)

@uc.handler(tools=[get_account, set_tier])
async def other(turn: uc.Turn, message: str) -> str:
    """Do as the model says, which is told a little more."""
    return await work(turn, message + " And be quick about it.")

ALSO = uc.Call("get_account", {"account_id": "7"})
model = uc.testing.ScriptedModel([
    [ALSO], [uc.Call("set_tier", {"account_id": "7", "tier": "gold"})], "It is gold."])
'''


@pytest.fixture
def ran(face: Face) -> Face:
    """Return a folder in which a turn was run."""
    (face.folder / "desk.py").write_text(APP)
    given = ("run", "desk.py:assist", "--model", "desk.py:model", "--session", "s-1")
    result = face.use(*given, "--input", '{"message": "gold for 7"}')
    assert result.exit_code == 0, result.output
    (face.folder / "called").unlink()
    return face


def test_the_same_is_said_to_be_the_same(ran: Face) -> None:
    """Nothing is called, and the count of what was compared is told."""
    result = ran.use("replay", "last")
    assert result.exit_code == 0
    assert "is the same, byte for byte, up to its end: nothing was called." in " ".join(
        result.stdout.split()
    )
    assert "5 steps met again in the journal, 3 prompts compared." in result.stdout
    assert not (ran.folder / "called").exists()
    told = ran.json("replay", "last")
    assert (told["same"], told["prompts"], told["divergence"]) == (True, 3, None)


def test_what_differs_is_named_and_shown(ran: Face) -> None:
    """A changed prompt is an exit code of 1, and both texts from where they differ."""
    result = ran.use("replay", "last", "--as", "desk.py:other")
    assert result.exit_code == 1
    assert "The prompt differs at step model.1, in message 0." in result.stdout
    assert "gold for 7 And be quick about it." in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert not (ran.folder / "called").exists()


def test_from_a_step_on_reads_are_live_and_writes_refused(ran: Face) -> None:
    """Effects are off until they are allowed, and the journal stays as it was."""
    before = (ran.folder / "undercroft.db").read_bytes()
    result = ran.use("replay", "last", "--from", "1", "--model", "desk.py:model")
    assert result.exit_code == 0, result.output
    assert "Not called, since they change the world: set_tier." in result.stdout
    assert (ran.folder / "called").read_text() == "get "
    allowed = ("replay", "last", "--from", "1", "--effects", "--model", "desk.py:model")
    assert ran.use(*allowed).exit_code == 0
    assert (ran.folder / "called").read_text() == "get get set "
    assert (ran.folder / "undercroft.db").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay", "nothing"), "there is no such turn"),
        (("replay", "last", "--from", "send"), "it has no step 'send'"),
        (("replay", "last", "--effects"), "Add --from STEP."),
        (("replay", "last", "--secrets", "none.json"), "No such file"),
        (("replay", "last", "--as", "desk.py:nobody"), "nobody"),
        (("replay", "last", "--db", "none.db"), "there is no such file"),
    ],
)
def test_what_cannot_be_run_says_why(ran: Face, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, one message on stderr, nothing on stdout."""
    result = ran.use(*words)
    assert result.exit_code == 2
    assert not result.stdout
    assert said in " ".join(result.stderr.split())


def test_secrets_come_from_a_file_and_are_never_shown(ran: Face) -> None:
    """A list of values puts back what was redacted; a file that is none is not printed."""
    (ran.folder / "bad.json").write_text("Zx7LmN2bTyR4")
    result = ran.use("replay", "last", "--secrets", "bad.json")
    assert result.exit_code == 2
    assert "it is no list of values" in result.stderr
    assert "Zx7LmN2b" not in result.output
    given = '{"message": "the api_key is Zx7LmN2bTyR4"}'
    ran.use("run", "desk.py:assist", "--model", "desk.py:model", "--input", given)
    assert ran.use("replay", "last").exit_code == 0
    (ran.folder / "undercroft.db-key").rename(ran.folder / "elsewhere")
    lost = ran.use("replay", "last")
    assert lost.exit_code == 2
    assert "-key file" in " ".join(lost.stderr.split())
    (ran.folder / "elsewhere").rename(ran.folder / "undercroft.db-key")
    (ran.folder / "known.json").write_text('["Zx7LmN2bTyR4"]')
    assert ran.use("replay", "last", "--secrets", "known.json").exit_code == 0


def test_a_recorded_turn_is_a_regression_test(ran: Face) -> None:
    """Pytest finds the fixture by itself, and a divergence fails the test that asks for it."""
    turn_id = ran.json("replay", "last")["turn_id"]
    (ran.folder / "test_incident.py").write_text(
        f"""
import desk

def test_same(replayed):
    assert replayed("undercroft.db", {turn_id!r}, target=desk.assist).prompts == 3

def test_other(replayed):
    replayed("undercroft.db", {turn_id!r}, target=desk.other)
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_incident.py"],
        cwd=ran.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "is not as it was recorded: prompt of step model.1, message 0" in done.stdout
