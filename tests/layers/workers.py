"""Agents that do not exist, in many trades: their runs as chats or spans, for what layers look for.

Keeps: `healthy` runs have the habits that good agents have daily, and no fault; each of `FAULTS`
puts one fault into a run that is healthy otherwise. Nothing here says what a call reads or writes:
that is for the doctor to infer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from undercroft.model.case import CallStatus, Case, CaseCall, CaseText, Facet

OK, FAILED, REFUSED = CallStatus.OK, CallStatus.FAILED, CallStatus.REFUSED
_SHOWS = frozenset({Facet.CALLS, Facet.ARGUMENTS, Facet.RESULTS, Facet.USERS})


class Asked(NamedTuple):
    """A call that is being written down."""

    name: str
    arguments: Mapping[str, Any]
    result: str | None = "ok"
    status: CallStatus = OK
    took_s: float = 0.5


class Run:
    """A run that is being written down.

    Args:
        spans: Whether as spans with times, a call a step; else as messages.
        actor: Who acts.
    """

    def __init__(self, *, spans: bool = False, actor: str = "") -> None:
        self.spans, self.actor = spans, actor
        self.other_id = ""
        self.texts: list[CaseText] = []
        self.calls: list[CaseCall] = []
        self.step, self.turn, self.now = 0, -1, 1_000.0

    def _say(self, role: str, text: str, actor: str = "") -> None:
        at = self.now if self.spans else None
        turn = max(self.turn, 0)
        self.texts.append(
            CaseText(step=self.step, role=role, text=text, actor=actor, at=at, turn=turn)
        )
        self.step += 1
        self.now += 1

    def system(self, text: str) -> None:
        """Write down a system text."""
        self._say("system", text)

    def user(self, text: str) -> None:
        """Write down what the user says; a new turn."""
        self.turn += 1
        self._say("user", text)

    def say(self, text: str) -> None:
        """Write down what the agent says."""
        self._say("assistant", text, self.actor)

    def other(self, text: str, actor: str) -> None:
        """Write down what another agent says."""
        self._say("other", text, actor)

    def call(
        self, name: str, arguments: Mapping[str, Any], result: Any = "ok", **more: Any
    ) -> None:
        """Write down one call; a result that is no text is written as JSON."""
        self.batch(Asked(name, arguments, _text(result), **more))

    def batch(self, *asked: Asked) -> None:
        """Write down calls that were proposed together."""
        step = self.step
        for place, one in enumerate(asked):
            at = step + place if self.spans else step
            ended = at if self.spans else step + 1 + place
            self.calls.append(
                CaseCall(
                    step=at,
                    name=one.name,
                    ended=None if one.result is None else ended,
                    arguments=one.arguments,
                    result=one.result,
                    status=one.status,
                    batch=step,
                    actor=self.actor,
                    began_at=self.now if self.spans else None,
                    took_s=one.took_s if self.spans else None,
                    turn=max(self.turn, 0),
                )
            )
        self.step += len(asked) + (not self.spans)
        self.now += max(one.took_s for one in asked) + 1

    def case(self, **more: Any) -> Case:
        """Return what was written down, as a run."""
        shows = _SHOWS | ({Facet.TIMES, Facet.DURATIONS} if self.spans else set())
        if any(call.actor for call in self.calls):
            shows |= {Facet.ACTORS}
        given = {"trace_id": "t", "format": "test", "steps": self.step, "shows": frozenset(shows)}
        parts = {"texts": tuple(self.texts), "calls": tuple(self.calls)}
        return Case(**{**given, **parts, **more})


def _text(result: Any) -> str | None:
    return result if result is None or isinstance(result, str) else json.dumps(result)


@dataclass(frozen=True)
class Trade:
    """What agents of one trade have: tools to list, read, and set fields, and how ids look."""

    listing: str
    reading: str
    setting: str
    adding: str
    id_name: str
    id_form: str
    field: str
    values: tuple[str, ...]

    def record(self, one: str, **more: Any) -> dict[str, Any]:
        """Return what a read of one thing returns."""
        return {self.id_name: one, "owner": "Ada", self.field: "none", **more}


TRADES = (
    Trade(
        "search_accounts", "get_account", "update_account", "add_account_note",
        "account_id", "ACC-{}", "tier", ("gold", "silver"),
    ),
    Trade(
        "tickets.search", "tickets.read", "tickets.set_priority", "tickets.reply",
        "ticket_id", "TCK-{}", "priority", ("high", "low"),
    ),
    Trade(
        "listCards", "getCard", "setCardLimit", "addCardNote",
        "cardId", "card_{}", "limit", ("500", "900"),
    ),
    Trade(
        "mcp__calendar__list_events", "mcp__calendar__get_event", "mcp__calendar__move_event",
        "mcp__calendar__add_event_note", "event_id", "evt{}", "start", ("Monday", "Tuesday"),
    ),
    Trade(
        "find_bookings", "retrieve_booking", "change_booking_class", "add_booking_remark",
        "booking_ref", "BK{}", "cabin", ("economy", "business"),
    ),
    Trade(
        "list-pages", "get-page", "rename-page", "add-page-comment",
        "page_id", "page-{}", "title", ("Home", "About"),
    ),
    Trade(
        "search_employees", "fetch_employee", "update_employee", "add_employee_note",
        "employee_number", "E{}", "team", ("blue", "red"),
    ),
    Trade(
        "list_issues", "view_issue", "edit_issue", "comment_issue",
        "issue_id", "#{}", "milestone", ("one", "two"),
    ),
)  # fmt: skip
_CONSENT = "Before you change anything you must obtain the user's explicit confirmation (yes)."


def started(seed: int, *, spans: bool) -> tuple[Run, Trade, str, random.Random]:
    """Return a run whose user has asked for a change, with the ids that were listed."""
    dice = random.Random(seed)  # noqa: S311  nothing is secret here
    trade = TRADES[seed % len(TRADES)]
    one = trade.id_form.format(10_000 + dice.randrange(80_000))
    other = trade.id_form.format(10_000 + dice.randrange(80_000))
    run = Run(spans=spans)
    run.other_id = other
    run.system(f"You are an assistant. {_CONSENT}")
    run.user(f"Hello, I am ada@example.com. Please change my record to {trade.values[0]}.")
    if dice.random() < 0.3:
        run.call(trade.listing, {"query": "ada"}, "Error: 503 Service Unavailable", status=FAILED)
    run.call(trade.listing, {"query": "ada@example.com"}, {"found": [one, other]})
    return run, trade, one, dice


def agreed(run: Run, trade: Trade, one: str, value: str) -> None:
    """Let the user agree to a change."""
    run.say(f"I will set {trade.field} of {one} to {value}. Shall I go ahead?")
    run.user("Yes, please.")


def healthy(seed: int, *, spans: bool = False) -> Run:
    """Return a run without a fault."""
    run, trade, one, dice = started(seed, spans=spans)
    first, second = trade.values
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, first)
    wanted = {trade.id_name: one, trade.field: first}
    if dice.random() < 0.4:
        run.call(trade.setting, {**wanted, trade.field: "?"}, "Error: bad value", status=FAILED)
    if dice.random() < 0.3:
        run.call(trade.setting, wanted, "Error: 429 Too Many Requests", status=FAILED)
    run.call(trade.setting, wanted, {"ok": True, trade.id_name: one})
    if dice.random() < 0.5:
        run.call(trade.reading, {trade.id_name: one}, trade.record(one, **{trade.field: first}))
    run.say(f"Done: {trade.field} of {one} is {first}.")
    if dice.random() < 0.5:
        run.user(f"I changed my mind: make it {second}, please.")
        agreed(run, trade, one, second)
        run.call(trade.setting, {**wanted, trade.field: second}, {"ok": True})
        run.say("Done.")
    if dice.random() < 0.5:
        run.user(f"Add the notes 'called' and 'wrote' to {one}, and do it all at once. I confirm.")
        run.say("I will add both notes. Do you confirm?")
        run.user("Yes.")
        notes = [
            Asked(trade.adding, {trade.id_name: one, "text": text}) for text in ("called", "wrote")
        ]
        run.batch(*notes)
        run.say("Both notes stand there now.")
    run.user("Thank you, that is all.")
    run.say("You are welcome.")
    return run


def _unread(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: run.other_id}, trade.record(run.other_id))
    agreed(run, trade, one, "x")
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})


def _invented(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    run.call(trade.reading, {trade.id_name: trade.id_form.format(999_123)}, "ok")


def _early(run: Run, trade: Trade, one: str) -> None:
    made = trade.id_form.format(888_321)
    run.batch(
        Asked("create_record", {"name": "Ada"}, json.dumps({trade.id_name: made, "new": True})),
        Asked(trade.reading, {trade.id_name: made}, json.dumps(trade.record(made))),
    )


def _unasked(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})


def _beside(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    run.batch(
        Asked(trade.setting, {trade.id_name: one, trade.field: trade.values[0]}),
        Asked(trade.setting, {trade.id_name: one, "owner": "Ada"}),
    )


def _twice(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    for _ in range(2):
        run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})


def _otherwise(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    for value in trade.values:
        run.call(trade.setting, {trade.id_name: one, trade.field: value})


def _taken(run: Run, trade: Trade, one: str) -> None:
    run.actor = "front"
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})
    run.actor = "back"
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[1]})


def _stale(run: Run, trade: Trade, one: str) -> None:
    for actor in ("front", "back"):
        run.actor = actor
        run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    run.actor = "front"
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})
    run.actor = "back"
    run.call(trade.setting, {trade.id_name: one, "owner": "Ada"})


def _blind(run: Run, trade: Trade, one: str) -> None:
    run.call(trade.reading, {trade.id_name: one}, trade.record(one))
    agreed(run, trade, one, "x")
    run.call(trade.setting, {trade.id_name: one, trade.field: trade.values[0]})
    wrong = "Error: a closed record cannot be changed"
    run.call("cancel_record", {trade.id_name: one, "reason": "late"}, wrong, status=FAILED)


Fault = Callable[[Run, Trade, str], None]
# By rule, what an agent does that breaks it.
FAULTS: Mapping[str, Fault] = {
    "sequencing.write_before_read": _unread,
    "sequencing.stale_read": _blind,
    "sequencing.unknown_id": _invented,
    "sequencing.used_early": _early,
    "sequencing.no_consent": _unasked,
    "parallelism.overlapping_writes": _beside,
    "conflicts.write_twice": _twice,
    "conflicts.same_field": _otherwise,
    "conflicts.two_actors": _taken,
    "conflicts.stale_write": _stale,
}


def faulty(rule: str, seed: int, *, spans: bool = False) -> Run:
    """Return a run that breaks one rule."""
    run, trade, one, _ = started(seed, spans=spans)
    FAULTS[rule](run, trade, one)
    run.say("Done.")
    return run


def coding(run: Run) -> None:
    """Files are listed, read by whatever means, and edited part by part; new ones are written."""
    run.user("The tests of prices fail. Please fix that, and write a changelog.")
    run.call("list_files", {"path": "src"}, "src/prices.py\nsrc/app.py")
    run.call("bash", {"command": "cat src/prices.py"}, "def total(): return 1")
    for old in ("return 1", "def total"):
        run.call("edit_file", {"path": "src/prices.py", "old": old, "new": old.upper()}, "edited")
    for _ in range(3):
        run.call("bash", {"command": "pytest -q"}, "1 failed")
    run.call("write_file", {"path": "CHANGES.md", "content": "Fixed."}, "written")
    run.call("write_file", {"path": "CHANGES.md", "content": "Fixed it."}, "written")
    run.batch(
        Asked("read_file", {"path": "src/app.py"}, "import prices"),
        Asked("read_file", {"path": "src/prices.py"}, "def total"),
    )
    run.call("git_commit", {"message": "wip"}, "committed")
    run.call("edit_file", {"path": "src/app.py", "old": "a", "new": "b"}, "edited")
    run.call("git_commit", {"message": "wip"}, "committed")
    run.say("Done.")


def banking(run: Run) -> None:
    """Money goes to an account that nobody reads, twice, of different amounts."""
    run.system("Act for the customer. Verify the customer's identity before you change anything.")
    run.user("Move 20 and then 30 euros from DE1001 to DE2002, I am Ada, born 1990-02-03.")
    run.call(
        "get_account_balance", {"account_number": "DE1001"}, {"balance": 100, "currency": "EUR"}
    )
    for cents in (2000, 3000):
        pay = {"from_account": "DE1001", "to_account": "DE2002", "cents": cents}
        run.call("transfer_money", pay, {"receipt": f"R{cents}"})
        run.call(
            "get_account_balance", {"account_number": "DE1001"}, {"balance": 100 - cents // 100}
        )
    run.say("Both went through.")


def mailing(run: Run) -> None:
    """Mail is searched, read where that matters, archived by the dozen, and answered."""
    run.user("Archive all newsletters, then write to bob@example.com and to eve@example.com.")
    rows = [{"id": f"m{n}", "subject": "newsletter"} for n in range(100, 106)]
    run.call("search_emails", {"query": "newsletter", "page": 1}, rows[:3])
    run.call("search_emails", {"query": "newsletter", "page": 2}, rows[3:])
    run.call("get_email", {"email_id": "m100"}, {"id": "m100", "subject": "newsletter"})
    run.batch(*(Asked("archive_email", {"email_id": row["id"]}) for row in rows))
    for to in ("bob@example.com", "eve@example.com"):
        run.call("send_email", {"to": to, "subject": "Hello", "body": "Hello!"}, {"sent": True})
    run.say("Done.")


def browsing(run: Run) -> None:
    """Pages are opened, and pressed and typed at, again and again."""
    run.user("Find me a flat in Ely.")
    run.call("browser_navigate", {"url": "https://example.com/flats/7731"}, "A page.")
    for _ in range(3):
        run.call("browser_click", {"selector": "#more-12345"}, "clicked")
        run.call("browser_scroll", {"pixels": 800}, "scrolled")
    run.call("browser_type", {"selector": "#town", "text": "Ely"}, "typed")
    run.call("browser_type", {"selector": "#town", "text": "Ely, UK"}, "typed")
    run.say("Here is one.")


def querying(run: Run) -> None:
    """A database is looked at and changed by statements."""
    run.user("Give all open orders of customer 4711 a discount.")
    run.call("run_sql", {"sql": "SELECT id FROM orders WHERE customer = 4711"}, "1001\n1002")
    for one in (1001, 1002):
        sql = f"UPDATE orders SET discount = 5 WHERE id = {one}"  # noqa: S608  nobody runs it
        run.call("run_sql", {"sql": sql}, "1 row")
    run.call("http_request", {"method": "POST", "url": "https://example.com/done"}, "204")
    run.call("http_request", {"method": "GET", "url": "https://example.com/done"}, "ok")
    run.say("Both have it.")


def waiting(run: Run) -> None:
    """A job is started, polled and started again on the user's wish."""
    run.user("Start the export of March.")
    run.call("start_export", {"month": "2026-03"}, {"job_id": "job-901", "state": "queued"})
    for state in ("queued", "running", "done"):
        run.call("get_job_status", {"job_id": "job-901"}, {"job_id": "job-901", "state": state})
        run.call("sleep", {"seconds": 5})
    run.say("It is done.")
    run.user("Run it once more, please.")
    run.call("start_export", {"month": "2026-03"}, {"job_id": "job-902", "state": "queued"})
    run.say("Started.")


