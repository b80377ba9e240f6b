"""Made-up systems for agents to work in: their tools, records, and how people talk about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A tool that changes one record.

    Attributes:
        field: What of the record it sets, as its argument is named; empty for none.
        values: What that may be set to.
        asks: What a user says who wants it; `{id}` and `{value}` stand for the record and value.
        does: The same in the agent's words, after "I will".
        done: The same, after it was done.
    """

    tool: str
    field: str
    values: tuple[str, ...]
    asks: str
    does: str
    done: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A system of records of one kind.

    Attributes:
        ids: Pattern of a record's id; `{n}` is a number.
        id_field: How arguments and results name it.
        find: Tool that finds records by `find_by`.
        facts: Fields of a record that nobody sets in our stories, with values.
        plain: Whether results are sentences; else JSON.
        confirms: Whether the system prompt demands a yes before a change.
    """

    name: str
    system: str
    noun: str
    ids: str
    id_field: str
    find: str
    find_by: str
    get: str
    facts: dict[str, tuple[str, ...]]
    changes: tuple[Change, ...]
    plain: bool = False
    confirms: bool = False


_YES = " Before you change anything, say what you will do and get the user's explicit yes."

DOMAINS = (
    Domain(
        name="crm",
        system="You are the sales assistant of a CRM. Work on the accounts of the user." + _YES,
        noun="account",
        ids="ACC-{n}",
        id_field="account_id",
        find="search_accounts",
        find_by="query",
        get="get_account",
        facts={"region": ("north", "south"), "employees": ("120", "45"), "tier": ("B", "C")},
        changes=(
            Change(
                tool="update_account_stage",
                field="stage",
                values=("negotiation", "closed won", "on hold"),
                asks="move {id} to {value}",
                does="move account {id} to stage {value}",
                done="Account {id} is now in stage {value}.",
            ),
            Change(
                tool="assign_account_owner",
                field="owner",
                values=("Ada", "the field team", "partner desk"),
                asks="make {value} the owner of {id}",
                does="assign account {id} to {value}",
                done="{value} is the owner of account {id} now.",
            ),
            Change(
                tool="add_account_note",
                field="note",
                values=("called, wants a quote", "budget frozen until June"),
                asks='add the note "{value}" to {id}',
                does='add the note "{value}" to account {id}',
                done="I have added the note to account {id}.",
            ),
        ),
        confirms=True,
    ),
    Domain(
        name="bank",
        system="You are a bank's assistant. You must obtain the customer's confirmation (yes) "
        "before any action that changes an account.",
        noun="card",
        ids="card_{n}",
        id_field="cardId",
        find="listCards",
        find_by="customerEmail",
        get="getCard",
        facts={"brand": ("debit", "credit"), "currency": ("EUR", "USD"), "branch": ("12", "40")},
        changes=(
            Change(
                tool="setCardLimit",
                field="limit",
                values=("500", "1500", "3000"),
                asks="set the limit of {id} to {value}",
                does="set the limit of card {id} to {value}",
                done="The limit of card {id} is {value} now.",
            ),
            Change(
                tool="freezeCard",
                field="reason",
                values=("lost", "stolen"),
                asks="freeze {id}, it was {value}",
                does="freeze card {id} ({value})",
                done="Card {id} has been frozen.",
            ),
            Change(
                tool="updateCardAddress",
                field="address",
                values=("4 Mill Lane, Ely", "19 Dock Road, Hull"),
                asks="send the statements of {id} to {value}",
                does="change the postal address of card {id} to {value}",
                done="Statements of card {id} go to {value} from now on.",
            ),
        ),
        confirms=True,
    ),
    Domain(
        name="tickets",
        system="You triage support tickets. Use the tools; be brief.",
        noun="ticket",
        ids="TCK-{n}",
        id_field="ticket_id",
        find="tickets.search",
        find_by="text",
        get="tickets.read",
        facts={"queue": ("billing", "login"), "opened_by": ("ada@example.com",), "sla": ("8h",)},
        changes=(
            Change(
                tool="tickets.set_priority",
                field="priority",
                values=("high", "low", "urgent"),
                asks="set {id} to {value} priority",
                does="set ticket {id} to {value} priority",
                done="Ticket {id} has {value} priority now.",
            ),
            Change(
                tool="tickets.reply",
                field="body",
                values=("We are looking into it.", "Please restart the app and try again."),
                asks='answer {id} with "{value}"',
                does='answer ticket {id} with "{value}"',
                done="I have answered ticket {id}.",
            ),
            Change(
                tool="tickets.close",
                field="resolution",
                values=("fixed", "duplicate"),
                asks="close {id} as {value}",
                does="close ticket {id} as {value}",
                done="Ticket {id} is closed as {value}.",
            ),
        ),
    ),
    Domain(
        name="travel",
        system="You help travellers with their bookings. List the details and obtain explicit "
        "confirmation (yes) before you change, cancel or pay for anything.",
        noun="booking",
        ids="BK{n}",
        id_field="booking_ref",
        find="find_bookings",
        find_by="email",
        get="retrieve_booking",
        facts={"from": ("OSL", "LIS"), "to": ("VIE", "ATH"), "fare": ("flex", "light")},
        changes=(
            Change(
                tool="change_seat",
                field="seat",
                values=("14C", "2A", "31F"),
                asks="put me in seat {value} on {id}",
                does="change the seat of booking {id} to {value}",
                done="Your seat on booking {id} is {value} now.",
            ),
            Change(
                tool="add_bags",
                field="bags",
                values=("1", "2"),
                asks="add {value} bag(s) to {id}",
                does="add {value} bag(s) to booking {id}",
                done="I have added {value} bag(s) to booking {id}.",
            ),
            Change(
                tool="rebook_date",
                field="date",
                values=("2026-05-04", "2026-06-11"),
                asks="move {id} to {value}",
                does="rebook {id} to {value}",
                done="Booking {id} has been moved to {value}.",
            ),
        ),
        plain=True,
        confirms=True,
    ),
    Domain(
        name="calendar",
        system="You are an office assistant with access to calendars.",
        noun="event",
        ids="evt{n}",
        id_field="eventId",
        find="mcp__calendar__list_events",
        find_by="query",
        get="mcp__calendar__get_event",
        facts={"room": ("3.14", "Oak"), "organiser": ("ada@example.com",)},
        changes=(
            Change(
                tool="mcp__calendar__update_event",
                field="start",
                values=("2026-03-02T10:00", "2026-03-03T15:30"),
                asks="move {id} to {value}",
                does="move event {id} to {value}",
                done="Event {id} starts at {value} now.",
            ),
            Change(
                tool="mcp__calendar__invite",
                field="guest",
                values=("ada@example.com", "board@example.com"),
                asks="invite {value} to {id}",
                does="invite {value} to event {id}",
                done="I have invited {value} to event {id}.",
            ),
        ),
    ),
    Domain(
        name="machines",
        system="You operate a small fleet of servers on behalf of its engineers.",
        noun="instance",
        ids="i-{n}",
        id_field="instance",
        find="describe_instances",
        find_by="filter",
        get="get_instance",
        facts={"zone": ("a", "b"), "image": ("deb-12", "deb-13"), "size": ("s", "m")},
        changes=(
            Change(
                tool="resize_instance",
                field="target_size",
                values=("l", "xl"),
                asks="resize {id} to {value}",
                does="resize {id} to {value}",
                done="Instance {id} was resized to {value}.",
            ),
            Change(
                tool="restart_instance",
                field="mode",
                values=("soft", "hard"),
                asks="restart {id} ({value})",
                does="do a {value} restart of {id}",
                done="Instance {id} was restarted ({value}).",
            ),
            Change(
                tool="tag_instance",
                field="tag",
                values=("env=prod", "owner=ada"),
                asks="tag {id} with {value}",
                does="tag {id} with {value}",
                done="Instance {id} has the tag {value}.",
            ),
        ),
        plain=True,
    ),
    Domain(
        name="library",
        system="You serve a library's members. Confirm with the member before you change a loan.",
        noun="loan",
        ids="L{n}",
        id_field="loan",
        find="lookup_loans",
        find_by="member",
        get="view_loan",
        facts={"title": ("Dune", "Emma"), "due": ("2026-02-01", "2026-02-09")},
        changes=(
            Change(
                tool="extend_loan",
                field="until",
                values=("2026-03-01", "2026-03-15"),
                asks="extend {id} until {value}",
                does="extend loan {id} until {value}",
                done="Loan {id} has been extended until {value}.",
            ),
            Change(
                tool="change_pickup_branch",
                field="branch",
                values=("Harbour", "West"),
                asks="let me hand in {id} at {value}",
                does="set the branch of loan {id} to {value}",
                done="You may hand in loan {id} at {value}.",
            ),
        ),
        confirms=True,
    ),
)
