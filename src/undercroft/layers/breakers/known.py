"""What is known of errors: HTTP statuses, words of providers, types of client libraries.

Keeps: one table, to be read at a glance; types are named, never imported, so that no client
library has to be there.
Leaves to `classes`: how an error is looked up in it.
Source: RFC 9110, sections 15.5 and 15.6; the error pages of OpenAI and Anthropic; the client
libraries themselves (httpx and httpx2, aiohttp, requests, urllib3, botocore, grpc, mcp); JSON-RPC
2.0, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from undercroft.model.step import ErrorClass


class Blame(StrEnum):
    """Whose failure it was; only `vendor` counts against the breaker of a service.

    `account`: this account asked for too much, so it is slowed down. `caller`: our own request
    or the business said no, and the service did its work. `unsure`: a bug, ours or theirs.
    `nobody`: nothing was called, or it was called off; it says nothing about the service.
    """

    VENDOR = "vendor"
    ACCOUNT = "account"
    CALLER = "caller"
    UNSURE = "unsure"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of error means.

    Attributes:
        read: Its class where the call only read.
        change: Its class where the call may have changed the world.
        blame: Whose failure it was.
        quota: Whether a person has to pay or to raise a limit before it can go on.
        deeper: Whether it only wraps another error, which says more.
    """

    read: ErrorClass
    change: ErrorClass
    blame: Blame
    quota: bool = False
    deeper: bool = False


_T, _O, _P = ErrorClass.TRANSIENT, ErrorClass.OVERLOADED, ErrorClass.PERMANENT
_D, _U = ErrorClass.DOMAIN, ErrorClass.UNKNOWN

# It failed before anything was sent, so even a write did not happen.
UNSENT = Kind(_T, _T, Blame.VENDOR)
# It broke off while something was under way, or what came back cannot be read.
BROKEN = Kind(_T, _U, Blame.VENDOR)
# The same, unless what it wraps says more.
WRAPS = replace(BROKEN, deeper=True)
OVERLOAD = Kind(_O, _O, Blame.VENDOR)
TOO_MANY = Kind(_O, _O, Blame.ACCOUNT)
QUOTA = Kind(_P, _P, Blame.ACCOUNT, quota=True)
REJECTED = Kind(_P, _P, Blame.CALLER)
SAID_NO = Kind(_D, _D, Blame.CALLER)
IN_DOUBT = Kind(_U, _U, Blame.VENDOR)
# Not called, for now or for good.
NOT_NOW = Kind(_T, _T, Blame.NOBODY)
NEVER = Kind(_P, _P, Blame.NOBODY)
BUG = Kind(_P, _P, Blame.UNSURE)
FAILED = Kind(_P, _P, Blame.VENDOR)

STATUSES: Mapping[int, Kind] = MappingProxyType(
    {
        402: QUOTA,
        404: SAID_NO,
        408: BROKEN,
        409: SAID_NO,
        410: SAID_NO,
        412: SAID_NO,
        422: SAID_NO,
        423: SAID_NO,
        424: SAID_NO,
        425: UNSENT,
        429: TOO_MANY,
        451: SAID_NO,
        498: OVERLOAD,  # Groq: no capacity in this tier
        499: BROKEN,
        501: REJECTED,
        503: OVERLOAD,
        505: REJECTED,
        507: FAILED,
        529: OVERLOAD,
    }
)


def of_status(status: int) -> Kind:
    """Return what an HTTP `status` means; below 400 it is not what the caller wanted."""
    return STATUSES.get(status) or (BROKEN if status >= 500 else REJECTED)  # noqa: PLR2004


def _each(kind: Kind, words: str) -> dict[str, Kind]:
    return dict.fromkeys(words.split(), kind)


