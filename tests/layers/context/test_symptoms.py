"""What the context layer looks for in a finished run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import undercroft as uc
from tests.layers.agents import NEITHER, UNKNOWN, WRITE, Log, healthy
from undercroft.layers.context.compacted import is_summary
from undercroft.layers.context.symptoms import RULES, look
from undercroft.model.case import Case, CaseAsk, CaseText, Facet, GuardAct
from undercroft.model.symptom import Rule, Sign

ORDER = '{"order_id": "#A1001", "sum": 31.5}'


def found(case: Case, sign: Sign = Sign.MISSING) -> list[str]:
    """Return the names of rules that a run shows to be broken."""
    return [one.rule for one in look(case).symptoms if one.sign is sign]


def begun() -> Log:
    """Return a run in which the user has just said something."""
    log = Log()
    log.user("Where is it?")
    return log


def read(log: Log, result: str = ORDER, **more: str) -> int:
    """Look an order up."""
    return log.call("get_order", {"order_id": "#A1001"}, result, **more)  # type: ignore[arg-type]


@given(st.integers(0, 1_000_000))
def test_what_healthy_agents_do_is_no_symptom(seed: int) -> None:
    """Reading after a write, in a later turn, another page: none of it is held against a run."""
    assert look(healthy(seed).case()).symptoms == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_lines_of_a_rule_run(rule: Rule) -> None:
    """The code that a rule shows is code, and fits beside what prints it."""
    exec(rule.lines, {"uc": uc})  # noqa: S102  that it runs is what is tested
    assert all(len(line) <= 76 for line in rule.lines.splitlines())
    assert rule.name.startswith("context.")
    assert set(rule.needs) <= {str(facet) for facet in Facet}


class TestReadAgain:
    """The same is read again."""

    def test_with_no_write_between(self) -> None:
        """The second read shows first, then the first."""
        log = begun()
        first = read(log)
        log.call("get_user", {"user_id": "ada_1"}, "Ada")
        log.call("think", {"thought": "hm"}, "", access=NEITHER)
        again = read(log)
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("context.read_again", (again, first))

    @pytest.mark.parametrize("between", ["write", "unknown", "failure", "compaction"])
    def test_with_a_reason(self, between: str) -> None:
        """After a write, a failure or a compaction, or what may be one, it is read with reason."""
        log = begun()
        read(log)
        if between == "write":
            log.call("cancel_order", {"order_id": "#A1001"}, access=WRITE)
        elif between == "unknown":
            log.call("do_it", {}, access=UNKNOWN)
        elif between == "failure":
            log.call("cancel_order", {"n": 1}, error="Error: it has changed", access=WRITE)
        else:
            log.system("Summary of the conversation so far: the user asked for an order.")
        read(log)
        assert found(log.case()) == []

    def test_in_a_later_turn(self) -> None:
        """When the user has come back it may have changed: worth knowing, and no more."""
        log = begun()
        read(log)
        log.say("It is on its way.")
        log.user("And now?")
        read(log)
        assert found(log.case()) == []
        assert found(log.case(), Sign.HINT) == ["context.read_again"]

    def test_another_result(self) -> None:
        """What changes by itself is polled."""
        log = begun()
        read(log, "31.5")
        read(log, "31.7")
        assert found(log.case()) == []

    def test_another_actor(self) -> None:
        """Who has not read it has to."""
        log = begun()
        read(log, actor="clerk")
        read(log, actor="checker")
        assert found(log.case()) == []

    def test_what_nobody_knows_to_read(self) -> None:
        """A record that came back twice was read twice; a receipt, or a run, was not."""
        for name, result, names in (
            ("patientAppointments", '{"appointments": ["APT-1001"]}', ["context.read_again"]),
            ("relocate", '{"status": "success", "bin": "B-1001"}', []),
            ("run_tests", '{"failed": 0, "passed": 1001, "all": 1001}', []),
        ):
            log = begun()
            for _ in range(2):
                log.call(name, {"id": "7"}, result, access=UNKNOWN)
            assert found(log.case()) == names

    def test_in_one_batch(self) -> None:
        """Two reads of one batch were asked for at once."""
        log = begun()
        for _ in range(2):
            log.call("get_order", {"order_id": "#A1001"}, ORDER, batch=1)
        assert found(log.case()) == []


class TestAskedAgain:
    """The user is asked for what was given."""

    @pytest.mark.parametrize(
        ("said", "asked", "again"),
        [
            ("My mail is ada@example.com.", "What is your email address?", "ada@example.com"),
            ("It is order #A1001.", "Could you please provide the order id?", "#A1001, as I said"),
            ("My zip code is 10115.", "Please provide your zip code.", "I already told you."),
            (
                "My ticket number is T-9001.",
                "Could you share your ticket number?",
                "It is T-9001.",
            ),
        ],
    )
    def test_it_was_said(self, said: str, asked: str, again: str) -> None:
        """Asking once more for what the user had said shows, with where it was said."""
        log = Log()
        known = log.user(f"Hello. {said}")
        log.call("get_it", {"x": 1}, "found")
        step = log.say(asked)
        answer = log.user(again)
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("context.asked_again", (step, known, answer))

    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            ("Is your email address ada@example.com?", "Yes, ada@example.com."),
            ("Could you please confirm your email address?", "ada@example.com"),
            ("What other email address may I use?", "grace@example.com"),
            ("Is there anything else that I can do?", "No, thanks."),
            ("May I have the email address of the other passenger?", "grace@example.com"),
            ("What is your email address?", "It is grace@example.com now."),
            ("What is your order id?", "#A1001"),
            ("I can send it to your email address if you like.", "Please do."),
        ],
    )
    def test_it_is_another_question(self, asked: str, answer: str) -> None:
        """A confirmation, an offer, a question for another value: none asks for what is known."""
        log = Log()
        log.user("My mail is ada@example.com.")
        log.say(asked)
        log.user(answer)
        assert found(log.case()) == []

    def test_it_was_of_no_use(self) -> None:
        """What nobody was found by is asked for again with reason."""
        for error, result in (("Error: user not found", None), ("", "[]")):
            log = Log()
            log.user("My mail is ada@example.com.")
            log.call("find_user", {"email": "ada@example.com"}, result, error=error)
            log.say("I found nobody. What is your email address?")
            log.user("It is ada@example.com, really.")
            assert found(log.case()) == []

    def test_another_agent_makes_sure(self) -> None:
        """An agent that came later may have to know whom it speaks to."""
        log = Log()
        log.user("My mail is ada@example.com.")
        log.say("I hand you over to billing.", actor="front")
        log.say("This is billing. What is your email address?", actor="billing")
        log.user("ada@example.com")
        assert found(log.case()) == []
        log.say("What is your email address?", actor="billing")
        log.user("ada@example.com")
        assert found(log.case()) == ["context.asked_again"]

    def test_one_of_several(self) -> None:
        """Of which people have several, it is asked which."""
        log = Log()
        log.user("I have the orders #A1001 and #A1002.")
        log.say("What is the order id of the one that is late?")
        log.user("#A1002")
        assert found(log.case()) == []

    @pytest.mark.parametrize(
        ("said", "asked", "answer", "names"),
        [
            ("Renew loan LN-40712.", "What is your loan number?", "LN-40712", 1),
            ("Move pallet PAL-93 to B.", "Which pallet number is it?", "PAL-93", 1),
            ("Move visit APT-55 to May.", "Which visit would you like to move?", "APT-55", 1),
            ("Move visit APT-55 to May.", "Which visit, APT-55 or APT-57?", "APT-55", 0),
            ("Move visit APT-55 or APT-57.", "Which visit would you like to move?", "APT-55", 0),
            ("Move visit APT-55 to May.", "Which room would you like?", "R-101", 0),
            ("Renew loan LN-40712.", "What is your card number?", "CD-11", 0),
            ("It is about form GA/26/0153.", "What is the form number?", "GA/26/0153", 1),
            ("Take TRK-882 off list PLY-5.", "What is the playlist id?", "PLY-5!", 1),
        ],
    )
    def test_of_any_trade(self, said: str, asked: str, answer: str, names: int) -> None:
        """What somebody names by a number, and names so again when asked which, was known."""
        log = Log()
        log.user(said)
        log.say(asked)
        log.user(answer)
        assert found(log.case()) == ["context.asked_again"] * names

    def test_another_argument_was_wrong(self) -> None:
        """A value that a call failed with may be wrong, unless its error names another one."""
        for error, names in (
            ("Error: invalid value for 'priority'", ["context.asked_again"]),
            ("Error: ticket not found", []),
            ("Error: 400", []),
        ):
            log = Log()
            log.user("Set ticket TK-3307 to urgent.")
            given_ = {"ticket": "TK-3307", "priority": "urgent"}
            log.call("set_ticket", given_, error=error, kind="domain", access=WRITE)
            log.say("Could you give me your ticket number?")
            log.user("TK-3307")
            assert found(log.case()) == names


def asking(log: Log, prompt: list[tuple[str, str]], **more: object) -> None:
    """Write down a request to a model."""
    facts = {"step": log.step, "prompt": tuple(prompt), "answer": "Let me have a look at it."}
    log.asks.append(CaseAsk(**(facts | more)))  # type: ignore[arg-type]
    log.step += 1


SYSTEM = ("system", "You look after orders and nothing else.")
USER = ("user", "Where is my order #A1001?")
SAID = ("assistant", "Let me have a look at it.")
TOOL = ("tool", '{"order_id": "#A1001", "state": "sent"}')


class TestPrompts:
    """What models were sent."""

    def test_the_window_is_nearly_full(self) -> None:
        """From 95 in a hundred on a window is as good as full."""
        for tokens, names in ((94_000, []), (95_000, ["context.window_full"])):
            log = Log()
            asking(log, [SYSTEM, USER], input_tokens=tokens, window_tokens=100_000)
            assert found(log.case()) == names

    @pytest.mark.parametrize(
        "error",
        [
            "Error code: 400 - {'code': 'context_length_exceeded'}",
            "This model's maximum context length is 8192 tokens. However, you requested 9000.",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "The input exceeds the model's context window",
            "input length and max_tokens exceed context limit: 199 + 21 > 200",
        ],
    )
    def test_a_prompt_does_not_fit(self, error: str) -> None:
        """An overflow shows wherever the record has it: at a model, at a call, at the run."""
        log = Log()
        asking(log, [SYSTEM, USER], error=error)
        assert found(log.case()) == ["context.window_full"]
        log = begun()
        log.call("ask_model", {}, error=error)
        assert found(log.case()) == ["context.window_full"]
        assert found(begun().case(error=error)) == ["context.window_full"]

    @pytest.mark.parametrize(
        "error",
        [
            "Token limit is exceeded. Try again in 2 seconds.",
            "Rate limit reached for tokens per min (TPM): limit 30000, the input is too long",
            "The file is too large",
        ],
    )
    def test_another_limit(self, error: str) -> None:
        """How much a minute, or of something else, is not how much at once."""
        assert found(begun().case(error=error)) == []

    def test_the_system_text_is_gone(self) -> None:
        """A prompt that goes on without the system text has lost it."""
        log = Log()
        asking(log, [SYSTEM, USER])
        asking(log, [USER, SAID, TOOL])
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("context.pin_gone", (1, 0))
        assert "nothing else" in symptom.evidence

    def test_the_request_is_gone(self) -> None:
        """A prompt that goes on with the work without what was asked for has lost it."""
        log = Log()
        asking(log, [SYSTEM, USER, SAID])
        asking(log, [SYSTEM, SAID, TOOL])
        assert found(log.case()) == ["context.pin_gone"]

    @pytest.mark.parametrize(
        "prompt",
        [
            [SYSTEM, USER, SAID, TOOL],
            [("system", "You look after orders. It is noon."), USER, SAID, TOOL],
            [("system", "Summarise what follows in one line."), ("user", "Let me have a look.")],
            [("user", "Is this text polite? Answer yes or no.")],
            [SYSTEM, ("user", "And order #A1002, which I sent on?"), SAID, TOOL],
            [SYSTEM, ("user", "Summary of the conversation so far: an order."), SAID, TOOL],
        ],
    )
    def test_nothing_is_gone(self, prompt: list[tuple[str, str]]) -> None:
        """Another task, a newer request, a changed system text or a summary lose nothing."""
        log = Log()
        asking(log, [SYSTEM, USER, SAID])
        asking(log, prompt)
        assert found(log.case()) == []

    def test_a_pin_that_was_told(self) -> None:
        """A text that must stand in every prompt shows where it does not."""
        log = Log()
        asking(log, [SYSTEM, USER])
        asking(log, [SYSTEM, USER, SAID])
        asking(log, [("system", "Another text altogether."), USER, SAID])
        for pin, steps in (("nothing else", (2,)), ("Where is my order", None)):
            symptoms = look(log.case(pins=(pin,))).symptoms
            assert [one.steps for one in symptoms] == ([steps] if steps else [])

    def test_an_answer_broke_off(self) -> None:
        """An answer that ran into its limit shows where nobody goes on with it."""
        log = Log()
        asking(log, [SYSTEM, USER], stop="length")
        assert found(log.case()) == ["context.cut_answer"]
        asking(log, [SYSTEM, USER, SAID], stop="stop")
        assert found(log.case()) == []

    def test_a_call_broke_off(self) -> None:
        """Arguments that broke off show, even where the model goes on."""
        log = Log()
        asking(log, [SYSTEM, USER], stop="max_tokens", answer="")
        log.call("pay", None, None, access=WRITE, raw='{"to": "Ad', batch=0)  # type: ignore[arg-type]
        asking(log, [SYSTEM, USER, SAID], stop="stop")
        assert found(log.case()) == ["context.cut_answer"]


LONG = '{"found": [{"sku": "SKU-7001", "price": 12.5}, {"sku": "SKU-7002", "pri'
CUTS = ("… [truncated]", "... (output truncated)", "\n[... 1,234 more characters]", "...[cut off]")
CUT_PAGE = '{"cups": [{"id": "C-1"}, {"id": "C-2"}], "truncated": true}'
PAGE = '{"cups": [{"id": "C-1"}, {"id": "C-2"}], "has_more": true}'


class TestCutResults:
    """Results that say that they were cut."""

    @pytest.mark.parametrize("cut", CUTS)
    def test_it_is_used(self, cut: str) -> None:
        """Answering from what is left of a result shows, and so does writing from it."""
        log = begun()
        log.call("search", {"q": "cup"}, LONG + cut)
        step = log.say("There is one: SKU-7001 for 12.5 euros.")
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps[0]) == ("context.cut_result_used", step)
        log = begun()
        log.call("search", {"q": "cup"}, LONG + cut)
        log.call("order", {"sku": "SKU-7001"}, access=WRITE)
        assert found(log.case()) == ["context.cut_result_used"]

    def test_the_rest_is_fetched(self) -> None:
        """Who goes and gets the rest has read it all."""
        first = {"q": "cup", "offset": 0}
        for name, given_ in (
            ("search", {"q": "cup", "offset": 2}),
            ("search", {"q": "cup", "offset": 0, "pageSize": 500}),
            ("read_more", {"q": "cup"}),
        ):
            log = begun()
            log.call("search", first, LONG + CUTS[0])
            log.call(name, given_, '{"found": []}')
            log.say("There is one: SKU-7001 for 12.5 euros.")
            assert found(log.case()) == []

    def test_only_from_another_place_on(self) -> None:
        """A search for something else by the same tool is not the rest, nor is a look elsewhere."""
        for given_ in ({"q": "plate"}, {"q": "plate", "offset": 0}):
            log = begun()
            log.call("search", {"q": "cup"}, LONG + CUTS[0])
            log.call("search", given_, '{"found": []}')
            log.say("There is one: SKU-7001 for 12.5 euros.")
            assert found(log.case()) == ["context.cut_result_used"]

    @pytest.mark.parametrize(
        ("asked", "result", "text", "names"),
        [
            ("How many cups are red?", CUT_PAGE, "There are two.", ["context.cut_result_used"]),
            ("How many cups are red?", PAGE, "There are two.", ["context.cut_result_used"]),
            ("How many cups are red?", PAGE, "At least two; there are more pages.", []),
            ("How many cups are red?", PAGE[:-18] + "}", "There are two.", []),
            ("Find me a red cup.", PAGE, "There are two that you may like.", []),
            ("Which cups are red?", CUT_PAGE, "Only one is: C-1.", ["context.cut_result_used"]),
            ("Which cups are red?", CUT_PAGE, "It was cut off; of its first rows C-1 is.", []),
        ],
    )
    def test_what_is_said_of_all(
        self, asked: str, result: str, text: str, names: list[str]
    ) -> None:
        """Who counts what a part holds, and does not say so, takes it for the whole."""
        log = Log()
        log.user(asked)
        log.call("search", {"q": "red"}, result)
        log.say(text)
        assert found(log.case()) == names

    @pytest.mark.parametrize(
        "result",
        [
            LONG,
            '{"note": "The branch was cut off by the storm and truncated"} and so on, at length.',
            '{"page": 1, "of": 25, "found": ["SKU-7001"]}',
        ],
    )
    def test_it_was_not_cut(self, result: str) -> None:
        """A page of several, or a text that speaks of cuts, is whole."""
        log = begun()
        log.call("search", {"q": "cup"}, result + " " * 3 + "x" * 400)
        log.say("There is one: SKU-7001 for 12.5 euros.")
        assert found(log.case()) == []

    def test_it_is_not_used(self) -> None:
        """A cut result that nobody used did no harm."""
        log = begun()
        log.call("search", {"q": "cup"}, LONG + CUTS[0])
        log.say("I can't tell: the list is too long. What are you looking for?")
        assert found(log.case()) == []


class TestGuards:
    """What was there already."""

    def test_of_ours(self) -> None:
        """Refusals and acts keep the names of their rules."""
        log = begun()
        log.call("ask", {}, error="does not fit", rule="context.overflow")
        log.acts = [GuardAct(step=0, rule="context.compacted"), GuardAct(step=0, rule="breakers.x")]
        assert found(log.case(), Sign.FIRED) == ["context.compacted", "context.overflow"]

    @pytest.mark.parametrize(
        "text",
        [
            "This session is being continued from a previous conversation that ran out of context.",
            "[Conversation history was summarized]",
            "<summary>The user wants a refund.</summary>",
            "Conversation summary: the user wants a refund.",
        ],
    )
    def test_of_others(self, text: str) -> None:
        """A marker of a compaction is a guard, whoever made it."""
        log = begun()
        log.user(text)
        assert found(log.case(), Sign.FIRED) == ["context.guard"]

    @pytest.mark.parametrize(
        "text",
        ["Please summarise the conversation.", "Here is a summary of your order.", "A summary"],
    )
    def test_who_only_speaks_of_it(self, text: str) -> None:
        """Whoever asks for a summary, or gives one of something else, has compacted nothing."""
        assert not is_summary(text)


def test_without_texts_and_calls() -> None:
    """A record that shows none of it is not observable."""
    looked = look(Case(trace_id="t", format="text", steps=0))
    assert not looked.observable
    assert set(looked.unseen) == {rule.name for rule in RULES}


def test_text_alone_shows_questions() -> None:
    """A log of texts shows what was asked again, and nothing of reads."""
    texts = (CaseText(step=0, role="user", text="hi"), CaseText(step=1, role="assistant", text="?"))
    case = Case(trace_id="t", format="text", steps=2, texts=texts, shows=frozenset({Facet.USERS}))
    looked = look(case)
    assert looked.observable
    assert "context.read_again" in looked.unseen
    assert "context.asked_again" not in looked.unseen


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_looked_at(said: str, result: str) -> None:
    """Whatever stands in a record, it is looked at to the end."""
    log = Log()
    log.user(said)
    log.call("get_it", {"x": said}, result)
    log.say(result)
    asking(log, [("system", said), ("user", result)], error=said, stop=result)
    assert look(log.case(error=result)).observable


def test_five_thousand_calls() -> None:
    """A long run is looked at in a second."""
    log = begun()
    for n in range(5_000):
        log.call("get_order", {"order_id": n % 99}, ORDER + "… [truncated]")
        if n % 10 == 0:
            log.user("My mail is ada@example.com.")
            log.say("What is your email address?")
    assert look(log.case()).observable
