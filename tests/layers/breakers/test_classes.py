"""One table says what an error means; client libraries are known by name and never imported."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.breakers.errors import (
    ACCOUNT,
    CALLER,
    NOBODY,
    OPENAI_LIMIT,
    OPENAI_QUOTA,
    UNSURE,
    VENDOR,
    D,
    O,
    P,
    Response,
    T,
    U,
    anthropic,
    http,
    judge,
    made,
    raised,
    sdk,
)
from undercroft.errors import (
    BreakerOpenError,
    BudgetError,
    DeadlineError,
    DomainError,
    EncodeError,
    LoopError,
    OverloadedError,
    ServiceError,
    UnknownOutcomeError,
)
from undercroft.layers.breakers.classes import (
    DEFAULT_TABLE,
    Blame,
)
from undercroft.model.step import ErrorClass

# What each means: its class for a read, for a change, and whose failure it is.
TABLE: list[tuple[BaseException, ErrorClass, ErrorClass, Blame]] = [
    # Python's own.
    (TimeoutError(), T, U, VENDOR),
    (asyncio.TimeoutError(), T, U, VENDOR),  # noqa: UP041  as somebody else may raise it
    (socket.timeout(), T, U, VENDOR),  # noqa: UP041  likewise
    (ConnectionError(), T, U, VENDOR),
    (ConnectionResetError(), T, U, VENDOR),
    (ConnectionAbortedError(), T, U, VENDOR),
    (BrokenPipeError(), T, U, VENDOR),
    (asyncio.IncompleteReadError(b"", 9), T, U, VENDOR),
    (ConnectionRefusedError(), T, T, VENDOR),
    (socket.gaierror(-2, "no such name"), T, T, VENDOR),
    (ssl.SSLError("eof"), T, U, VENDOR),
    (ssl.SSLCertVerificationError("expired"), P, P, VENDOR),
    (json.JSONDecodeError("no", "{", 1), T, U, VENDOR),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), T, U, VENDOR),
    (ValueError("no"), P, P, UNSURE),
    (TypeError("no"), P, P, UNSURE),
    (KeyError("no"), P, P, UNSURE),
    (ZeroDivisionError(), P, P, UNSURE),
    (AttributeError(), P, P, UNSURE),
    (AssertionError(), P, P, UNSURE),
    (NotImplementedError(), P, P, UNSURE),
    (FileNotFoundError(), P, P, UNSURE),
    (RuntimeError("no"), P, P, VENDOR),
    (OSError("no"), P, P, VENDOR),
    (made("acme.AcmeError"), P, P, VENDOR),
    (SystemExit(1), P, P, NOBODY),
    (KeyboardInterrupt(), P, P, NOBODY),
    (asyncio.CancelledError(), P, P, NOBODY),
    # Ours.
    (UnknownOutcomeError("who knows"), U, U, VENDOR),
    (DomainError("no"), D, D, CALLER),
    (DeadlineError("s", "it took too long", "Give it longer."), T, U, VENDOR),
    (BreakerOpenError("s", "p", "m"), T, T, NOBODY),
    (OverloadedError("s", "p", "m"), T, T, NOBODY),
    (BudgetError("s", "p", "m"), P, P, NOBODY),
    (LoopError("s", "p", "m"), P, P, NOBODY),
    (EncodeError("s", "p", "m"), P, P, UNSURE),
    (ServiceError("s", "p"), P, P, VENDOR),
    (ServiceError("s", "p", 503), O, O, VENDOR),
    (ServiceError("s", "p", 404), D, D, CALLER),
    (ServiceError("s", "p", code="overloaded_error"), O, O, VENDOR),
    (ServiceError("s", "p", code="server_error"), T, U, VENDOR),
    (ServiceError("s", "p", code="billing_error"), P, P, ACCOUNT),
    # HTTP statuses.
    (http(400), P, P, CALLER),
    (http(401), P, P, CALLER),
    (http(402), P, P, ACCOUNT),
    (http(403), P, P, CALLER),
    (http(404), D, D, CALLER),
    (http(405), P, P, CALLER),
    (http(408), T, U, VENDOR),
    (http(409), D, D, CALLER),
    (http(410), D, D, CALLER),
    (http(412), D, D, CALLER),
    (http(413), P, P, CALLER),
    (http(422), D, D, CALLER),
    (http(425), T, T, VENDOR),
    (http(429), O, O, ACCOUNT),
    (http(500), T, U, VENDOR),
    (http(501), P, P, CALLER),
    (http(502), T, U, VENDOR),
    (http(503), O, O, VENDOR),
    (http(504), T, U, VENDOR),
    (http(520), T, U, VENDOR),
    (http(526), T, U, VENDOR),
    (http(529), O, O, VENDOR),
    (http(302), P, P, CALLER),
    (made("acme.AcmeError", status=503), O, O, VENDOR),
    (made("acme.AcmeError", status="503"), O, O, VENDOR),
    (made("acme.AcmeError", code=404), D, D, CALLER),
    (made("acme.AcmeError", code=250), P, P, VENDOR),
    (made("acme.AcmeError", status="abc"), P, P, VENDOR),
    (made("acme.AcmeError", status=True, code=10**30), P, P, VENDOR),
    # Plain HTTP clients.
    (made("httpx.ConnectError"), T, T, VENDOR),
    (made("httpx.ConnectTimeout"), T, T, VENDOR),
    (made("httpx.PoolTimeout"), T, T, VENDOR),
    (made("httpx2.ConnectError"), T, T, VENDOR),
    (made("httpx2.ReadTimeout", type(made("httpx2.TimeoutException"))), T, U, VENDOR),
    (made("httpx.RemoteProtocolError", type(made("httpx.ProtocolError"))), T, U, VENDOR),
    (made("httpx.LocalProtocolError", type(made("httpx.ProtocolError"))), P, P, CALLER),
    (made("httpx.InvalidURL"), P, P, CALLER),
    (made("httpcore._exceptions.ReadError", type(made("httpcore.NetworkError"))), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=-32000), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=-32001), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=-32700), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=-32603), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=-32602), P, P, CALLER),
    (made("mcp.shared.exceptions.MCPError", code=-32601), P, P, CALLER),
    (made("mcp.shared.exceptions.MCPError", code=-32600), P, P, CALLER),
    (made("mcp.shared.exceptions.MCPError", code=-32042), D, D, CALLER),
    (made("mcp.shared.exceptions.MCPError", code=-32002), D, D, CALLER),
    # A server's own code, or none that can be one: who knows how far it came.
    (made("mcp.shared.exceptions.MCPError", code=7), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code="x"), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError", code=503), T, U, VENDOR),
    (made("mcp.shared.exceptions.MCPError"), T, U, VENDOR),
    (
        made(
            "mcp.shared.exceptions.NoBackChannelError",
            type(made("mcp.shared.exceptions.MCPError")),
        ),
        P,
        P,
        CALLER,
    ),
    (made("mcp.client.subscriptions.SubscriptionLost", RuntimeError), T, U, VENDOR),
    (made("anyio.BrokenResourceError"), T, U, VENDOR),
    (made("aiohttp.client_exceptions.ClientConnectorError", OSError), T, T, VENDOR),
    (made("aiohttp.ServerDisconnectedError", ConnectionError), T, U, VENDOR),
    (made("aiohttp.ClientPayloadError"), T, U, VENDOR),
    (made("aiohttp.ClientResponseError", status=503, headers=None), O, O, VENDOR),
    (made("aiohttp.ContentTypeError", type(made("aiohttp.ClientResponseError")), status=200),
     T, U, VENDOR),
    (made("requests.exceptions.ConnectTimeout", OSError), T, T, VENDOR),
    (made("requests.exceptions.ReadTimeout", type(made("requests.Timeout", OSError))),
     T, U, VENDOR),
    (made("requests.exceptions.HTTPError", OSError, response=Response(429)), O, O, ACCOUNT),
    (made("urllib.error.HTTPError", OSError, code=503, headers={}), O, O, VENDOR),
    (made("http.client.RemoteDisconnected", ConnectionResetError), T, U, VENDOR),
    # OpenAI.
    (sdk("openai.RateLimitError", 429, OPENAI_LIMIT), O, O, ACCOUNT),
    (sdk("openai.RateLimitError", 429, OPENAI_QUOTA), P, P, ACCOUNT),
    (sdk("openai.RateLimitError", 429, {"code": "billing_hard_limit_reached"}), P, P, ACCOUNT),
    (sdk("openai.RateLimitError", 429,
         {"message": "The input or output tokens must be reduced."}), P, P, CALLER),
    (sdk("openai.InternalServerError", 500, {"type": "server_error"}), T, U, VENDOR),
    (sdk("openai.InternalServerError", 503, {"code": "slow_down"}), O, O, VENDOR),
    (sdk("openai.InternalServerError", 503, OPENAI_LIMIT), O, O, VENDOR),
    (sdk("openai.BadRequestError", 400, {"code": "context_length_exceeded"}), P, P, CALLER),
    (made("openai.LengthFinishReasonError"), D, D, CALLER),
    (made("openai.OpenAIError"), P, P, CALLER),
    # In the middle of a stream there is no status, or one that said it went well.
    (sdk("openai.APIError", None, {"type": "server_error"}), T, U, VENDOR),
    (sdk("openai.APIError", None, OPENAI_LIMIT), O, U, ACCOUNT),
    (sdk("openai.APIError", None, {"code": "invalid_prompt"}), P, P, CALLER),
    (sdk("openai.APIError", None, None), T, U, VENDOR),
    (sdk("anthropic.APIStatusError", 200, anthropic("overloaded_error")), O, U, VENDOR),
    (sdk("anthropic.APIStatusError", 200, anthropic("api_error")), T, U, VENDOR),
    (sdk("anthropic.APIStatusError", 200, "not json"), T, U, VENDOR),
    # Anthropic.
    (sdk("anthropic.RateLimitError", 429, anthropic("rate_limit_error")), O, O, ACCOUNT),
    (sdk("anthropic.OverloadedError", 529, anthropic("overloaded_error")), O, O, VENDOR),
    (sdk("anthropic.InternalServerError", 500, anthropic("api_error")), T, U, VENDOR),
    (sdk("anthropic.PaymentRequiredError", 402, anthropic("billing_error")), P, P, ACCOUNT),
    (sdk("anthropic.BadRequestError", 400,
         anthropic("invalid_request_error", "Your credit balance is too low to go on.")),
     P, P, ACCOUNT),
    (sdk("anthropic.RateLimitError", 429, anthropic(
        "rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
     P, P, ACCOUNT),
    # Others.
    (made("botocore.exceptions.ClientError", response={
        "Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}),
     O, O, ACCOUNT),
    (made("botocore.exceptions.ClientError", response={
        "Error": {"Code": "Oops"}, "ResponseMetadata": {"HTTPStatusCode": 500}}), T, U, VENDOR),
    (made("botocore.exceptions.EndpointConnectionError"), T, T, VENDOR),
    (made("grpc.aio.AioRpcError", code=lambda _: made("grpc.X", name="UNAVAILABLE")),
     T, U, VENDOR),
    (made("grpc.aio.AioRpcError", code=lambda _: made("grpc.X", name="NOT_FOUND")),
     D, D, CALLER),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "read", "change", "blame"),
    TABLE,
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else str(v)[:2],
)
def test_an_error_has_a_class(
    error: BaseException, read: ErrorClass, change: ErrorClass, blame: Blame
) -> None:
    """What may have happened is unknown for a change, harmless for a read, and has a culprit."""
    assert judge(error).error_class is read
    assert judge(error, changes=True).error_class is change
    assert judge(error).blame is judge(error, changes=True).blame is blame


@pytest.mark.parametrize("error", [row[0] for row in TABLE])
def test_only_a_quota_is_a_matter_of_money(error: BaseException) -> None:
    """What a person has to see to is said apart, and never tried again."""
    judged = judge(error)
    assert judged.quota == (judged.blame is ACCOUNT and judged.error_class is P)


def test_why_names_what_decided() -> None:
    """A person is told the status, the word of the provider or the type."""
    assert judge(http(500)).why == "HTTP 500"
    overloaded = sdk("anthropic.OverloadedError", 529, anthropic("overloaded_error"))
    assert judge(overloaded).why == "HTTP 529 overloaded_error"
    assert judge(made("httpx.ConnectError")).why == "ConnectError"


def test_a_plain_client_s_body_is_read() -> None:
    """The quota is recognised in a raw response as well, unless the body is huge or broken."""
    assert judge(http(429, {"error": OPENAI_QUOTA})).quota
    huge = http(429, {"error": OPENAI_QUOTA, "padding": "x" * 100_000})
    assert judge(huge).error_class is O
    error = http(429)
    error.response.content = b"[" * 50_000
    assert judge(error).error_class is O


def test_requests_is_not_asked_for_what_it_has_not_read() -> None:
    """Looking at an error never reads from the network."""

    class Lazy(Response):
        _content = False
        content = property(lambda _: pytest.fail("read from the network"))

        def __init__(self) -> None:
            self.status_code, self.headers = 429, {}

    error = made("requests.exceptions.HTTPError", OSError, response=Lazy())
    assert judge(error).error_class is O


# --------------------------------------------------------------------------- hints


def test_a_hint_is_taken_from_wherever_headers_stand() -> None:
    """Headers of the response, of the error itself, and of botocore."""
    assert judge(http(429, None, {"retry-after": "7"})).retry_after_s == 7
    error = made("aiohttp.ClientResponseError", status=429, headers={"Retry-After": "8"})
    assert judge(error).retry_after_s == 8
    meta = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "9"}}
    error = made("botocore.exceptions.ClientError", response={"ResponseMetadata": meta})
    assert judge(error).retry_after_s == 9


def test_a_date_counts_from_the_wall_clock_that_is_passed_in() -> None:
    """Without it, and without the service's own time, a date says nothing."""
    error = http(503, None, {"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"})
    assert DEFAULT_TABLE.judge(error, changes=False, wall_s=90.0).retry_after_s == 10
    assert DEFAULT_TABLE.judge(error, changes=False).retry_after_s is None


