"""The guard against undeclared access, on real files and real sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import linecache
import os
import pickle
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import traceback
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from undercroft.engine.tool import Tool
from undercroft.layers.conflicts.resource import Resource
from undercroft.testing import UndeclaredAccessError, access_guard

Do = Callable[[], Any]
Guarded = Callable[..., Any]


@pytest.fixture
def crm(tmp_path: Path) -> Path:
    """Return a folder with records."""
    folder = tmp_path / "crm"
    (folder / "notes").mkdir(parents=True)
    (folder / "7.json").write_text("{}")
    return folder


def making(do: Do | None = None, *, is_async: bool = True, **declared: Any) -> Tool[..., Any]:
    """Return a tool that does something, declared as said."""
    if is_async:

        async def act() -> Any:
            found = do() if do else None
            return await found if isinstance(found, Awaitable) else found
    else:

        def act() -> Any:  # type: ignore[misc]  # one of the two
            return do() if do else None

    return uc.tool(name="act", **declared)(act)


async def run(tool: Tool[..., Any], times: int = 1) -> uc.Result:
    """Run a tool in a turn of its own, and return the last result."""
    results: list[uc.Result] = []

    @uc.handler(tools=[tool])
    async def code(turn: uc.Turn) -> None:
        for _ in range(times):
            results.extend(await turn.calls([uc.Call(tool.name)]))

    async with uc.Runtime() as rt:
        await rt.run(code)
    return results[-1]


async def seen(
    guard: contextlib.AbstractContextManager[None], work: Callable[[], Awaitable[None]]
) -> UndeclaredAccessError:
    """Work under a guard and return what it raised."""
    with pytest.raises(UndeclaredAccessError) as raised, guard:
        await work()
    return raised.value


async def caught(tool: Tool[..., Any], **allowed: Any) -> UndeclaredAccessError:
    """Run a tool under guard and return what the guard raised."""

    async def work() -> None:
        result = await run(tool)
        assert result.status != "ok"
        assert result.error is not None
        assert result.error.type == "UndeclaredAccessError"

    return await seen(access_guard(tool, **allowed), work)


async def passes(tool: Tool[..., Any], **allowed: Any) -> Any:
    """Run a tool under guard and return its value."""
    with access_guard(tool, **allowed):
        result = await run(tool)
    assert result.status == "ok", result.error
    return result.value


# ------------------------------------------------------------------ files


def tree(folder: Path) -> list[Path]:
    """Return whatever is in a folder."""
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_tool_may_open_what_it_declared(crm: Path, is_async: bool) -> None:  # noqa: FBT001  a parameter of the test
    """A claim on a key lets a tool read where its resources live, and a changing one also write."""
    file = crm / "7.json"
    reader = making(file.read_text, is_async=is_async, reads="crm/7")
    writer = making(lambda: file.write_text("[]"), is_async=is_async, writes="crm/7")
    appender = making(lambda: file.write_text("[]"), is_async=is_async, appends="crm/7")
    assert await passes(reader, files={"crm": crm}) == "{}"
    assert await passes(writer, files={"crm": crm}) == 2
    assert await passes(appender, files={"crm": file}) == 2
    assert await passes(making(file.read_text, is_async=is_async, writes="crm"), files={"crm": crm})


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_tool_may_not_open_what_it_did_not_declare(crm: Path, is_async: bool) -> None:  # noqa: FBT001  a parameter of the test
    """Without a claim on its key a file stays shut, whether or not anybody said where it is."""
    file = crm / "7.json"
    reader = making(file.read_text, is_async=is_async, reads="mail/7")
    error = await caught(reader, files={"crm": crm})
    assert error.tool == "act"
    assert error.what == f"opens {str(file)!r} to read"
    assert error.mend == 'Claim its resource: reads="crm/…".'
    assert "'act' opens" in str(error)
    assert "which it did not declare. Claim its resource" in str(error)
    assert 'files={"KEY": "FOLDER"}' in (await caught(reader)).mend
    undeclared = making(file.read_text, is_async=is_async)
    await caught(undeclared, files={"crm": crm})


async def test_a_reader_may_not_write(crm: Path) -> None:
    """A claim that does not change opens files to read only, and the file stays as it was."""
    file = crm / "7.json"
    error = await caught(making(lambda: file.write_text("x"), reads="crm/7"), files={"crm": crm})
    assert error.mend == "It only claims `read crm/7`: declare writes= or appends=."
    assert file.read_text() == "{}"


CHANGES: list[tuple[str, Callable[[Path], Any]]] = [
    ("append", lambda crm: (crm / "7.json").open("a")),
    ("update", lambda crm: (crm / "7.json").open("r+")),
    ("os.open", lambda crm: os.close(os.open(crm / "8.json", os.O_CREAT | os.O_WRONLY))),
    ("mkdir", lambda crm: (crm / "sub").mkdir()),
    ("makedirs", lambda crm: (crm / "a" / "b").mkdir(parents=True)),
    ("unlink", lambda crm: (crm / "7.json").unlink()),
    ("rmdir", lambda crm: (crm / "notes").rmdir()),
    ("rename", lambda crm: (crm / "7.json").rename(crm / "8.json")),
    ("replace", lambda crm: (crm / "7.json").replace(crm / "8.json")),
    ("symlink", lambda crm: (crm / "link").symlink_to(crm / "7.json")),
    ("hardlink", lambda crm: (crm / "link").hardlink_to(crm / "7.json")),
    ("chmod", lambda crm: (crm / "7.json").chmod(0o600)),
    ("utime", lambda crm: os.utime(crm / "7.json")),
    ("truncate", lambda crm: os.truncate(crm / "7.json", 0)),
    ("rmtree", shutil.rmtree),
    ("copy", lambda crm: shutil.copy(crm / "7.json", crm / "8.json")),
    ("move", lambda crm: shutil.move(crm / "7.json", crm / "notes")),
    ("bytes", lambda crm: os.remove(os.fsencode(crm / "7.json"))),  # noqa: PTH107  a path as bytes
    ("mkstemp", lambda crm: os.close(tempfile.mkstemp(dir=crm)[0])),
]


@pytest.mark.parametrize("change", [c for _, c in CHANGES], ids=[name for name, _ in CHANGES])
async def test_every_way_to_change_a_file_is_seen(crm: Path, change: Callable[[Path], Any]) -> None:
    """Whatever changes a folder needs a claim that changes; with it nothing is in the way."""
    before = tree(crm)

    def act() -> None:
        found = change(crm)
        if hasattr(found, "close"):
            found.close()

    error = await caught(making(act, reads="crm"), files={"crm": crm})
    assert "declare writes= or appends=" in error.mend
    assert tree(crm) == before
    await passes(making(act, writes="crm"), files={"crm": crm})


async def test_a_tree_is_removed_with_one_claim(crm: Path, tmp_path: Path) -> None:
    """Walking down a tree by open folders stays within the claim on its root."""
    deep = crm / "notes" / "deep"
    deep.mkdir()
    (deep / "n.txt").touch()
    error = await caught(making(lambda: shutil.rmtree(crm), writes="mail"), files={"crm": crm})
    assert error.what == f"removes {str(crm)!r}"
    assert deep.joinpath("n.txt").read_text() == ""
    await passes(making(lambda: shutil.rmtree(crm), writes="crm"), files={"crm": crm})
    assert not tree(tmp_path)


async def test_a_file_leaves_its_folder_only_for_one_that_is_claimed(
    crm: Path, tmp_path: Path
) -> None:
    """Moving a file touches both places."""
    mail = tmp_path / "mail"
    mail.mkdir()
    files = {"crm": crm, "mail": mail}

    def move() -> None:
        (crm / "7.json").rename(mail / "7.json")

    error = await caught(making(move, writes="crm"), files=files)
    assert error.mend == 'Claim its resource: writes="mail/…".'
    await passes(making(move, writes=["crm", "mail"]), files=files)


async def test_the_innermost_folder_counts(crm: Path) -> None:
    """A folder inside of another may belong to a key of its own."""
    note = crm / "notes" / "n.txt"
    note.write_text("n")
    files = {"crm": crm, "crm/notes": crm / "notes"}
    for claim in ("crm", "crm/notes/n", "crm/*/n"):
        assert await passes(making(note.read_text, reads=claim), files=files) == "n"
    for claim in ("crm/accounts", "mail"):
        await caught(making(note.read_text, reads=claim), files=files)
    await passes(making((crm / "7.json").read_text, reads="crm/accounts"), files=files)


async def test_a_template_claims_whatever_it_may_yield(crm: Path) -> None:
    """A key with parameters claims the folders of all keys that it may turn into."""

    @uc.tool(reads="tenant-{tenant}/{kind}/x")
    async def read(tenant: int, kind: str) -> str:
        return (crm / "7.json").read_text()

    async def use(key: str) -> None:
        @uc.handler(tools=[read])
        async def code(turn: uc.Turn) -> None:
            await turn.calls([uc.Call("read", {"tenant": 1, "kind": "a"})])

        async with uc.Runtime() as rt:
            with access_guard(code, files={key: crm}):
                await rt.run(code)

    for key in ("tenant-1", "tenant-1/notes", "*/notes"):
        await use(key)
    for key in ("crm", "tenant-", "tenant-1/notes/y"):
        with pytest.raises(UndeclaredAccessError):
            await use(key)


async def test_a_link_leads_where_it_leads(crm: Path, tmp_path: Path) -> None:
    """A link out of a folder opens what it points to; removing it touches the link alone."""
    (tmp_path / "secret").write_text("s")
    (crm / "link").symlink_to(tmp_path / "secret")
    error = await caught(making((crm / "link").read_text, reads="crm"), files={"crm": crm})
    assert error.what == f"opens {str(tmp_path / 'secret')!r} to read"
    await passes(making((crm / "link").unlink, writes="crm"), files={"crm": crm})
    (tmp_path / "way").symlink_to(crm)
    assert await passes(
        making((tmp_path / "way" / "7.json").read_text, reads="crm"), files={"crm": crm}
    )


async def test_folders_that_are_listed_count(crm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in a folder is part of the resources in it; a path may be relative."""
    monkeypatch.chdir(crm)
    here = Path("7.json")
    for listing in (os.listdir, lambda: len(list(crm.iterdir())), lambda: next(os.walk(crm))[1]):
        error = await caught(making(listing, reads="mail"), files={"crm": crm})
        assert error.what == f"lists {str(crm)!r}"
        await passes(making(listing, reads="crm"), files={"crm": crm})
    assert await passes(making(here.read_text, reads="crm"), files={"crm": crm})