# Codes and types in the bodies of errors, in lower case. The first three kinds say more than
# an HTTP status does; the others are asked where no status says it.
WORDS: Mapping[str, Kind] = MappingProxyType(
    _each(
        QUOTA,
        "insufficient_quota billing_hard_limit_reached billing_not_active billing_error "
        "enforced_spend_limit_reached contract_spend_limit_reached spend_limit_reached "
        "linked_organization_spend_limit_reached linked_organization_billing_unavailable "
        "insufficient_credits insufficient_balance credit_balance_too_low",
    )
    | _each(
        OVERLOAD,
        "overloaded_error overloaded server_overloaded server_is_overloaded engine_overloaded "
        "model_overloaded slow_down slowdown service_unavailable service_unavailable_error "
        "serviceunavailable serviceunavailableexception modelnotreadyexception",
    )
    | _each(
        TOO_MANY,
        "rate_limit_error rate_limit_exceeded rate_limited ratelimitexceeded "
        "userratelimitexceeded ramp_limit_exceeded too_many_requests throttling_error throttling "
        "throttlingexception throttledexception toomanyrequestsexception requestlimitexceeded "
        "requestthrottled provisionedthroughputexceededexception resource_exhausted",
    )
    | _each(
        BROKEN,
        "api_error server_error internal_server_error internal_error internalfailure "
        "internalservererror timeout_error gateway_timeout vector_store_timeout unavailable "
        "deadline_exceeded internal unknown data_loss cancelled modelstreamerrorexception "
        # The last two are our own, of a status of 200 with nothing in it that could be read.
        "modeltimeoutexception unreadable_answer empty_answer",
    )
    | _each(
        REJECTED,
        "invalid_request_error authentication_error permission_error invalid_api_key "
        "request_too_large context_length_exceeded invalid_prompt organization_on_hold "
        "insufficient_permissions invalid_argument permission_denied unauthenticated "
        "unimplemented accessdeniedexception validationexception",
    )
    | _each(
        SAID_NO,
        "not_found_error model_not_found conflict_error content_filter content_policy_violation "
        "memory_precondition_failed_error memory_path_conflict_error not_found already_exists "
        "failed_precondition out_of_range aborted conditionalcheckfailedexception",
    )
)

# Where a provider has no word of its own for it; in lower case. Asked in this order.
PHRASES: tuple[tuple[str, Kind], ...] = (
    ("credit balance is too low", QUOTA),
    ("your specified api usage limits", QUOTA),
    # OpenAI: answered with 429, but it will not fit however long one waits.
    ("tokens must be reduced", REJECTED),
)

Types: TypeAlias = Mapping[str, Mapping[str, Kind]]

_HTTPX = (
    _each(UNSENT, "ConnectError ConnectTimeout PoolTimeout ConnectionNotAvailable ProxyError")
    | _each(BROKEN, "TimeoutException NetworkError ProtocolError DecodingError TransportError")
    | _each(BROKEN, "RequestError")
    | _each(REJECTED, "LocalProtocolError UnsupportedProtocol InvalidURL TooManyRedirects")
    | _each(BUG, "StreamError CookieConflict")
)
_PROVIDER = (
    _each(WRAPS, "APIConnectionError")
    | _each(BROKEN, "APIError APIResponseValidationError RetryableError")
    | _each(BROKEN, "WebSocketConnectionClosedError")
    | _each(UNSENT, "WebSocketQueueFullError")
    | _each(WRAPS, "SubjectTokenProviderError")
    | _each(SAID_NO, "LengthFinishReasonError ContentFilterFinishReasonError")
    | _each(REJECTED, "OpenAIError AnthropicError")
)
_DATABASE = _each(BROKEN, "OperationalError InterfaceError PostgresConnectionError")

# Codes of JSON-RPC, of the Model Context Protocol, and those that its Python SDK makes up where no
# answer came. Any other is one of a server's own: it failed, and who knows at what point.
RPC_CODES: Mapping[int, Kind] = MappingProxyType(
    {
        -32700: BROKEN,  # what came back cannot be read
        -32600: REJECTED,
        -32601: REJECTED,
        -32602: REJECTED,
        -32603: BROKEN,
        -32000: BROKEN,  # the connection closed
        -32001: BROKEN,  # no answer in time
        -32002: SAID_NO,  # no such resource
        -32020: REJECTED,
        -32021: REJECTED,  # it wants a client that can do more
        -32022: REJECTED,  # it speaks another version
        -32042: SAID_NO,  # somebody has to go to a page first
    }
)

