"""Agents that do not exist, at work: runs as a chat log records them, healthy or with one fault.

Keeps: a healthy agent here has every habit that good agents have daily: it pages, polls with a
wait, reads again after a write or in a later turn, tries once more after a transient error,
corrects what was refused, and says what it could not do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undercroft.model.case import (
    Access,
    CallStatus,
    Case,
    CaseAsk,
    CaseCall,
    CaseText,
    Facet,
    Flaw,
    GuardAct,
    Touch,
)

READ, WRITE, NEITHER, UNKNOWN = Access.READ, Access.WRITE, Access.NEITHER, Access.UNKNOWN
OK, FAILED = CallStatus.OK, CallStatus.FAILED


class Log:
    """A run that is being written down, a message a step.

    Args:
        timed: Whether times are recorded; each step takes a second.
    """

    def __init__(self, *, timed: bool = False) -> None:
        self.texts: list[CaseText] = []
        self.calls: list[CaseCall] = []
        self.asks: list[CaseAsk] = []
        self.acts: list[GuardAct] = []
        self.flaws: list[Flaw] = []
        self.step = 0
        self.turn = -1
        self.now = 1_000.0
        self._timed = timed

    def _text(self, role: str, text: str, actor: str) -> int:
        step = self.step
        turn = max(0, self.turn)
        self.texts.append(CaseText(step=step, role=role, text=text, actor=actor, turn=turn))
        self.step += 1
        self.now += 1
        return step

    def user(self, text: str) -> int:
        """Write down what the user says; a new turn."""
        self.turn += 1
        return self._text("user", text, "")

    def say(self, text: str, actor: str = "") -> int:
        """Write down what the assistant says."""
        return self._text("assistant", text, actor)

    def system(self, text: str) -> int:
        """Write down a system text."""
        return self._text("system", text, "")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def call(  # noqa: PLR0913  each keyword is one part of a call
        self,
        name: str,
        arguments: Mapping[str, Any],
        result: str | None = "ok",
        *,
        access: Access = READ,
        error: str = "",
        kind: str = "",
        actor: str = "",
        touch: str = "",
        **more: Any,
    ) -> int:
        """Write down a call and its result, two steps; where `error` is given it failed."""
        step, turn = self.step, max(0, self.turn)
        answered = error or result
        status = FAILED if error else OK if answered is not None else UNKNOWN_STATUS
        facts: dict[str, Any] = {
            "ended": None if answered is None else step + 1,
            "id": f"call-{step}",
            "arguments": arguments,
            "result": answered,
            "status": status,
            "error": error,
            "error_class": kind,
            "actor": actor,
            "access": access,
            "touches": (Touch("write" if access is WRITE else "read", touch),) if touch else (),
            "turn": turn,
        }
        if self._timed:
            facts |= {"began_at": self.now, "took_s": 0.5}
        self.calls.append(CaseCall(step=step, name=name, **(facts | more)))
        self.step += 1 if answered is None else 2
        self.now += 1
        return step

    def case(self, **more: Any) -> Case:
        """Return the run."""
        shows = {Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS} if self.calls else set()
        roles = {text.role for text in self.texts}
        shows |= {Facet.USERS} if "user" in roles else set()
        shows |= {Facet.DELIVERED} if "assistant" in roles else set()
        shows |= {Facet.TIMES, Facet.DURATIONS} if self._timed and self.calls else set()
        shows |= {Facet.PROMPTS} if any(ask.prompt for ask in self.asks) else set()
        facts: dict[str, Any] = {
            "trace_id": "t",
            "format": "openai-chat",
            "steps": self.step,
            "texts": tuple(self.texts),
            "calls": tuple(self.calls),
            "asks": tuple(self.asks),
            "acts": tuple(self.acts),
            "flaws": tuple(self.flaws),
            "shows": frozenset(shows),
        }
        return Case(**(facts | more))


UNKNOWN_STATUS = CallStatus.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Trade:
    """A trade that agents work in.

    Attributes:
        thing: What is worked on, with the name of the argument that names it.
        done: What the user is told once it is changed.
    """

    thing: str
    key: str
    ids: tuple[str, ...]
    look: str
    find: str
    change: str
    state: str
    wish: str
    done: str
    undone: str


TRADES = (
    Trade(
        thing="contact",
        key="contact_id",
        ids=("C-1001", "C-1002", "C-1003"),
        look="get_contact",
        find="search_contacts",
        change="update_contact",
        state='{"contact_id": "%s", "name": "Ada", "stage": "lead"}',
        wish="Please move contact %s to customers.",
        done="The stage of your contact %s has been updated to customer.",
        undone="I couldn't update contact %s: the record is locked by a colleague.",
    ),
    Trade(
        thing="file",
        key="path",
        ids=("/docs/a1.txt", "/docs/b2.txt", "/docs/c3.txt"),
        look="read_file",
        find="list_files",
        change="delete_file",
        state='{"path": "%s", "size": 120, "owner": "ada"}',
        wish="Delete %s, I have a copy.",
        done="I've deleted %s for you.",
        undone="The file %s could not be deleted because it is open elsewhere.",
    ),
    Trade(
        thing="message",
        key="message_id",
        ids=("msg-77", "msg-78", "msg-79"),
        look="read_email",
        find="search_inbox",
        change="send_email",
        state='{"message_id": "%s", "from": "ada@example.com", "subject": "Invoice"}',
        wish="Please send an answer to mail %s and say thanks.",
        done="Your reply to %s has been sent.",
        undone="I was not able to send the reply to %s; the mail server refused it.",
    ),
    Trade(
        thing="account",
        key="account_id",
        ids=("ACC-310", "ACC-311", "ACC-312"),
        look="get_account",
        find="list_accounts",
        change="transfer_money",
        state='{"account_id": "%s", "balance": 310.5, "currency": "EUR"}',
        wish="Move 20 euros from %s to my savings.",
        done="I have successfully transferred 20 EUR from %s.",
        undone="Nothing was transferred from %s: the limit of today is used up.",
    ),
    Trade(
        thing="ticket",
        key="ticket_id",
        ids=("T-9001", "T-9002", "T-9003"),
        look="get_ticket",
        find="search_tickets",
        change="close_ticket",
        state='{"ticket_id": "%s", "state": "new", "severity": 2}',
        wish="Ticket %s is solved, you may close it.",
        done="Ticket %s is now closed.",
        undone="Ticket %s cannot be closed while a task of it is open.",
    ),
    Trade(
        thing="branch",
        key="branch",
        ids=("fix-101", "fix-102", "fix-103"),
        look="show_branch",
        find="list_branches",
        change="merge_branch",
        state='{"branch": "%s", "commits": 3, "checks": "green"}',
        wish="Please merge %s.",
        done="Branch %s has been merged.",
        undone="I didn't merge %s: its checks are red. Once they are green I can merge it.",
    ),
    Trade(
        thing="order",
        key="order_id",
        ids=("#A1001", "#A1002", "#A1003"),
        look="get_order",
        find="find_orders",
        change="cancel_order",
        state='{"order_id": "%s", "status": "pending", "total": 31.5}',
        wish="Cancel my order %s, please.",
        done="Your order %s has been cancelled, and you will be refunded within 5 days.",
        undone="Unfortunately order %s can't be cancelled any more; it has left our house.",
    ),
)
_GREETINGS = ("Thanks, that is all.", "Great, bye!", "Thank you.")


def healthy(seed: int) -> Log:
    """Return the run of a healthy agent, with whatever good habits chance gives it."""
    dice = random.Random(seed)  # noqa: S311  the same seed, the same run
    trade = dice.choice(TRADES)
    log = Log(timed=dice.random() < 0.5)
    if dice.random() < 0.5:
        log.system("You help people with what they have. Ask before you change anything.")
    for one in dice.sample(trade.ids, dice.randint(1, 3)):
        _turn(log, trade, one, dice)
    if dice.random() < 0.5:
        log.user(dice.choice(_GREETINGS))
    return log


def _turn(log: Log, trade: Trade, one: str, dice: random.Random) -> None:
    """Write down a turn about one thing."""
    log.user(trade.wish % one)
    given = {trade.key: one}
    if dice.random() < 0.3:
        log.say("Of course. Could you please confirm that this is what you want?")
        log.user("Yes, please go ahead.")
    _look(log, trade, one, dice)
    if dice.random() < 0.3:
        refusal = "Error: missing required field 'reason'"
        log.call(trade.change, given, error=refusal, kind="permanent", access=WRITE)
        given = given | {"reason": "asked for"}
    if dice.random() < 0.2:
        refusal = "Error: it is locked and cannot be changed"
        log.call(trade.change, given, error=refusal, kind="domain", access=WRITE)
        log.say(trade.undone % one)
        return
    touch = f"{trade.thing}/{one}"
    log.call(trade.change, given, '{"result": "done"}', access=WRITE, touch=touch)
    if dice.random() < 0.3:
        log.call(trade.look, {trade.key: one}, trade.state % one, touch=touch)
    if dice.random() < 0.2:
        for done in (10, 60, 100):
            log.call("get_progress", {"job": one}, f'{{"done": {done}}}')
            log.wait(5)
    log.say(trade.done % one + dice.choice(("", " Is there anything else that I can do?")))


def _look(log: Log, trade: Trade, one: str, dice: random.Random) -> None:
    """Write down how one thing is found and read."""
    given = {trade.key: one}
    if dice.random() < 0.3:
        for page in range(dice.randint(2, 5)):
            log.call(trade.find, {"page": page}, f'{{"page": {page}, "found": ["x-{page}"]}}')
    if dice.random() < 0.3:
        log.call(trade.look, given, error="Error: 503 service unavailable", kind="transient")
        log.wait(2)
    log.call(trade.look, given, trade.state % one, touch=f"{trade.thing}/{one}")
    if dice.random() < 0.3:
        for word in dice.sample(("alpha", "beta", "gamma", "delta"), 3):
            log.call(trade.find, {"query": word}, error=f"Error: {word} not found", kind="domain")
    if dice.random() < 0.3:
        log.call("think", {"thought": f"I should now look after {one}."}, "", access=NEITHER)
