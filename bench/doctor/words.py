"""What tools, users and agents say where something goes wrong; in two sets.

Runs of the domains that rules were not first made with get other words, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.doctor.domains_kept import KEPT
from bench.doctor.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Ways to say the same.

    Attributes:
        transient: What a tool says that may work if it is tried later.
        permanent: What it says where that is of no use.
        unknown: What it says where nobody knows whether it was done.
        denied: What it says where the record's state forbids it.
        too_long: What a provider says of a prompt that does not fit.
        cut: What stands where a result was cut off.
        limits: What a framework says that ended a run.
        noes: What a user says who does not agree.
        forgot: How an agent asks for the request once more.
    """

    transient: tuple[str, ...]
    permanent: tuple[str, ...]
    unknown: tuple[str, ...]
    denied: tuple[str, ...]
    too_long: tuple[str, ...]
    cut: tuple[str, ...]
    limits: tuple[str, ...]
    noes: tuple[str, ...]
    forgot: tuple[str, ...]


OPEN = Words(
    transient=(
        "Error: 503 Service Unavailable",
        "Error: connection reset by peer",
        '{"error": {"code": 500, "message": "internal server error"}}',
        "Error: upstream request failed (502 Bad Gateway)",
        "requests.exceptions.ConnectTimeout: connect timed out",
        "HTTP 502",
        "upstream connect error or disconnect/reset before headers",
        '{"status": 503, "detail": "try later"}',
        "Service temporarily unavailable. Please retry.",
        "ECONNRESET",
    ),
    permanent=(
        "Error: 403 Forbidden: missing scope audit.read",
        "Error: 401 Unauthorized: invalid API key",
        '{"error": "permission_denied", "message": "You are not allowed to do this."}',
        "Error: unknown argument 'since'",
        "You don't have access to this resource",
        "404: no such endpoint",
        '{"error": "invalid_token"}',
        "Tool 'fetch_report' does not exist",
    ),
    unknown=(
        "Error: request timed out after 30 s",
        "TimeoutError: no response from server",
        '{"error": "gateway timeout", "code": 504}',
        "504 Gateway Time-out",
        "The operation did not complete in time",
        "socket hang up",
        "Read timed out. (read timeout=30)",
    ),
    denied=(
        "Error: the record is locked and cannot be changed",
        '{"status": "error", "message": "change rejected by policy"}',
        "Error: not allowed in the present state",
        "Error: request timed out after 30 s",
        "HTTP 500: internal server error",
        "Failed: conflict with business rules",
        '{"success": false, "reason": "quota reached"}',
        "Request denied.",
        "422 Unprocessable Entity",
    ),
    too_long=(
        "BadRequestError: 400 context_length_exceeded: 131072 tokens, the maximum is 128000",
        "This model's maximum context length is 8192 tokens, however you requested 8871 tokens",
        "invalid_request_error: prompt is too long: 205412 tokens > 200000 maximum",
        "The input token count (1250000) exceeds the maximum number of tokens allowed (1048576).",
        "ContextWindowExceededError: prompt too large",
        "ValidationException: Input is too long for requested model.",
    ),
    cut=(
        "... [truncated]",
        "\n[output truncated: 48211 more characters]",
        "…<truncated>",
        "\n--- output cut (showing first 200 of 9312 chars) ---",
        "[...]\n(response shortened)",
        "... 134 more lines",
    ),
    limits=(
        "GraphRecursionError: Recursion limit of 25 reached without hitting a stop condition",
        "MaxTurnsExceeded: Max turns (10) exceeded",
        "Agent stopped due to iteration limit or time limit.",
    ),
    noes=(
        "Hm, wait. What would that cost me?",
        "I am not sure yet. Let me think about it.",
        "No, not like that. Is there another way?",
        "Actually, don't.",
        "Hmm... I'd rather keep it as it is.",
        "Not now.",
    ),
    forgot=(
        "Sorry, could you remind me what you would like me to do?",
        "I seem to have lost track. What was your request again?",
        "Could you please repeat your request?",
    ),
)

ASIDE = Words(
    transient=(
        "Error: read ECONNREFUSED 10.0.0.7:5432",
        '{"type": "error", "error": {"type": "api_error", "message": "Overloaded"}}',
        "The server is currently unable to handle the request.",
        "500 Internal Server Error",
        "grpc: status UNAVAILABLE: no healthy upstream",
        '{"ok": false, "error": "backend offline"}',
    ),
    permanent=(
        "Error 405: Method Not Allowed",
        "PermissionError: [Errno 13] Permission denied",
        '{"message": "Not authorized to perform this action", "statusCode": 403}',
        "ValidationError: field 'since' is not defined in the schema",
        "No tool named fetch_report",
    ),
    unknown=(
        "Error: ETIMEDOUT",
        '{"error": "deadline_exceeded"}',
        "Lost connection to the server while waiting for the reply",
        "httpx.ReadTimeout",
    ),
    denied=(
        "Error: precondition failed",
        '{"result": "failure", "detail": "closed period"}',
        "Could not save: the entry is read-only.",
        "409 Conflict",
        '{"error": "INVALID_TRANSITION"}',
    ),
    too_long=(
        "Error: this request would exceed the context window of the model (131072 tokens)",
        '{"error": {"code": "context_length_exceeded", "message": "too many tokens"}}',
        "Requested tokens (9021) exceed context window of 8192",
    ),
    cut=(
        "\n(output too large; 18 KB omitted)",
        " [+2,113 chars]",
        "\n*** result truncated ***",
        "...<cut>",
    ),
    limits=(
        "Run stopped: step budget of 30 exhausted",
        "Exceeded maximum number of iterations (15)",
        "Error: tool call loop detected, aborting",
    ),
    noes=(
        "Please hold off on that for the moment.",
        "I changed my mind, leave everything as it was.",
        "Is that the only option?",
        "Nope.",
    ),
    forgot=(
        "Apologies, what was it you needed help with?",
        "Can you tell me again what you are after?",
        "I no longer have your earlier message. What should I do for you?",
    ),
)
_ASIDE_SOURCES = frozenset(domain.name for domain in KEPT)


def words_for(run: Run) -> Words:
    """Return the words that are used in a run."""
    return ASIDE if run.source in _ASIDE_SOURCES else OPEN