# First part of the module's name, then the name of the class. An error is looked up by its
# class, then by the classes that this one is derived from.
TYPES: Types = MappingProxyType(
    {
        "httpx": _HTTPX,
        "httpx2": _HTTPX,
        "httpcore": _HTTPX,
        "httpcore2": _HTTPX,
        "h11": _each(BROKEN, "RemoteProtocolError") | _each(REJECTED, "LocalProtocolError"),
        "h2": _each(BROKEN, "ProtocolError"),
        "openai": _PROVIDER,
        "anthropic": _PROVIDER,
        "aiohttp": _each(UNSENT, "ClientConnectorError ConnectionTimeoutError")
        | _each(UNSENT, "ClientHttpProxyError")
        | _each(FAILED, "ClientConnectorCertificateError ServerFingerprintMismatch")
        | _each(BROKEN, "ClientResponseError ClientPayloadError ClientConnectionError")
        | _each(REJECTED, "InvalidURL TooManyRedirects NonHttpUrlClientError"),
        "requests": _each(UNSENT, "ConnectTimeout ProxyError")
        | _each(WRAPS, "ConnectionError SSLError RetryError")
        | _each(BROKEN, "Timeout ChunkedEncodingError ContentDecodingError InvalidJSONError")
        | _each(REJECTED, "URLRequired TooManyRedirects MissingSchema InvalidSchema InvalidURL")
        | _each(REJECTED, "InvalidHeader"),
        "urllib3": _each(UNSENT, "ConnectTimeoutError NewConnectionError NameResolutionError")
        | _each(WRAPS, "MaxRetryError ProxyError SSLError")
        | _each(BROKEN, "ProtocolError TimeoutError DecodeError IncompleteRead")
        | _each(REJECTED, "LocationValueError"),
        "urllib": _each(WRAPS, "URLError") | _each(BROKEN, "ContentTooShortError"),
        "http": _each(BUG, "ImproperConnectionState InvalidURL") | _each(BROKEN, "HTTPException"),
        "botocore": _each(UNSENT, "EndpointConnectionError ConnectTimeoutError")
        | _each(UNSENT, "ProxyConnectionError")
        | _each(BROKEN, "HTTPClientError ConnectionError IncompleteReadError")
        | _each(BROKEN, "ResponseStreamingError EventStreamError")
        | _each(REJECTED, "NoCredentialsError ParamValidationError NoRegionError"),
        "websockets": _each(BROKEN, "ConnectionClosed InvalidMessage"),
        "redis": _each(BROKEN, "ConnectionError TimeoutError")
        | _each(OVERLOAD, "BusyLoadingError"),
        "psycopg": _DATABASE,
        "asyncpg": _DATABASE,
        "socket": _each(UNSENT, "gaierror herror"),
        "ssl": _each(FAILED, "SSLCertVerificationError") | _each(BROKEN, "SSLError"),
        "mcp": _each(BROKEN, "MCPError SubscriptionLost StreamableHTTPError")
        | _each(REJECTED, "NoBackChannelError InputRequiredRoundsExceededError")
        | _each(REJECTED, "ListenNotSupportedError UnexpectedClaimedResult")
        | _each(SAID_NO, "UrlElicitationRequiredError"),
        "anyio": _each(BROKEN, "BrokenResourceError ClosedResourceError EndOfStream"),
        "json": _each(BROKEN, "JSONDecodeError"),
        "msgspec": _each(BUG, "ValidationError") | _each(BROKEN, "DecodeError"),
    }
)

# Python's own, asked in this order.
BUILTINS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Kind], ...] = (
    (ConnectionRefusedError, UNSENT),
    ((TimeoutError, ConnectionError, EOFError, UnicodeDecodeError), BROKEN),
    ((ValueError, TypeError, LookupError, ArithmeticError, AttributeError), BUG),
    ((AssertionError, NotImplementedError, RecursionError, NameError, ImportError), BUG),
    ((MemoryError, StopIteration, StopAsyncIteration, BufferError, ReferenceError), BUG),
    ((FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError), BUG),
    (PermissionError, BUG),
)
