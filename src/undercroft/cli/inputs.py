"""JSON from the command line, and the inputs of a turn made of it.

Keeps: an input has the type that its parameter asks for before anything runs; an error names
the input.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import msgspec

from undercroft.cli.problem import CannotRunError
from undercroft.engine.codec import ENCODE_ERRORS, encode
from undercroft.engine.targets import Target
from undercroft.engine.workflow import Workflow
from undercroft.layers.sequencing.fits import spelled
from undercroft.layers.sequencing.signature import Parameter, plain

# Words of `Runtime.run` itself: an input of that name could not be told apart.
_RESERVED = ("target", "session", "timeout_s")
_SHOWN_CHARS = 300


def read_json(option: str, text: str) -> Any:
    """Return the value of JSON text; `-` reads stdin and `@file.json` a file.

    Raises:
        CannotRunError: It cannot be read, or is not JSON.
    """
    source = option
    if text == "-":
        source = "stdin"
        data = sys.stdin.buffer.read()
    elif text.startswith("@"):
        source = text[1:]
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            problem = f"{source} cannot be read ({error.strerror or error})"
            raise CannotRunError(option, problem, "Name a file that holds JSON.") from error
    else:
        data = text.encode("utf-8", "surrogatepass")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CannotRunError(
            source,
            f"it is not JSON ({str(error).rstrip('.')})",
            """Quote it for the shell, such as --input '{"email": "ada@example.com"}'.""",
        ) from error


def read_inputs(target: Target, text: str | None) -> dict[str, Any]:
    """Return the inputs for `target` from the JSON object that `text` is.

    Raises:
        CannotRunError: It is no object, or an input is missing, unknown or of a wrong type.
        GraphError: The workflow does not hold together.
    """
    data = {} if text is None else read_json("--input", text)
    if not isinstance(data, dict):
        raise CannotRunError(
            "--input", f"it is {_kind(data)}, not an object", f"Write it as {_example(target)}."
        )
    known = _parameters(target)
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            takes = f"Did you mean {near[0]!r}?" if near else f"Write it as {_example(target)}."
            raise CannotRunError(target.name, f"it takes no input {name!r}", takes)
        if name in _RESERVED:
            raise CannotRunError(
                target.name, f"an input cannot be called {name!r} here", "Rename the parameter."
            )
    for name, parameter in known.items():
        if parameter.required and name not in data:
            raise CannotRunError(
                target.name, f"input {name!r} is missing", f"Write it as {_example(target)}."
            )
    return {name: _converted(target, known[name], value) for name, value in data.items()}


def _converted(target: Target, parameter: Parameter, value: Any) -> Any:
    decoders: dict[str, Any] = (
        target.build().input_decoders if isinstance(target, Workflow) else target.input_decoders
    )
    try:
        return decoders[parameter.name](encode(value))
    except (*ENCODE_ERRORS, msgspec.MsgspecError) as error:
        said = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise CannotRunError(
            target.name,
            f"input {parameter.name!r} does not fit: {said[:_SHOWN_CHARS].rstrip('.')}",
            f"It is declared as {spelled(plain(parameter.annotation))}.",
        ) from error


def _parameters(target: Target) -> dict[str, Parameter]:
    if isinstance(target, Workflow):
        return target.build().plan.inputs
    return {p.name: p for p in target.signature.parameters}


def _example(target: Target) -> str:
    names = [name for name, p in _parameters(target).items() if p.required]
    names = names or list(_parameters(target))
    if not names:
        return "--input '{}'; it takes no inputs"
    return "--input '{" + ", ".join(f'"{name}": …' for name in names) + "}'"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case _:
            return "a list"
