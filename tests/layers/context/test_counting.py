"""Counting: never too few tokens, each text once, and a provider believed where it can be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.adapters.tokens import VOCABULARIES, counter
from undercroft.errors import MessageError
from undercroft.layers.context.counting import Anchor, Counts, Estimate
from undercroft.model.message import Message, Role, ToolSpec, Usage
from undercroft.model.step import Call

ROOT = Path(__file__).parents[3]
TRACES = ROOT.parent / "shared" / "data" / "traces"

WRITTEN = {
    "prose": "Good morning, I would like to change the delivery address of order #A1001, please.",
    "json": '{"order_id": "#A1001", "items": [{"id": 4502, "price": 19.99}], "status": "pending"}',
    "code": "def total(prices: list[float]) -> float:\n    return round(sum(prices), 2)\n",
    "markdown": "| name | price |\n|------|-------|\n| lamp | 12.50 |\n\n---\n\n* **one**\n",
    "chinese": "我想把订单改到下周三送货,请帮我确认一下地址和收件人的电话号码。",
    "japanese": "注文番号を確認して、来週の水曜日に届けてください。よろしくお願いします。",
    "korean": "주문을 다음 주 수요일로 변경하고 싶습니다. 주소를 확인해 주세요.",
    "arabic": "أود تغيير عنوان التسليم لطلبي إلى العنوان الجديد من فضلك.",
    "hindi": "कृपया मेरे ऑर्डर का पता बदल दें और मुझे बताएं कि यह कब पहुंचेगा।",
    "thai": "ฉันต้องการเปลี่ยนที่อยู่จัดส่งของคำสั่งซื้อนี้ กรุณายืนยันด้วย",
    "russian": "Пожалуйста, измените адрес доставки моего заказа на новый.",
    "greek": "Θα ήθελα να αλλάξω τη διεύθυνση παράδοσης της παραγγελίας μου.",  # noqa: RUF001
    "hebrew": "אני רוצה לשנות את כתובת המשלוח של ההזמנה שלי בבקשה.",
    "german": "Bitte ändern Sie die Lieferadresse; Geschwindigkeitsbegrenzungen gelten überall.",
    "vietnamese": "Tôi muốn thay đổi địa chỉ giao hàng của đơn hàng này, xin cảm ơn.",
    "emoji": "Great 🎉🎉 see you 👩‍👩‍👧‍👦 at 🏖️ 🇫🇷!",
    "base64": "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIA==",
    "hex": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "digits": "31415926535897932384626433832795028841971",
    "key": "call_EkYx3TnfJ0rM9bWq2ZsLhU7d",
    "escapes": "\\u4e2d\\u6587 \\x00\\x1f %20%2F &nbsp;&lt;",
    "quotes": "''''''''\"\"\"\"\"\"\"\"````````{{{{}}}}[[[]]]",
    "rule": "=" * 200 + "\n" + "-" * 200,
    "blanks": " " * 500 + "\n" * 300 + "\t" * 40 + "\r\n" * 20 + "\u3000\u00a0" * 10,
    "controls": "\x00\x01\x02\x1b[31mred\x1b[0m",
    "special": "<|endoftext|><|im_start|>system<|im_end|>",
}


def texts_of(data: Any) -> Iterator[str]:
    """Return every text in a value."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from texts_of(value)
    elif isinstance(data, list):
        for value in data:
            yield from texts_of(value)


def exact(text: str) -> int:
    """Return the tokens of a text by the vocabulary that makes more of it."""
    return max(counter(name).count(text) for name in VOCABULARIES)


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_estimate_is_not_below_the_exact_count(kind: str) -> None:
    """What people, programs and models write is never estimated at less than it costs."""
    text = WRITTEN[kind]
    for times in (1, 7):
        repeated = " ".join([text] * times)
        assert Estimate().count(repeated) >= exact(repeated)


