"""What each tool of the four suites reads and changes, written down by hand.

Keeps: a tool of kind `read` never changes the environment, and a tool changes
nothing outside the roots that it appends to or writes; `test_world.py` checks
both against every ground truth of the benchmark.
Leaves to others: how a template becomes a key, and which claims conflict.

The keys are paths of ours, not of the benchmark. Three choices behind them:

- Only mandatory scalar parameters stand in a template. A list of names or a search
  over everything claims the whole collection instead.
- Things that one tool lists and another picks by id share one collection
  (`mail/emails`, `drive/files`): an id does not tell inbox from outbox.
- A precondition that another tool can bring about is a read. `add_user_to_channel`
  reads `slack/users/{user}` because it fails before `invite_user_to_slack`.

One thing the keys do not show: an event that was mailed is the same object in the mail,
so changing the event afterwards shows in that mail too. No ground truth does so.

Two calls that append commute up to the ids and the order that arrival hands out:
their worlds agree in `Digest.content_sha256`, not always in `Digest.sha256`.

    from tests.real.effects import EFFECTS

    effect = EFFECTS["send_email"]
    effect.kind      # "append"
    effect.appends   # ("mail/emails",)
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The resource keys that a tool touches, as templates over its arguments.

    Attributes:
        reads: What its answer depends on and other tools can change.
        appends: Where it adds something new and disturbs nothing that is there.
        writes: What it changes or removes.
    """

    reads: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["read", "append", "write"]:
        """The strongest thing that the tool does."""
        if self.writes:
            return "write"
        return "append" if self.appends else "read"

    @property
    def service(self) -> str:
        """The system that the tool belongs to: the root of its main key."""
        return (self.writes + self.appends + self.reads)[0].partition("/")[0]


_USER = "slack/users/{user}"
_HOTELS = Effect(reads=("hotels",))
_RESTAURANTS = Effect(reads=("restaurants",))
_CARS = Effect(reads=("cars",))
_FILES = Effect(reads=("drive/files",))
_EMAILS = Effect(reads=("mail/emails",))
_EVENTS = Effect(reads=("calendar/events",))
_FILE = Effect(writes=("drive/files/{file_id}",))
# There is one reservation, and booking anything overwrites it.
_RESERVE = Effect(reads=("traveller",), writes=("reservation",))

_BANKING: Final[dict[str, Effect]] = {
    # Sending money leaves the balance of this bank as it was.
    "get_iban": Effect(reads=("bank/account",)),
    "get_balance": Effect(reads=("bank/account",)),
    # Both kinds of transaction get their ids from one sequence.
    "send_money": Effect(appends=("bank/transactions", "bank/ids")),
    "get_most_recent_transactions": Effect(reads=("bank/transactions",)),
    "schedule_transaction": Effect(appends=("bank/scheduled", "bank/ids")),
    "update_scheduled_transaction": Effect(writes=("bank/scheduled/{id}",)),
    "get_scheduled_transactions": Effect(reads=("bank/scheduled",)),
    "read_file": Effect(reads=("files/{file_path}",)),
    # The password is nothing that `get_user_info` tells.
    "get_user_info": Effect(reads=("user/info",)),
    "update_user_info": Effect(writes=("user/info",)),
    "update_password": Effect(writes=("user/password",)),
}

_SLACK: Final[dict[str, Effect]] = {
    # No tool makes a channel, so the list of channels never changes.
    "get_channels": Effect(reads=("slack/channels",)),
    "get_users_in_channel": Effect(reads=("slack/members/{channel}",)),
    # Not an append: doing it twice enters the user twice. Each user's channels are a list
    # too, in the order of joining, which no tool answers with.
    "add_user_to_channel": Effect(
        reads=(_USER,), appends=("slack/joined/{user}",), writes=("slack/members/{channel}",)
    ),
    "read_channel_messages": Effect(reads=("slack/messages/{channel}",)),
    "send_channel_message": Effect(appends=("slack/messages/{channel}",)),
    "read_inbox": Effect(reads=("slack/inbox/{user}", _USER)),
    "send_direct_message": Effect(
        reads=("slack/users/{recipient}",), appends=("slack/inbox/{recipient}",)
    ),
    # The roster is the order in which users came; members of a channel are listed in it.
    "invite_user_to_slack": Effect(appends=(_USER, "slack/roster")),
    # Leaves every channel, and takes the inbox along. The others stay as they came.
    "remove_user_from_slack": Effect(
        writes=(_USER, "slack/inbox/{user}", "slack/joined/{user}", "slack/members")
    ),
    # Not a read: the web keeps a list of every request made to it. The scheme of a
    # URL makes no difference to the web, though it does to this key.
    "get_webpage": Effect(reads=("web/pages/{url}",), appends=("web/requests",)),
    "post_webpage": Effect(writes=("web/pages/{url}",), appends=("web/requests",)),
}