async def test_a_database_is_a_file(crm: Path) -> None:
    """SQLite needs a claim on its file, however that is named, and none in memory."""

    def use(name: str | Path, *, uri: bool = False) -> Do:
        return lambda: sqlite3.connect(name, uri=uri).close()

    path = crm / "a b.db"
    for do in (use(path), use(f"file:{crm}/a%20b.db?mode=rwc", uri=True)):
        error = await caught(making(do, reads="mail"), files={"crm": crm})
        assert error.what == f"opens the database {str(path)!r}"
        await passes(making(do, reads="crm"), files={"crm": crm})
    for name in (":memory:", "file::memory:", "file:x?mode=memory"):
        await passes(making(use(name, uri=True), reads="mail"))


async def test_free_folders_are_everybodys(crm: Path, tmp_path: Path) -> None:
    """What is free needs no claim; a folder of a key inside of it still does."""
    await passes(making(lambda: (tmp_path / "x").write_text("x"), reads="mail"), free=[tmp_path])
    claimed = making((crm / "7.json").read_text, reads="mail")
    await caught(claimed, free=[tmp_path], files={"crm": crm})


# ------------------------------------------------------------------ what is never in the way


async def test_python_itself_is_never_in_the_way(tmp_path: Path) -> None:
    """Importing, tracebacks, randomness, time zones and devices are no undeclared files."""
    (tmp_path / "fresh_module.py").write_text("import colorsys\nX = 1\n")

    def act() -> int:
        for name in ("colorsys", "sndhdr_none", "fresh_module"):
            sys.modules.pop(name, None)
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(name)
        Path(os.devnull).write_text("x")
        with Path("/dev/urandom").open("rb") as file:
            file.read(1)
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError):
            zoneinfo.ZoneInfo.no_cache("Europe/Berlin")
        os.urandom(4)
        linecache.clearcache()
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            assert "_ = 1 / 0" in traceback.format_exc()
        return int(importlib.import_module("fresh_module").X)

    sys.path.append(str(tmp_path))
    try:
        for is_async in (True, False):
            assert await passes(making(act, is_async=is_async, reads="x")) == 1
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["fresh_module"]