def test_limits_count_only_where_there_are_too_many() -> None:
    """When a limit is reset says nothing about when a broken service is well again."""
    headers = {"x-ratelimit-reset-tokens": "6m0s"}
    assert judge(http(429, None, headers)).retry_after_s == 360
    assert judge(http(503, None, headers)).retry_after_s is None


def test_what_is_not_tried_again_has_no_hint() -> None:
    """A hint on an error that is final is not passed on; one on a doubt is, for a repeat."""
    assert judge(http(404, None, {"retry-after": "7"})).retry_after_s is None
    assert judge(http(500, None, {"retry-after": "7"}), changes=True).retry_after_s == 7


def test_a_service_may_forbid_another_try() -> None:
    """`x-should-retry: false` makes an error permanent; a doubt stays one."""
    headers = {"x-should-retry": "false"}
    assert judge(http(503, None, headers)).error_class is P
    assert judge(http(500, None, headers)).error_class is P
    assert judge(http(500, None, headers), changes=True).error_class is U


def test_our_errors_carry_their_own_hints() -> None:
    """A refusal says when the call may be made; a service when it wants to be asked."""
    assert judge(BreakerOpenError("s", "p", "m", 3.0)).retry_after_s == 3
    assert judge(ServiceError("s", "p", 429, "", 4.0)).retry_after_s == 4
    assert judge(ServiceError("s", "p", 429, "", -4.0)).retry_after_s == 0
    assert judge(ServiceError("s", "p", 429, "", float("inf"))).retry_after_s is None


