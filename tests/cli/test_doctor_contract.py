"""What `doctor --json` promises to programs: keys, words and numbers, and the exit codes.

Nothing here asks whether a verdict is right: every object that is printed, of whatever input, must
keep the same promises.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Face
from tests.doctor.stories import Batch, Call, Story, story
from tests.doctor.writers import WRITERS

LAYERS = ["sequencing", "parallelism", "conflicts", "breakers", "context", "observability"]
VERDICTS = {"missing", "guard_fired", "not_exercised", "not_observable"}
COUNTED = {"missing", "guard_fired"}

THIS = {"loan_id": "LN-40712"}
LOOK = Call("get_loan", THIS, {**THIS, "due": "2026-02-11"})
RENEW = Call("renew_loan", THIS, {**THIS, "due": "2026-03-04"})
DOWN = Call("get_loan", THIS, error="503 service unavailable")
ASKED = "Please renew my loan LN-40712."
DONE = "I have renewed your loan LN-40712."
HEALTHY = story(ASKED, LOOK, RENEW, DONE)
RUNS = {
    "healthy": HEALTHY,
    "unknown id": story("Renew my loan.", RENEW, DONE),
    "batch": story(ASKED, LOOK, [RENEW, Call("update_loan", {**THIS, "due": "never"})], DONE),
    "twice": story(ASKED, LOOK, RENEW, RENEW, DONE),
    "no end": story(ASKED, DOWN, DOWN, DOWN, DOWN),
    "loop": story(ASKED, *[LOOK] * 9),
    "again": story(ASKED, LOOK, LOOK, RENEW, DONE),
    "not done": story(ASKED, LOOK, DONE),
    "no result": story(ASKED, Batch((LOOK, Call("get_user", {}, None))), DONE),
    "talk": story("Hello", "How can I help?"),
    "silence": story("Hello"),
}


def is_step(value: object, steps: int) -> bool:
    """Whether something is the place of a message or span of a run that has so many."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < steps


def evidence_breaches(layer: str, found: dict[str, Any], steps: int) -> list[str]:
    """Return what is wrong with one finding."""
    wrong = []
    if not found["rule"].startswith(f"{layer}."):
        wrong.append(f"{found['rule']} stands under {layer}")
    if not all(is_step(step, steps) for step in found["steps"]):
        wrong.append(f"{found['rule']} at {found['steps']} of {steps} steps")
    if len(set(found["steps"])) != len(found["steps"]):
        wrong.append(f"{found['rule']} names a step twice: {found['steps']}")
    if not (isinstance(found["evidence"], str) and found["evidence"]):
        wrong.append(f"{found['rule']} quotes nothing")
    if found["precision"] is not None and not 0 <= found["precision"] <= 1:
        wrong.append(f"{found['rule']} is right in {found['precision']}")
    return wrong


def breaches(found: dict[str, Any]) -> list[str]:
    """Return which promises an object breaks."""
    wrong = []
    steps, layers, cause = found["steps"], found["layers"], found["cause"]
    if list(found)[:5] != ["format", "steps", "layers", "first_deviation", "cause"]:
        wrong.append(f"keys {list(found)}")
    if not (isinstance(found["format"], str) and isinstance(steps, int) and steps >= 0):
        wrong.append(f"format {found['format']!r}, steps {steps!r}")
    if list(layers) != LAYERS:
        wrong.append(f"layers {list(layers)}")
    for layer, said in layers.items():
        if said["verdict"] not in VERDICTS:
            wrong.append(f"{layer} is {said['verdict']}")
        if bool(said["findings"]) is not (said["verdict"] in COUNTED):
            wrong.append(f"{layer} is {said['verdict']} with {len(said['findings'])} findings")
        for one in (*said["findings"], *said["hints"]):
            wrong += evidence_breaches(layer, one, steps)
    deviation = found["first_deviation"]
    if deviation is not None and not is_step(deviation, steps):
        wrong.append(f"first deviation {deviation} of {steps} steps")
    missing = [layer for layer in LAYERS if layers[layer]["verdict"] == "missing"]
    unread = all(one["verdict"] == "not_observable" for one in layers.values())
    expected: list[str | None] = [*missing] or ([None, "none"] if unread else ["none"])
    if cause not in expected:
        wrong.append(f"cause {cause}, expected of {expected}")
    return wrong


def objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines; plain JSON, so no word is `NaN`."""

    def never(word: str) -> None:
        raise AssertionError(word)

    return [json.loads(line, parse_constant=never) for line in text.splitlines()]


def dump(flavour: str, told: Story) -> str:
    """Return a run as its system would have written it to a file."""
    (first, *more) = WRITERS[flavour](told)
    return json.dumps([first, *more] if more else first)


@pytest.mark.parametrize("flavour", WRITERS)
def test_every_object_keeps_the_promises(face: Face, flavour: str) -> None:
    """Whatever happened, and whoever recorded it, each run gets one object as promised."""
    for number, told in enumerate(RUNS.values()):
        Path(f"{number:02}.json").write_text(dump(flavour, told))
    result = face.use("doctor", ".", "--json")
    found = objects(result.stdout)

    assert [Path(one["file"]).name for one in found] == [f"{n:02}.json" for n in range(len(RUNS))]
    assert [wrong for one in found for wrong in breaches(one)] == []
    assert {one["format"] for one in found[:-2]} == {flavour.partition(" ")[0]}
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("runs", "code"),
    [(["healthy"], 0), (["healthy", "talk"], 0), (["twice"], 1), (["healthy", "twice"], 1)],
)
def test_the_exit_code_says_whether_any_layer_was_missing(
    face: Face, runs: list[str], code: int
) -> None:
    """0 where no run lacked a layer, 1 where one did; with --json and without, alike."""
    for name in runs:
        Path(f"{name}.json").write_text(dump("openai-chat", RUNS[name]))
    for more in ([], ["--json"]):
        assert face.use("doctor", *(f"{name}.json" for name in runs), *more).exit_code == code


@pytest.mark.parametrize(
    ("found", "code"), [("healthy", 0), ("twice", 1)], ids=["and a healthy one", "and a bad one"]
)
def test_something_unreadable_beside_a_run_leaves_its_exit_code(
    face: Face, found: str, code: int
) -> None:
    """2 is for where nothing could be read: one run that could be decides over what could not."""
    Path("run.json").write_text(dump("openai-chat", RUNS[found]))
    Path("empty.json").write_bytes(b"")

    assert face.use("doctor", "empty.json", "--json").exit_code == 2
    assert face.use("doctor", "empty.json", "run.json", "--json").exit_code == code


def test_the_same_run_is_told_the_same_however_it_comes(face: Face) -> None:
    """A file, a gzipped one, standard input and a line of JSON lines lead to the same object."""
    text = dump("openai-chat", RUNS["twice"])
    Path("one.json").write_text(text)
    Path("one.json.gz").write_bytes(gzip.compress(text.encode()))
    Path("lines.jsonl").write_text(f"{json.dumps(json.loads(text))}\n")
    told = [
        objects(face.use("doctor", path, "--json", stdin=text).stdout)
        for path in ("one.json", "one.json.gz", "lines.jsonl", "-")
    ]

    assert [len(one) for one in told] == [1] * 4
    kept = [{**one[0], "trace": "", "file": ""} for one in told]
    assert kept == [kept[0]] * 4
    assert kept[0]["cause"] == "conflicts"


def test_json_lines_are_told_in_order_under_their_names(face: Face) -> None:
    """A trace a line gives an object a line, in order, each with the name that the line gives."""
    names = list(RUNS)
    Path("runs.jsonl").write_text(
        "".join(
            json.dumps({**WRITERS["openai-chat"](told)[0], "trace_id": name}) + "\n"
            for name, told in RUNS.items()
        )
    )
    found = objects(face.use("doctor", "runs.jsonl", "--json").stdout)

    assert [one["trace"] for one in found] == names
    assert [wrong for one in found for wrong in breaches(one)] == []


def crooked(spans: list[dict[str, Any]], how: str) -> None:
    """Break the record of a run in one way."""
    for number, one in enumerate(spans):
        match how:
            case "all under themselves":
                one["parentSpanId"] = one["spanId"]
            case "in a ring":
                one["parentSpanId"] = spans[number - 1]["spanId"]
            case "of one id":
                one["spanId"] = "ab" * 8
            case "without ids":
                one.pop("spanId")
            case "without times":
                one.pop("startTimeUnixNano")
                one.pop("endTimeUnixNano")
            case "backwards":
                began, ended = one["startTimeUnixNano"], one["endTimeUnixNano"]
                one["startTimeUnixNano"], one["endTimeUnixNano"] = ended, began
            case "at odd times":
                one["startTimeUnixNano"] = ["soon", None, -5, "0", 1e300, True][number % 6]
            case "without attributes":
                one["attributes"] = None
            case _:
                one["attributes"] = [{"key": 1}, None, {"key": "a", "value": {"intValue": "x"}}]


@pytest.mark.parametrize(
    "how",
    [
        "all under themselves",
        "in a ring",
        "of one id",
        "without ids",
        "without times",
        "backwards",
        "at odd times",
        "without attributes",
        "of odd attributes",
    ],
)
@pytest.mark.parametrize("name", ["healthy", "loop"])
def test_a_crooked_record_keeps_the_promises(face: Face, name: str, how: str) -> None:
    """A record that contradicts itself is judged as far as it goes, by the same promises."""
    (document,) = WRITERS["otlp"](RUNS[name])
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    crooked(spans, how)
    Path("run.json").write_text(json.dumps(document))
    result = face.use("doctor", "run.json", "--json")

    assert result.exit_code in {0, 1}, result.stderr
    found = objects(result.stdout)
    assert [wrong for one in found for wrong in breaches(one)] == []
    assert sum(one["steps"] for one in found) == len(spans)


@pytest.mark.parametrize("seed", range(3))
def test_shaken_messages_keep_the_promises(face: Face, seed: int) -> None:
    """Messages dropped, doubled, out of order or with odd fields are judged as far as they go."""
    dice = random.Random(seed)  # noqa: S311  shakes a test, guards nothing
    odd: list[Any] = [None, 7, "x", {}, [], {"role": 5}, {"role": "tool"}, {"role": "assistant"}]
    lines = []
    for number in range(60):
        (document,) = WRITERS["openai-chat"](dice.choice(list(RUNS.values())))
        messages = [
            one for one in document["messages"] for _ in range(dice.choice([0, 1, 1, 1, 2]))
        ]
        if dice.random() < 0.5:
            dice.shuffle(messages)
        if dice.random() < 0.5:
            messages.insert(dice.randrange(len(messages) + 1), dice.choice(odd))
        lines.append(json.dumps({"trace_id": f"run-{number}", "messages": messages}))
    Path("runs.jsonl").write_text("\n".join(lines))
    found = objects(face.use("doctor", "runs.jsonl", "--json").stdout)

    assert [one["trace"] for one in found] == [f"run-{number}" for number in range(60)]
    assert [wrong for one in found for wrong in breaches(one)] == []