async def test_an_event_loop_inside_of_a_tool_is_no_access() -> None:
    """A sync tool may run a loop of its own; the pipe to itself is nobody's socket."""

    async def inner() -> int:
        await asyncio.sleep(0)
        return await asyncio.to_thread(int, "3")

    assert await passes(making(lambda: asyncio.run(inner()), is_async=False, reads="x")) == 3


async def test_only_tools_are_judged(crm: Path, tmp_path: Path) -> None:
    """The test, the handler's code, the journal and what is not under guard open what they like."""
    seen: list[str] = []

    @uc.tool(writes="mail/{to}")
    async def send(to: str) -> str:
        await asyncio.sleep(0)
        return to

    @uc.tool(reads="x")
    async def stranger() -> str:
        return (crm / "7.json").read_text()

    @uc.handler(tools=[send, stranger])
    async def code(turn: uc.Turn) -> None:
        seen.append((crm / "7.json").read_text())
        await turn.calls([uc.Call("send", {"to": "ada"}), uc.Call("stranger")])

    with access_guard(send):
        async with uc.Runtime(tmp_path / "journal.db") as rt:
            assert (await rt.run(code)).status == "done"
        seen.append((crm / "7.json").read_text())
        sqlite3.connect(tmp_path / "journal.db").close()
        with ThreadPoolExecutor() as pool:
            pool.submit((crm / "7.json").read_text).result()
    assert seen == ["{}", "{}"]


