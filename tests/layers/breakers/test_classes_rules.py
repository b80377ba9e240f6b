"""Errors that are strange, rules of users, and answers that say that they failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.layers.breakers.errors import (
    ACCOUNT,
    CALLER,
    OPENAI_QUOTA,
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
)
from undercroft.errors import (
    SettingError,
)
from undercroft.layers.breakers.classes import (
    DEFAULT_TABLE,
    Blame,
    ErrorRule,
    ErrorTable,
    Judged,
)
from undercroft.model.step import ErrorClass

# --------------------------------------------------------------------------- strange errors


class Hostile(Exception):  # noqa: N818  not an error of ours
    """Raises whenever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Twisted(Exception):  # noqa: N818  not an error of ours
    """Answers nonsense to everything."""

    def __getattr__(self, name: str) -> Any:
        return Twisted() if name in {"response", "headers", "code"} else float("nan")

    def get(self, _name: str) -> Any:
        """Return nonsense."""
        return self

    def __call__(self) -> Any:
        """Fail, called as a code."""
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


def strange() -> Iterator[BaseException]:
    """Yield errors that do not want to be looked at."""
    yield Hostile()
    yield Twisted()
    yield made("openai.APIError", body={"error": {"code": ["x"], "type": {}}}, code=lambda: 1)
    yield made("botocore.exceptions.ClientError", response={"ResponseMetadata": 1, "Error": []})
    yield made("grpc.RpcError", code=lambda: 1 / 0)
    yield made("httpx.HTTPStatusError", response=Response(503, None, {"retry-after": "\x00"}))
    yield made("acme.AcmeError", headers=object(), status=429)
    yield made("acme.AcmeError", headers={"retry-after": 10**5_000}, status=429)


@pytest.mark.parametrize("changes", [False, True])
def test_judging_never_raises(*, changes: bool) -> None:
    """Whatever an error does when it is looked at, there is an answer."""
    for error in strange():
        assert isinstance(judge(error, changes=changes), Judged)
        wrapped = raised(RuntimeError("no"), cause=error)
        assert isinstance(judge(wrapped, changes=changes), Judged)


# --------------------------------------------------------------------------- rules of users


class AcmeError(Exception):
    """Of a user's service."""


def test_rules_come_first_and_in_order() -> None:
    """The first rule that fits decides, before anything that we know."""
    table = ErrorTable(
        [
            ErrorRule(lambda e: "later" in str(e), ErrorClass.TRANSIENT),
            ErrorRule((AcmeError, KeyError), ErrorClass.DOMAIN),
            ErrorRule(AcmeError, ErrorClass.PERMANENT),
        ]
    )
    assert table.judge(AcmeError("later"), changes=False).error_class is T
    assert table.judge(AcmeError("no"), changes=False).error_class is D
    assert table.judge(KeyError("no"), changes=False).blame is CALLER
    assert table.judge(ValueError("no"), changes=False).error_class is P


def test_a_rule_keeps_what_it_does_not_say() -> None:
    """Hints are passed on, and the blame where the class is as we would have said."""
    table = ErrorTable([ErrorRule(lambda _: True, ErrorClass.OVERLOADED)])
    judged = table.judge(http(429, None, {"retry-after": "7"}), changes=False)
    assert (judged.blame, judged.retry_after_s) == (ACCOUNT, 7)
    assert table.judge(AcmeError(), changes=False).blame is VENDOR
    told = ErrorTable([ErrorRule(AcmeError, ErrorClass.OVERLOADED, Blame.ACCOUNT)])
    assert told.judge(AcmeError(), changes=False).blame is ACCOUNT


def test_a_rule_does_not_make_a_write_safe_by_accident() -> None:
    """A doubt about a write is only taken away by who says so for writes."""
    rule = ErrorRule(TimeoutError, ErrorClass.TRANSIENT)
    assert ErrorTable([rule]).judge(TimeoutError(), changes=True).error_class is U
    said = ErrorTable(classify=lambda _: ErrorClass.TRANSIENT)
    assert said.judge(TimeoutError(), changes=True).error_class is U
    knows = ErrorRule(TimeoutError, ErrorClass.TRANSIENT, changes=ErrorClass.TRANSIENT)
    assert ErrorTable([knows]).judge(TimeoutError(), changes=True).error_class is T


