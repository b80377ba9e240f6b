"""`run`: a turn from the command line, its inputs, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import EMAIL, Face


@pytest.mark.parametrize(
    ("flow", "given", "status", "said"),
    [
        pytest.param("many", '{"count": 3}', "done", "5", id="done"),
        pytest.param("order", EMAIL, "waiting", "undercroft approve t-", id="waiting"),
        pytest.param("degraded", '{"name": "x"}', "degraded", "without extra", id="degraded"),
        pytest.param("wrong", '{"name": "x"}', "failed", "ValueError: no x", id="failed"),
        pytest.param("doubtful", '{"account": "a"}', "in_doubt", "--not-applied", id="in_doubt"),
    ],
)
def test_the_exit_code_says_how_a_turn_stands(
    face: Face, flow: str, given: str, status: str, said: str
) -> None:
    """0 for done, degraded and waiting, 1 for failed and in doubt; results are on stdout."""
    code = 1 if status in ("failed", "in_doubt") else 0
    words = ("run", f"app.py:{flow}", "--input", given)

    result = face.use(*words)

    assert (result.exit_code, result.stderr) == (code, "")
    assert status.replace("_", " ") in result.stdout
    assert said in result.stdout
    # Another record: what a turn in doubt has left is not written to before it is settled.
    other = ("run", f"app.py:{flow}", "--input", given.replace('"a"', '"b"'))
    assert face.json(*other)["status"] == status


def test_inputs_come_with_the_types_that_are_asked_for(face: Face) -> None:
    """JSON becomes what the parameters are annotated with; what comes back is JSON again."""
    given = '{"order": {"item": "tea"}, "on": "2026-03-01", "urgent": true}'
    outcome = face.json("run", "app.py:typed", "--input", given, "--session", "s-1")
    assert outcome["value"] == {"item": "tea", "year": 2026, "urgent": True, "raw": "AP8="}
    assert face.json("show", "last")["session"] == "s-1"


def test_inputs_may_come_from_a_file_or_from_stdin(face: Face) -> None:
    """`@file.json` reads a file and `-` reads stdin."""
    Path("in.json").write_text('{"count": 2}')
    assert face.json("run", "app.py:many", "--input", "@in.json")["value"] == 1
    result = face.use("run", "app.py:many", "--input", "-", "--json", stdin='{"count": 4}')
    assert '"value": 14' in result.stdout


@pytest.mark.parametrize(
    ("flow", "given", "said"),
    [
        pytest.param("order", None, "input 'email' is missing", id="missing"),
        pytest.param("order", "{}", "input 'email' is missing", id="missing-of-an-object"),
        pytest.param("order", '{"emial": "x"}', "Did you mean 'email'?", id="unknown"),
        pytest.param("order", '{"email": 3}', "input 'email' does not fit", id="wrong-type"),
        pytest.param("typed", '{"order": {}, "on": "2026-01-01"}', "'order' does", id="a-field"),
        pytest.param("typed", '{"order": {"item": "x"}, "on": "x"}', "'on' does not", id="a-date"),
        pytest.param("order", "{email}", "it is not JSON", id="not-json"),
        pytest.param("order", "[1]", "it is a list, not an object", id="a-list"),
        pytest.param("order", "null", "it is null, not an object", id="null"),
        pytest.param("order", '{"email": "\ud800"}', "it is not JSON", id="half-a-character"),
        pytest.param("order", "[" * 100_000, "it is not JSON", id="endlessly-deep"),
        pytest.param("order", "@nowhere.json", "cannot be read", id="no-such-file"),
        pytest.param("order", "@.", "cannot be read", id="a-folder"),
    ],
)
def test_wrong_inputs_are_one_message_and_no_turn(
    face: Face, flow: str, given: str | None, said: str
) -> None:
    """A wrong input is named in one message on stderr, exit code 2, before anything begins."""
    result = face.use("run", f"app.py:{flow}", *(["--input", given] if given else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not Path("undercroft.db").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param("app.py", "It declares: order,", id="no-name"),
        pytest.param("app.py:odrer", "Did you mean order?", id="typo"),
        pytest.param("app.py:xyz", "It declares: order,", id="unknown-name"),
        pytest.param("app.py:nothing", "it is a int, neither a workflow nor", id="no-target"),
        pytest.param("nowhere.py:x", "there is no file nowhere.py", id="no-file"),
        pytest.param("nowhere:x", "there is no module 'nowhere'", id="no-module"),
        pytest.param("app.inner:x", "there is no module 'app.inner'", id="no-package"),
        pytest.param(":x", "it names no module", id="no-place"),
        pytest.param("json.py:x", "a module 'json' is there already", id="taken-name"),
        pytest.param("bad.py:x", "SyntaxError", id="syntax"),
        pytest.param("raises.py:x", "ZeroDivisionError: division by zero (raises.py, line 2)",
                     id="raises"),
        pytest.param("exits.py:x", "__main__", id="exits"),
        pytest.param("needs.py:x", "No module named 'no_such_thing'", id="needs-another"),
    ],
)  # fmt: skip
def test_wrong_targets_are_one_message(face: Face, target: str, said: str) -> None:
    """Code that cannot be found or imported is one message that says why, exit code 2."""
    Path("json.py").write_text("x = 1\n")
    Path("bad.py").write_text("def\n")
    Path("raises.py").write_text("\nx = 1 / 0\n")
    Path("exits.py").write_text("raise SystemExit(3)\n")
    Path("needs.py").write_text("import no_such_thing\n")
    result = face.use("run", target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_file_of_a_package_is_imported_as_its_package_s(face: Face) -> None:
    """A file with relative imports works, and its turn is recorded by its dotted name."""
    package = face.folder / "lib" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text('NAME = "relative"\n')
    (package / "flows.py").write_text(
        "import undercroft as uc\nfrom .names import NAME\nflow = uc.Workflow(NAME)\n"
        "@flow.confirm\nasync def said() -> str: return NAME\n"
    )
    assert face.json("run", "lib/shop/flows.py:flow")["value"] == "relative"
    assert face.json("show", "last")["target"] == "shop.flows:flow"


def test_a_handler_needs_a_model(face: Face) -> None:
    """Without a model the message says how to give one here; a class is called to make one."""
    words = ("run", "app.py:assist", "--input", '{"message": "hi"}')
    without = face.use(*words)
    assert without.exit_code == 2
    assert "--model path/to/app.py:model" in " ".join(without.stderr.split())
    assert "undercroft resume t-" in without.stderr
    for model in ("app.py:model", "app.py:Model"):
        assert face.json(*words, "--model", model)["status"] == "waiting"
    wrong = face.use(*words, "--model", "app.py:nothing")
    assert wrong.exit_code == 2
    assert "it is a int, not a model client" in " ".join(wrong.stderr.split())


def test_a_turn_may_be_given_a_limit(face: Face) -> None:
    """`--timeout` ends a turn as failed; a limit that is none is refused."""
    outcome = face.json("run", "app.py:slow", "--input", '{"name": "x"}', "--timeout", "0.2")
    assert outcome["status"] == "failed"
    assert outcome["error"]["type"] == "DeadlineError"
    assert (
        face.use("run", "app.py:slow", "--input", '{"name": "x"}', "--timeout", "0").exit_code == 2
    )


def test_the_journal_may_be_named_by_the_environment(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNDERCROFT_DB is the default of --db, and then no command to copy needs to repeat it."""
    monkeypatch.setenv("UNDERCROFT_DB", "other.db")
    result = face.use("run", "app.py:order", "--input", EMAIL)
    assert Path("other.db").exists()
    assert "--db" not in result.stdout
    named = face.use("run", "app.py:order", "--input", EMAIL, "--db", "third.db")
    assert "--db third.db" in " ".join(named.stdout.replace("\\\n", " ").split())


def test_what_the_app_prints_does_not_spoil_json(face: Face) -> None:
    """With --json stdout holds one document, whatever a user's own code prints."""
    source = "import undercroft as uc\nprint('hello')\nflow = uc.Workflow('f')\n"
    source += "@flow.confirm\nasync def said() -> str:\n    print('noise')\n    return 'x'\n"
    Path("loud.py").write_text(source)
    result = face.use("run", "loud.py:flow", "--json")
    assert face.decoded(result.stdout)["value"] == "x"
    assert result.stderr == "hello\nnoise\n"