# ------------------------------------------------------------------ whatever a tool starts


def read(file: Path) -> str:
    """Read."""
    return file.read_text()


async def helper(file: Path) -> str:
    """Read as a coroutine of its own."""
    await asyncio.sleep(0)
    return read(file)


async def in_tasks(file: Path) -> Any:
    """Read in tasks."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(helper(file)) for _ in range(3)]
    return tasks[0].result()


async def in_executor(file: Path) -> Any:
    """Read as aiofiles does."""
    return await asyncio.get_running_loop().run_in_executor(None, file.read_text)


def in_pool(file: Path) -> Any:
    """Read in a pool of one's own."""
    with ThreadPoolExecutor(2) as pool:
        return next(pool.map(lambda _: file.read_text(), range(3)))


def in_a_thread(file: Path) -> Any:
    """Read in a thread of one's own, and in one that this one starts."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(file.read_text())
        except UndeclaredAccessError as error:
            found.append(error)

    def begin() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    outer = threading.Thread(target=begin)
    outer.start()
    outer.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


WAYS: dict[str, Callable[[Path], Any]] = {
    "coroutine": helper,
    "gather": lambda file: asyncio.gather(helper(file), helper(file)),
    "wait_for": lambda file: asyncio.wait_for(helper(file), 5),
    "to_thread": lambda file: asyncio.to_thread(file.read_text),
    "executor": in_executor,
    "pool": in_pool,
    "thread": in_a_thread,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_a_tool_starts_counts_as_the_tool(crm: Path, way: Callable[[Path], Any]) -> None:
    """Coroutines, tasks, calls in pools and threads are judged as the tool that began them."""
    file = crm / "7.json"
    await passes(making(lambda: way(file), reads="crm"), files={"crm": crm})
    error = await caught(making(lambda: way(file), reads="mail"), files={"crm": crm})
    assert error.tool == "act"


async def test_a_group_of_tasks_is_told_apart_by_the_guard(crm: Path) -> None:
    """Where a tool's failure is a group of errors, the guard still says what it was."""
    tool = making(lambda: in_tasks(crm / "7.json"), reads="mail")
    with pytest.raises(UndeclaredAccessError, match="opens"), access_guard(tool):
        assert (await run(tool)).status == "failed"