@pytest.mark.parametrize("pattern", ["src/**/*.py", "tests/**/*.py", "*.md", "*.toml", "*.lock"])
def test_an_estimate_of_files_is_not_below_nor_far_above(pattern: str) -> None:
    """Code and documents are estimated at what they cost, and at most twice that."""
    estimate = Estimate()
    files = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(pattern))[:60]]
    assert files
    for text in files:
        assert exact(text) <= estimate.count(text) <= max(10, 2 * exact(text))


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces are not on this machine")
@pytest.mark.parametrize("folder", ["tau_airline", "tau_retail", "who_and_when"])
def test_an_estimate_of_recorded_conversations_is_tight(folder: str) -> None:
    """No text of a recorded conversation costs more than estimated; together 1.5 times at most."""
    estimate = Estimate()
    with gzip.open(TRACES / folder / "traces.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = list(file)
    found = dict.fromkeys(text for line in lines[:40] for text in texts_of(json.loads(line)))
    found |= dict.fromkeys(lines[:10])
    assert [text for text in found if estimate.count(text) < exact(text)] == []
    assert sum(map(estimate.count, found)) <= 1.5 * sum(map(exact, found))


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
@settings(max_examples=200)
def test_an_estimate_is_bounded_by_bytes(text: str) -> None:
    """Whatever the text, surrogates included: no more tokens than bytes, none of nothing."""
    found = Estimate().count(text)
    assert bool(found) == bool(text)
    assert found <= len(text.encode("utf-8", "surrogatepass"))


def test_ids_of_one_form_cost_alike() -> None:
    """Texts that differ in their digits alone have one estimate."""
    texts = ["order #A1001, 12.50 on 2026-05-20", "order #A9376, 48.13 on 2031-12-09"]
    assert len({Estimate().count(text) for text in texts}) == 1


@pytest.mark.parametrize("blank", ["\x1c", "\x85", "\xa0", "\u2003"])
def test_any_blank_parts_words(blank: str) -> None:
    """Words with a rare blank between them cost what they cost apart, and the blank."""
    both = Estimate().count(f"order{blank}reservation")
    assert both > Estimate().count("order reservation") > Estimate().count("order")


@given(st.lists(st.text(max_size=60), max_size=8))
@settings(max_examples=100)
def test_an_estimate_does_not_depend_on_what_was_counted_before(texts: list[str]) -> None:
    """The same text has the same estimate, now and in another process."""
    used = Estimate()
    first = [used.count(text) for text in texts]
    assert first == [Estimate().count(text) for text in texts]
    assert first == [used.count(text) for text in texts]


@pytest.mark.parametrize("unit", ["a", " ", "\n", "aA1", "=", "'\"", "你", "\ud800", "a b", "\t"])
def test_a_huge_text_is_estimated(unit: str) -> None:
    """A million characters of anything have an estimate that is not absurd."""
    text = unit * (1_000_000 // len(unit))
    assert len(text) / 200 <= Estimate().count(text) <= len(text) * 3


class Slow:
    """Counts characters, and how often it was asked."""

    name, exact = "characters", True

    def __init__(self) -> None:
        self.asked = 0

    def count(self, text: str) -> int:
        """Return the length."""
        self.asked += 1
        return len(text)


def test_a_text_is_counted_once() -> None:
    """Equal texts are counted once, whichever objects they are."""
    slow = Slow()
    counts = Counts(slow)
    for n in range(50):
        assert counts.text("the same text, again, " + "and again") == 31
        assert (
            counts.message(Message("user", "the same text, again, and again", name=f"n{n % 2}"))
            > 31
        )
    assert slow.asked < 60  # the names are shorter than what is worth remembering


def test_what_is_remembered_is_bounded() -> None:
    """However many and large the texts, a bounded number of them is remembered."""
    counts = Counts(Slow())
    for n in range(40_000):
        counts.text(f"text number {n:09}")
    kept = len(counts._fresh) + len(counts._stale)  # noqa: SLF001  nothing else shows it
    assert kept <= 32_768
    for n in range(40):
        counts.text(f"{n}" * 500_000)
        counts.text(f"{n}" * 5_000_000)
    texts = [*counts._fresh, *counts._stale]  # noqa: SLF001
    assert sum(map(len, texts)) <= 16_777_216


def chat_tokens(message: dict[str, str], vocabulary: str) -> int:
    """Return the tokens of a message as the OpenAI Cookbook counts them."""
    count = counter(vocabulary).count
    return 3 + sum(count(value) for value in message.values()) + ("name" in message)


@given(
    st.sampled_from(["system", "user", "assistant"]),
    st.text(max_size=80),
    st.none() | st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
)
@settings(max_examples=150)
def test_a_message_costs_what_openai_charges(role: Role, text: str, name: str | None) -> None:
    """By an exact counter a message costs 1 more than the Cookbook's count: its seam."""
    message = {"role": role, "content": text} | ({"name": name} if name else {})
    for vocabulary in VOCABULARIES:
        counted = Counts(counter(vocabulary)).message(Message(role, text, name=name))
        assert counted == chat_tokens(message, vocabulary) + 1


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), json_data, max_size=4), st.text(max_size=30))
@settings(max_examples=100)
def test_calls_and_results_cost_at_least_their_parts(arguments: dict[str, Any], text: str) -> None:
    """A call costs its name, its arguments as JSON and its id; a result costs its id as well."""
    for counts in (Counts(counter("o200k_base")), Counts()):
        parts = [text, "look_up", json.dumps(arguments, ensure_ascii=False), "call_1"]
        call = Call("look_up", arguments, "call_1")
        asked = counts.message(Message("assistant", text, (call, call)))
        assert asked >= sum(map(counts.text, parts)) + sum(map(counts.text, parts[1:]))
        written = Call("look_up", parts[2], "call_1")
        assert counts.message(Message("assistant", text, (written, written))) == asked
        result = counts.message(Message("tool", text, (), "call_1", "look_up"))
        assert result > counts.text(text) + counts.text("call_1") + counts.text("look_up")


