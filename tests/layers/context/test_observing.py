"""What is observed of a conversation, and what is not held against its context."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.errors import SettingError
from undercroft.layers.context.identifiers.ledger import Ledger
from undercroft.layers.context.identifiers.words import Words
from undercroft.layers.context.items import Fate
from undercroft.layers.context.quality.observing import NOW, Observer, Seen, WindowSight
from undercroft.layers.context.quality.questions import Questions
from undercroft.layers.context.quality.score import Quality
from undercroft.layers.context.quality.slots import SLOTS, Slot
from undercroft.model.step import Call

READ = Call("get_order", {"order_id": "#A1001"})
OTHER = Call("get_order", {"order_id": "#A1002"})
WRITE = Call("cancel_order", {"order_id": "#A1001"})
ORDER = json.dumps({"id": "#A1001", "status": "pending", "total": 52.5})


@dataclass
class Session:
    """A conversation in which whatever the test names has left the window."""

    fates: dict[int, Fate] = field(default_factory=dict)
    shown: dict[int, str] = field(default_factory=dict)
    head: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        self.words = Words()
        self.ledger = Ledger(words=self.words)
        self.quality = Quality()
        sight = WindowSight(
            self.words.holders,
            lambda item: self.fates.get(item, Fate.KEPT),
            lambda item: self.shown.get(item, ""),
            lambda value: value.casefold() in self.head.casefold(),
        )
        self.observer = Observer(self.quality, sight, self.ledger.entries)

    def user(self, text: str) -> int:
        """Let the user say something."""
        item = self._next(text)
        self.ledger.user(item, text)
        self.observer.user(text)
        return item

    def answer(self, text: str = "", *calls: Call) -> int:
        """Let the model say something, and propose calls."""
        item = self._next(text)
        used = [
            use.value
            for call in calls
            for use in self.ledger.call(item, call.name, call.arguments)
            if use.entry is not None
        ]
        self.observer.answer(item, text, calls, used)
        return item

    def result(self, call: Call, text: str, *, changed: bool | None = None, ok: bool = True) -> int:
        """Let a call return something."""
        item = self._next(text)
        self.ledger.result(item, call.name, text)
        self.observer.result(item, call, text, changed=changed, ok=ok)
        return item

    def read(self, call: Call = READ, text: str = ORDER, *, changed: bool | None = None) -> int:
        """Call a tool and take its result."""
        self.answer("", call)
        return self.result(call, text, changed=changed)

    def leave(self, *items: int, fate: Fate = Fate.DROPPED) -> None:
        """Take items out of the window."""
        self.fates.update(dict.fromkeys(items, fate))
        self.observer.compacted()

    def part(self, name: str) -> float | None:
        """Return one part of the score, as observed so far."""
        return self.quality.session().parts[name]

    def _next(self, text: str) -> int:
        self.size += 1
        self.words.add(self.size, text)
        return self.size


# ------------------------------------------------------------------ identifiers


def test_use_of_what_the_prompt_holds_is_support() -> None:
    """An argument that stands in the window is held; one that has left it is not."""
    session = Session()
    said = session.user("Please look at order #A1001 and then at order #A1002.")
    session.answer("", READ)
    assert session.part("support") == 1.0
    session.leave(said)
    session.answer("", OTHER)
    assert session.part("support") == 0.5


def test_use_is_no_excuse_for_itself() -> None:
    """That the call itself names a value does not make it one that the prompt held."""
    session = Session()
    session.leave(session.user("My order is #A1001."))
    item = session.size + 1
    session.words.add(item, "#A1001")
    session.observer.answer(item, "", [READ], ["#A1001"])
    assert session.part("support") == 0.0


def test_what_nobody_said_is_not_counted() -> None:
    """An argument that is made up was never in a window, and says nothing about it."""
    session = Session()
    session.user("Please help.")
    session.answer("", Call("get_order", {"order_id": "#Z9999"}))
    assert session.part("support") is None


def test_ledger_and_summaries_hold_values_too() -> None:
    """A value that the ledger or a summary shows is in the prompt, wherever it was said first."""
    session = Session()
    said = session.user("My order is #A1001.")
    session.head = "said by user: #A1001"
    session.leave(said)
    session.answer("", READ)
    assert session.part("support") == 1.0


def test_tombstone_makes_a_value_recoverable_unless_it_shows_it() -> None:
    """Behind a tombstone a value counts half; in its text it counts."""
    session = Session()
    session.user("Look at my orders, please; I am ada@example.com.")
    text = "orders: #A1001 and #A1002"
    listed = session.result(Call("list_orders", {}), text)
    session.answer("", READ, OTHER)
    session.shown[listed] = "[41 tokens, begins with: orders: #A1001]"
    session.leave(listed, fate=Fate.ELIDED)
    session.observer.prompt()
    total = len(session.ledger.entries)
    assert session.part("liveness") == pytest.approx((total - 0.5) / total)


def test_liveness_follows_what_leaves_and_what_is_said_again() -> None:
    """A value that left is lost until it is said again."""
    session = Session()
    said = session.user("ada@example.com and #A1001")
    session.observer.prompt()
    assert session.part("liveness") == 1.0
    session.leave(said)
    session.observer.prompt()
    assert session.part("liveness") == 0.0
    session.user("As I said: #A1001")
    session.answer("Thank you.")
    session.observer.prompt()
    assert session.part("liveness") == 0.5


def test_superseded_value_need_not_be_in_the_prompt() -> None:
    """What was corrected is missed by nobody."""
    session = Session()
    said = session.user("My zip is 19122.")
    session.user("Sorry, my zip is 19123.")
    session.leave(said)
    session.observer.prompt()
    assert session.ledger.entries["19122"].superseded
    assert session.part("liveness") == 1.0


def test_oldest_of_many_holders_counts() -> None:
    """What the user said once is found although hundreds of results with it have left since."""
    session = Session()
    session.user("I am ada@example.com.")
    text = "account of ada@example.com"
    left = [session.read(Call("get_page", {"n": n}), text) for n in range(300)]
    session.leave(*left)
    assert session.observer.quality.session().seen
    session.observer.prompt()
    assert session.part("liveness") == 1.0


def test_value_that_is_used_is_back_at_once() -> None:
    """Whatever else has left, a call's argument is in the prompt as soon as the call is."""
    session = Session()
    left = [session.user(f"order #A{number}") for number in range(1000, 1200)]
    session.leave(*left)
    session.observer.prompt()
    assert session.part("liveness") == 0.0
    call = Call("get_order", {"order_id": "#A1150"})
    session.size += 1
    session.words.add(session.size, "#A1150")
    session.observer.answer(session.size, "", [call], ["#A1150"])
    session.observer.prompt()
    assert session.part("liveness") == pytest.approx(1 / 200)


