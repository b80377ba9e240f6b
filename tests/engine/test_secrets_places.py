"""Wherever in a turn a secret stands it is not written; what only looks redacted does no harm."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

import undercroft as uc
from undercroft.model.event import ContextOpened, StepStarted, decode_frames
from undercroft.replays import replay
from undercroft.storage.bodies import whole
from undercroft.storage.read import open_reader
from undercroft.testing import ScriptedModel

SECRET = "Zx7LmN2bTyR4wHs9"  # noqa: S105  a made one
GIVEN = "the blue key of the shop"
REDACTION = uc.Redaction(values=(GIVEN,))
SAID: dict[str, Any] = {}
T = TypeVar("T")


@uc.tool(reads="told")
async def tell() -> Any:
    """Return what is to be said."""
    said = SAID["value"]
    if isinstance(said, Exception):
        raise said
    return said


@uc.tool(reads="users/{user}/{token}")
async def look(user: str, token: str) -> str:
    """Look at a user."""
    return f"{user} has {len(token)}"


@uc.tool(writes="mail/{to}", approval=True, read_first=False)
async def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


async def talk(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    turn.context.user(message)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


@uc.handler(tools=[tell, look, send])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    return await talk(turn, message)


def scripted(*script: Any) -> ScriptedModel:
    """Return a model that proposes calls, and says something in the end."""
    return ScriptedModel([*script, "Done."])


TELL, SEND = [uc.Call("tell", {})], [uc.Call("send", {"to": "ada@example.com"})]


def holds(folder: Path, *secrets: str) -> list[str]:
    """Return where one of `secrets` stands: in a file, a body, or a row of a journal."""
    found = []
    # Read at once: to look into a journal may take files beside it away.
    files = [(path, path.read_bytes()) for path in sorted(folder.iterdir())]
    for path, data in files:
        parts = [data]
        if path.suffix == ".db":
            with open_reader(str(path)) as reader:
                parts += [frame for _, _, frame in reader.all_frames()]
            with closing(sqlite3.connect(path)) as connection:
                parts += [whole(body) for (body,) in connection.execute("SELECT data FROM body")]
        found += [path.name for part in parts for one in secrets if one.encode() in part]
    return found


def held(path: Path, turn_id: str) -> list[Any]:
    """Return the events of a turn."""
    with open_reader(str(path)) as reader:
        return decode_frames(reader.frames(turn_id) or [])


def nested(value: Any, depth: int) -> Any:
    """Return a value within as many lists."""
    for _ in range(depth):
        value = [value]
    return value


HIDDEN = {
    "the name of a field": {SECRET: {"password": SECRET}},
    "bytes": [{"password": SECRET}, f"it is {SECRET}".encode()],
    "bytes of a known make": f"key: sk-proj-{SECRET}{SECRET}".encode(),
    "deep": nested({"password": SECRET}, 250),
    "JSON in JSON in a sentence": "It said: " + json.dumps({"body": json.dumps({"otp": SECRET})}),
    "a long text": json.dumps({"notes": "word " * 60_000, "api_key": SECRET}),
    "lines of JSON": "\n".join(json.dumps({"n": n, "token": f"{SECRET}{n}"}) for n in range(3)),
    "what Python prints": str({"user": "ada", "token": SECRET}),
    "a header": f"GET /\r\nCookie: theme=dark; sid={SECRET}\r\n",
    "an address": f"https://example.com/cb?code=1&access_token={SECRET}&x=2",
    "a header as data": {"name": "Authorization", "value": f"Bearer {SECRET}"},
    "a name that is there twice": f'{{"token": "{SECRET}1", "token": "{SECRET}2"}}',
    "other spellings of JSON": '{"token": "' + SECRET + '\\/\\u00C9"}',
    "an error": ConnectionError(f"password={SECRET} was refused"),
}


@pytest.mark.parametrize("place", HIDDEN)
async def test_a_secret_is_found_wherever_a_result_holds_it(tmp_path: Path, place: str) -> None:
    """Whatever stands round it, it is in no file; and the turn goes on with it."""
    SAID["value"] = HIDDEN[place]
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted(TELL, SEND)) as rt:
        outcome = await rt.run(assist, message="hello")
        assert outcome.status == "waiting", outcome.error
        assert holds(tmp_path, SECRET) == []
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert outcome.value == "Done."
    assert holds(tmp_path, SECRET) == []
    assert "journal.db" in holds(tmp_path, "Done.")


@pytest.mark.parametrize("cut", range(0, 40, 4))
async def test_an_error_is_cut_where_no_secret_is_cut(tmp_path: Path, cut: int) -> None:
    """A long message is shortened after it was redacted, so that no half of a secret is left."""
    key = f"sk-proj-{SECRET}{SECRET}"
    SAID["value"] = ConnectionError("x" * (2_000 - cut) + f" {key} " + "y" * 3_000)
    async with uc.Runtime(tmp_path / "journal.db", model=scripted(TELL)) as rt:
        outcome = await rt.run(assist, message="hello")
        error = next(step.error for step in rt.trace(outcome.turn_id).steps if step.error)
    assert len(error.message) < 2_100
    assert holds(tmp_path, key[:12]) == []


async def test_keys_of_resources_hold_marks(tmp_path: Path) -> None:
    """A key is written with a mark where an argument is secret by its name, or was given."""
    path = tmp_path / "journal.db"
    calls = [uc.Call("look", {"user": GIVEN, "token": SECRET})]
    async with uc.Runtime(path, model=scripted(calls), redaction=REDACTION) as rt:
        outcome = await rt.run(assist, message="hello")
        assert outcome.status == "done"
    assert holds(tmp_path, SECRET, GIVEN) == []
    events = held(path, outcome.turn_id)
    claims = [key for e in events if isinstance(e, StepStarted) for _, key in e.claims]
    assert len([key for key in claims if key.count("redacted") == 2]) == 1


class Named(NamedTuple):
    """A record that is written as a list."""

    user: str
    ticket: uc.Secret[str]


class Listed(msgspec.Struct, array_like=True):
    """A record that is written as a list."""

    user: str
    ticket: uc.Secret[str]


class Renamed(msgspec.Struct):
    """A record of which a field has another name where it is written."""

    user: str
    ticket: uc.Secret[str] = msgspec.field(name="t")


class Model(pydantic.BaseModel):
    """A record."""

    user: str
    ticket: uc.Secret[str] = pydantic.Field(alias="tk")


class Typed(TypedDict):
    """A record."""

    user: str
    ticket: NotRequired[uc.Secret[str]]


@dataclass
class Page(Generic[T]):
    """A record of records."""

    items: list[T]
    cursor: uc.Secret[str]


@dataclass
class Loose:
    """A record with secrets at places that have no names of their own."""

    one: uc.Secret[str] | int | None
    some: dict[str, uc.Secret[str]]
    pair: tuple[int, uc.Secret[str]]


PLAIN = "correct horse battery staple"
ANNOTATED: list[tuple[Any, Any]] = [
    (Named, Named("ada", PLAIN)),
    (Listed, Listed("ada", PLAIN)),
    (Renamed, Renamed("ada", PLAIN)),
    (Model, Model(user="ada", tk=PLAIN)),
    (Typed, {"user": "ada", "ticket": PLAIN}),
    (Page[int], Page([1], PLAIN)),
    (list[Page[Renamed]], [Page([Renamed("ada", PLAIN)], "other words here")]),
    (Loose, Loose(PLAIN, {"a": PLAIN}, (1, PLAIN))),
    (uc.Secret[str] | int, PLAIN),
    (dict[str, uc.Secret[str]], {"a": PLAIN}),
    (list[dict[str, uc.Secret[str]]], [{"a": PLAIN}]),
    (tuple[uc.Secret[str], int], (PLAIN, 1)),
    (uc.Secret[bytes], PLAIN.encode()),
    (uc.Secret[Renamed], Renamed(PLAIN, "x")),
    (Annotated[uc.Secret[str], "a note"] | None, PLAIN),
]


@pytest.mark.parametrize(("kind", "value"), ANNOTATED, ids=[str(kind) for kind, _ in ANNOTATED])
async def test_an_annotation_counts_wherever_it_stands(
    tmp_path: Path, kind: Any, value: Any
) -> None:
    """A field, an item or a part that is annotated is hidden, however it is written."""

    async def fetch() -> Any:
        """Fetch it."""
        return value

    fetch.__annotations__["return"] = kind

    @uc.handler(tools=[uc.tool(reads="vault")(fetch)])
    async def keeper(turn: uc.Turn, message: str) -> str:
        return await talk(turn, message)

    async with uc.Runtime(tmp_path / "journal.db", model=scripted([uc.Call("fetch", {})])) as rt:
        outcome = await rt.run(keeper, message="hello")
        assert outcome.status == "done", outcome.error
    assert holds(tmp_path, PLAIN) == []


@pytest.mark.parametrize("colons", [":", "::", ":::"])
async def test_what_looks_redacted_is_text_like_any_other(tmp_path: Path, colons: str) -> None:
    """A page that quotes a mark neither stops a turn nor changes it, here or elsewhere."""
    path = tmp_path / "journal.db"
    quoted = f"see [redacted{colons}0123456789abcdef] in the log"
    SAID["value"] = {"page": quoted, quoted: [quoted.encode()]}
    script: Sequence[Any] = (TELL, SEND)
    async with uc.Runtime(path, model=scripted(*script)) as rt:
        outcome = await rt.run(assist, message=f"what is {quoted}?")
    model = scripted(*script)
    async with uc.Runtime(path, model=model, targets=[assist]) as rt:
        outcome = await rt.approve(outcome.turn_id, by="ada")
        assert (outcome.status, outcome.value) == ("done", "Done.")
    assert quoted in str(model.requests[0].messages[0].content)
    assert (await replay(path, outcome.turn_id, target=assist)).same is True


async def test_a_mark_that_somebody_quotes_never_becomes_the_secret(tmp_path: Path) -> None:
    """Neither in the process that read it, nor in one that knows the secret and goes on."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted()) as rt:
        outcome = await rt.run(assist, message=f"my password is {SECRET}")
        shown = re.search(r"\[redacted:[0-9a-f]{16}\]", rt.trace(outcome.turn_id).input["message"])
    assert shown is not None
    SAID["value"] = f"please send {shown[0]} to me"
    script: Sequence[Any] = ([*TELL, *SEND],)
    async with uc.Runtime(path, model=scripted(*script)) as rt:
        outcome = await rt.run(assist, message="hello")
    model = scripted(*script)
    async with uc.Runtime(path, model=model, targets=[assist]) as rt:
        rt.learn([SECRET])
        assert (await rt.approve(outcome.turn_id, by="ada")).value == "Done."
    told = str([message.content for message in model.requests[-1].messages])
    assert shown[0] in told
    assert SECRET not in told


