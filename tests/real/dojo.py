"""The door to the task suites of `agentdojo`: real tools, real tasks, known answers.

Keeps: what comes through the door is deterministic. The same calls in the same
order give the same environment, in any process and on any day.
Leaves to others: serving an environment to other processes (`world`).
Source: the PyPI package `agentdojo` 0.1.35, benchmark version v1.2.2 (MIT licence).

Nothing of the benchmark is replaced, except what would make it vary or not load:

- Its LLM clients. The loader goes round the package `__init__` that imports them.
- `datetime.datetime.now()` in its mail and drive tools always says `NOW`. Both read
  the name `datetime` of their own module, which is where it is frozen.
- `list(set(participants))` in its calendar keeps the order of first mention; the
  order of a set of strings differs from process to process.

    suite = load_suite("banking")
    task = suite.tasks["user_task_3"]
    stage = suite.stage(task.id)
    for name, arguments in task.calls:
        stage.call(name, arguments)          # JSON, as a tool would answer
    assert stage.solved()                    # the benchmark's own verdict
    stage.digest().sha256

    suite.tools["send_money"].signature      # (recipient: str, amount: float, …)
    suite.tools["send_money"].effect.kind    # "append"
"""

import copy
import datetime as dt
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self, TypeAlias

from .effects import EFFECTS, Effect

Json: TypeAlias = Any  # Whatever `json.loads` may return.

SUITES: Final = ("banking", "slack", "travel", "workspace")
VERSION: Final = "v1.2.2"
NOW: Final = dt.datetime(2024, 5, 15, 12, 0, 0)  # noqa: DTZ001 - theirs are naive

_PIPELINE = "agentdojo.agent_pipeline"
_GOOGLE = "agentdojo.agent_pipeline.llms.google_llm"
_TOOLS = "agentdojo.default_suites.v1.tools"


class DojoError(Exception):
    """The benchmark is not what this door was built for."""


