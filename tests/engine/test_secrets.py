"""No secret reaches a file that the runtime writes, and turns go on all the same."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.errors import DeclarationError, RedactedError
from undercroft.storage.keyfile import key_of, key_path

# How each is met: under a name, under an annotation, by its make, by the settings.
PLANTED = {
    "field": "Zx7LmN2bTyR4",
    "nested": "q8Zx7-field-nested",
    "number": "48291077",
    "annotated": "correct horse battery",
    "result": "tok result 5512",
    "whole": "whole result 9917",
    "pattern": "sk-proj-Zk3vQ9x7LmN2bTyR4wHs",
    "given": "the blue key of the shop",
    "argument": "argument-77-of-a-model",
}


@dataclass
class Session:
    """What logging in returns."""

    user: str
    ticket: uc.Secret[str]


@uc.tool(reads="shop/{user}", service="shop")
async def log_in(user: str, phrase: uc.Secret[str]) -> Session:
    """Log in."""
    assert phrase == PLANTED["annotated"]
    return Session(user, PLANTED["result"])


@uc.tool(reads="vault/{user}")
async def fetch(user: str) -> uc.Secret[str]:
    """Fetch a secret."""
    del user
    return PLANTED["whole"]


@uc.tool(writes="shop/{user}/card", service="shop", approval=True, read_first=False)
async def store_card(user: str, config: dict[str, Any], key: uc.IdempotencyKey) -> str:
    """Store a card."""
    del key
    return f"{user} with {config['db_password']}"


@uc.tool(reads="pay", service="pay")
async def pay(api_key: str) -> str:
    """Fail, and say too much."""
    msg = f"{api_key} and {PLANTED['pattern']} were refused"
    raise ConnectionError(msg)


def calls(phrase: str) -> list[Any]:
    """Return what a model proposes."""
    return [
        [
            uc.Call("log_in", {"user": "ada", "phrase": phrase}),
            uc.Call("fetch", {"user": "ada"}),
            uc.Call("pay", '{"api_key": "' + PLANTED["argument"] + '"}'),
        ],
        [
            uc.Call(
                "store_card",
                {"user": "ada", "config": {"db_password": PLANTED["nested"], "n": 1}},
            )
        ],
        f"Done with {PLANTED['result']} and {PLANTED['given']}.",
    ]


@uc.handler(tools=[log_in, fetch, store_card, pay])
async def assist(
    turn: uc.Turn, message: str, password: str, pin: uc.Secret[int], phrase: uc.Secret[str]
) -> str:
    """Do as the model says."""
    turn.context.user(f"{message} {phrase} {PLANTED['given']}")
    assert password == PLANTED["field"]
    assert str(pin) == PLANTED["number"]
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


REDACTION = uc.Redaction(values=(PLANTED["given"],))
# Nothing is kept of what was redacted: another process must be told.
TOLD = uc.Redaction(values=(PLANTED["given"],), sealed=False)


def inputs() -> dict[str, Any]:
    """Return what the turn is given."""
    return {
        "message": f"hello {PLANTED['pattern']}",
        "password": PLANTED["field"],
        "pin": int(PLANTED["number"]),
        "phrase": PLANTED["annotated"],
    }


def scripted() -> uc.testing.ScriptedModel:
    """Return a model that proposes the calls."""
    return uc.testing.ScriptedModel(calls(PLANTED["annotated"]))


def leaks(folder: Path) -> Iterator[str]:
    """Yield each secret that some file of a folder holds, also inside of compressed bodies."""
    for path in sorted(folder.rglob("*")):
        texts = [path.read_bytes()] if path.is_file() else []
        if path.suffix == ".db":
            texts += bodies(path)
        for text in texts:
            yield from (f"{name} in {path.name}" for name in PLANTED if is_in(name, text))


def is_in(name: str, text: bytes) -> bool:
    """Whether a planted secret stands in `text`, as text or as a number of msgpack."""
    whole = PLANTED[name].encode()
    number = name == "number" and b"\xce" + int(PLANTED[name]).to_bytes(4, "big") in text
    return whole in text or number


def bodies(path: Path) -> list[bytes]:
    """Return all that a journal holds, decompressed."""
    from undercroft.storage.bodies import whole  # noqa: PLC0415
    from undercroft.storage.read import open_reader  # noqa: PLC0415

    with open_reader(str(path)) as reader:
        frames = [data for _, _, data in reader.all_frames()]
    with closing(sqlite3.connect(path)) as connection:
        parts = [whole(data) for (data,) in connection.execute("SELECT data FROM body")]
        rows = [
            repr(row).encode()
            for table in ("turn", "circuit", "gauge", "spent", "runtime")
            for row in connection.execute(f"SELECT * FROM {table}")  # noqa: S608
        ]
    return frames + parts + rows


async def test_no_planted_secret_is_in_any_file(tmp_path: Path, caplog: Any) -> None:
    """Inputs, arguments, results, prompts, errors, approvals and replies are written without."""
    path = tmp_path / "journal.db"
    caplog.set_level(logging.DEBUG)
    async with uc.Runtime(path, model=scripted(), redaction=REDACTION) as rt:
        outcome = await rt.run(assist, session="s-1", **inputs())
        assert outcome.status == "waiting"
        assert not list(leaks(tmp_path))
        shown = outcome.waiting[0].arguments
        assert shown["config"]["db_password"].startswith("[redacted:")
        outcome = await rt.approve(
            outcome.turn_id, by="ada", fingerprint=outcome.waiting[0].fingerprint
        )
        assert outcome.status == "degraded", outcome.error
        # Who called gets what was returned; only what is written is without.
        assert outcome.value == calls("")[-1]
        await rt.delivered(outcome.turn_id, detail=f"sent with {PLANTED['field']}")
        await asyncio.sleep(0)
        assert not list(leaks(tmp_path))
        trace, rows = rt.trace(outcome.turn_id), await rt.breakers()
    (last,) = [row.last_error for row in rows if row.service == "pay"]
    assert last is not None
    assert last.message.endswith("were refused")
    assert PLANTED["pattern"] not in last.message
    assert not list(leaks(tmp_path))
    assert not [name for name in PLANTED if PLANTED[name] in caplog.text]
    by_name = {step.name: step for step in trace.steps}
    assert by_name["store_card"].value.startswith("ada with [redacted:")
    assert by_name["pay"].error is not None
    assert PLANTED["pattern"] not in by_name["pay"].error.message
    # Equal secrets are seen to be equal.
    assert trace.input["phrase"] == by_name["log_in"].arguments["phrase"]


async def test_another_process_goes_on_with_the_key(tmp_path: Path) -> None:
    """Whoever has the key of the journal takes a turn up as if nothing had been taken out."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted(), redaction=REDACTION) as rt:
        waiting = await rt.run(assist, session="s-1", **inputs())
    async with uc.Runtime(path, model=scripted(), targets=[assist]) as rt:
        outcome = await rt.approve(waiting.turn_id, by="ada")
        assert (outcome.status, outcome.value) == ("degraded", calls("")[-1])
    assert not list(leaks(tmp_path))


