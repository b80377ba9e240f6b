"""What Undercroft needs from outside, as small protocols; each promise is in its docstring.

A storage or a clock of your own passes the same test suite as those that ship.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from undercroft.model.circuit import News, Post
from undercroft.model.foreign import Ask, Run
from undercroft.model.lease import Denied, Granted
from undercroft.model.message import Answer, Message, ModelRequest, ToolSpec, Wire
from undercroft.model.outcome import Outcome, TurnStatus, Waiting
from undercroft.model.step import MODEL, Call, Result
from undercroft.model.turn import Claimed, Held, Over, Told, TurnHead

T = TypeVar("T")


class Clock(Protocol):
    """Two clocks: one for people, one for measuring."""

    def wall_s(self) -> float:
        """Seconds since 1970; may jump."""

    def now_s(self) -> float:
        """Seconds from any fixed start; never goes back."""

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""


class Ids(Protocol):
    """Names for what is new, and the randomness of jitter."""

    def turn(self, at: float) -> str:
        """Return an id that no other turn has; ids sort by `at`, seconds since 1970."""

    def jitter(self) -> float:
        """Return a number from 0 to below 1."""


class ModelClient(Protocol):
    """A model that proposes what to do next."""

    async def complete(self, request: ModelRequest) -> Answer:
        """Answer one request. Raises whatever the provider's client raises."""


@runtime_checkable
class WireClient(ModelClient, Protocol):
    """A model client that can say what it sends, so that the journal can tell it later.

    A client need not be one. One that is sends, for each request, exactly what `body` returns.
    """

    wire: Wire

    def body(self, request: ModelRequest, wire: Wire) -> dict[str, Any]:
        """Return the JSON body of a request under the settings of `wire`: a pure function."""


class Exporter(Protocol):
    """Whoever wants to know of turns, such as a collector of traces."""

    def take(self, told: Told) -> None:
        """Be told of a turn that ended, parked or stopped, once that is durable.

        Never blocks and never raises; what cannot be kept is dropped, and counted.
        """

    async def close(self, timeout_s: float = 5.0) -> None:
        """Hand over what is left, within `timeout_s`."""


