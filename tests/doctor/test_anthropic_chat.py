"""Anthropic chat logs: what blocks say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from undercroft.doctor.importers.anthropic_chat import FORMAT
from undercroft.doctor.source import Guess, read_cases
from undercroft.model.case import Basis, CallStatus, Case, Facet


def use(name: str, id_: str, **given: Any) -> dict[str, Any]:
    """Return a block that asks for a call."""
    return {"type": "tool_use", "id": id_, "name": name, "input": given}


def came(id_: str, content: Any, **more: Any) -> dict[str, Any]:
    """Return a block with a result."""
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **more}


def says(role: str, *content: Any, **more: Any) -> dict[str, Any]:
    """Return a message with blocks; a text alone stays one."""
    blocks = [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]
    return {"role": role, "content": blocks, **more}


MESSAGES = [
    {"role": "user", "content": "cancel #A1001"},
    says(
        "assistant",
        {"type": "thinking", "thinking": "hm"},
        "I look.",
        use("get", "1"),
        use("put", "2", n=1),
    ),
    says(
        "user",
        came("2", [{"type": "text", "text": "no such order"}], is_error=True),
        came("1", "ok", is_error=False),
    ),
    says("assistant", "It is gone."),
]


def read(*documents: Any) -> Case:
    """Return the one run that documents tell of."""
    return FORMAT.case([one for document in documents for one in FORMAT.records(document)], "file")


def test_blocks_are_calls_results_and_words() -> None:
    """Calls of one message are a batch, `is_error` says how they ended, thoughts are no words."""
    case = read(
        {"trace_id": "t", "system": [{"type": "text", "text": "Policy."}], "messages": MESSAGES}
    )

    assert [(c.name, c.step, c.ended, c.batch, c.arguments) for c in case.calls] == [
        ("get", 1, 2, 1, {}),
        ("put", 1, 2, 1, {"n": 1}),
    ]
    assert [(c.status, c.status_basis) for c in case.calls] == [
        (CallStatus.OK, Basis.DECLARED),
        (CallStatus.FAILED, Basis.DECLARED),
    ]
    assert case.calls[1].error == "no such order"
    assert [(t.role, t.text, t.step) for t in case.texts] == [
        ("system", "Policy.", 0),
        ("user", "cancel #A1001", 0),
        ("assistant", "I look.", 1),
        ("assistant", "It is gone.", 3),
    ]
    assert (case.steps, case.trace_id, case.delivered, case.finished) == (
        4,
        "t",
        "It is gone.",
        True,
    )
    assert Facet.STATUSES in case.shows
    assert not case.flaws


def test_words_that_say_failed_count_without_the_flag() -> None:
    """Where `is_error` is not set, or says no, a result that says that it failed is a failure."""
    for more in ({}, {"is_error": False}):
        case = read(
            [says("assistant", use("a", "1")), says("user", came("1", "Error: no seats", **more))]
        )
        assert case.calls[0].status is CallStatus.FAILED
        assert case.calls[0].status_basis is Basis.INFERRED


def test_requests_and_answers_are_one_run() -> None:
    """A log of requests is one conversation, with its prompts, tokens and reasons to stop."""
    first = {"type": "message", "id": "msg_1", **MESSAGES[1], "stop_reason": "tool_use",
             "usage": {"input_tokens": 10, "output_tokens": 5}}  # fmt: skip
    last = {"type": "message", "id": "msg_2", **MESSAGES[3], "stop_reason": "end_turn",
            "usage": {"input_tokens": 20, "output_tokens": 5}}  # fmt: skip
    request = {"model": "claude", "system": "Policy.", "tools": [{"name": "get"}, {"name": "put"}]}
    log = [
        {"request": {**request, "messages": MESSAGES[:1]}, "response": first},
        {"request": {**request, "messages": MESSAGES[:3]}, "response": last},
    ]
    case, wanted = read(*log), read({"system": "Policy.", "messages": MESSAGES})

    assert (case.texts, case.calls, case.steps) == (wanted.texts, wanted.calls, 4)
    assert [(a.step, a.stop, a.input_tokens) for a in case.asks] == [
        (1, "tool_use", 10),
        (3, "end_turn", 20),
    ]
    assert case.asks[0].prompt == (("system", "Policy."), ("user", "cancel #A1001"))
    assert case.tools == frozenset({"get", "put"})
    assert all(FORMAT.fits(record) > 0.9 for record in log)


def test_sessions_of_coding_agents_are_read(tmp_path: Path) -> None:
    """Messages wrapped in lines of a session are one run; parts of one message are one batch."""

    def line(message: dict[str, Any], second: int) -> dict[str, Any]:
        return {
            "type": message["role"],
            "sessionId": "s1",
            "timestamp": f"2025-01-01T00:00:0{second}Z",
            "message": message,
        }

    lines = [
        line({"role": "user", "content": "fix it"}, 0),
        line(says("assistant", use("Read", "1"), id="msg_1"), 1),
        line(says("assistant", use("Grep", "2"), id="msg_1"), 1),
        line(says("user", came("1", "text")), 2),
        line(says("user", came("2", "hit")), 3),
        line(says("assistant", "Done.", id="msg_2"), 4),
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    guess, case = read_cases(path)

    assert isinstance(guess, Guess)
    assert guess.format == "anthropic-chat"
    assert isinstance(case, Case)
    assert case.trace_id == "s1"
    assert [(c.name, c.step, c.ended, c.batch, c.took_s) for c in case.calls] == [
        ("Read", 1, 3, 1, 1.0),
        ("Grep", 2, 4, 1, 2.0),
    ]
    assert case.finished is True
