"""What turns and sessions have spent, as the journal tells it.

Keeps: what was spent before a crash is known after it; what was set aside for an attempt of
which nobody knows the end counts as spent.
"""

from __future__ import annotations

from collections.abc import Iterable

from undercroft.engine.memo import Memo, recall
from undercroft.layers.breakers.policy import Budget
from undercroft.layers.breakers.spend import NOTHING, Account, Amount
from undercroft.model.event import AttemptReserved, AttemptSpent, decode_frames
from undercroft.ports import Store

# Turns of a session beyond this are so old that their spending is not added up.
TURNS_MAX = 10_000
_SESSIONS_MAX = 256


def amount_of(event: AttemptReserved | AttemptSpent) -> Amount:
    """Return what an event tells of."""
    return Amount(
        event.attempts,
        event.time_us,
        event.input_tokens,
        event.output_tokens,
        event.usd_nano or 0,
    )


def spent_before(memo: Memo, n: int | None = None) -> tuple[Amount, list[Amount]]:
    """Return what a turn, or step `n` of it, spent, and what was set aside and never settled."""
    spent = NOTHING
    for event in memo.spent:
        if n is None or event.n == n:
            spent = spent.plus(amount_of(event))
    left = [*memo.abandoned, *memo.reserved.values()]
    return spent, [amount_of(event) for event in left if n is None or event.n == n]


def turn_account(memo: Memo, budget: Budget) -> Account | None:
    """Return the account of a turn with what it spent in earlier lives; None without limits."""
    if not budget:
        return None
    account = Account("the turn", budget, setting="budget= of rt.run or Budgets(turn=…)")
    account.restore(*spent_before(memo))
    return account


class SessionSpending:
    """What the turns of sessions spent together.

    The first turn of a session in this process reads all that came before; each later one only
    what has not ended since.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # By session, what its ended turns spent, turn by turn.
        self._ended: dict[str, dict[str, Amount]] = {}

    def account(self, session: str, turn_id: str, memo: Memo, budget: Budget) -> Account:
        """Return the account of a session in which a turn runs now, of which `memo` tells."""
        known = self._ended.pop(session, {})
        self._ended[session] = known
        while len(self._ended) > _SESSIONS_MAX:
            del self._ended[next(iter(self._ended))]
        amounts: list[Amount] = []
        for head in self._store.heads(session=session, limit=TURNS_MAX):
            if head.turn_id == turn_id:
                continue
            amount = known.get(head.turn_id)
            if amount is None:
                amount = self._of(head.turn_id)
                if head.status.final:
                    known[head.turn_id] = amount
            amounts.append(amount)
        account = Account(f"session {session!r}", budget, setting="Budgets(session=…)")
        own, left = spent_before(memo)
        account.restore(_sum([*amounts, own]), left)
        return account

    def _of(self, turn_id: str) -> Amount:
        frames = self._store.frames(turn_id)
        spent, left = spent_before(recall(decode_frames(frames or [])))
        return _sum([spent, *left])


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = NOTHING
    for amount in amounts:
        total = total.plus(amount)
    return total
