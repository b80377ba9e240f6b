"""A loop as people write it without a framework, to try the programs with where none is installed.

It runs the calls of a batch together, keeps the messages in a file before it runs them, and stops
after so many turns.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

from bench.frameworks.programs import Framework, Place
from bench.frameworks.running import main
from bench.frameworks.world import tools

TURNS_MAX = 5
ASKED = frozenset({"pay"})

Messages = list[dict[str, Any]]


class TurnsError(Exception):
    """There were too many turns."""


def ask(place: Place, messages: Messages) -> dict[str, Any]:
    """Return what the model says."""
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"), timeout=30)
    try:
        body = json.dumps({"model": "m", "messages": messages})
        connection.request("POST", "/v1/chat/completions", body)
        said: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    message: dict[str, Any] = said["choices"][0]["message"]
    return message


async def run(place: Place, messages: Messages, *, asking: bool = False) -> str:
    """Go on from the messages to the final text, or to where a person is asked: then to ``""``."""
    held = tools(place.world)
    for _ in range(TURNS_MAX):
        if messages[-1]["role"] != "assistant":
            messages.append(await asyncio.to_thread(ask, place, messages))
        calls = messages[-1].get("tool_calls", [])
        if not calls:
            return str(messages[-1]["content"])
        (place.world.folder / "messages.json").write_text(json.dumps(messages))
        if asking and any(call["function"]["name"] in ASKED for call in calls):
            return ""
        functions = [call["function"] for call in calls]
        results = await asyncio.gather(
            *(held[one["name"]](**json.loads(one["arguments"])) for one in functions)
        )
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": result}
            for call, result in zip(calls, results, strict=True)
        ]
    raise TurnsError(TURNS_MAX)


async def answer(place: Place, prompt: str) -> str:
    """Hold a conversation."""
    return await run(place, [{"role": "user", "content": prompt}])


async def pause(place: Place, prompt: str) -> None:
    """Hold it until a person is asked."""
    await run(place, [{"role": "user", "content": prompt}], asking=True)


async def go_on(place: Place) -> str:
    """Go on from the file."""
    return await run(place, json.loads((place.world.folder / "messages.json").read_text()))


FRAMEWORK = Framework(
    name="raw loop",
    module="tests.bench.raw_loop",
    packages=("undercroft",),
    answer=answer,
    pause=pause,
    approve=go_on,
    begin=answer,
    resume=go_on,
)

if __name__ == "__main__":
    main(FRAMEWORK)
