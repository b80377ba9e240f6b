"""How a call ended, told from its result: the table, and what it leaves alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doctor.anything import json_values
from undercroft.doctor.status_table import SHORT_CHARS, TELLS, Tell
from undercroft.doctor.statuses import error_class_of, infer_status, said_error
from undercroft.model.case import CallStatus

CLASSES = {"transient", "overloaded", "permanent", "domain", "unknown"}


@pytest.mark.parametrize("tell", TELLS, ids=lambda tell: tell.name)
def test_each_row_fits_its_example(tell: Tell) -> None:
    """What the table shows as an example is read as the table says."""
    name = "cancel_order" if tell.of == "writes" else ""
    assert infer_status(tell.example, name=name).status is tell.status


@pytest.mark.parametrize(
    ("result", "error_class"),
    [
        ("Error: user not found", "domain"),
        ("Error: payment amount does not add up, total price is 375, but paid 299", "domain"),
        ('# var_0 = "Error: user not found"', "domain"),
        ("Error code: 429 - {'error': {'message': 'Rate limit reached'}}", "overloaded"),
        ("Error", "unknown"),
        ("Error: no such order", "domain"),
        ("exitcode: 1 (execution failed)\nCode output: unknown language js", "permanent"),
        ("some output\n[exit code: 2]", "unknown"),
        ("Command 'ls' returned non-zero exit status 1.", "unknown"),
        ("HTTP/1.1 502 Bad Gateway", "transient"),
        ("404 Client Error: Not Found for url: http://127.0.0.1/x", "domain"),
        ("openai.RateLimitError: slow down", "overloaded"),
        ("Traceback (most recent call last):\n  File 'x'\nTypeError: bad", "permanent"),
        ("doing it\nTraceback (most recent call last):\n  File 'x'\nTimeoutError: no", "transient"),
        ("The request timed out after 30 seconds", "transient"),
        ("bash: fooctl: command not found", "permanent"),
        ("Permission denied", "permanent"),
        ("upstream connect error or disconnect/reset before headers", "transient"),
        ("ECONNRESET", "transient"),
        ("grpc: status UNAVAILABLE: no healthy upstream", "transient"),
        ("The server is currently unable to handle the request.", "overloaded"),
        ("No tool named fetch_report", "permanent"),
        ("Lost connection to the server while waiting for the reply", "transient"),
        ("fetch failed: getaddrinfo ENOTFOUND api", "transient"),
        ("overloaded_error", "overloaded"),
        ("You don't have access to this resource", "permanent"),
        ("404: no such endpoint", "domain"),
        ("Tool 'frobnicate' does not exist", "permanent"),
        ("No such order", "domain"),
        ("Unknown tool: frobnicate", "permanent"),
        ('{"error": "rate_limit_exceeded"}', "overloaded"),
        ('{"error": {"type": "overloaded_error", "message": "busy"}}', "overloaded"),
        ('{"success": false, "message": "not enough seats"}', "domain"),
        ('{"isError": true, "content": [{"type": "text", "text": "boom"}]}', "unknown"),
        ('{"status": "error", "order_id": "#A1001", "message": "cannot cancel"}', "domain"),
        ('{"statusCode": 503, "message": "down"}', "overloaded"),
        ('{"exit_code": 1, "stdout": "", "stderr": "no such file"}', "domain"),
        ('{"result": "Error: invalid api key"}', "permanent"),
        ('[{"type": "text", "text": "Error: boom"}]', "unknown"),
        ('{"detail": "Not Found"}', "domain"),
    ],
)
def test_what_failed_is_told_and_classed(result: str, error_class: str) -> None:
    """A result that says that the call failed is a failure, of the class that its words mean."""
    found = infer_status(result)
    assert found.status is CallStatus.FAILED
    assert found.error_class == error_class
    assert found.error


@pytest.mark.parametrize(
    "result",
    [
        "",
        "[]",
        "null",
        "false",
        "429.0",
        "503",
        "timeout: 30",
        "404 Main Street",
        "No results found",
        "0 errors, 3 warnings",
        "Errors: 0",
        "Error: none",
        "Margin of error: 5%",
        "Failed: 0, passed: 12",
        "exitcode: 0 (execution succeeded)\nCode output: Error: could not connect",
        '{"order_id": "#A1001", "status": "pending", "items": []}',
        '{"payment_id": "p1", "status": "failed", "amount": 3}',
        '{"id": "r1", "status": "rejected", "name": "Ada"}',
        '{"error": null, "data": [1]}',
        '{"errors": [], "ok": true}',
        '{"data": {"a": 1}, "errors": [{"message": "one field is missing"}]}',
        '{"success": true, "message": "Error log was cleared"}',
        '{"error_rate": 0.4}',
        '[{"title": "KeyError: what it means"}, {"title": "Error: a novel"}]',
        '{"url": "http://127.0.0.1", "text": "404 Not Found is an HTTP status"}',
        "a log\nTraceback (most recent call last):\n  x\nKeyError: 1\n\nThis is how one looks.",
    ],
)
def test_what_speaks_of_errors_did_not_fail(result: str) -> None:
    """A result that holds the word, an empty one, and a business state are no failures."""
    assert infer_status(result).status is CallStatus.OK


@given(st.sampled_from([tell for tell in TELLS if tell.chars_max]))
def test_a_long_text_that_begins_so_is_a_document(tell: Tell) -> None:
    """Where a row is about what explains itself, a page that begins alike is a page."""
    page = f"{tell.example} " + "and so the story goes on. " * SHORT_CHARS
    assert infer_status(page).status is CallStatus.OK


def test_a_tool_that_reads_brings_back_documents() -> None:
    """A snippet from a search counts as a word about the call only where it is very short."""
    text = "Failed to launch is a comedy of 2006. " * 6
    assert infer_status(text, name="web_search").status is CallStatus.OK
    assert infer_status(text, name="launch").status is CallStatus.FAILED


@given(st.text(st.characters(), max_size=200) | json_values.map(json.dumps))
def test_any_result_has_a_status(result: str) -> None:
    """Any text has a status; an error and its class are there just where something went wrong."""
    found = infer_status(result)
    bad = found.status in {CallStatus.FAILED, CallStatus.REFUSED}
    assert bad == bool(found.error_class)
    assert not found.error or bad
    assert found.error_class in CLASSES or not bad
    assert infer_status(result) == found


@pytest.mark.parametrize(
    "piece",
    [
        "error ",
        "Error: (",
        "[a",
        "{",
        "a.",
        "```",
        "Traceback (most recent call last):\n",
        "# x = '",
    ],
)
def test_hostile_text_costs_little(piece: str) -> None:
    """Text that repeats what patterns look for is read as fast as any other (or times out)."""
    infer_status(piece * 200_000)
    error_class_of(piece * 200_000)


def test_words_of_error_objects_are_found() -> None:
    """An error is text: of an object what it says, of what says nothing its JSON."""
    assert said_error({"type": "x_error", "message": "no"}) == "no: x_error"
    assert said_error({"odd": 1}) == '{"odd": 1}'
    assert said_error(None) == ""


@pytest.mark.parametrize(
    ("result", "error_class"),
    [
        ("Bad gateway", "transient"),
        ("API Error: 500", "transient"),
        ("upstream request timeout", "transient"),
        ("The inventory service is down.", "transient"),
        ("Server returned 502", "transient"),
        ("Unknown parameter: since", "unknown"),
        ("'amount' must be positive", "permanent"),
        ("Session expired", "permanent"),
        ("PERMISSION_DENIED: no scope", "permanent"),
        ("Segmentation fault", "unknown"),
        ("Something went wrong", "unknown"),
    ],
)
def test_bare_words_of_programs_and_services_are_failures(result: str, error_class: str) -> None:
    """Short texts that can be nothing but an error are one, and say what to try next."""
    told = infer_status(result)
    assert told.status is CallStatus.FAILED
    assert told.error_class in {error_class, "unknown"}


@pytest.mark.parametrize(
    ("name", "result", "status"),
    [
        ("cancel_order", "Orders that were shipped cannot be cancelled.", CallStatus.FAILED),
        ("get_policy", "Orders that were shipped cannot be cancelled.", CallStatus.OK),
        ("cancel_order", "Order 1 was cancelled. A refund is not possible.", CallStatus.OK),
        ("decline_invite", "Invitation declined.", CallStatus.OK),
        ("charge_card", "Card declined", CallStatus.FAILED),
        ("cancel_order", '{"order_id": "#A1001", "status": "failed"}', CallStatus.FAILED),
        ("get_order", '{"order_id": "#A1001", "status": "failed"}', CallStatus.OK),
        ("get_service_status", "The service is down", CallStatus.OK),
        ("read_file", "x is not defined", CallStatus.OK),
        ("get_door", "Locked", CallStatus.OK),
        ("get_count", "Error: 0", CallStatus.OK),
    ],
)
def test_what_a_text_means_depends_on_whose_result_it_is(
    name: str, result: str, status: CallStatus
) -> None:
    """What a write says of its not being done is a failure; what a document says is not."""
    assert infer_status(result, name=name).status is status
