"""`diff`: the first difference between two turns, named; exit code 0 only where there is none."""

from __future__ import annotations

from tests.cli.conftest import Face
from tests.cli.test_show import fits, harmless

TALK = ("run", "app.py:assist", "--model", "app.py:model", "--input")


def test_a_turn_is_the_same_as_itself_and_as_one_like_it(face: Face) -> None:
    """Durations, times and ids are no difference."""
    ids = [face.json("run", "app.py:many", "--input", '{"count": 3}')["turn_id"] for _ in range(2)]
    for other in ids:
        result = face.use("diff", ids[0], other)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "They did the same." in result.stdout
        assert "Of 5 steps 5 are the same" in result.stdout
        assert fits(result.stdout)


def test_the_first_difference_is_named(face: Face) -> None:
    """What two workflows did with other inputs: which step, and what of it."""
    for count in (2, 4):
        face.use("run", "app.py:many", "--input", f'{{"count": {count}}}')
    newest, older = (head["turn_id"] for head in face.json("turns"))
    result = face.use("diff", older, newest)
    assert result.exit_code == 1
    assert "First difference: value of items.1" in result.stdout
    assert "Of 6 steps 2 are the same, 2 differ, 0 only A has and 2 only B." in result.stdout
    assert "input count" in result.stdout
    assert fits(result.stdout)
    said = face.json("diff", older, newest)
    assert not said["same"]
    assert said["first"]["a"] == "items.1"
    assert [one["what"] for one in said["first"]["differs"]] == ["value"]
    assert [step["a"] for step in said["steps"] if step["b"] is None] == []
    assert [step["b"] for step in said["steps"] if step["a"] is None] == [
        "square[2].4",
        "square[3].5",
    ]


def test_prompts_are_compared_message_by_message(face: Face) -> None:
    """The first message that differs is named, and shown from where it does."""
    ids = [
        face.json(*TALK, f'{{"message": "{"the same " * 9}and {end}"}}')["turn_id"]
        for end in ("this", "that", "this")
    ]
    result = face.use("diff", ids[0], ids[1])
    assert result.exit_code == 1
    assert "First difference: the prompt of model.1, message 0" in result.stdout
    assert "and this" in result.stdout
    assert "and that" in result.stdout
    assert harmless(result.stdout)
    assert fits(result.stdout)
    assert face.json("diff", ids[0], ids[1])["prompt"]["message"] == 0
    assert face.use("diff", ids[0], ids[2]).exit_code == 0


def test_turns_of_another_kind_are_compared_too(face: Face, waiting: str) -> None:
    """Nothing in common is a difference like any other; a turn that is none is exit code 2."""
    face.use("run", "app.py:evil", "--input", '{"name": "\\u001b[2J"}')
    result = face.use("diff", waiting, "last")
    assert result.exit_code == 1
    assert harmless(result.stdout)
    assert fits(result.stdout)
    everything = face.use("diff", waiting, "last", "--all")
    assert fits(everything.stdout)
    assert fits(face.at(60, "diff", waiting, "last").stdout, 60)
    none = face.use("diff", waiting, "t-zzz")
    assert (none.exit_code, none.stdout) == (2, "")