# ------------------------------------------------------------------ reads


def _repeats(session: Session) -> bool:
    """Return whether a read was made again since its result had left."""
    part = session.part("repeats")
    assert part is not None
    return part < 1.0


def test_read_repeated_because_its_result_left_is_one() -> None:
    """The same tool with equal arguments, nothing written between, and the result gone."""
    session = Session()
    session.leave(session.read())
    session.read(Call("get_order", '{"order_id": "#A1001"}'))
    assert session.part("repeats") == 0.5


@pytest.mark.parametrize("fate", [Fate.ELIDED, Fate.SUMMARISED, Fate.DROPPED])
def test_however_a_result_left_a_repeat_counts(fate: Fate) -> None:
    """Elided, summarised or dropped: the model had to read again."""
    session = Session()
    session.leave(session.read(), fate=fate)
    session.read()
    assert _repeats(session)


def test_read_after_a_write_is_no_repeat() -> None:
    """What was changed since is worth reading again."""
    session = Session()
    session.leave(session.read())
    session.read(WRITE, "done")
    session.read()
    assert not _repeats(session)


def test_tool_that_nobody_declared_may_have_written() -> None:
    """A tool whose name does not say that it only looks counts as a write."""
    session = Session()
    session.leave(session.read())
    session.read(Call("crm.sync", {}), "ok")
    session.read()
    assert not _repeats(session)


def test_declaration_goes_before_the_name() -> None:
    """What a tool is declared to change counts, whatever it is called."""
    session = Session()
    session.leave(session.read())
    session.read(Call("get_and_mark", {}), "ok", changed=True)
    session.read()
    assert not _repeats(session)
    other = Session()
    other.leave(other.read(Call("sync", {}), "same", changed=False))
    other.read(Call("sync", {}), "same", changed=False)
    assert _repeats(other)


@pytest.mark.parametrize(
    "name", ["getOrder", "crm.get_order", "mcp__crm__get_order", "GET_order", "crm/list-orders"]
)
def test_names_of_reading_tools_are_understood(name: str) -> None:
    """Camel case, name spaces and dashes do not hide that a tool only looks."""
    session = Session()
    session.leave(session.read(Call(name, {})))
    session.read(Call(name, {}))
    assert _repeats(session)


