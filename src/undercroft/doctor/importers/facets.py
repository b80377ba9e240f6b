"""What a run's record shows: what its format can carry, and at least one step of it does."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from undercroft.model.case import Case, CaseAsk, CaseCall, Facet


def shown(case: Case, can_show: AbstractSet[Facet], *, statuses: bool) -> frozenset[Facet]:
    """Return the facets of a run.

    Args:
        case: The run, read.
        can_show: What its format can carry.
        statuses: Whether the record itself says of some call how it ended.
    """
    calls, asks = case.calls, case.asks
    ran: list[CaseCall | CaseAsk] = [*calls, *asks]
    found = {
        Facet.CALLS: bool(calls),
        Facet.ARGUMENTS: any(call.arguments is not None or call.raw for call in calls),
        Facet.RESULTS: any(call.result is not None for call in calls),
        Facet.STATUSES: statuses,
        Facet.TIMES: any(one.began_at is not None for one in ran),
        Facet.DURATIONS: any(one.took_s is not None for one in ran),
        Facet.PROMPTS: any(ask.prompt is not None for ask in asks),
        Facet.TOKENS: any(ask.input_tokens is not None for ask in asks),
        Facet.USERS: any(text.role == "user" for text in case.texts),
        Facet.DELIVERED: case.delivered is not None,
        Facet.ACTORS: any(one.actor for one in ran) or any(t.actor for t in case.texts),
        Facet.EFFECTS: any(call.touches for call in calls) or bool(case.declared),
        Facet.GUARDS: bool(case.acts) or any(call.rule for call in calls),
    }
    return frozenset(facet for facet in can_show if found[facet])