# --------------------------------------------------------------------------- chains


def wrapper(path: str = "openai.APIConnectionError") -> Any:
    """Return an error of a client that only says that something went wrong below."""
    return sdk(path, None, None)


UNSENT = "httpx.ConnectError"
DOUBT = "httpx.TimeoutException"


@pytest.mark.parametrize("path", ["openai.APIConnectionError", "anthropic.APIConnectionError"])
def test_a_wrapper_means_what_it_wraps(path: str) -> None:
    """A client's connection error was never sent if what it was raised from was not."""
    unsent = raised(wrapper(path), cause=made(UNSENT))
    assert judge(unsent, changes=True).error_class is T
    broken = raised(wrapper(path), cause=made(DOUBT))
    assert judge(broken, changes=True).error_class is U
    assert judge(wrapper(path), changes=True).error_class is U
    # The client wraps whatever is raised on the way, our own refusals and bugs included.
    refused = judge(raised(wrapper(path), cause=BudgetError("s", "p", "m")))
    assert (refused.error_class, refused.refused) == (P, True)
    bug = judge(raised(wrapper(path), cause=TypeError("no")))
    assert (bug.error_class, bug.blame) == (P, UNSURE)


def test_requests_wraps_twice() -> None:
    """It raises while urllib3's error is handled, and that has a cause again."""
    inner = raised(
        made("urllib3.exceptions.MaxRetryError"), cause=made("urllib3.NewConnectionError")
    )
    error = raised(made("requests.exceptions.ConnectionError", OSError), context=inner)
    assert judge(error, changes=True).error_class is T