def test_poll_is_no_repeat() -> None:
    """Who read again while the result was there reads again later for the same reason."""
    session = Session()
    first = session.read()
    second = session.read()
    session.leave(first, second)
    session.read()
    assert not _repeats(session)


def test_answer_that_has_changed_was_worth_asking_for() -> None:
    """A read whose result differs from the one that left is not held against the context."""
    session = Session()
    session.leave(session.read())
    session.leave(session.read(READ, ORDER.replace("pending", "delivered")))
    assert not _repeats(session)


def test_retry_after_a_failure_is_no_repeat() -> None:
    """What failed was not read; and what follows a failure may be what it told the model to do."""
    session = Session()
    session.answer("", READ)
    session.leave(session.result(READ, "Error: timed out"))
    session.read()
    assert not _repeats(session)
    session.leave(session.size)
    session.answer("", WRITE)
    session.result(WRITE, '{"refused": "read the order first"}', changed=False, ok=False)
    session.read()
    assert not _repeats(session)


def test_other_arguments_are_another_read() -> None:
    """A read of something else is no repeat."""
    session = Session()
    session.leave(session.read())
    session.read(OTHER)
    assert not _repeats(session)


def test_call_twice_in_one_answer_is_no_repeat() -> None:
    """Two equal calls of one answer are one decision."""
    session = Session()
    session.answer("", READ, READ)
    session.leave(session.result(READ, ORDER))
    session.result(READ, ORDER)
    assert not _repeats(session)


# ------------------------------------------------------------------ questions

ASKED = [
    ("Could you please provide your email address?", [("email",)]),
    ("What's your e-mail?", [("email",)]),
    ("And your zip code?", [("zip",)]),
    ("Please provide your **user ID**.", [("user id",)]),
    ("I'll need your user ID and the reservation ID first.", [("user id",), ("reservation id",)]),
    ("May I have your full name and date of birth?", [("name",), ("date of birth",)]),
    ("Please tell me your phone number or your email.", [("phone", "email")]),
    ("Please provide:\n1. Your email\n2. Your zip code", [("email",), ("zip",)]),
    ("To verify who you are, what is your postal code?", [("zip",)]),
    ("Could you share the order number and payment method?", [("order id",), ("payment method",)]),
    ("Please share the email address on your account.", [("email",)]),
    ("What is the mailing address for your account?", [("address",)]),
]
NOT_ASKED = [
    "Is your zip 19122?",
    "Could you confirm that your email is ada@example.com?",
    "Could you confirm your email address?",
    "I can provide your order ID if you like.",
    "Would you like me to send it to your email address?",
    "Please provide another email address.",
    "Please provide your new address.",
    "I'll need the first name, last name and date of birth for each of the three passengers.",
    "What is the email address of your manager?",
    "Please share the name of the product.",
    "What is the status of your order number?",
    "Do you have the zip 19122 at hand?",
    "I have your email address. Anything else?",
    "Your order ID is #A1001. Is there anything else?",
    "Shall I change your phone number?",
    "Please let me know if your address has changed.",
    "Which email addresses do they use?",
    "Thank you for your name!",
    "",
]


@pytest.mark.parametrize(("text", "asks"), ASKED)
def test_question_is_recognised(text: str, asks: list[tuple[str, ...]]) -> None:
    """What asks a person for a value of theirs is a question for that slot."""
    found = Questions().asked(text)
    assert [set(ask) for ask in found] == [set(ask) for ask in asks]


@pytest.mark.parametrize("text", NOT_ASKED)
def test_what_is_no_question_is_not_taken_for_one(text: str) -> None:
    """Confirmations, offers, and questions about somebody or something else ask for no value."""
    assert Questions().asked(text) == []


@pytest.mark.parametrize(
    ("text", "asked", "slots"),
    [
        ("It's ada@example.com", (), {"email"}),
        ("My name is Ada Lovelace and my zip code is 19122", (), {"name", "zip"}),
        ("19122", ("zip",), {"zip"}),
        ("19122", (), set()),
        ("I don't have my order number 12345 at hand", (), set()),
        ("I lost the order number", ("order id",), set()),
        ("#A1001", ("order id",), {"order id"}),
        ("ada_lovelace_1815, and the reservation is 3FRNFB", ("user id", "reservation id"),
         {"user id", "reservation id"}),
        ("Born on 1815-12-10, my date of birth is that", (), {"date of birth"}),
        ("My phone is +1 (555) 010-9999", (), {"phone"}),
        ("I'm Ада Лавлейс, zip 19122", (), {"name", "zip"}),
    ],
)  # fmt: skip
def test_slot_is_filled_by_a_value(text: str, asked: tuple[str, ...], slots: set[str]) -> None:
    """A value fills a slot that was asked for or is named with it; a name alone fills none."""
    assert set(Questions().told(text, asked)) == slots


