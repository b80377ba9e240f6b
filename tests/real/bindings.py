"""The tools of a suite as tools of Undercroft, and a handler and a script to use them with.

Keeps: a tool is no more than a call to the world process under the same name, with the
arguments as they were proposed, and with the id of its step, so that the world's log and
the journal can be laid side by side.
Leaves to others: which world that is (`reaching`), and who runs the turn (`turn`).

    task = load_suite("banking").tasks["user_task_3"]
    model = ScriptedModel(script(task, "batch"))
    async with World(port) as world, uc.Runtime(model=model) as rt:
        with reaching(world):
            outcome = await rt.run(HANDLERS.banking_key, message=task.prompt)

What a write may do about a crash is its protocol, and each is a handler of its own:

- `verify`: takes a key, and asks the world whether it has seen it.
- `state`: as `bare`, but where `STATES` names a tool that reads what the write changes, a
  crash is settled by reading again.
- `key`: takes a key, so it may be repeated; only safe on a world that deduplicates.
- `bare`: takes none and cannot ask; whoever runs it has to be told by a person.
"""

import functools
import inspect
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import Field
from pydantic_core import to_jsonable_python

import undercroft as uc
from undercroft.engine.handler import Handler
from undercroft.engine.tool import Tool

from . import dojo
from .client import World
from .dojo import Json, load_suite

Protocol: TypeAlias = Literal["verify", "state", "key", "bare"]
Mode: TypeAlias = Literal["single", "batch"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

# Writes of which some ground truth makes one without having read the resource, because the
# benchmark takes what it writes from the user's request or from elsewhere. A runtime that
# insisted on the read would be right to refuse them, and the task would not be the task.
UNREAD: Final = {
    "update_scheduled_transaction": ("banking user_task_9",),
    "update_user_info": ("banking user_task_13", "banking user_task_15"),
    "post_webpage": ("slack user_task_4",),
    "add_user_to_channel": ("slack user_task_7", "slack user_task_11"),
    "get_unread_emails": ("workspace user_task_24",),
}

# What reads the very thing that a write changes, and so can tell whether it did.
STATES: Final = {
    "update_scheduled_transaction": "get_scheduled_transactions",
    "update_user_info": "get_user_info",
    "delete_file": "list_files",
}

_WORLD: ContextVar[World] = ContextVar("world")

_Body: TypeAlias = Callable[..., Coroutine[Any, Any, Json]]


@contextmanager
def reaching(world: World) -> Iterator[World]:
    """Have the tools that are called within reach this world."""
    token = _WORLD.set(world)
    try:
        yield world
    finally:
        _WORLD.reset(token)


async def seen(key: uc.IdempotencyKey) -> Json:
    """Ask the world whether it applied the write with this key, and with what result."""
    known = await _WORLD.get().seen(key)
    if not known.times:
        return False
    # None and False would say that it did not happen.
    return True if known.result is None else known.result


def bind(
    suite: str, protocol: Protocol, *, approval: str | None = None, strict: bool = False
) -> list[Tool[..., Any]]:
    """Return the tools of a suite.

    Args:
        suite: Its name.
        protocol: What a write may do about a crash.
        approval: The tool of which a person must approve each call.
        strict: Whether the writes in `UNREAD` too need a read first.
    """
    tools = load_suite(suite).tools
    bound = []
    for tool in tools.values():
        writes = tool.effect.kind != "read"
        injected: dict[str, type] = {"turn_info": uc.TurnInfo}
        verify: Any = None
        if writes and protocol in {"verify", "key"}:
            injected["key"] = uc.IdempotencyKey
        if writes and protocol == "verify":
            verify = seen
        elif writes and protocol == "state" and tool.name in STATES:
            # A tool of the same name that does not say which step it is for: it is for none.
            verify = _declared(tools[STATES[tool.name]])
        bound.append(
            _declared(
                tool,
                injected,
                read_first=strict or tool.name not in UNREAD,
                approval=tool.name == approval,
                verify=verify,
            )
        )
    return bound


def _declared(
    tool: dojo.Tool,
    injected: Mapping[str, type] = MappingProxyType({}),
    *,
    read_first: bool = True,
    approval: bool = False,
    verify: Any = None,
) -> Tool[..., Any]:
    return uc.tool(
        reads=tool.effect.reads,
        appends=tool.effect.appends,
        writes=tool.effect.writes,
        service=tool.effect.service,
        read_first=read_first,
        approval=approval,
        verify=verify,
    )(_body(tool, injected))


def _body(tool: dojo.Tool, injected: Mapping[str, type]) -> _Body:
    """Return a function with the signature of `tool`, and what the runtime injects."""

    async def call(
        *,
        turn_info: uc.TurnInfo | None = None,
        key: uc.IdempotencyKey | None = None,
        **arguments: Json,
    ) -> Json:
        step = None if turn_info is None else turn_info.step_id
        # What was not given is left to the tool's own defaults.
        return await _WORLD.get().call(tool.name, to_jsonable_python(arguments), key=key, step=step)

    described = tool.schema["properties"]
    parameters = [
        p.replace(
            kind=p.KEYWORD_ONLY,
            annotation=Annotated[
                p.annotation, Field(description=described[p.name].get("description"))
            ],
        )
        for p in tool.signature.parameters.values()
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
        for name, kind in injected.items()
    ]
    call.__name__ = call.__qualname__ = tool.name
    call.__doc__ = tool.description
    call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": Json}
    vars(call)["__signature__"] = inspect.Signature(parameters, return_annotation=Json)
    return call


def script(task: dojo.Task, mode: Mode) -> list[str | list[uc.Call]]:
    """Return what a model says that solves `task`: one call an answer, or all in one."""
    if mode == "single":
        batches = [[uc.Call(call.tool, call.arguments)] for call in task.calls]
    else:
        # As providers hand arguments over: as text.
        batches = [[uc.Call(call.tool, json.dumps(call.arguments)) for call in task.calls]]
    return [*batches, told(task)]


def told(task: dojo.Task) -> str:
    """Return what the user is told at the end."""
    return f"{task.id} is done."


class Handlers:
    """A handler for each way of binding a suite, by name and made when asked for.

    The name is `SUITE_PROTOCOL`, or `SUITE_PROTOCOL__TOOL` where a person has to approve
    each call of that tool. A turn finds its handler again by that name.
    """

    def __getattr__(self, name: str) -> Handler[..., Any]:
        return _handler(name)


HANDLERS: Final = Handlers()


@functools.cache
def _handler(name: str) -> Handler[..., Any]:
    bound, _, approval = name.partition("__")
    suite, _, protocol = bound.rpartition("_")
    if suite not in dojo.SUITES or protocol not in get_args(Protocol):
        raise AttributeError(name)
    tools = bind(suite, protocol, approval=approval or None)  # type: ignore[arg-type]
    return make_handler(tools, f"HANDLERS.{name}")


def make_handler(tools: list[Tool[..., Any]], qualname: str) -> Handler[..., Any]:
    """Return a plain loop of model and calls; a resume looks for it under `qualname`."""

    async def assist(turn: uc.Turn, message: str) -> str:
        """Do what the model proposes until it has nothing more to propose."""
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    assist.__qualname__ = qualname
    return uc.handler(tools=tools)(assist)
