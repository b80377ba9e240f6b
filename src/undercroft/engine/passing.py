"""One step on its way out: what it passes before each attempt, and what each came to.

Keeps: what an attempt may spend is set aside before it begins, and a permit that was given is
given back exactly once, however the attempt ends.
Order: deadline, budgets, limit and breaker of the service, call; then whether, and when, again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from undercroft.engine.codec import encode
from undercroft.engine.log import TurnLog
from undercroft.engine.models import name_of, provider_of
from undercroft.engine.parts.retry import Retry
from undercroft.engine.parts.wire import Wire
from undercroft.engine.services import Gate
from undercroft.engine.step import Setting, Step
from undercroft.errors import StreamBrokenError
from undercroft.layers.breakers.classes import DEFAULT_TABLE, Blame, Judged
from undercroft.layers.breakers.guard import out_of_time, over_budget, unpriced
from undercroft.layers.breakers.policy import ONCE, RetryPolicy
from undercroft.layers.breakers.spend import (
    NOTHING,
    US_PER_S,
    Account,
    Amount,
    Reservation,
    Short,
    Unpriced,
    actual_of,
    most,
    reserve,
    reserve_answer,
    to_us,
)
from undercroft.layers.breakers.state import BreakerState
from undercroft.layers.breakers.waits import next_wait_s
from undercroft.model.event import AttemptReserved, AttemptSpent
from undercroft.model.message import Answer, ModelRequest
from undercroft.model.step import MODEL, ErrorClass, Refusal

_CALLING = ("tool", MODEL)
SLICES, SLICE_MIN_US = 8, 100_000
# Without these a call was made, or may have been, and is to be paid for.
_ANSWERED = (ErrorClass.PERMANENT, ErrorClass.DOMAIN, ErrorClass.OVERLOADED)


class Passing:
    """One step on its way out, attempt after attempt.

    Args:
        setting: Of the runtime.
        log: Of the turn.
        step: What is to be done.
        accounts: What it may spend, from the narrowest to the widest; only those with limits.
        deadline_at_s: When the turn is over.
        again: Whether it was let pass before, and only repeats that.

    Attributes:
        limit_s: Seconds that the attempt may take; None: as long as it does.
        wire: Counts what goes out, also what a client library sends by itself.
        short: What was missing for what a client library wanted to send again, if anything was.
    """

    def __init__(  # noqa: PLR0913  what a passing is made of
        self,
        setting: Setting,
        log: TurnLog,
        step: Step,
        accounts: list[Account],
        deadline_at_s: float,
        *,
        again: bool = False,
    ) -> None:
        self._setting, self._log, self._step = setting, log, step
        self._now_s = setting.clock.now_s
        self._gate: Gate | None = None
        service = step.body.service
        if service is not None:
            gate = self._gate = setting.services.gate(service, model=step.kind == MODEL)
            if gate.account.budget:
                accounts = [*accounts, gate.account]
            if not again:
                gate.calls += 1
                gate.tokens.call(self._now_s())
        self._accounts = accounts
        self._deadline_at_s = deadline_at_s
        self._permit = 0
        # Whether the body was called in this attempt; since when.
        self._begun = False
        self._began_s = 0.0
        # Whether nobody knows how long it may take, although time is limited.
        self._open_end = False
        # Whether the journal knows what is set aside for it.
        self._noted = False
        self._reservation: Reservation | None = None
        self._kwargs: Mapping[str, Any] = step.kwargs
        self.limit_s: float | None = None
        self.wire = Wire()
        self.short: Short | None = None
        # What all processes were told to be set aside of the budget of the service.
        self._told: Amount | None = None
        self._judged: Judged | None = None
        # Of what a model is sent, where a budget says how much it may answer.
        self._digest = ""

    @property
    def kwargs(self) -> dict[str, Any]:
        """What the body is given, anew for each attempt."""
        return dict(self._kwargs)

    @property
    def breaker(self) -> str:
        """State of the breaker of the service; empty where it is closed, or there is none."""
        if self._gate is None:
            return ""
        state = self._gate.circuit.state
        return "" if state is BreakerState.CLOSED else str(state)

    # ------------------------------------------------------------------ before an attempt

    async def enter(self) -> Refusal | None:
        """Let one attempt pass; return why it must not be made.

        Raises:
            StoreError: What it may spend could not be written down.
        """
        step, gate = self._step, self._gate
        left_s = self._deadline_at_s - self._now_s()
        if left_s <= 0:
            return out_of_time(step.name, left_s)
        body = step.body
        self.limit_s = body.timeout_s
        if self.limit_s is None and gate is not None:
            self.limit_s = gate.service.timeout_s
        # Of a write without a key a client library must not make two.
        once = 1 if body.changes and not body.keyed else None
        self.wire = Wire(
            service=body.service or step.name,
            more=self._more,
            repeats_allowed=once,
            named_only=True,
        )
        self.short = None
        refusal = await self._set_aside() if self._accounts else None
        if refusal is not None:
            return refusal
        try:
            refusal = await self._pass_gate(left_s)
            if refusal is not None:
                self._give_back()
                return refusal
            if self._reservation is not None:
                self._log.note(AttemptReserved(step.n, *self._reservation.amount, self._digest))
                self._noted = True
                if not body.changes:  # the intent of a write takes it along
                    await self._log.durable()
        except BaseException:
            self.called_off()
            raise
        return None

    async def _pass_gate(self, left_s: float) -> Refusal | None:
        """Get a permit of the service; return why there is none."""
        step, gate = self._step, self._gate
        if gate is None:
            return None
        probe = step.body.keyed or not step.body.changes
        entered = await gate.enter(step.name, probe=probe, left_s=left_s)
        if isinstance(entered, Refusal):
            return entered
        self._permit = entered
        return None

    async def _set_aside(self) -> Refusal | None:
        """Set aside what the attempt may spend; return why that cannot be."""
        refusal = self._reserve()
        gate, made = self._gate, self._reservation
        if refusal is not None or gate is None or made is None or not gate.account.budget:
            return refusal
        amount = self._told = made.amount
        try:
            enough = await gate.tell_aside(amount)
        except BaseException:
            self._give_back()
            raise
        if enough:
            return None
        self._give_back()
        # Others spent it, and now the account says so, too.
        short = gate.account.short(amount)
        return self._reserve() if short is None else over_budget(self._step.name, short)

    @property
    def told_s(self) -> float | None:
        """Seconds after which the attempt is ended, as its body is told; None: no limit."""
        if not self._open_end or self._reservation is None:
            return self.limit_s
        left_us = most(self._accounts, "time_s") or 0
        return (self._reservation.amount.time_us + left_us) / US_PER_S

    def begin(self) -> None:
        """Say that the body is called now."""
        self._begun, self._began_s = True, self._now_s()

    def more_time_s(self) -> float:
        """Set aside more time for an attempt without a timeout; 0 where there is none left."""
        made, left_us = self._reservation, most(self._accounts, "time_s")
        if not self._open_end or made is None or not left_us:
            return 0.0
        more_us = min(_slice_us(left_us), left_us)
        if made.extend(Amount(time_us=more_us)) is not None:
            return 0.0
        self._note_aside(made)
        return more_us / US_PER_S

    def _note_aside(self, made: Reservation) -> None:
        """Write down what is set aside by now, which counts as spent if nothing follows."""
        self._log.note(AttemptReserved(self._step.n, *made.amount))
        self._log.put()

    def _more(self) -> str | None:
        """Set aside another attempt, which a client library makes; say why that cannot be."""
        made = self._reservation
        if made is None:
            return None
        self.short = made.extend(Amount(1, usd_nano=self._step.body.usd_nano))
        if self.short is not None:
            return self.short.problem
        self._note_aside(made)
        return None

    def _reserve(self) -> Refusal | None:
        """Set aside what the attempt may spend; return why that cannot be."""
        step, accounts = self._step, self._accounts
        time_us = 0
        left_us = most(accounts, "time_s")
        self._open_end = left_us is not None and self.limit_s is None
        if left_us is not None:
            wanted_us = _slice_us(left_us) if self.limit_s is None else to_us(self.limit_s)
            time_us = max(1, min(wanted_us, left_us))
        made: Reservation | Short | Unpriced
        if step.kind == MODEL:
            made = self._reserve_answer(time_us)
        else:
            made = reserve(accounts, Amount(1, time_us, usd_nano=step.body.usd_nano))
        if isinstance(made, Unpriced):
            return unpriced(step.name, made)
        if isinstance(made, Short):
            return over_budget(step.name, made)
        self._reservation = made
        if time_us:
            self.limit_s = time_us / US_PER_S
        return None

    def _reserve_answer(self, time_us: int) -> Reservation | Short | Unpriced:
        request: ModelRequest = self._step.kwargs["request"]
        setting, gate = self._setting, self._gate
        ratio = gate.ratio if gate is not None else None
        size = _prompt_bytes(request)
        tokens = size if ratio is None else ratio.estimate(size, len(request.messages))
        made = reserve_answer(
            self._accounts,
            model=self._model,
            input_tokens=tokens,
            answer_tokens=setting.budgets.answer_tokens,
            cost=self._cost if setting.prices is not None else None,
            time_us=time_us,
        )
        if isinstance(made, Reservation):
            limited = any(a.limits("output_tokens") or a.limits("usd") for a in self._accounts)
            if limited:
                asked = made.amount.output_tokens
                asked_for = replace(request, output_tokens_max=asked)
                self._kwargs = {"request": asked_for}
                digest = self._step.body.digest
                self._digest = "" if digest is None else digest(asked)
        return made

    @property
    def _model(self) -> str:
        asked = self._step.body.model
        return "" if asked is None else name_of(asked)

    def _cost(self, input_tokens: int, output_tokens: int) -> int | None:
        prices = self._setting.prices
        asked = self._step.body.model
        if prices is None or asked is None:
            return None
        return prices.cost_nano(name_of(asked), provider_of(asked), input_tokens, output_tokens)

    # ------------------------------------------------------------------ after an attempt

    def succeeded(self, value: Any) -> None:
        """Take note of an attempt that went well."""
        now_s = self._now_s()
        took_s = now_s - self._began_s
        if self._gate is not None and self._permit:
            self._gate.succeeded(self._permit, now_s, took_s)
            self._permit = 0
        usage = value.usage if self._step.kind == MODEL and isinstance(value, Answer) else None
        if usage is not None:
            self._learn(usage.input_tokens)
            usd_nano = self._cost(usage.input_tokens, usage.output_tokens)
            aside = self._reservation.amount if self._reservation is not None else NOTHING
            # Nonsense counts as what was set aside.
            spent = actual_of(
                aside, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
            )
            self._settle(took_s, (spent.input_tokens, spent.output_tokens), usd_nano)
        else:
            self._settle(took_s, None, None if self._setting.prices is None else 0)

    def failed(self, error: BaseException) -> Judged:
        """Take note of an attempt that failed; return what the error means."""
        took_s = self._now_s() - self._began_s
        gate, changes = self._gate, self._step.body.changes
        table = DEFAULT_TABLE if gate is None else gate.table
        judged = table.judge(error, changes=changes, wall_s=self._setting.clock.wall_s())
        retry = self._retry
        if isinstance(retry, Retry):
            judged = retry.widen(judged, error)
        if self.wire.refused:
            judged = self._cut_short(judged)
        self._judged = judged
        if gate is not None and self._permit:
            gate.failed(self._permit, judged, error, took_s, self._log.redactor.text)
            self._permit = 0
        # Of an error that the service answered with, nothing was read or written for money.
        free = judged.error_class in _ANSWERED or judged.why.startswith("HTTP")
        # What had come of an answer that broke off is paid for, however it broke.
        free = free and not isinstance(error, StreamBrokenError)
        price = None if self._setting.prices is None else 0
        self._settle(took_s, (0, 0) if free and self._step.kind == MODEL else None, price)
        return judged

    def _cut_short(self, judged: Judged) -> Judged:
        """Return what the error means of an attempt whose client was kept from trying again."""
        if self._step.body.changes:
            # What came before was sent, and whatever is said now, it may have happened.
            return replace(judged, error_class=ErrorClass.UNKNOWN, blame=Blame.VENDOR)
        if self.short is None:
            return judged
        return Judged(ErrorClass.PERMANENT, Blame.ACCOUNT, quota=True, why="budget")

    def failed_body(self, value: Any) -> BaseException | None:
        """Return the error that `value` is, where a service said so in its answer."""
        if self._gate is None:
            return None
        return self._gate.table.judge_value(value, service=self._gate.name)

    def called_off(self) -> None:
        """Take note that the attempt was not made, or cut off: then it is paid for in full."""
        if self._begun:
            usd_nano = None if self._setting.prices is None else 0
            self._settle(self._now_s() - self._began_s, None, usd_nano)
        self.step_aside()
        if self._noted and self._reservation is not None:
            # The journal would take it for an attempt of which nobody knows the end.
            self._log.note(AttemptSpent(self._step.n, self._step.body.service or "", 0, 0))
        self._give_back()

    def step_aside(self) -> None:
        """Give the permit back while something else is waited for."""
        permit, self._permit = self._permit, 0
        if permit and self._gate is not None:
            self._gate.released(permit)

    async def come_back(self) -> Refusal | None:
        """Ask for it again; return why that cannot be."""
        return await self._pass_gate(self._deadline_at_s - self._now_s())

    def next_wait_s(self, judged: Judged, attempt: int) -> float | None:
        """Return how long to wait before the next attempt; None for no more."""
        return self._wait_s(self._retry or ONCE, judged, attempt)

    @property
    def _retry(self) -> RetryPolicy | None:
        """What was said of retries, of the step or else of its service."""
        if self._step.body.retry is None and self._gate is not None:
            return self._gate.service.retry
        return self._step.body.retry

    def _wait_s(self, policy: RetryPolicy, judged: Judged, attempt: int) -> float | None:
        gate, typical_s = self._gate, 0.0
        if gate is not None and policy.attempts > 1:
            typical_s = gate.typical_s
        now_s = self._now_s()
        wait_s = next_wait_s(
            policy,
            judged,
            attempt=attempt,
            jitter=self._setting.ids.jitter(),
            remaining_s=self._deadline_at_s - now_s,
            typical_s=typical_s,
        )
        if wait_s is None or gate is None:
            return wait_s
        if not gate.tokens.take(now_s):
            return None
        gate.retries += 1
        return wait_s

    def not_tried(self) -> None:
        """Take note that the retry which was granted last was not made after all."""
        if self._gate is not None:
            self._gate.tokens.give_back()
            self._gate.retries -= 1

    def repeat_wait_s(self, attempt: int, most: int) -> float | None:
        """Return how long to wait before a write of unknown outcome is repeated under its key.

        Args:
            attempt: How often it was made by now.
            most: How often it may be made.
        """
        given = self._retry or RetryPolicy()
        policy = RetryPolicy(
            attempts=most,
            wait_s=given.wait_s,
            wait_max_s=given.wait_max_s,
            hint_max_s=given.hint_max_s,
        )
        judged = self._judged or Judged(ErrorClass.TRANSIENT, Blame.VENDOR)
        judged = replace(judged, error_class=ErrorClass.TRANSIENT)
        return self._wait_s(policy, judged, attempt)

    def _learn(self, input_tokens: int) -> None:
        if self._gate is not None and self._accounts:
            request: ModelRequest = self._step.kwargs["request"]
            self._gate.ratio.saw(_prompt_bytes(request), len(request.messages), input_tokens)

    def _settle(self, took_s: float, tokens: tuple[int, int] | None, usd_nano: int | None) -> None:
        """Pay for the attempt, and write down what it took where that is asked for.

        Args:
            took_s: How long it took.
            tokens: In and out; None: as was set aside, or none.
            usd_nano: What a model's answer cost; None: nobody knows.
        """
        step, made = self._step, self._reservation
        self._begun = self._noted = False
        aside = made.amount if made is not None else NOTHING
        # Whatever goes on sending after this is not of this attempt any more.
        self.wire.closed = True
        attempts = max(1, self.wire.count)
        if step.kind != MODEL:
            usd_nano = step.body.usd_nano * attempts or None
            tokens = (0, 0)
        elif tokens is None:
            tokens = (aside.input_tokens, aside.output_tokens)
            usd_nano = None if usd_nano is None else aside.usd_nano
        time_us = to_us(max(0.0, took_s))
        amount = Amount(attempts, time_us, *tokens, usd_nano or 0)
        if made is not None:
            made.settle(amount)
            self._reservation = None
        if self._gate is not None:
            self._gate.took(attempts, usd_nano)
            self._pay(amount)
        if made is not None or any(tokens) or usd_nano:
            service = step.body.service or ""
            self._log.note(AttemptSpent(step.n, service, attempts, time_us, *tokens, usd_nano))

    def _give_back(self) -> None:
        """Nothing was called, so nothing is spent."""
        made, self._reservation, self._noted = self._reservation, None, False
        if made is not None:
            made.cancel()
        self._pay(NOTHING)

    def _pay(self, actual: Amount) -> None:
        """Tell all processes what became of what they were told to be set aside."""
        told, self._told = self._told, None
        if told is not None and self._gate is not None:
            self._gate.tell_spent(told, actual)


def calls_out(step: Step) -> bool:
    """Whether a step calls anything, so that there is something to spend."""
    body = step.body
    return body.service is not None or body.changes or bool(step.claims) or step.kind in _CALLING


def _slice_us(left_us: int) -> int:
    """Return how much time is set aside at a time where nobody knows how long a call takes.

    A part of what is left, so that calls side by side all have some.
    """
    return max(left_us // SLICES, SLICE_MIN_US)


def _prompt_bytes(request: ModelRequest) -> int:
    """Return the size of all that a model is sent."""
    tools = [[spec.name, spec.description, spec.parameters] for spec in request.tools]
    return len(encode([request.messages, tools]))