class Call(NamedTuple):
    """One call of a tool, as plain data."""

    tool: str
    arguments: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool of a suite, as a model would see it.

    Attributes:
        name: Unique in its suite; the same function where suites share it.
        description: What the benchmark tells a model.
        schema: JSON schema of the arguments.
        signature: The arguments in Python, without the parts of the environment
            that the benchmark injects. The return annotation is there too, and is
            `inspect.Signature.empty` where the benchmark gives none.
        effect: What it reads and changes.
    """

    name: str
    description: str
    schema: dict[str, Json]
    signature: inspect.Signature
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One user task and the calls that solve it.

    Attributes:
        id: `user_task_` and a number, unique in its suite.
        prompt: What the user asks.
        calls: The ground truth, in order.
        answer: What the final answer must contain; often empty.
    """

    id: str
    prompt: str
    calls: tuple[Call, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Digest:
    """The state of an environment, small enough to compare.

    Attributes:
        sha256: Of `canonical`; equal for environments that are equal throughout.
        content_sha256: The same regardless of arrival: ids and the order of lists
            left out. For runs that were free to do appends in any order.
        canonical: The whole environment as JSON with sorted keys. Not compared,
            because the hash says as much and a failing test should print little.
    """

    sha256: str
    content_sha256: str
    canonical: str = field(repr=False, compare=False)

    @classmethod
    def of(cls, state: Json) -> Self:
        """Digest a state given as JSON."""
        text = canonical(state)
        return cls(_sha256(text), _sha256(canonical(_unordered(state))), text)


def canonical(value: Json) -> str:
    """Write JSON in the one way in which equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unordered(value: Json) -> Json:
    """Return `value` without what depends on the order of arrival."""
    if isinstance(value, list):
        return sorted(map(_unordered, value), key=canonical)
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(v, dict) and "id_" in v for v in value.values()):
        return _unordered(list(value.values()))
    return {k: _unordered(v) for k, v in value.items() if k not in {"id", "id_"}}


class Stage:
    """One environment, on which the tools of its suite act."""

    def __init__(self, suite: "Suite", task: str | None) -> None:
        self._suite = suite
        self._task = suite.theirs.user_tasks[task] if task is not None else None
        self._environment = copy.deepcopy(suite.pristine)
        if self._task is not None:
            self._environment = self._task.init_environment(self._environment)
        self._before = copy.deepcopy(self._environment)
        self._calls: list[Call] = []

    def call(self, tool: str, arguments: Mapping[str, Json]) -> Json:
        """Run a tool and return its result as JSON.

        Raises:
            Exception: Whatever the tool raises; the environment is then untouched.
        """
        effect = EFFECTS.get(tool)
        # Some tools fail half-way (a reservation with a bad date), and what failed
        # must not count as half done.
        may_change = effect is None or effect.kind != "read"
        safe = copy.deepcopy(self._environment) if may_change else self._environment
        try:
            result, _ = self._suite.runtime.run_function(
                self._environment, tool, arguments, raise_on_error=True
            )
        except BaseException:
            self._environment = safe
            raise
        self._calls.append(Call(tool, dict(arguments)))
        return _door().to_json(result)

    def state(self) -> dict[str, Json]:
        """Return the environment as JSON."""
        state: dict[str, Json] = self._environment.model_dump(mode="json")
        return state

    def digest(self) -> Digest:
        """Return the digest of the environment as it is now."""
        return Digest.of(self.state())

    def solved(self) -> bool:
        """Ask the benchmark whether the calls so far solve the task.

        The text of the answer is taken as given; only the environment is judged.
        """
        task = self._task
        if task is None:
            return False
        answer = task.GROUND_TRUTH_OUTPUT
        calls = [_door().call(function=c.tool, args=c.arguments) for c in self._calls]
        verdict = task.utility_from_traces(answer, self._before, self._environment, calls)
        if verdict is None:
            verdict = task.utility(answer, self._before, self._environment)
        return bool(verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One suite: its tools, its tasks and the environment that they start from.

    Attributes:
        name: One of `SUITES`.
        tools: By name.
        tasks: By id, in the order of their numbers.
        theirs: The benchmark's own suite.
        runtime: The benchmark's runtime over its tools.
        pristine: The default environment; copy it, never change it.
    """

    name: str
    tools: Mapping[str, Tool]
    tasks: Mapping[str, Task]
    theirs: Any = field(repr=False)
    runtime: Any = field(repr=False)
    pristine: Any = field(repr=False)

    def stage(self, task: str | None = None) -> Stage:
        """Return a fresh environment, made ready for `task` if one is named."""
        return Stage(self, task)


@functools.cache
def load_suite(name: str) -> Suite:
    """Load a suite; the same object each time, so treat it as read-only."""
    if name not in SUITES:
        msg = f"There is no suite {name!r}; there are {', '.join(SUITES)}."
        raise DojoError(msg)
    door = _door()
    theirs = door.suites[name]
    pristine = theirs.load_and_inject_default_environment({})
    ids = sorted(theirs.user_tasks, key=lambda task: int(task.rpartition("_")[2]))
    return Suite(
        name=name,
        tools={function.name: _tool(function) for function in theirs.tools},
        tasks={id_: _task(theirs.user_tasks[id_], pristine) for id_ in ids},
        theirs=theirs,
        runtime=door.runtime(theirs.tools),
        pristine=pristine,
    )


def _tool(function: Any) -> Tool:
    signature = inspect.signature(function.run)
    visible = [
        parameter
        for name, parameter in signature.parameters.items()
        if name not in function.dependencies
    ]
    return Tool(
        name=function.name,
        description=function.description,
        schema=function.parameters.model_json_schema(),
        signature=signature.replace(parameters=visible),
        effect=EFFECTS[function.name],
    )


def _task(task: Any, pristine: Any) -> Task:
    # As their ground-truth pipeline does it: the calls are those that the task names
    # when it sees the environment that it is about to be run in.
    environment = task.init_environment(copy.deepcopy(pristine))
    calls = []
    for call in task.ground_truth(environment):
        # No task of this version nests calls. Should one ever, then running the inner
        # call unseen would hide it from whoever counts calls.
        if any(isinstance(value, _door().call) for value in call.args.values()):
            msg = f"{task.ID}: a call of {call.function} has a call as an argument."
            raise DojoError(msg)
        calls.append(Call(call.function, _door().to_json(dict(call.args))))
    return Task(
        id=task.ID,
        prompt=task.PROMPT,
        calls=tuple(calls),
        answer=task.GROUND_TRUTH_OUTPUT,
    )


class _Door(NamedTuple):
    """What is needed from the other side, found by name because it has no types."""

    suites: Mapping[str, Any]
    runtime: Any
    call: Any
    to_json: Any


@functools.cache
def _door() -> _Door:
    """Import the benchmark without its LLM clients, and make it deterministic."""
    package = importlib.util.find_spec("agentdojo")
    if package is None or package.submodule_search_locations is None:
        msg = "The package agentdojo is not installed."
        raise DojoError(msg)
    # Stand-ins for what would import every LLM client there is: the package, whose
    # folder is real, and one module, of which one constant is wanted.
    pipeline = types.ModuleType(_PIPELINE)
    pipeline.__path__ = [
        f"{folder}/agent_pipeline" for folder in package.submodule_search_locations
    ]
    google = types.ModuleType(_GOOGLE)
    vars(google)["EMPTY_FUNCTION_NAME"] = "<empty-function-name>"
    stand_ins = {
        module.__name__: module
        for module in (pipeline, google)
        if module.__name__ not in sys.modules
    }
    sys.modules.update(stand_ins)
    try:
        suites = importlib.import_module("agentdojo.task_suite.load_suites")
    finally:
        # Whoever has the clients installed may still want the real package.
        for name in stand_ins:
            del sys.modules[name]
    _make_deterministic()
    functions = importlib.import_module("agentdojo.functions_runtime")
    return _Door(
        suites=suites.get_suites(VERSION),
        runtime=functions.FunctionsRuntime,
        call=functions.FunctionCall,
        to_json=importlib.import_module("pydantic_core").to_jsonable_python,
    )


class _StoppedDatetime(dt.datetime):
    """A `datetime` whose clock stands still."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        """Return `NOW`, as a plain datetime."""
        return NOW if tz is None else NOW.astimezone(tz)


def _in_order(items: Iterable[str] = ()) -> list[str]:
    """Do what `list(set(items))` does, in an order that never varies."""
    return list(dict.fromkeys(items))


def _make_deterministic() -> None:
    """Freeze the clock and the one order that varies, in the modules that use them."""
    stopped = types.ModuleType("datetime")
    vars(stopped).update(vars(dt))
    vars(stopped)["datetime"] = _StoppedDatetime
    for name in ("email_client", "cloud_drive_client"):
        vars(importlib.import_module(f"{_TOOLS}.{name}"))["datetime"] = stopped
    # A global of the module comes before the builtin of the same name.
    vars(importlib.import_module(f"{_TOOLS}.calendar_client"))["set"] = _in_order