async def test_threads_of_a_pool_are_not_taken_for_the_tool_that_made_them(crm: Path) -> None:
    """A pool outlives the tool that made it grow, and what others do in it is theirs."""
    file = crm / "7.json"
    pool = ThreadPoolExecutor(1)
    grows = making(lambda: pool.submit(int).result(), reads="x")
    await passes(grows)
    with pool, access_guard(grows):
        await run(grows)
        assert pool.submit(file.read_text).result() == "{}"


async def test_tools_that_run_together_are_told_apart(crm: Path, tmp_path: Path) -> None:
    """Of two tools at work at once each is held to its own declaration."""
    other = tmp_path / "mail"
    other.write_text("m")
    met = asyncio.Event()

    @uc.tool(reads="crm/7")
    async def one() -> str:
        await met.wait()
        return (crm / "7.json").read_text()

    @uc.tool(reads="mail/7")
    async def two() -> str:
        met.set()
        await asyncio.sleep(0.01)
        return other.read_text()

    @uc.tool(reads="mail/8")
    def three() -> str:
        return (crm / "7.json").read_text()

    @uc.handler(tools=[one, two, three])
    async def code(turn: uc.Turn) -> list[str]:
        batch = [uc.Call("one"), uc.Call("two"), uc.Call("three")]
        return [result.status for result in await turn.calls(batch)]

    with (
        pytest.raises(UndeclaredAccessError) as raised,
        access_guard(code, files={"crm": crm, "mail": other}),
    ):
        async with uc.Runtime() as rt:
            assert (await rt.run(code)).value == ["ok", "ok", "failed"]
    assert raised.value.tool == "three"


# ------------------------------------------------------------------ sockets


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """Return the port of a server that answers `hello`."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def greet(host: str, port: int) -> str:
    """Ask a server by asyncio."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


def greet_plainly(host: str, port: int) -> str:
    """Ask a server by a blocking socket."""
    with socket.create_connection((host, port), timeout=5) as connection:
        return connection.makefile().readline().strip()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("ask", [greet, greet_plainly], ids=["async", "sync"])
async def test_a_tool_may_reach_its_service_only(
    server: int, ask: Callable[[str, int], Any], host: str
) -> None:
    """A tool connects where its service is, and nowhere else."""

    def tool(service: str | None) -> Tool[..., Any]:
        return making(
            lambda: ask(host, server), is_async=ask is greet, reads="mail/1", service=service
        )

    for where in (("127.0.0.1", server), ("localhost", server)):
        assert await passes(tool("smtp"), services={"smtp": where}) == "hello"
    several = {"smtp": [("127.0.0.1", 1), ("localhost", server)]}
    assert await passes(tool("smtp"), services=several) == "hello"
    error = await caught(tool("smtp"), services={"smtp": ("127.0.0.1", 1)})
    assert error.what in (f"connects to 127.0.0.1:{server}", f"connects to ::1:{server}")
    assert error.mend == 'Say that its service is there: services={"smtp": ("HOST", PORT)}.'
    error = await caught(tool("crm"), services={"smtp": ("localhost", server)})
    assert error.mend == "That is the service 'smtp': declare service=\"smtp\"."
    error = await caught(tool(None))
    assert error.mend.startswith('Declare service="NAME" and say where that is')