def handing_over(run: Run) -> None:
    """Two agents work on one ticket, one after the other, and say so."""
    run.user("Ticket TCK-4401 is about my bill.")
    run.actor = "desk"
    run.call("get_ticket", {"ticket_id": "TCK-4401"}, {"ticket_id": "TCK-4401", "state": "open"})
    run.call("update_ticket", {"ticket_id": "TCK-4401", "queue": "billing"})
    run.call("transfer_to_billing", {"summary": "a bill"}, "Transferred.")
    run.actor = "billing"
    run.call("update_ticket", {"ticket_id": "TCK-4401", "state": "solved"})
    run.say("Solved.")


def checking(run: Run) -> None:
    """A write is looked at, has not come about, and is made again; another is taken back."""
    run.user("Set lamp 301 to 40, then close door 302, open it, and close it again.")
    run.call("get_lamp", {"lamp_id": "L301"}, {"lamp_id": "L301", "level": 10})
    run.user("I mean L301 and D302.")
    run.call("set_lamp", {"lamp_id": "L301", "level": 40}, "ok")
    run.call("get_lamp", {"lamp_id": "L301"}, {"lamp_id": "L301", "level": 10})
    run.call("set_lamp", {"lamp_id": "L301", "level": 40}, "ok")
    run.call("get_door", {"door_id": "D302"}, {"door_id": "D302", "state": "open"})
    run.call("close_door", {"door_id": "D302", "speed": "slow"}, "ok")
    run.call("reopen_door", {"door_id": "D302", "speed": "slow"}, "ok")
    run.call("close_door", {"door_id": "D302", "speed": "slow"}, "ok")
    run.say("Done.")


Story = Callable[[Run], None]
STORIES: tuple[Story, ...] = (
    coding,
    banking,
    mailing,
    browsing,
    querying,
    waiting,
    handing_over,
    checking,
)


def told(story: Story, *, spans: bool) -> Case:
    """Return the run of a healthy story."""
    run = Run(spans=spans)
    story(run)
    return run.case()
