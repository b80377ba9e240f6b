"""What a tool's name says, in whatever order it puts its verb and what it is done to."""

from __future__ import annotations

import pytest

from undercroft.doctor.naming import Named, read_name, singular
from undercroft.doctor.verbs import ALSO_NOUNS, NOUNS, VERBS
from undercroft.model.case import Access


def said(name: str) -> tuple[str, str]:
    """Return the verb of a name, and after what it is named."""
    named = read_name(name)
    return named.verb, " ".join(named.nouns)


@pytest.mark.parametrize(
    ("names", "verb", "noun"),
    [
        ("get_order order_get orderGet orders.get shop__order_get order-get", "get", "order"),
        ("cancel_order order_cancel OrderCancel orders/cancel", "cancel", "order"),
        ("create_refund refund_create refunds.create", "create", "refund"),
        ("update_plan plan_update", "update", "plan"),
        ("pause_campaign campaign_pause campaigns.pause", "pause", "campaign"),
        ("retrievePolicy policy_retrieve", "retrieve", "policy"),
        ("purchases_get get_purchases getPurchase", "get", "purchase"),
        ("light_turn_off turn_off_light", "turn", "light"),
    ],
)
def test_a_verb_is_found_wherever_it_stands(names: str, verb: str, noun: str) -> None:
    """A word that might be a verb is a noun beside one that can be nothing else."""
    assert {name: said(name) for name in names.split()} == dict.fromkeys(
        names.split(), (verb, noun)
    )


@pytest.mark.parametrize(
    ("names", "access"),
    [
        ("deploy_status refund_history release_list transfer_status", Access.READ),
        ("update_status clear_history set_status mark_status", Access.WRITE),
        ("start_export stop_vm vm_start order_cancel_item hold_parcel", Access.WRITE),
    ],
)
def test_a_state_is_looked_at_unless_the_verb_sets_it(names: str, access: Access) -> None:
    """`deploy_status` asks how it went; `update_status` says so."""
    # An export is looked at, whoever starts it.
    expected = {name: Access.READ if name == "start_export" else access for name in names.split()}
    expected["start_export"] = Access.WRITE
    assert {name: read_name(name).access for name in names.split()} == {
        name: expected[name] for name in names.split()
    }


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        *(("purchases", "purchase"), ("addresses", "address"), ("boxes", "box")),
        *(("batches", "batch"), ("statuses", "status"), ("caches", "cache"), ("gas", "gas")),
        *(("houses", "house"), ("clauses", "clause"), ("policies", "policy")),
        *(("movies", "movie"), ("series", "series"), ("leases", "lease"), ("process", "process")),
    ],
)
def test_a_noun_is_the_same_in_both_numbers(plural: str, one: str) -> None:
    """What is listed in the plural and written in the singular is one kind of thing."""
    assert singular(plural) == singular(one) == one


def test_a_word_stands_in_one_row() -> None:
    """No word has two meanings, and what may be a noun is in the table of verbs or of states."""
    words = [word for row in VERBS for word in row.words]
    assert sorted(words) == sorted(set(words))
    assert not NOUNS & ALSO_NOUNS


def test_a_name_without_words_says_nothing() -> None:
    """Nothing is made up."""
    assert read_name("_") == Named(Access.UNKNOWN, "", "", ())