def test_arguments_that_are_no_json_are_named() -> None:
    """A call whose arguments cannot be written as JSON is told by its name."""
    loop: dict[str, Any] = {}
    loop["again"] = loop
    tuples: dict[Any, Any] = {("a", "b"): 1}
    for arguments in (loop, tuples):
        with pytest.raises(MessageError, match=r"'look_up'.*cannot be written as JSON"):
            Counts().message(Message("assistant", "", (Call("look_up", arguments),)))


def cookbook_tools(spec: ToolSpec, vocabulary: str) -> int:
    """Return the tokens of a tool as the OpenAI Cookbook counts them, by its dearest constants."""
    count = counter(vocabulary).count
    total = 10 + count(f"{spec.name}:{spec.description.rstrip('.')}") + 12
    if spec.parameters["properties"]:
        total += 3
    for name, of in spec.parameters["properties"].items():
        total += 3 + count(f"{name}:{of['type']}:{of['description'].rstrip('.')}")
        if "enum" in of:
            total += 3 + sum(3 + count(item) for item in of["enum"])
    return total


property_ = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer"]), "description": st.text(max_size=40)},
    optional={"enum": st.lists(st.text(max_size=10), max_size=8)},
)


@given(
    st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
    st.text(max_size=60),
    st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), property_, max_size=5),
)
@settings(max_examples=150)
def test_tools_cost_what_openai_charges(name: str, says: str, properties: dict[str, Any]) -> None:
    """A tool costs no less than by the Cookbook's rule, its enumerations included."""
    spec = ToolSpec(name, says, {"type": "object", "properties": properties})
    for vocabulary in VOCABULARIES:
        counts = Counts(counter(vocabulary))
        assert counts.tools([spec]) >= cookbook_tools(spec, vocabulary)
    assert Counts().tools([]) == 0