def test_a_function_may_classify() -> None:
    """It answers with a class, with all that there is to say, or leaves it to us."""
    said = Judged(ErrorClass.DOMAIN, Blame.CALLER, why="mine")
    answers: dict[type[BaseException], Any] = {
        AcmeError: "transient",
        KeyError: said,
        OSError: None,
    }
    table = ErrorTable(classify=lambda e: answers[type(e)])
    assert table.judge(AcmeError(), changes=False).error_class is T
    assert table.judge(KeyError(), changes=False) is said
    assert table.judge(OSError(), changes=False).error_class is P


def test_a_function_that_fails_is_passed_over_and_told_of() -> None:
    """A rule or classifier that raises, or answers nonsense, leaves it to what we know."""
    bad: list[Exception] = []

    def broken(_: BaseException) -> Any:
        raise RuntimeError

    table = ErrorTable([ErrorRule(broken, ErrorClass.DOMAIN)], broken, on_bad=bad.append)
    assert table.judge(TimeoutError(), changes=False).error_class is T
    assert [type(b) for b in bad] == [RuntimeError, RuntimeError]
    nonsense: Any = lambda _: "sometimes"  # noqa: E731  as a user may write it
    table = ErrorTable(classify=nonsense, on_bad=bad.append)
    assert table.judge(TimeoutError(), changes=False).error_class is T
    assert isinstance(bad[-1], ValueError)
    for on_bad in (None, broken):
        table = ErrorTable(classify=broken, on_bad=on_bad)
        assert table.judge(TimeoutError(), changes=False).error_class is T


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("match", lambda: ErrorRule("TimeoutError", ErrorClass.DOMAIN)),  # type: ignore[arg-type]
        ("match", lambda: ErrorRule(int, ErrorClass.DOMAIN)),  # type: ignore[arg-type]
        ("match", lambda: ErrorRule((OSError, 1), ErrorClass.DOMAIN)),  # type: ignore[arg-type]
        ("error_class", lambda: ErrorRule(OSError, "bad")),  # type: ignore[arg-type]
        ("error_class", lambda: ErrorRule(OSError, None)),  # type: ignore[arg-type]
        ("blame", lambda: ErrorRule(OSError, ErrorClass.DOMAIN, "me")),  # type: ignore[arg-type]
        ("changes", lambda: ErrorRule(OSError, ErrorClass.DOMAIN, None, "no")),  # type: ignore[arg-type]
        ("rules", lambda: ErrorTable([OSError])),  # type: ignore[list-item]
        ("classify", lambda: ErrorTable(classify=1)),  # type: ignore[arg-type]
    ],
)
def test_a_bad_rule_fails_where_it_is_written(field: str, make: Any) -> None:
    """What is no rule names its field."""
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.name == field


# --------------------------------------------------------------------------- failed answers


def test_a_200_that_says_it_failed_is_an_error() -> None:
    """The class follows from the provider's word."""
    error = DEFAULT_TABLE.judge_value(anthropic("overloaded_error", "Overloaded"), service="model")
    assert error is not None
    assert (error.service, error.problem, error.code) == ("model", "Overloaded", "overloaded_error")
    assert judge(error).error_class is O
    error = DEFAULT_TABLE.judge_value({"error": OPENAI_QUOTA})
    assert error is not None
    assert judge(error).quota
    error = DEFAULT_TABLE.judge_value({"error": {"message": "Bad gateway", "code": 502}})
    assert error is not None
    assert (error.status, judge(error).error_class) == (502, T)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "error",
        [],
        {},
        {"error": "not found"},
        {"error": None, "rows": []},
        {"error": {"message": "no such row"}},
        {"error": {"message": "no such row", "code": 7}},
        {"error": {"message": "no such row", "type": "row_missing"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}},
        {"error": {"message": "half", "type": "server_error"}, "rows": [1]},
        {"type": "error", "message": "of a log"},
        {"message": "x", "type": "server_error", "code": "server_error"},
    ],
)
def test_what_a_tool_answers_in_its_own_words_is_left_alone(value: Any) -> None:
    """Only shapes that providers document are errors."""
    assert DEFAULT_TABLE.judge_value(value) is None