def test_aiohttp_says_400_of_what_it_could_not_read() -> None:
    """A status that no service answered is not taken for one."""
    error = made("aiohttp.ClientResponseError", status=400, headers=None)
    assert judge(error).error_class is P
    garbage = raised(error, cause=made("aiohttp.http_exceptions.BadStatusLine"))
    assert judge(garbage).error_class is T
    assert judge(garbage, changes=True).error_class is U


def test_a_stranger_means_what_it_was_raised_from() -> None:
    """An error of a tool's own speaks for the timeout or the status below it."""
    for link in ("cause", "context"):
        error = raised(made("acme.CrmError"), **{link: made(DOUBT)})
        assert judge(error).error_class is T
        assert judge(error, changes=True).error_class is U
        assert judge(raised(RuntimeError("no"), **{link: http(404)})).error_class is D
    # Somebody who knows what it means has said so.
    assert judge(raised(DomainError("no"), cause=made(DOUBT)), changes=True).error_class is D
    # What a stranger did not want shown speaks only where a write may have happened.
    hidden = raised(made("acme.CrmError"), context=made(DOUBT))
    hidden.__suppress_context__ = True
    assert judge(hidden).error_class is P
    assert judge(hidden, changes=True).error_class is U


def test_a_doubt_below_is_not_forgotten() -> None:
    """A write is not "not sent" if an attempt before it, in the same call, may have happened."""
    for again in (made(UNSENT), http(429), ConnectionRefusedError(), wrapper()):
        error = raised(again, context=made(DOUBT))
        assert judge(error, changes=True).error_class is U
    # As Python links it: the second attempt failed while the first was being handled.
    os_error = raised(OSError("no"), context=made(DOUBT))
    core = raised(made("httpcore.ConnectError"), cause=os_error)
    assert judge(raised(made(UNSENT), cause=core), changes=True).error_class is U