def test_tool_fills_a_slot_with_its_only_value() -> None:
    """A record fills slots; a list of records, of which nobody knows whose they are, does not."""
    questions = Questions()
    one = '{"email": "ada@example.com", "address": {"zip": 19122}}'
    assert questions.returned(one) == {"email": ["ada@example.com"], "zip": ["19122"]}
    assert questions.returned('[{"zip": "19122"}, {"zip": "19123"}]') == {}
    assert questions.returned("zip 19122") == {}


def test_question_for_an_empty_slot_is_none() -> None:
    """Who asks for what nobody said asks with reason, however often."""
    session = Session()
    session.answer("Could you please provide your email address?")
    session.user("I would rather not say.")
    session.answer("Please provide your email address.")
    assert session.part("reasks") == 1.0


@pytest.mark.parametrize("by_tool", [False, True])
def test_question_for_what_was_said_is_a_reask(by_tool: bool) -> None:  # noqa: FBT001
    """A slot that the user or a tool has filled, asked for again, is a re-ask."""
    session = Session()
    if by_tool:
        session.read(Call("get_user", {}), '{"email": "ada@example.com"}')
    else:
        session.user("I am ada@example.com.")
    session.answer("Could you please provide your email address?")
    assert session.part("reasks") == 0.0


def test_reask_stands_when_the_user_has_to_say_it_again() -> None:
    """The same value again, or a complaint, confirms it."""
    for reply in ("ada@example.com", "I already told you."):
        session = Session()
        session.user("I am ada@example.com.")
        session.answer("Could you please provide your email address?")
        session.user(reply)
        assert session.part("reasks") == 0.0


def test_question_about_somebody_else_is_excused() -> None:
    """Another value in reply shows that another person or thing was meant."""
    session = Session()
    session.user("I am ada@example.com.")
    session.answer("Could you please provide your email address?")
    session.user("My colleague is grace@example.com.")
    assert session.part("reasks") == 1.0


def test_question_after_a_failed_look_up_has_a_reason() -> None:
    """What was said and could not be found may be asked for again."""
    session = Session()
    call = Call("find_user", {"email": "ada@example.com"})
    session.user("I am ada@example.com.")
    session.answer("", call)
    session.result(call, "Error: user not found")
    session.answer("I cannot find you. Could you please provide your email address?")
    assert session.part("reasks") == 1.0


def test_of_several_orders_another_may_be_meant() -> None:
    """Of what one has several the next is asked for with reason, unless the last has left."""
    session = Session()
    said = session.user("It is about order id #A1001.")
    session.answer("Could you please provide the order ID?")
    assert session.part("reasks") == 1.0
    session.leave(said)
    session.answer("Could you please provide the order ID?")
    assert session.part("reasks") == 0.5


def test_one_of_several_will_do() -> None:
    """Who asks for this or that asks with reason as long as one of them is not known."""
    session = Session()
    session.user("I am ada@example.com.")
    session.answer("Please provide your email or your phone number.")
    assert session.part("reasks") == 1.0


def test_table_of_slots_is_configurable() -> None:
    """Another language or trade has a table of its own; a wrong one fails where it is written."""
    slot = Slot(name="Policennummer", asked=("policennummer",), shape=r"\bP-\d{4}\b")
    questions = Questions((slot,))
    assert questions.told("Policennummer: P-1234") == {"Policennummer": ["P-1234"]}
    assert questions.asked("Please provide your Policennummer.") == [("Policennummer",)]
    assert questions.asked("Please provide your email.") == []
    with pytest.raises(SettingError):
        Slot(name="empty", asked=(), shape="x")
    with pytest.raises(SettingError):
        Slot(name="broken", asked=("x",), shape="(")


# ------------------------------------------------------------------ whatever comes

