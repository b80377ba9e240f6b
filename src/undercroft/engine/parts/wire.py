"""Counts what really goes over the wire, below the retries that client libraries make.

Keeps: one place knows how often a service was asked, whoever asked; what is used up stays used
up, however often a library tries.
Leaves to whoever counts: how many attempts there are, and what follows.

    client = httpx.AsyncClient(event_hooks={"request": [uc.wire_attempt]})

(The same with `httpx2`, which recent clients of OpenAI and Anthropic are built on.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar, Token

from undercroft.errors import BudgetError

# Requests of one call that are told apart; beyond, only their sum is counted.
REQUESTS_MAX = 1_000


class Wire:
    """The attempts that one call makes on the wire.

    Attributes:
        service: As errors say it.
        allowed: Attempts in all; None: no limit.
        repeats_allowed: Attempts of the same request, method and address; None: no limit.
        count: Attempts so far.
        repeats: Attempts so far of the request that was sent most often.
        refused: Attempts that were not allowed.
        closed: Whether the call is over: what was left behind must not go on sending.

    Args:
        named_only: Whether `repeats_allowed` is only about requests that say what they are.
        more: Asked for each attempt after the first; says why it may not be made, or None.
    """

    __slots__ = (
        "_by_request",
        "_more",
        "allowed",
        "closed",
        "count",
        "named_only",
        "refused",
        "repeats",
        "repeats_allowed",
        "service",
    )

    def __init__(
        self,
        allowed: int | None = None,
        *,
        repeats_allowed: int | None = None,
        service: str = "",
        named_only: bool = False,
        more: Callable[[], str | None] | None = None,
    ) -> None:
        self.allowed, self.repeats_allowed, self.service = allowed, repeats_allowed, service
        self.count = self.repeats = self.refused = 0
        self._by_request: dict[Hashable, int] = {}
        self._more, self.named_only = more, named_only
        self.closed = False

    def _full(self, request: Hashable) -> str | None:
        """Why no attempt is left, if so."""
        if self.closed:
            return "the call that it belongs to is over"
        if self.allowed is not None and self.count >= self.allowed:
            return f"the call's {self.allowed} attempts are used up"
        sent = self._by_request.get(request, 0)
        # What does not say what it is may be another request each time.
        counts = request is not None or not self.named_only
        if counts and self.repeats_allowed is not None and sent >= self.repeats_allowed:
            return f"the call's {self.repeats_allowed} attempts are used up"
        return None

    def _asked(self, _request: Hashable) -> str | None:
        """Why whoever has to be asked for another attempt denies it, if so."""
        return self._more() if self._more is not None and self.count else None

    def _sent(self, request: Hashable) -> None:
        self.count += 1
        if request in self._by_request or len(self._by_request) < REQUESTS_MAX:
            sent = self._by_request.get(request, 0) + 1
            self._by_request[request] = sent
            self.repeats = max(self.repeats, sent)


# Whatever counts here, the innermost last.
_wires: ContextVar[tuple[Wire, ...]] = ContextVar("_wires", default=())


class counting:  # noqa: N801  a block: `with counting(wire): ...`
    """Count in `wire` what is sent inside, by tasks and threads that are begun inside as well.

    Where that happens inside another, both count.
    """

    __slots__ = ("_token", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._token: Token[tuple[Wire, ...]] | None = None

    def __enter__(self) -> Wire:
        """Begin to count."""
        outer = _wires.get()
        if not outer or not any(self._wire is other for other in outer):
            self._token = _wires.set((*outer, self._wire))
        return self._wire

    def __exit__(self, *_raised: object) -> None:
        """Count no more."""
        token = self._token
        if token is None:
            return
        try:
            _wires.reset(token)
        except ValueError:
            # Left in another task than entered, as happens to generators: that one never counted.
            self._token = None


async def wire_attempt(request: object = None) -> None:
    """Count one attempt of the call that this code runs in; outside of any, nothing happens.

    Args:
        request: What is sent, if it has a `method` and a `url`: an attempt is told from another
            request by them.

    Raises:
        BudgetError: The call's attempts are used up. A client library may wrap it, or even try
            again: that is refused, too.
    """
    wire_attempt_sync(request)


def wire_attempt_sync(request: object = None) -> None:
    """Count as `wire_attempt` does, for clients that are not async.

    Raises:
        BudgetError: As there.
    """
    wires = _wires.get()
    key = _key(request) if wires else None
    # Nobody is asked for what another would not allow: asking may set something aside.
    for look in (Wire._full, Wire._asked):  # noqa: SLF001  of the same file
        for wire in wires:
            short = look(wire, key)
            if short is not None:
                wire.refused += 1
                raise BudgetError(
                    wire.service or "the service",
                    f"it was not asked again, since {short}",
                    "Turn the retries of the client library off, or allow more attempts.",
                )
    for wire in wires:
        wire._sent(key)  # noqa: SLF001  of the same file


def _key(request: object) -> Hashable:
    method, url = getattr(request, "method", None), getattr(request, "url", None)
    return None if method is None and url is None else (str(method), str(url))