def test_what_explains_is_no_doubt() -> None:
    """A timeout that is the reason for a failed connection was not one of a request."""
    core = raised(made("httpcore.ConnectTimeout"), cause=TimeoutError())
    assert judge(raised(made("httpx.ConnectTimeout"), cause=core), changes=True).error_class is T
    tls = raised(made("httpcore.ConnectError"), cause=ssl.SSLError("handshake"))
    assert judge(raised(made(UNSENT), cause=tls), changes=True).error_class is T
    # But a request that may have been sent explains no failed connection.
    assert judge(raised(made(UNSENT), cause=made(DOUBT)), changes=True).error_class is U
    expired = raised(made("httpcore.ConnectError"), cause=ssl.SSLCertVerificationError("old"))
    assert judge(raised(made(UNSENT), cause=expired)).error_class is P


def test_a_long_chain_is_looked_at_so_far() -> None:
    """Work is bounded; of a change what was not looked at leaves it open."""
    error: BaseException = made(DOUBT)
    for _ in range(10_000):
        error = raised(made(UNSENT), context=error)
    assert judge(error).error_class is T
    assert judge(error, changes=True).error_class is U
    unsent: BaseException = made(UNSENT)
    for _ in range(10_000):
        unsent = raised(made(UNSENT), context=unsent)
    assert judge(unsent, changes=True).error_class is U