HOSTILE = [
    "\ud800 lone",
    "\x00" * 50,
    "\u202e" + "your email?" * 500,
    "a" * 200_000,
    "a@" * 50_000,
    "please provide your email " * 4_000,
    "(" * 20_000 + "?",
    '{"email":' * 20_000,
    "İ" * 5_000 + ' {"zip": "19122"} your zip?',
    "1-" * 40_000 + " please your phone",
    "what is " * 10_000,
    "\n- your name" * 5_000 + "?",
    " " * 100_000 + "?",
]
TEXTS = st.one_of(st.text(max_size=200), st.sampled_from([text[:4_000] for text in HOSTILE]))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.timeout(5)
def test_hostile_text_is_gone_through(text: str) -> None:
    """Neither length nor repetition nor broken Unicode stops an observation or makes it slow."""
    session = Session()
    call = Call("get_page", text)
    session.user(text)
    session.answer(text + " Please provide your email.", call)
    session.result(call, text)
    session.leave(*range(1, session.size + 1))
    session.answer(text, call)
    session.result(call, text)
    session.observer.prompt()
    value = session.quality.session().value
    assert value is None or 0 <= value <= 99


def _deep() -> dict[str, object]:
    data: dict[str, object] = {}
    for _ in range(5_000):
        data = {"a": data}
    return data


@pytest.mark.parametrize(
    "arguments",
    [_deep(), "[" * 50_000, {"a": object()}, {"\ud800": 1}, {"n": float("nan")}, {"n": 10**400}],
    ids=["deep", "open", "object", "surrogate", "nan", "huge"],
)
def test_arguments_that_are_no_data_are_not_judged(arguments: dict[str, object] | str) -> None:
    """Whatever a call is given, it is taken in; what cannot be compared is no repeat."""
    observer = Session().observer
    call = Call("get_page", arguments)
    for item in (1, 3):
        observer.answer(item, "", [call], ())
        observer.result(item + 1, call, "text", ok=item == 1)
    assert observer.prompt() is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "answer", "read", "write", "leave", "prompt"]),
            TEXTS,
            st.integers(0, 3),
        ),
        max_size=25,
    )
)
@settings(max_examples=60, deadline=None)
def test_same_conversation_gives_the_same_score(acts: list[tuple[str, str, int]]) -> None:
    """What is observed is a function of the conversation; parts stay within 0 and 1."""
    scores = []
    for _ in range(2):
        session = Session()
        for act, text, number in acts:
            call = Call("get_page", {"n": number})
            if act == "user":
                session.user(text)
            elif act == "answer":
                session.answer(text)
            elif act == "read":
                session.read(call, text)
            elif act == "write":
                session.read(Call("put_page", {"n": number}), text)
            elif act == "leave":
                session.leave(*range(number, session.size))
            else:
                session.observer.prompt(conflicts=number, slots=3)
        scores.append((session.quality.session(), session.quality.turn()))
    assert scores[0] == scores[1]
    assert all(part is None or 0 <= part <= 1 for part in scores[0][0].parts.values())


@given(st.lists(st.sampled_from(["say", "leave", "prompt"]), max_size=30))
@settings(max_examples=60)
def test_liveness_is_what_a_count_of_all_values_says(acts: list[str]) -> None:
    """What is kept from prompt to prompt comes to what looking for all of it would give."""
    session = Session()
    for place, act in enumerate(acts):
        if act == "say":
            session.user(f"order #A{1000 + place % 7} and order #A{1000 + place}")
            session.answer("Thank you.")
        elif act == "leave":
            session.leave(*range(max(0, session.size - 6), session.size))
        else:
            session.observer.prompt()
    for _ in range(len(session.ledger.entries)):
        session.observer.prompt()
    present = [_is_present(session, entry.value) for entry in session.ledger.entries.values()]
    part = session.part("liveness")
    assert part == (pytest.approx(sum(present) / len(present)) if present else None)


def _is_present(session: Session, value: str) -> bool:
    holders = session.words.holders(value)
    return any(session.fates.get(item, Fate.KEPT) is Fate.KEPT for item in holders)


def test_sight_keeps_to_its_range() -> None:
    """Only what came before one item and after another is looked at."""
    holders: Mapping[str, list[int]] = {"x": [9, 5, 2]}
    fates = {9: Fate.KEPT, 5: Fate.ELIDED, 2: Fate.DROPPED}
    sight = WindowSight(
        lambda value: holders.get(value, []), fates.__getitem__, lambda _: "", lambda _: False
    )
    assert sight.find("x") is Seen.PRESENT
    assert sight.find("x", 9) is Seen.RECOVERABLE
    assert sight.find("x", 5) is Seen.GONE
    assert sight.find("x", NOW, 9) is Seen.GONE
    assert sight.find("y") is Seen.GONE


def test_slots_of_the_table_have_their_names_once() -> None:
    """No name stands for two slots: a question would be for either."""
    names = [name for slot in SLOTS for name in slot.asked]
    assert len(set(names)) == len(names)