async def test_names_are_looked_up_for_a_service_only() -> None:
    """Asking where a host is leaves the machine, so it needs the service that lives there."""

    def ask() -> None:
        with contextlib.suppress(OSError):
            socket.getaddrinfo("crm.invalid", 443)

    tool = making(ask, is_async=False, reads="x", service="crm")
    await passes(tool, services={"crm": ("CRM.invalid", 443)})
    error = await caught(tool, services={"crm": ("mail.invalid", 443)})
    assert error.what == "looks up crm.invalid"
    asked = making(lambda: greet("crm.invalid", 443), reads="x", service="crm")
    assert (await caught(asked)).what == "looks up crm.invalid"
    own = making(lambda: socket.getaddrinfo("localhost", 1), is_async=False, reads="x")
    await passes(own)


async def test_datagrams_and_listening_are_seen() -> None:
    """A datagram needs its service as a connection does, and so does a port of one's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        where = ear.getsockname()

        def send() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
                return mouth.sendto(b"hi", where)

        assert await passes(making(send, reads="x", service="s"), services={"s": where}) == 2
        error = await caught(making(send, reads="x"))
        assert error.what == f"sends to 127.0.0.1:{where[1]}"

    def listen() -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))

    assert (await caught(making(listen, reads="x"))).what == "listens at 127.0.0.1:0"
    await passes(making(listen, reads="x", service="s"), services={"s": ("127.0.0.1", 0)})


async def test_a_unix_socket_is_named_by_its_path(tmp_path: Path) -> None:
    """A service may live at a path."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(str(path))
        ear.listen()

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as mouth:
                mouth.connect(str(path))

        await passes(making(connect, reads="x", service="s"), services={"s": str(path)})
        assert (await caught(making(connect, reads="x"))).what == f"connects to {str(path)!r}"


async def test_programs_are_services_too(tmp_path: Path) -> None:
    """A tool starts a program only as its service, by path or by name."""
    python = sys.executable
    starts: list[Do] = [
        lambda: subprocess.run([python, "-c", ""], check=True).returncode,
        lambda: os.system(f"{python} -c ''"),  # noqa: S605  the way that is tested
        lambda: os.waitpid(os.posix_spawn(python, [python, "-c", ""], os.environ), 0)[1],
    ]
    for start in starts:
        assert (await caught(making(start, reads="x"))).what == f"starts {python!r}"
        for name in (python, Path(python).name):
            tool = making(start, reads="x", service="py")
            assert await passes(tool, services={"py": name}) == 0

    async def begin() -> int | None:
        child = await asyncio.create_subprocess_exec(python, "-c", "")
        return await child.wait()

    assert (await caught(making(begin, reads="x"))).what == f"starts {python!r}"
    assert await passes(making(begin, reads="x", service="py"), services={"py": python}) == 0
    assert "forks" in (await caught(making(os.fork, reads="x"))).what


# ------------------------------------------------------------------ what is guarded


async def test_steps_of_a_workflow_are_guarded(crm: Path) -> None:
    """Steps are held to their claims as tools are: plain ones, fan-outs, gates, and a verify."""
    flow = uc.Workflow("flow")

    @flow.read("crm/7")
    async def good() -> str:
        return (crm / "7.json").read_text()

    @flow.read(peeks="mail/7")
    def bad(good: str) -> str:
        return (crm / "7.json").read_text()

    @flow.resolve
    async def records(items: list[int]) -> list[int]:
        return items

    @flow.gather("mail/{item}", each="records", optional=True)
    async def each(item: int) -> str:
        return (crm / f"{item}.json").read_text()

    @flow.confirm
    async def told(each: list[str] | None, bad: str) -> str:
        return bad

    fn = flow.build().ops[0].body.fn

    async def work() -> None:
        async with uc.Runtime() as rt:
            assert (await rt.run(flow, items=[7, 8])).status == "failed"

    error = await seen(access_guard(flow, files={"crm": crm}), work)
    assert {found.tool for found in (error, *error.others)} == {"bad", "each"}
    assert flow.build().ops[0].body.fn is fn