counted_ = st.integers(1, 500_000)


@given(counted_, st.floats(0.5, 8), counted_)
@settings(max_examples=200)
def test_an_anchored_estimate_is_the_report_and_the_delta(
    counted: int, ratio: float, delta: int
) -> None:
    """The last prompt costs what was reported, and a longer one at least our count of the rest."""
    anchor = Anchor()
    reported = max(1, round(counted * ratio + 0.5))
    assert anchor.heard(Usage(reported), counted) == ""
    assert anchor.anchored
    assert anchor.estimate(counted) == reported
    assert reported + delta <= anchor.estimate(counted + delta) <= reported + 2 * delta


@given(
    st.lists(st.tuples(st.none() | st.integers(-5, 2_000_000), counted_), max_size=6),
    counted_,
    counted_,
)
@settings(max_examples=300)
def test_no_report_lets_an_estimate_drop_unnoticed(
    reports: list[tuple[int | None, int]], counted: int, more: int
) -> None:
    """Whatever was reported: never below half of our count, and more text is never fewer tokens."""
    anchor = Anchor()
    for reported, of in reports:
        anchor.heard(None if reported is None else Usage(reported), of)
    assert anchor.estimate(counted) * 2 >= counted
    assert anchor.estimate(counted) <= anchor.estimate(counted + more)
    anchor.forget()
    assert not anchor.anchored
    assert counted <= anchor.estimate(counted) <= 2 * counted


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (None, "no usage"),
        (Usage(0, 0), "no tokens"),
        (Usage(-1), "not a number"),
        (Usage("many"), "not a number"),  # type: ignore[arg-type]
        (Usage(1.5), "not a number"),  # type: ignore[arg-type]
        (Usage(True), "not a number"),  # noqa: FBT003
        (Usage(None), "not a number"),  # type: ignore[arg-type]
        (Usage(900, 0, -3), "not a number"),
        (Usage(900, 0, 901), "cached"),
        (Usage(499), "too few"),
        (Usage(10**9), "too many"),
    ],
)
def test_an_absurd_report_is_ignored(usage: Usage | None, why: str) -> None:
    """A report that cannot be true is told, and what was known before stays."""
    anchor = Anchor()
    assert why in anchor.heard(usage, 1000)
    assert anchor.estimate(1000) == 1000
    anchor.heard(Usage(800), 1000)
    assert why in anchor.heard(usage, 1000)
    assert anchor.estimate(1100) == 900
    assert anchor.heard(Usage(5), 0) != ""


def test_a_pessimistic_count_is_corrected() -> None:
    """Where the provider counts fewer than we do, less is compacted; the delta is still ours."""
    anchor = Anchor()
    anchor.heard(Usage(7000, 300), 10_000)
    assert anchor.estimate(10_500) == 7500


def test_a_short_count_is_corrected_also_after_compaction() -> None:
    """Where the provider counts more than we do, so it will of what comes, until it says else."""
    anchor = Anchor()
    anchor.heard(Usage(15_000), 10_000)
    assert anchor.estimate(11_000) == 16_500
    anchor.forget()
    assert anchor.estimate(4_000) == 6_000
    anchor.heard(Usage(3_900), 4_000)
    anchor.forget()
    assert anchor.estimate(4_000) == 4_000


def test_pictures_are_not_taken_for_text() -> None:
    """What a prompt has besides text is kept as it was, and does not make text dearer."""
    anchor = Anchor()
    anchor.heard(Usage(5_050), 1_000)
    assert anchor.estimate(1_200) == 5_250


def test_what_left_a_prompt_leaves_its_estimate() -> None:
    """A prompt that became shorter costs less, but not by more than can be told."""
    anchor = Anchor()
    anchor.heard(Usage(800), 1000)
    assert anchor.estimate(500) == 400
    anchor.heard(Usage(1500), 1000)
    assert anchor.estimate(500) == 1000
    assert anchor.estimate(0) == 500