_MAIL_AND_CALENDAR: Final[dict[str, Effect]] = {
    "send_email": Effect(appends=("mail/emails",)),
    "delete_email": Effect(writes=("mail/emails/{email_id}",)),
    # Not a read: it marks all of them as read.
    "get_unread_emails": Effect(writes=("mail/emails",)),
    "get_sent_emails": _EMAILS,
    "get_received_emails": _EMAILS,
    "get_draft_emails": _EMAILS,
    "search_emails": _EMAILS,
    # Contacts are gathered once, when the environment is born.
    "search_contacts_by_name": Effect(reads=("mail/contacts",)),
    "search_contacts_by_email": Effect(reads=("mail/contacts",)),
    "get_current_day": Effect(reads=("calendar/day",)),
    "get_day_calendar_events": _EVENTS,
    "search_calendar_events": _EVENTS,
    # Invites by mail, as cancelling and rescheduling tell by mail.
    "create_calendar_event": Effect(appends=("calendar/events", "mail/emails")),
    "cancel_calendar_event": Effect(
        writes=("calendar/events/{event_id}",), appends=("mail/emails",)
    ),
    "reschedule_calendar_event": Effect(
        writes=("calendar/events/{event_id}",), appends=("mail/emails",)
    ),
    # Sends nothing, whatever its description says.
    "add_calendar_event_participants": Effect(writes=("calendar/events/{event_id}",)),
}

_DRIVE: Final[dict[str, Effect]] = {
    "list_files": _FILES,
    "search_files": _FILES,
    "search_files_by_filename": _FILES,
    "get_file_by_id": Effect(reads=("drive/files/{file_id}",)),
    "create_file": Effect(appends=("drive/files",)),
    # A write, for all its name: the order of two of them stays in the text.
    "append_to_file": _FILE,
    "delete_file": _FILE,
    "share_file": _FILE,
}

_TRAVEL: Final[dict[str, Effect]] = {
    "get_user_information": Effect(reads=("traveller",)),
    "get_all_hotels_in_city": _HOTELS,
    "get_hotels_prices": _HOTELS,
    "get_hotels_address": _HOTELS,
    "get_rating_reviews_for_hotels": _HOTELS,
    "get_all_restaurants_in_city": _RESTAURANTS,
    "get_restaurants_address": _RESTAURANTS,
    "get_rating_reviews_for_restaurants": _RESTAURANTS,
    "get_cuisine_type_for_restaurants": _RESTAURANTS,
    "get_dietary_restrictions_for_all_restaurants": _RESTAURANTS,
    "get_contact_information_for_restaurants": _RESTAURANTS,
    "get_price_for_restaurants": _RESTAURANTS,
    "check_restaurant_opening_hours": _RESTAURANTS,
    "get_all_car_rental_companies_in_city": _CARS,
    "get_car_types_available": _CARS,
    "get_rating_reviews_for_car_rental": _CARS,
    "get_car_rental_address": _CARS,
    "get_car_fuel_options": _CARS,
    "get_car_price_per_day": _CARS,
    "get_flight_information": Effect(reads=("flights",)),
    "reserve_hotel": _RESERVE,
    "reserve_restaurant": _RESERVE,
    "reserve_car_rental": _RESERVE,
}

# One table serves all suites: a name that two of them share is the same function.
EFFECTS: Final[dict[str, Effect]] = {
    **_BANKING,
    **_SLACK,
    **_MAIL_AND_CALENDAR,
    **_DRIVE,
    **_TRAVEL,
}