async def test_a_verify_is_held_to_its_write(crm: Path) -> None:
    """What settles a doubt may open what the write may, and nothing else."""
    for claim, status in (("crm/7", "ok"), ("mail/7", "in_doubt")):

        async def happened() -> bool:
            return bool((crm / "7.json").read_text())

        @uc.tool(name="act", writes=claim, verify=happened)
        async def act() -> None:
            raise uc.UnknownOutcomeError

        with contextlib.suppress(UndeclaredAccessError), access_guard(act, files={"crm": crm}):
            results: list[uc.Result] = []

            @uc.handler(tools=[act])
            async def code(turn: uc.Turn) -> None:
                results.extend(await turn.calls([uc.Call("act")]))  # noqa: B023  this round's

            async with uc.Runtime() as rt:
                outcome = await rt.run(code)
                assert outcome.status == ("done" if status == "ok" else "in_doubt")
            assert status == "ok"
            assert results[0].status == status


async def test_what_a_tool_swallows_the_guard_raises(crm: Path, tmp_path: Path) -> None:
    """The guard raises whatever it saw, all of it and each once, also where the turn succeeded."""

    def act() -> str:
        for file in (crm / "7.json", tmp_path / "a", crm / "7.json"):
            with contextlib.suppress(Exception):
                file.read_text()
        return "fine"

    tool = making(act, reads="mail")

    async def work() -> None:
        assert (await run(tool, times=3)).value == "fine"

    error = await seen(access_guard(tool, files={"crm": crm}), work)
    assert error.what == f"opens {str(crm / '7.json')!r} to read"
    assert [other.what for other in error.others] == [f"opens {str(tmp_path / 'a')!r} to read"]
    assert len(str(error).splitlines()) == 2
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own, a line above
    assert str(again) == str(error)


async def test_a_test_that_fails_for_it_says_why(crm: Path) -> None:
    """An assertion that misses what the guard withheld gives way to what the guard saw."""
    tool = making((crm / "7.json").read_text, reads="mail")
    with pytest.raises(UndeclaredAccessError) as raised, access_guard(tool):
        assert (await run(tool)).status == "ok"
    assert isinstance(raised.value.__context__, AssertionError)
    with pytest.raises(ZeroDivisionError), access_guard(tool):
        _ = 1 / 0

    async def stopped() -> None:
        await run(tool)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), access_guard(tool):
        await stopped()


async def test_a_retry_does_not_try_again(crm: Path) -> None:
    """An undeclared access is nothing that another attempt would mend."""
    tries: list[int] = []

    def act() -> str:
        tries.append(1)
        return (crm / "7.json").read_text()

    await caught(making(act, reads="mail", retry=uc.Retry(attempts=3)))
    assert tries == [1]


async def test_guards_come_and_go(crm: Path) -> None:
    """Two guards on one tool both judge; what they replaced is put back, in whatever order."""
    tool = making((crm / "7.json").read_text, reads="crm")
    fn = tool.body.fn
    first, second = access_guard(tool, files={"crm": crm}), access_guard(tool)
    first.__enter__()
    second.__enter__()
    assert (await run(tool)).status == "failed"
    first.__exit__(None, None, None)
    assert tool.body.fn is not fn
    with pytest.raises(UndeclaredAccessError, match=r"files=\{"):
        second.__exit__(None, None, None)
    assert tool.body.fn is fn
    assert (await run(tool)).value == "{}"
    with access_guard(tool, tool, files={"crm": crm}):
        assert (await run(tool)).value == "{}"
    assert tool.body.fn is fn