class Caller(Protocol):
    """A thread that is not the event loop's, while it waits for what happens there."""

    def wait(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns that runs in the loop; raises what it raises."""

    def lend(self, fn: Callable[[], T]) -> Callable[[], Awaitable[T]]:
        """Return what has `fn` run in the thread that waits, from the loop."""


class Guest(Protocol):
    """A turn of a loop that is somebody else's; what adapters of frameworks translate to.

    A batch is seen before its calls run; each call is asked for when its loop comes to it, in
    any order; what came of it is given back as a value. It begins with the first thing that it
    is told. Each method is described at `undercroft.engine.guest.Guest`.
    """

    @property
    def turn_id(self) -> str: ...
    @property
    def session(self) -> str | None: ...
    @property
    def waits(self) -> bool: ...
    def use(self, handler: Any) -> None: ...
    async def saw(self, batch: Sequence[Call], *, branch: str = "") -> None: ...
    async def call(self, call: Call, run: Run | None = None, *, branch: str = "") -> Result: ...
    async def calls(self, batch: Sequence[Call], *, branch: str = "") -> list[Result]: ...
    def held(self, *, branch: str = "") -> list[Call]: ...
    def question(self, call: Call, *, branch: str = "") -> Waiting | None: ...
    def asked_before(self, call: Call, *, branch: str = "") -> bool: ...
    async def asked(self, ids: Collection[str]) -> list[tuple[str, str]]: ...
    async def decide(
        self, call: Call, *, granted: bool, by: str, reason: str = "", branch: str = ""
    ) -> None: ...
    async def ask(  # noqa: PLR0913  what a request is made of
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        ask: Ask,
        *,
        name: str = "",
        service: str = MODEL,
        branch: str = "",
    ) -> Answer: ...
    def withdrawn(self, *, branch: str = "") -> frozenset[str]: ...
    async def end(self, value: Any = None) -> Outcome | None: ...
    async def fail(self, error: BaseException) -> Outcome | None: ...
    async def pause(self) -> Outcome | None: ...
    async def stop(self) -> None: ...


class Host(Protocol):
    """What takes guests in: a runtime, open or not.

    One that is not open is opened in each event loop that asks, with the same settings, and
    closed with it; for code without an event loop, in one of a thread of its own.
    """

    def toolset(
        self, name: str, tools: Iterable[object], effects: str | Mapping[str, Any] | None = None
    ) -> Any:
        """Return the tools of a loop, made ready; what `guest` and `Guest.use` take.

        Raises:
            DeclarationError: Two share a name, or a declaration cannot be met.
        """

    def guest(self, toolset: Any, *, session: str | None = None) -> Guest:
        """Return a guest; it begins with the first thing that it is told."""

    def caller(self, loop: Any = None) -> Caller:
        """Return what a thread without an event loop waits with.

        Args:
            loop: Where the guest lives, if it has begun; None: where it will.
        """


# Claims of changing modes on resources, as (mode, key).
Wants = tuple[tuple[str, str], ...]
Outcomes = Sequence[tuple[Wants, bool]]
NOBODY: Mapping[int, int] = MappingProxyType({})
Amend = Callable[[list[bytes]], bytes | None]


class Store(Protocol):
    """A journal: turns, and for each the append-only list of its frames.

    One process writes a turn at a time. `begin`, `append` and `mark` queue work without
    waiting; all that is queued in one tick of the event loop is committed together and in
    order. A commit that fails raises its `StoreError` from every `durable` that covers it
    and from every later `append` to the turns concerned: a turn never has a gap.
    """

    @property
    def runtime(self) -> int:
        """The number under which this process records; only grows over a journal's life."""

    @property
    def board(self) -> Board | None:
        """What is shared of breakers, from `open` to `close`; None: each process for itself."""

    async def open(self) -> None:
        """Make ready. Raises a `StoreError` that names the place and the mend."""

    async def close(self) -> None:
        """Commit what is queued and let go of everything."""

    def begin(self, head: TurnHead) -> int:
        """Queue a new turn, held by this process; return the number to append under."""

    def append(
        self, num: int, frame: bytes, *, sync: bool = False, outcomes: Outcomes = ()
    ) -> None:
        """Queue a frame of turn `num`.

        Args:
            num: The turn.
            frame: What happened.
            sync: Make its commit survive a power cut, also if nobody waits for that.
            outcomes: The intents of which the frame tells the end: what they wanted, and
                whether it counts as changed at that position.
        """

    def intent(
        self,
        num: int,
        frame: bytes,
        wants: Wants,
        lapsed: Mapping[int, int] = NOBODY,
        *,
        again: bool = False,
    ) -> Awaitable[Granted | Denied]:
        """Queue the intent of a write, to be written only if turn `num` owns, or may own, `wants`.

        A turn owns a key until it is marked as anything but running; what it only appends
        to, until the outcome is written. Nobody else may own a key that overlaps, unless
        both append. The frame is committed, and flushed, with the ownership or not at all.

        Args:
            num: The turn.
            frame: The intent.
            wants: As (mode, key), changing modes only.
            lapsed: Numbers of processes that may be taken for dead, with the beat at which
                they fell silent.
            again: Whether the same write was begun before and never ended.
        """

    def mark(self, num: int, status: TurnStatus, at: float) -> None:
        """Queue a new status of a held turn; any status but `running` lets go of it.

        A turn that is parked although a word was said about it since it was claimed is left
        `stopped` instead: it waits for nobody, and `unfinished` tells of it.
        """

    def durable(self, *, sync: bool = False, num: int = 0) -> Awaitable[int] | None:
        """Return what to await until all that was queued so far survives this process.

        With `num` it is waited for on behalf of that turn, and fails if the turn was lost.

        With `sync` it also survives a power cut, unless the store was told otherwise.
        None where that is so already. The number is the journal position of the first
        frame of the last batch.
        """

    @property
    def position(self) -> int:
        """A journal position up to which everything was committed, as far as is known here."""

    @property
    def copy_id(self) -> str:
        """Which copy of the journal this is; another one once the file was copied."""

    @property
    def backlog_bytes(self) -> int:
        """Size of what is queued and not yet committed."""

    async def claim(self, turn_id: str, at: float) -> Claimed | Held | Over | None:
        """Take an unfinished turn that no live process holds; None where there is none."""

    async def amend(self, turn_id: str, decide: Amend) -> bool:
        """In one transaction read a turn's frames and append what `decide` returns.

        For what people say about a turn that nobody runs. Returns False where there is no
        such turn; what `decide` raises is raised, and nothing is written.
        """

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn, in order; None where there is none."""

    def heads(
        self,
        *,
        statuses: tuple[TurnStatus, ...] = (),
        session: str | None = None,
        limit: int = 100,
    ) -> list[TurnHead]:
        """Return turns, newest first."""

    def unfinished(self) -> list[str]:
        """Return the ids of turns that are neither over nor waiting nor held, oldest first."""


class Board(Protocol):
    """What the processes on one journal tell each other of the services that they call.

    It never touches the event loop's thread for longer than it takes to hand work over, and
    answers within a fraction of a second or raises; nothing of it is needed for a call.
    """

    @property
    def runtime(self) -> int:
        """The number under which this process tells."""

    async def exchange(self, post: Post) -> News:
        """Tell and be told, in one transaction; one exchange at a time.

        A chain is written only if nobody wrote a transition of its service since: of several
        processes that see the same, one writes it. The right to try a service is one process's
        from the moment that it is given until the next transition that another one writes, the
        end of the process, or until somebody else watched its beat for long enough.

        Raises:
            StoreError: Nothing could be read. What could be read although nothing could be
                written is returned, with the error.
        """

    async def gauges(self) -> list[tuple[int, bytes]]:
        """Return the figures of all live processes, with the number of each.

        Raises:
            StoreError: They cannot be read.
        """

    def listen(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called when others wrote a transition, or want to see figures.

        Returns False where that cannot be told: whoever wants to know must ask.
        """

    async def close(self) -> None:
        """Take back all figures and rights of this process, if it can be done at once."""