async def test_without_the_key_it_says_what_it_lacks(tmp_path: Path) -> None:
    """A journal whose key was lost is told apart from one whose turns can go on."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted(), redaction=REDACTION) as rt:
        waiting = await rt.run(assist, session="s-1", **inputs())
    await asyncio.to_thread(Path(key_path(str(path))).unlink)
    async with uc.Runtime(path, model=scripted(), targets=[assist]) as rt:
        with pytest.raises(RedactedError, match=r"redacted, and is not known.*-key file"):
            await rt.approve(waiting.turn_id, by="ada")


async def test_another_process_needs_to_be_told(tmp_path: Path) -> None:
    """A turn that goes on elsewhere says what it lacks, and goes on once it is given."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted(), redaction=TOLD) as rt:
        waiting = await rt.run(assist, session="s-1", **inputs())
    async with uc.Runtime(path, model=scripted(), targets=[assist], redaction=TOLD) as rt:
        with pytest.raises(RedactedError, match=r"redacted, and is not known.*secrets="):
            await rt.approve(waiting.turn_id, by="ada")
        # Nothing was lost by trying.
        some = [PLANTED[name] for name in ("field", "annotated", "result", "whole")]
        with pytest.raises(RedactedError):
            await rt.resume(waiting.turn_id, secrets=some)
        rest = [PLANTED[name] for name in ("nested", "pattern", "argument")]
        outcome = await rt.resume(waiting.turn_id, secrets=[*some, *rest, int(PLANTED["number"])])
        assert (outcome.status, outcome.value) == ("degraded", calls("")[-1])
    assert not list(leaks(tmp_path))


CHILD = """
import asyncio, faulthandler, logging, os, sys
sys.path.insert(0, sys.argv[2])
faulthandler.enable(open("crash.txt", "w"))
logging.basicConfig(filename="run.log", level=logging.DEBUG)
import undercroft as uc
from tests.engine import test_secrets as here

async def main():
    async with uc.Runtime("journal.db", model=here.scripted(), redaction=here.REDACTION) as rt:
        await rt.run(here.assist, session="s-1", **here.inputs())
        os.kill(os.getpid(), int(sys.argv[1]))
        await asyncio.sleep(30)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_a_process_that_dies_leaves_no_secret_behind(tmp_path: Path, how: int) -> None:
    """Neither the log of the journal, nor a crash dump, nor a log file holds one."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    root = str(Path(__file__).parents[2])
    folder = tmp_path / "there"
    folder.mkdir()
    with (folder / "stderr.txt").open("wb") as err:
        done = subprocess.run(
            [sys.executable, str(script), str(int(how)), root],
            cwd=folder,
            stderr=err,
            stdout=err,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": root},
        )
    assert done.returncode == -how
    assert (folder / "journal.db-wal").stat().st_size
    assert not list(leaks(folder))
    assert how == signal.SIGKILL or (folder / "crash.txt").stat().st_size


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """All processes on a journal share one key, and nobody else may read it."""
    path = str(tmp_path / "journal.db")
    key = key_of(path)
    assert key == key_of(path)
    assert len(key) == 32
    assert Path(key_path(path)).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["journal.db-key"]
    Path(key_path(path)).write_bytes(b"short")
    with pytest.raises(uc.StoreError, match="a key has 32"):
        key_of(path)


def test_a_resource_cannot_be_named_by_a_secret() -> None:
    """Keys of resources are written in the clear, so a secret in one fails where it is declared."""
    with pytest.raises(DeclarationError, match=r"names \{token\}, which is annotated uc\.Secret"):

        @uc.tool(reads="sessions/{token}")
        async def look(token: uc.Secret[str]) -> str:
            return token