async def test_a_tool_called_by_a_tool_counts_as_its_caller(crm: Path) -> None:
    """A tool that calls another one directly answers for what that opens."""
    inner = making((crm / "7.json").read_text, reads="crm")
    outer = uc.tool(name="outer", reads="mail")(making(inner).fn)
    with (
        pytest.raises(UndeclaredAccessError) as raised,
        access_guard(inner, outer, files={"crm": crm}),
    ):
        await run(outer)
    assert raised.value.tool == "outer"


async def test_what_a_tool_left_running_is_judged_while_the_guard_is_open(crm: Path) -> None:
    """A task that outlives its tool is still the tool's, and a coroutine may be left behind."""
    left: list[asyncio.Task[str]] = []
    go_on = asyncio.Event()

    async def later() -> str:
        await go_on.wait()
        return (crm / "7.json").read_text()

    def act() -> None:
        left.append(asyncio.ensure_future(later()))

    tool = making(act, reads="mail")

    async def work() -> None:
        await run(tool)
        go_on.set()
        with contextlib.suppress(UndeclaredAccessError):
            await left[0]

    await seen(access_guard(tool), work)
    go_on.clear()
    with access_guard(tool):
        await run(tool)
    go_on.set()
    assert await left[1] == "{}"
    abandoned = making(asyncio.Event().wait, reads="mail", timeout_s=0.01)
    with access_guard(abandoned):
        assert (await run(abandoned)).status == "failed"
        coroutine = abandoned.body.fn()
        coroutine.send(None)
    del coroutine
    gc.collect()


@pytest.mark.parametrize("key", ["", "crm//x", "../x", "crm/{id}", "a b"])
def test_a_key_that_cannot_be_read_fails_at_once(key: str, tmp_path: Path) -> None:
    """A folder needs a key that a claim may have."""
    with pytest.raises(uc.DeclarationError, match="files="), access_guard(files={key: tmp_path}):
        pass


def test_only_declarations_can_be_guarded() -> None:
    """A plain function declares nothing, so there is nothing to hold it to."""
    with (
        pytest.raises(uc.DeclarationError, match="Give workflows, handlers or tools"),
        access_guard(len),  # type: ignore[arg-type]  # that is the point
    ):
        pass


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Check after each test that nothing of a guard is left in the process."""
    yield
    assert ThreadPoolExecutor.submit.__module__ == "concurrent.futures.thread"
    assert threading.Thread.start.__module__ == "threading"


# ------------------------------------------------------------------ keys that are not templates


async def test_a_resource_counts_by_each_of_its_spellings(crm: Path) -> None:
    """A file lives where its resource does, whichever of its spellings a claim or a test uses."""
    account = Resource("crm/{id}", aliases=["account/{id}"])
    by_alias = making((crm / "7.json").read_text, reads="account/7")

    @uc.handler(tools=[by_alias], resources=[account])
    async def code(turn: uc.Turn) -> str:
        return (await turn.calls([uc.Call("act")]))[0].status

    async def under(key: str) -> str:
        async with uc.Runtime() as rt:
            with access_guard(code, files={key: crm}):
                status: str = (await rt.run(code)).value
                return status

    for key in ("crm", "account"):
        assert await under(key) == "ok"
    with pytest.raises(UndeclaredAccessError):
        await under("mail")


async def test_a_function_for_keys_may_mean_any_of_them(crm: Path) -> None:
    """Nobody can say what a function will claim, so only its mode is held against the tool."""

    def keys(name: str) -> str:
        return f"crm/{name}"

    @uc.tool(name="act", reads=keys)
    async def act(name: str = "7") -> int:
        (crm / "7.json").read_text()
        return (crm / "7.json").write_text("x")

    with (
        pytest.raises(UndeclaredAccessError, match="It only claims `read"),
        access_guard(act, files={"crm": crm}),
    ):
        await run(act)