def test_a_ring_of_errors_ends() -> None:
    """Errors that were raised from each other are looked at once."""
    one, other = made("acme.One"), made("acme.Other")
    raised(one, cause=other)
    raised(other, cause=one)
    assert judge(one).error_class is P
    one, other = made(UNSENT), made(UNSENT)
    raised(one, context=other)
    raised(other, context=one)
    assert judge(one, changes=True).error_class is T


MAKERS: dict[str, Any] = {
    "unsent": lambda: made(UNSENT),
    "doubt": lambda: made(DOUBT),
    "500": lambda: http(500),
    "429": lambda: http(429),
    "stranger": lambda: made("acme.AcmeError"),
    "bug": lambda: KeyError("no"),
    "wrapper": wrapper,
    "refused": lambda: BreakerOpenError("s", "p", "m"),
}


@given(st.lists(st.sampled_from(sorted(MAKERS)), min_size=1, max_size=8), st.booleans())
def test_no_write_that_may_have_happened_is_tried_again(
    names: list[str],
    hidden: bool,  # noqa: FBT001  a property's argument
) -> None:
    """Whatever was raised while handling a doubt, a change is never judged as not done."""
    error: BaseException | None = None
    for name in names:
        new = raised(MAKERS[name](), context=error)
        new.__suppress_context__ = hidden
        error = new
    assert error is not None
    judged = judge(error, changes=True)
    if {"doubt", "500"} & set(names):
        assert judged.error_class not in {T, O}
    assert judge(error).error_class is not U


# --------------------------------------------------------------------------- groups


def test_a_group_is_as_grave_as_its_gravest() -> None:
    """All of a group must be worth another try; of a change the others may have happened."""

    def group(*errors: Exception) -> ExceptionGroup[Exception]:
        return ExceptionGroup("many", list(errors))

    assert judge(group(TimeoutError(), http(429, None, {"retry-after": "5"}))).error_class is O
    assert judge(group(TimeoutError(), http(429, None, {"retry-after": "5"}))).retry_after_s == 5
    assert judge(group(TimeoutError(), ValueError("no"))).error_class is P
    assert judge(group(TimeoutError(), group(DomainError("no")))).error_class is D
    assert judge(group(made(UNSENT)), changes=True).error_class is U
    assert judge(group(ValueError("no"), made(DOUBT)), changes=True).error_class is U
    cancelled = BaseExceptionGroup("many", [asyncio.CancelledError(), TimeoutError()])
    assert judge(cancelled).error_class is T
    assert judge(BaseExceptionGroup("many", [asyncio.CancelledError()])).refused
