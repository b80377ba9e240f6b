"""What a call reads and writes: declared, told or inferred; what is not clear is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.anything import json_values
from undercroft.doctor.access import infer_access
from undercroft.doctor.effects import infer
from undercroft.doctor.naming import read_name
from undercroft.doctor.told import told_of
from undercroft.doctor.verbs import VERBS
from undercroft.model.case import Access, Basis, Case, CaseCall, Touch

READ, WRITE, NEITHER, UNKNOWN = Access.READ, Access.WRITE, Access.NEITHER, Access.UNKNOWN


def case_of(*calls: CaseCall, **more: Any) -> Case:
    """Return a run of some calls."""
    return Case(trace_id="t", format="test", steps=len(calls), calls=calls, **more)


def call(name: str, arguments: dict[str, Any] | None = None, **more: Any) -> CaseCall:
    """Return a call with a result."""
    return CaseCall(step=0, name=name, ended=0, arguments=arguments or {}, result="ok", **more)


def touched(name: str, arguments: dict[str, Any]) -> list[str]:
    """Return what is inferred of a call, as `mode key`."""
    (one,) = infer(case_of(call(name, arguments))).calls
    return [f"{touch.mode} {touch.key}" for touch in one.touches]


@pytest.mark.parametrize(
    ("names", "access"),
    [
        ("get_order find_user list-issues searchFlights crm__get_account web_search", READ),
        ("order_status refund_status tickets.read mcp__fs__read_file GetUserById", READ),
        ("cancel_order updateCard files.write_file delete-page send_email pay_bill", WRITE),
        ("get_or_create_user search_and_replace check_in_guest orders.cancel", WRITE),
        ("think calculate plan_trip transfer_to_human_agents get_input_from_user sleep", NEITHER),
        ("bash python server.tool weather run_it browser_click foo", UNKNOWN),
    ],
)
def test_a_name_says_what_its_tool_does(names: str, access: Access) -> None:
    """Verbs in whatever case they are written say it; a name without any says nothing."""
    assert {name: infer_access(name, {}, "x") for name in names.split()} == dict.fromkeys(
        names.split(), access
    )


@pytest.mark.parametrize(
    ("arguments", "access"),
    [
        ({"method": "get", "url": "https://example.com"}, READ),
        ({"method": "DELETE", "url": "https://example.com"}, WRITE),
        ({"method": "POST", "url": "https://example.com/search"}, UNKNOWN),
        ({"sql": "SELECT a FROM b"}, READ),
        ({"query": "with x as (select 1) delete from b"}, WRITE),
        ({"query": "select the best flat"}, UNKNOWN),
        ({"command": "cat a | grep 'rm x'"}, READ),
        ({"command": "ls && rm -r x"}, WRITE),
        ({"command": "cat a > b"}, WRITE),
        ({"command": "make it"}, UNKNOWN),
    ],
)
def test_arguments_say_it_where_the_name_does_not(
    arguments: dict[str, Any], access: Access
) -> None:
    """An HTTP method, an SQL statement and a shell command say what they do."""
    assert infer_access("run", arguments, None) is access


def test_a_result_says_it_where_nothing_else_does() -> None:
    """A result that begins with what was done is one of a write."""
    assert infer_access("zap", {}, "Order #A1001 was successfully cancelled.") is WRITE
    assert infer_access("zap", {}, "The weather has changed a lot since you were here") is UNKNOWN
    assert infer_access("zap", {"thing": "A-1001"}, '{"ok": true, "thing": "A-1001"}') is WRITE
    assert infer_access("thing", {"thing": "A-1001"}, '{"thing": "A-1001", "size": 3}') is READ
    assert infer_access("zap", {"words": "make it so"}, "ok") is UNKNOWN


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("get_order", {"order_id": "#A1"}, ["read order/#A1"]),
        (
            "exchange_order_items",
            {"order_id": "#A1", "item_ids": ["7", "8"], "payment_method_id": "card_1"},
            ["write order/#A1", "peek item/7", "peek item/8", "peek payment_method/card_1"],
        ),
        ("setCardLimit", {"cardId": "c-1", "limit": 9}, ["write card/c-1"]),
        ("change_seat", {"booking_ref": "B7", "seat": "14C"}, ["write booking/B7"]),
        ("book_room", {"user_id": "ada_1", "payment_id": "p_1"}, None),
        ("create_user", {"user_id": "ada_1"}, ["exclusive user/ada_1"]),
        ("add_order_note", {"order_id": "#A1", "note": "x"}, ["append order/#A1"]),
        ("edit_file", {"path": "/a/b.txt"}, ["write file/a/b.txt"]),
        ("write_file", {"path": "a.txt"}, ["exclusive file/a.txt"]),
        ("tickets.close", {"ticket_id": "T-1"}, ["write ticket/T-1"]),
        ("get_ticket", {"id": 1007}, ["read ticket/1007"]),
        ("search_orders", {"query": "#A1"}, []),
        ("update_settings", {"theme": "dark"}, []),
        ("think", {"order_id": "#A1"}, []),
    ],
)
def test_arguments_name_what_is_touched(
    name: str, arguments: dict[str, Any], expected: list[str] | None
) -> None:
    """What a write changes is one thing; what else it names it only refers to."""
    found = touched(name, arguments)
    assert found == (["append user/ada_1", "peek payment/p_1"] if expected is None else expected)


def test_what_is_read_and_written_under_two_names_is_one_resource() -> None:
    """An id that one tool reads and another one writes is the same thing to both."""
    read, write = infer(
        case_of(call("get_booking", {"ref": "BK22455"}), call("rebook", {"ref": "BK22455"}))
    ).calls
    assert [touch.key for touch in (*read.touches, *write.touches)] == ["booking/BK22455"] * 2


def test_what_is_declared_goes_before_what_is_told_and_that_before_what_is_inferred() -> None:
    """Who says it is kept beside what is said."""
    told = told_of(
        """
        [tools.get_order]
        writes = "box/{order_id}"
        [tools.get_box]
        writes = "box/{box_id}"
        [resources]
        box = "case"
        """
    )
    calls = [call(name, {"order_id": "#A 1", "box_id": "7"}) for name in ("get_order", "get_box")]
    declared = {"get_order": (Touch("read", "order/{order_id}"),)}
    case = infer(case_of(*calls, call("get_cup", {"cup_id": "7"}), declared=declared), told)
    assert [(one.access, one.access_basis) for one in case.calls] == [
        (READ, Basis.DECLARED),
        (WRITE, Basis.TOLD),
        (READ, Basis.INFERRED),
    ]
    assert [one.touches[0].key for one in case.calls] == ["order/#A 1", "case/7", "cup/7"]


def test_what_is_told_of_calls_goes_with_the_run() -> None:
    """Needs, consent, harmless repetition and pinned texts are the layers' to hold."""
    told = told_of(
        'pins = ["Be kind."]\n[tools."cancel_*"]\nneeds = ["get_order"]\nconsent = true\n'
    )
    case = infer(case_of(call("cancel_order", {"order_id": "#A1"})), told)
    assert case.pins == ("Be kind.",)
    assert case.rules is not None
    assert (case.rules["cancel_order"].needs, case.rules["cancel_order"].consent) == (
        ("get_order",),
        True,
    )


def test_no_verb_stands_in_two_rows() -> None:
    """The table is one: a word says one thing."""
    words = [word for row in VERBS for word in sorted(row.words)]
    assert len(words) == len(set(words))
    assert all(read_name(f"{word}_thing").kind for word in words)


@settings(max_examples=60)
@given(name=st.text(st.characters(), max_size=30), arguments=json_values)
def test_any_call_is_looked_at_and_always_alike(name: str, arguments: Any) -> None:
    """Whatever a tool is called and given, inferring raises nothing and is the same each time."""
    given_ = arguments if isinstance(arguments, dict) else {"id": arguments, "path": arguments}
    case = case_of(call(name, given_), call(f"update_{name}", given_))
    assert infer(case) == infer(case)
