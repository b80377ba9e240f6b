"""What results look like when a call did not go well, and what that means: the table.

Keeps: rows are tried in this order, and the first that fits decides; each has an example, which
the tests hold it to. Where a row is about what explains itself, a longer text is no fit: it is a
document that happens to begin so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from undercroft.doctor.status_objects import (
    ENVELOPE,
    UNDERWAY,
    says_accepted,
    says_error,
    says_exit,
    says_http,
    says_is_error,
    says_status,
    says_unsuccessful,
)
from undercroft.model.case import CallStatus

SHORT_CHARS = 400
TERSE_CHARS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """One row of the table: what a result looks like, and what that means.

    Attributes:
        name: Stable, for the docs and the tests.
        says: What it looks like, for people.
        status: What it means.
        example: A result that it fits.
        pattern: Of the beginning of a text; None where the row is about an object.
        chars_max: How long a text may be for the row to count; 0 where length does not matter.
        object: Returns what an object says went wrong (or how far it is); None where the row
            does not fit it.
        error_class: Where the row itself says it; else the words of the error do.
        of: Of which tools the row is: `writes` where it is only of those whose name says that
            they change something, `no_checks` where it is not of those that tell how something is.
    """

    name: str
    says: str
    status: CallStatus
    example: str
    pattern: re.Pattern[str] | None = None
    chars_max: int = 0
    object: Callable[[Mapping[str, Any]], str | None] | None = None
    error_class: str = ""
    of: str = ""


def _p(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_OK, _FAILED = CallStatus.OK, CallStatus.FAILED
_REFUSED, _WAITING = CallStatus.REFUSED, CallStatus.WAITING

PHRASES = (
    r"bad request|unauthorized|payment required|forbidden|not found|method not allowed"
    r"|not acceptable|request time-?out|conflict|gone|payload too large|unprocessable \w{1,12}"
    r"|locked|too many requests|internal server error|not implemented|bad gateway"
    r"|service unavailable|gateway time-?out|overloaded"
)
# Of what it is an error, so that a "margin of error" is none.
_OF = (
    r"(?:tool|api|http|server|client|runtime|execution|validation|database|sql|network|internal"
    r"|fatal|system|unexpected|critical|python|compile|build|parse|parser|syntax|import|connection"
    r"|auth|authentication|authorization|input|output|request|function|application|service|an?)"
)
# What an operating system calls it, and providers.
_CODES = (
    r"econn(?:reset|refused|aborted)|e(?:notfound|timedout|pipe|hostunreach|netunreach|ai_again)"
    r"|enoent|eacces|eperm|(?:overloaded|rate_limit|api|server|timeout|authentication|permission"
    r"|not_found|invalid_request|internal_server)_error|(?:resource_exhausted|deadline_exceeded"
    r"|permission_denied|unauthenticated|rate_limited|rate_limit_exceeded|service_unavailable"
    r"|internal_error|invalid_token|invalid_api_key|insufficient_quota)"
)
_SERVICES = (
    r"service|server|backend|upstream|host|database|db|api|gateway|system|endpoint|provider"
    r"|network|cluster|site"
)
# Status codes of gRPC; those of one word may as well be how something stands.
_GRPC = (
    r"INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED"
    r"|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|OUT_OF_RANGE|UNIMPLEMENTED|DATA_LOSS|UNAUTHENTICATED"
    r"|UNAUTHORIZED|FORBIDDEN|BAD_REQUEST|INTERNAL_ERROR|INTERNAL_SERVER_ERROR|SERVICE_UNAVAILABLE"
    r"|RATE_LIMITED|VALIDATION_ERROR|TIMED_OUT"
)
_GRPC_STATES = r"CANCELLED|ABORTED|UNKNOWN|INTERNAL|UNAVAILABLE"
# What a call is made of, and what may be wrong with that.
_WRONG = r"unknown|unrecogni[sz]ed|unexpected|unsupported|invalid|illegal|malformed|missing|bad"
_PART = (
    r"argument|parameter|param|field|property|option|flag|keyword|attribute|column|table|key"
    r"|tool|function|command|method|endpoint|operation|action|format|input|request"
    r"|query|syntax|json|token|credential|signature|scope|header"
)
# As `PHRASES`, as a whole text: "Locked" or "Gone" may be how something stands.
_BARE = (
    r"bad request|unauthori[sz]ed|forbidden|method not allowed|not acceptable|not implemented"
    r"|request time-?out|gateway time-?out|unprocessable (?:entity|content)|payload too large"
    r"|too many requests|internal server error|bad gateway|service unavailable|not permitted"
    r"|not supported|not allowed|access denied|permission denied"
)
_WHO = r"(?:the |a )?(?:user|human|operator|person|reviewer|approver|administrator|admin)"
_WHAT = r"(?:tool |function )?(?:call|use|execution|action|operation|request|command|tool)"

TELLS: tuple[Tell, ...] = (
    Tell(
        name="is_error",
        says='an object with `"isError": true` or `"is_error": true`',
        status=_FAILED,
        example='{"isError": true, "content": [{"type": "text", "text": "no such order"}]}',
        object=says_is_error,
    ),
    Tell(
        name="status_refused",
        says="an object that only says that the call was refused, rejected, denied or blocked",
        status=_REFUSED,
        example='{"status": "rejected", "reason": "over the limit"}',
        object=says_status("refused rejected denied blocked declined", ENVELOPE),
    ),
    Tell(
        name="status_waiting",
        says="an object that only says that the work is under way or waits for somebody",
        status=_WAITING,
        example='{"status": "pending_approval", "approval_id": "7"}',
        object=says_status(
            "pending pendingapproval awaitingapproval waitingforapproval waiting queued "
            "scheduled inprogress processing running submitted requiresapproval needsapproval "
            "requiresconfirmation approvalrequired confirmationrequired",
            UNDERWAY,
        ),
    ),
    Tell(
        name="accepted",
        says="an object with the HTTP status 202",
        status=_WAITING,
        example='{"status_code": 202, "job_id": "7"}',
        object=says_accepted,
    ),
    Tell(
        name="error_key",
        says="an object whose `error`, `errors`, `error_message` or `exception` says something",
        status=_FAILED,
        example='{"error": {"type": "not_found_error", "message": "no such order"}}',
        object=says_error,
    ),
    Tell(
        name="unsuccessful",
        says="an object whose `success` or `ok` is false",
        status=_FAILED,
        example='{"success": false, "message": "the card was declined"}',
        object=says_unsuccessful,
    ),
    Tell(
        name="http_key",
        says="an object whose `status` or `status_code` is an HTTP status from 400 on",
        status=_FAILED,
        example='{"status": 503, "title": "Service Unavailable"}',
        object=says_http,
    ),
    Tell(
        name="status_failed",
        says='an object that only says that the call failed: `"status": "error"`',
        status=_FAILED,
        example='{"status": "error", "message": "timed out"}',
        object=says_status(
            "error failed failure fail timeout timedout exception invalid notfound unauthorized "
            "forbidden unavailable aborted",
            ENVELOPE,
            explained="error exception",
        ),
    ),
    Tell(
        name="status_not_done",
        says="an object with whatever keys, of a tool that changes something, whose status says "
        "that it did not",
        status=_FAILED,
        example='{"order_id": "#A1001", "status": "failed"}',
        object=says_status("error failed failure fail rejected declined denied refused", None),
        of="writes",
    ),
    Tell(
        name="exit_key",
        says="an object with an exit code other than 0",
        status=_FAILED,
        example='{"exit_code": 1, "stderr": "no such file", "stdout": ""}',
        object=says_exit,
    ),
    Tell(
        name="refused_by",
        says="a short text that says that a person, or a policy, did not let it happen",
        status=_REFUSED,
        example="The user rejected this tool call.",
        pattern=_p(
            rf"{_WHO} (?:has )?(?:rejected|denied|declined|refused|cancelled|canceled"
            rf"|did not approve|didn't approve|does not want|doesn't want)\b"
            rf"|(?:error: )?(?:the |this |your )?{_WHAT} (?:was |has been |is )?"
            r"(?:rejected|denied|blocked|refused|disallowed|not approved)(?: by\b|\.|:|$)"
            r"|(?:permission|approval) (?:was )?(?:denied|rejected|refused) by\b"
        ),
        chars_max=SHORT_CHARS,
        error_class="domain",
    ),
    Tell(
        name="breaker_open",
        says="a short text that says that a circuit breaker is open",
        status=_REFUSED,
        example="Circuit breaker for payments is open; retry in 30 s.",
        pattern=_p(r"(?:error: )?[^\n]{0,60}\bcircuit[- ]?(?:breaker)?\b[^\n]{0,60}\bopen\b"),
        chars_max=SHORT_CHARS,
        error_class="transient",
    ),
    Tell(
        name="needs_approval",
        says="a short text that says that it waits for somebody's word",
        status=_WAITING,
        example="Waiting for approval by a manager.",
        pattern=_p(
            r"[^\n.]{0,80}\b(?:waiting for|awaiting|pending|requires?|needs?) "
            r"(?:[\w']{1,20} ){0,3}(?:approval|confirmation|sign-?off)\b"
            r"|approval (?:is )?(?:required|requested|pending)\b"
        ),
        chars_max=TERSE_CHARS,
    ),
    Tell(
        name="error_prefix",
        says='a text that begins with "Error", "Failure" or "Fatal" and a colon',
        status=_FAILED,
        example="Error: user not found",
        pattern=_p(
            rf"(?:(?:{_OF} ){{0,2}}(?:error|failure)|fatal|failed|panic)\b"
            r"(?: ?\([^()\n]{0,80}\)| ?\[[^\[\]\n]{0,80}\]| code \d{1,5}| \d{3})?"
            r" ?(?::|-{1,2} |\u2013|\u2014)"
            r"(?!\s{0,5}(?:(?![45]\d\d\s{0,5}$)\d{1,6}\s{0,5}(?:$|[,;|])"
            r"|(?:none|null|no(?: errors?)?)[.]?\s{0,5}$))"
            rf"|(?:{_OF} ){{0,2}}(?:error|failure|exception)[.!]?\s*$|failed[.!]?\s*$"
        ),
    ),
    Tell(
        name="error_tag",
        says='a text that begins with `<error>`, `<tool_use_error>` or "[error]"',
        status=_FAILED,
        example="<tool_use_error>no such file</tool_use_error>",
        pattern=_p(r"<(?:tool_use_|tool_)?error>|\[(?:error|failed|failure)\]|[\u274c\u26d4]"),
    ),
    Tell(
        name="exception",
        says='a text that begins with the name of an exception: "ValueError: …"',
        status=_FAILED,
        example="requests.exceptions.ReadTimeout: the service did not answer",
        pattern=re.compile(
            r"(?:[a-z_]\w{0,40}\.){0,6}"
            r"(?:[A-Z]\w{0,60}(?:Error|Exception|Fault|Timeout|Interrupt)|Exception)"
            r"(?:\(['\"]|\b ?:|\s*$)"
        ),
    ),
    Tell(
        name="traceback",
        says="a Python traceback, at the beginning or as the end of the text",
        status=_FAILED,
        example="Traceback (most recent call last):\n  File ...\nKeyError: 'id'",
        pattern=_p(r"traceback \(most recent call last\):"),
    ),
    Tell(
        name="while",
        says='a short text that begins with "Error while…", "An error occurred", "Failed to…"',
        status=_FAILED,
        example="Error executing tool cancel_order: no such order",
        pattern=_p(
            r"error (?:while |when |in |during |calling |executing |invoking |running |processing "
            r"|fetching |reading |writing |loading |parsing |getting |connecting |occurred)"
            r"|(?:sorry,? )?(?:there was )?an? (?:[\w-]{1,20} ){0,2}(?:error|exception)"
            r" (?:has )?(?:occurred|happened|was raised|while)"
            r"|(?:sorry,? )?(?:i |we )?(?:failed to|unable to|could not|couldn't|cannot|can't) \w"
            r"|(?:the |this )?(?:tool|function|command|request|operation|query|execution|call)"
            r"(?: call| execution)? (?:has )?(?:failed|errored|crashed|timed out|was aborted)\b"
            r"|invalid (?:argument|parameter|input|request|value|arguments|parameters|json)\b"
            r"|missing (?:required )?(?:argument|parameter|field|arguments|parameters)\b"
            rf"|(?:{_WRONG}) (?:\w{{1,20}} ){{0,2}}(?:{_PART})s?\b"
            r"|(?:oops|uh-oh)\b|something went wrong\b|an? (?:[\w-]{1,20} ){0,2}(?:problem|issue)"
            r" (?:has )?occurred\b"
            r"|\d{1,4} validation errors? for \w"
            r"|(?:unknown|no such|unsupported) (?:tool|function|command|method)\b"
            r"|no (?:tool|function|command|method) (?:is )?(?:named|called|with)\b"
        ),
        chars_max=SHORT_CHARS,
    ),
    Tell(
        name="http_line",
        says='an HTTP status line, or what clients make of one: "503 Service Unavailable"',
        status=_FAILED,
        example="HTTP/1.1 503 Service Unavailable",
        pattern=_p(
            r"http/\d(?:\.\d)? [45]\d\d\b"
            r"|(?:http )?(?:(?:response )?(?:status|error)(?: code)?:? |http )[45]\d\d\b"
            rf"|[45]\d\d:? ?(?:client error|server error|error|no such|{PHRASES})\b"
            r"|(?:40[0-689]|41[035]|42[2-59]|429|50[0-47]|529)(?::| -) [a-z]"
            r"|(?:client|server) error '?[45]\d\d\b"
            r"|request failed with status code [45]\d\d\b"
            r"|[^\n]{0,40}\b(?:returned|responded with|replied with|got"
            r"|received)(?: an?)?(?: http)?"
            r"(?: status| error)?(?: code)? [45]\d\d\b"
            r"|(?:code|status|http|error)[ =:]{1,2}[45]\d\d\W*$"
            rf"|(?:{_BARE})[.!]?\s*$"
        ),
    ),
    Tell(
        name="limited",
        says="a short text that says that too much was asked for",
        status=_FAILED,
        example="Rate limit exceeded, retry in 20 s",
        pattern=_p(
            r"[^\n]{0,80}\b(?:rate[- ]limit(?:ed| exceeded| reached| hit)|too many requests"
            r"|quota exceeded|exceeded your (?:current )?quota|overloaded|server is busy)\b"
        ),
        chars_max=TERSE_CHARS,
    ),
    Tell(
        name="timed_out",
        says="a short text that says that time ran out, or that a connection broke",
        status=_FAILED,
        example="The request timed out after 30 seconds.",
        pattern=_p(
            r"[^\n]{0,80}\b(?:timed out|timeout (?:exceeded|expired|after|of|reached|error)"
            r"|deadline exceeded|connection (?:refused|reset|aborted|error|closed|failed)"
            r"|service (?:is )?(?:temporarily )?unavailable|temporarily unavailable"
            r"|(?:grpc|rpc)(?: error)?:? [^\n]{0,20}(?:status|code)|no healthy upstream"
            r"|unable to handle the request|lost connection|connection (?:was |is )?lost"
            r"|connect error|socket hang ?up|fetch failed|network (?:error|failure)|getaddrinfo"
            r"|not complete in time|did not respond|no response from|broken pipe)\b"
            r"|(?:[a-z]{1,20} ){0,2}(?:request |gateway |read |connect |response )?time-?out"
            r"\b(?! ?[:=] ?\d| (?:is|was) set)"
            rf"|(?:[\w ]{{0,20}}: ?)?(?:{_CODES})\b"
        ),
        chars_max=TERSE_CHARS,
    ),
    Tell(
        name="away",
        says="a short text that says that a service is away, or to try again later",
        status=_FAILED,
        example="The inventory service is down.",
        pattern=_p(
            r"(?!(?:if|when|once|while|in case|should)\b)(?:"
            rf"[^\n]{{0,60}}\b(?:{_SERVICES}) (?:is |was |seems to be )?(?:currently "
            rf"|temporarily )?"
            r"(?:down|offline|unreachable|unavailable|not (?:responding|reachable|available)"
            r"|out of service|under maintenance|busy|overloaded)\b"
            r"|[^\n]{0,100}\b(?:(?:please )?(?:try|retry)(?: it| again| this)? (?:again )?"
            r"(?:later|shortly|in a (?:few|moment|minute|while))|please (?:try again|retry)"
            r"|temporarily (?:out of service|disabled|offline|down|not available))\b)"
        ),
        chars_max=TERSE_CHARS,
        error_class="transient",
        of="no_documents",
    ),
    Tell(
        name="crashed",
        says="a short text in the words of a program, a database or a remote call that failed",
        status=_FAILED,
        example="duplicate key value violates unique constraint",
        pattern=re.compile(
            rf"(?:{_GRPC})(?:\s*$|\s?[:\u2013-])|(?:{_GRPC_STATES})\s?:\s"
            r"|(?i:[^\n]{0,60}\b(?:segmentation fault|core dumped|out of memory|stack overflow"
            r"|no space left on device|division by zero|deadlock (?:detected|found)"
            r"|(?:database|table) is locked|violates [\w\" ]{0,40}constraint|duplicate key"
            r"|no such host|(?:host|network) (?:is )?unreachable|is not defined|syntax error"
            r"|version (?:mismatch|conflict)|stale (?:version|object|etag)|precondition failed)\b"
            r"|(?:killed|aborted|(?:request|operation|transaction|job) (?:was )?aborted)\W{0,3}$"
            r"|(?:conflict|fault|err|exception)\s?:\s)"
        ),
        chars_max=TERSE_CHARS,
        of="no_documents",
    ),
    Tell(
        name="not_valid",
        says="a short text that says of a parameter what it must be",
        status=_FAILED,
        example="'amount' must be positive",
        pattern=re.compile(
            r"(?:(?:[Tt]he )?(?i:parameter|argument|field|property|value(?: of| for)?) )?"
            r"['\"`]?[a-z][\w.]{0,40}['\"`]? "
            r"(?:is (?:a )?(?:required|not (?:a )?(?:valid|allowed|supported|recogni[sz]ed)|invalid"
            r"|missing)|must (?:be|not|match|have|contain)|(?:can(?:not|'t)|may not) be)\b"
        ),
        chars_max=TERSE_CHARS,
        error_class="permanent",
        of="no_documents",
    ),
    Tell(
        name="not_found",
        says='a short text that says that it is not there: "user not found"',
        status=_FAILED,
        example="No such file or directory: notes.txt",
        pattern=_p(
            # That a search found nothing is an answer.
            r"(?!no (?:\w{1,20} ){0,3}(?:results?|match(?:es)?|records?|items?|entries)\b)"
            r"(?:[^\n]{0,80}\b(?:(?:was |were |is |are |could )?not (?:be )?found|does not exist"
            r"|doesn't exist|no such file or directory|command not found)\b|no such \w)"
        ),
        chars_max=TERSE_CHARS,
    ),
    Tell(
        name="not_allowed",
        says="a short text that says that it may not be done",
        status=_FAILED,
        example="Permission denied",
        pattern=_p(
            r"[^\n]{0,80}\b(?:permission denied|access (?:is |was )?denied|unauthori[sz]ed"
            r"|forbidden|not authori[sz]ed|authentication (?:failed|required)"
            r"|invalid (?:api key|credentials|token)|insufficient permissions?"
            r"|(?:do not|don't|does not|doesn't) have (?:access|permission)|no permission"
            r"|method not allowed|(?:token|session|api key|login) (?:has |is )?expired"
            r"|not (?:authenticated|logged in|signed in)|(?:log ?in|sign ?in) (?:is )?required"
            r"|please (?:log|sign) in|you (?:must|need to) (?:be )?(?:log(?:ged)? in|sign(?:ed)? in"
            r"|authenticated?|authori[sz]ed|an? \w{1,20}))\b"
        ),
        chars_max=TERSE_CHARS,
        error_class="permanent",
    ),
    Tell(
        name="not_done",
        says="a short text, of a tool that changes something, that says why it did not",
        status=_FAILED,
        example="Orders that were shipped cannot be cancelled.",
        pattern=_p(
            # What its first clause says is what became of the call.
            r"(?![^\n.;]{0,120}\b(?:success\w{0,5}|ok|done|has been|have been"
            r"|(?:was|is now|(?<!that )(?<!which )were) (?!declined|rejected|refused|denied)"
            r"\w{2,20}ed)\b)"
            r"[^\n.;]{0,120}\b(?:(?:could|can|may|does|do|did|is|are|was|were) ?not\b"
            r"|(?:could|ca|does|do|did|is|are|was|were)n?'t\b|unable to|not (?:allowed|permitted"
            r"|possible|eligible|supported|enough|valid)|no longer (?:possible|available|valid)"
            r"|declined|rejected|denied|refused|insufficient|failed|invalid|exceed(?:s|ed)"
            r"|(?:limit|quota) reached|too (?:many|large|late|long|high|low|old)|must be"
            r"|is required)\b"
        ),
        chars_max=TERSE_CHARS,
        of="writes",
    ),
)

# What words say of the next attempt; asked in this order, where neither a code nor an HTTP
# status says it.
CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "overloaded",
        _p(
            r"\brate[- ]?limit|too many requests|\boverload|server is busy|\bthrottl"
            r"|unable to handle the request|resource.exhausted"
        ),
    ),
    ("permanent", _p(r"\bquota\b|billing|credit balance")),
    (
        "transient",
        _p(
            r"timed? ?-?out|timeout|deadline exceeded|connection ?(?:refused|reset|aborted|error"
            r"|closed|failed)|temporar(?:y|ily)|try again|network error|unreachable"
            r"|internal server error|bad gateway|service (?:is )?unavailable|\beconn|\betimedout"
            r"|name resolution|\bdns\b|broken pipe|circuit breaker|connect error|socket hang ?up"
            r"|fetch failed|network failure|getaddrinfo|enotfound|epipe|eai_again"
            r"|e(?:host|net)unreach|not complete in time|did not respond|no response from"
            r"|is locked|deadlock|lost connection|connection (?:was |is )?lost|no healthy upstream"
            r"|(?:status|code)[ :=]{1,3}unavailable|\A\W{0,3}unavailable\b|no such host"
        ),
    ),
    (
        "permanent",
        _p(
            r"(?:tool|function)\b[^\n]{0,60} (?:not found|does(?: not|n't) exist|not available)"
            r"|permission denied|access (?:is |was )?denied|have (?:access|permission)"
            r"|unauthori[sz]ed|forbidden|not authori|authentication|api key|credentials"
            r"|invalid.token|token (?:has )?expired|eacces|eperm"
            r"|not implemented|unsupported|syntax ?error"
            r"|unknown (?:tool|function|command|method|language)|no such (?:tool|function|command)"
            r"|no (?:tool|function|command|method) (?:is )?(?:named|called|with)"
            r"|command not found|unexpected keyword|validation error|schema|no module named"
            r"|\b(?:type|name|key|index|attribute|value|import|modulenotfound|zerodivision"
            r"|assertion|notimplemented|indentation|recursion|unicode\w{0,10})error\b"
            r"|(?:missing|invalid) (?:required )?(?:argument|parameter|field|json)"
            r"|context (?:length|window)|maximum context"
        ),
    ),
    (
        "domain",
        _p(
            r"not found|does(?: not|n't) exist|no such|already|not enough|insufficient|exceed"
            r"|(?:can|may|must|should|could)(?: ?not|n't)? be\b|cannot|can't|not allowed"
            r"|not \w{1,20}able\b|out of stock|unavailable|expired|declined|invalid"
            r"|does(?: not|n't) (?:match|add)|(?:must|should) (?:be|match|have)"
            r"|not (?:eligible|permitted|valid|pending|delivered)"
        ),
    ),
)