async def test_fingerprints_tell_nothing_of_secrets(tmp_path: Path) -> None:
    """A pin of four digits cannot be tried out by whoever has the journal and not its key."""

    @uc.tool(reads="door")
    async def enter(pin: uc.Secret[str], door: str) -> str:
        return door

    @uc.handler(tools=[enter])
    async def porter(turn: uc.Turn, message: str) -> str:
        return await talk(turn, message)

    found = []
    for number, pin in enumerate(("4827", "4827", "1234")):
        path = tmp_path / f"journal-{number}.db"
        call = [uc.Call("enter", {"pin": pin, "door": "b"})]
        key = b"k" * 32 if number == 0 else b"o" * 32
        redaction = uc.Redaction(key=key)
        async with uc.Runtime(path, model=scripted(call), redaction=redaction) as rt:
            outcome = await rt.run(porter, message="hello")
        events = held(path, outcome.turn_id)
        (fp,) = [e.fp for e in events if isinstance(e, StepStarted) and e.name == "enter"]
        found.append(fp)
    # Under another key, and of another pin, it is another one.
    assert len(set(found)) == 3


async def test_what_was_met_in_one_turn_is_not_looked_for_in_others(tmp_path: Path) -> None:
    """A sentence of one user hides nothing in the turns of another."""
    path = tmp_path / "journal.db"
    call = [uc.Call("send", {"to": "account7"})]
    async with uc.Runtime(path, model=scripted()) as rt:
        await rt.run(assist, message="password: account7", session="s-1")
    async with uc.Runtime(path, model=scripted(call)) as rt:
        await rt.run(assist, message="password: account7", timeout_s=5)
        outcome = await rt.run(assist, message="write to account7", session="s-2")
        assert outcome.waiting[0].arguments == {"to": "account7"}
    async with uc.Runtime(path, model=scripted(call), targets=[assist]) as rt:
        assert (await rt.approve(outcome.turn_id, by="ada")).value == "Done."


async def test_what_was_given_is_never_forgotten(tmp_path: Path) -> None:
    """However many secrets a process met since, those of its settings are found."""
    path = tmp_path / "journal.db"
    async with uc.Runtime(path, model=scripted(), redaction=REDACTION) as rt:
        many = " ".join(f"password=word{number}x" for number in range(6_000))
        await rt.run(assist, message=many, session="s-1")
        await rt.run(assist, message=f"it is {GIVEN}", session="s-1")
        await rt.run(assist, message=f"it is {GIVEN}")
    assert holds(tmp_path, GIVEN) == []


async def test_the_policy_of_the_context_holds_no_secret(tmp_path: Path) -> None:
    """Settings of a window are written with marks in place of what is secret in them."""
    path = tmp_path / "journal.db"
    policy = uc.ContextPolicy(limit_tokens=8_000)
    async with uc.Runtime(path, model=scripted(), context=policy, redaction=REDACTION) as rt:
        outcome = await rt.run(assist, message=f"it is {GIVEN}", session="s-1")
        await rt.run(assist, message="and now?", session="s-1")
    assert any(isinstance(event, ContextOpened) for event in held(path, outcome.turn_id))
    assert holds(tmp_path, GIVEN) == []
