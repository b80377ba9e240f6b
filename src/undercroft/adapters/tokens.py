"""Exact counts of tokens, by vocabularies that ship with a library: extra `undercroft[tokens]`.

Keeps: nothing is fetched. Special tokens in a text, such as `<|endoftext|>`, are text. Every text
is counted, however long, lone surrogates included.
Leaves to `undercroft.layers.context`: what a message costs, and an estimate without any library.

The library is `bpe-openai` (MIT), a wrapper of GitHub's tokenizer: its counts are those of
`tiktoken`, it needs no network, and a megabyte of blanks, on which `tiktoken` panics, takes it some
milliseconds. For other models, `counter_from` reads a file of the library `tokenizers`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any, Final

from undercroft.errors import ContextError, SettingError

VOCABULARIES: Final = ("o200k_base", "cl100k_base")
"""Names of the vocabularies that are counted by."""

_MEND: Final = "Install the extra: pip install 'undercroft[tokens]'; or count by 'estimate'."
_REPAIR: Final = (
    "Install it anew: pip install --force-reinstall bpe-openai; or count by 'estimate'."
)
_PROBE: Final = "Is order #A1001 on its way?"
_PROBE_TOKENS: Final = 10  # in both

# The first that a model's name begins with counts. As `tiktoken.model` has them.
_MODELS: Final = (
    ("gpt-4o", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("gpt-oss", "o200k_base"),  # its other names for special tokens are no text
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4-mini", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),
    ("text-embedding-3-", "cl100k_base"),
    ("text-embedding-ada-002", "cl100k_base"),
)


class ExactCounter:
    """Counts the tokens of a text exactly, by one vocabulary.

    Attributes:
        name: Of the vocabulary.
        exact: True.
    """

    __slots__ = ("_count", "name")

    exact: Final = True

    def __init__(self, name: str, count: Callable[[str], int]) -> None:
        self.name = name
        self._count = count

    def count(self, text: str) -> int:
        """Return how many tokens the text has."""
        try:
            return self._count(text)
        except (UnicodeEncodeError, TypeError):  # as the library has it
            # What cannot be sent cannot be counted: each surrogate is what will stand for it.
            return self._count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def counter(name: str) -> ExactCounter:
    """Return what counts by a vocabulary, or as a model of OpenAI does.

        uc.Context(policy, counter=counter("gpt-4o"))

    Args:
        name: `o200k_base`, `cl100k_base`, or of a model: `gpt-4o`, `openai/gpt-4.1-mini`,
            `ft:gpt-4o:…`.

    Raises:
        SettingError: No vocabulary and no model is known by that name.
        ContextError: The library is not installed, broken, or not one that we know.
    """
    vocabulary = vocabulary_of(name)
    if vocabulary is None:
        known = ", ".join(map(repr, VOCABULARIES))
        wanted = f"{known}, a model of OpenAI that has one of these, or 'estimate'"
        raise SettingError("vocabulary", name, wanted)
    return _loaded(vocabulary)


def vocabulary_of(name: str) -> str | None:
    """Return the vocabulary that a name of a vocabulary or a model means; None: nobody knows."""
    if name in VOCABULARIES:
        return name
    model = name.lower().rpartition("/")[2].removeprefix("ft:")
    for prefix, vocabulary in _MODELS:
        if model.startswith(prefix):
            return vocabulary
    return None


def counter_from(path: str | Path, name: str = "") -> ExactCounter:
    """Return what counts by a tokenizer file of the user: a `tokenizer.json` of `tokenizers`.

    It needs that library: `pip install tokenizers`.

    Args:
        path: The file.
        name: What it is called in policies and reports; empty: the name of its folder.

    Raises:
        ContextError: The library is not installed, or the file is missing or not one of its.
    """
    path = Path(path)
    place = f"Tokenizer {path}"
    if not path.is_file():
        raise ContextError(place, "there is no such file", "Name a tokenizer.json that is there.")
    try:
        library: Any = import_module("tokenizers")
        load = library.Tokenizer.from_file
    except (ImportError, AttributeError) as error:
        problem = f"the library tokenizers cannot be used ({error})"
        raise ContextError(place, problem, "Install it: pip install -U tokenizers.") from error
    try:
        tokenizer = load(str(path))
        # A file may cut and pad texts, and take special tokens in them for what they look like.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True

        def count(text: str) -> int:
            return len(tokenizer.encode(text, add_special_tokens=False).ids)

        count(_PROBE)
    except Exception as error:
        problem = f"the file cannot be read as a tokenizer ({error})"
        mend = "Fetch it again, or write it anew with Tokenizer.save()."
        raise ContextError(place, problem, mend) from error
    return ExactCounter(name or path.resolve().parent.name, count)


@cache
def _loaded(vocabulary: str) -> ExactCounter:
    place = f"Vocabulary {vocabulary!r}"
    try:
        tokenizer = _bindings().tokenizer_for_encoding(vocabulary)
        found = tokenizer.count(_PROBE)
    except ImportError as error:
        raise ContextError(place, f"bpe-openai cannot be imported ({error})", _MEND) from error
    except AttributeError as error:
        problem = f"the installed bpe-openai is not one that Undercroft knows ({error})"
        mend = "Install the one that goes with it: pip install -U 'undercroft[tokens]'."
        raise ContextError(place, problem, mend) from error
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ContextError(place, f"bpe-openai cannot load it ({error!r})", _REPAIR) from error
    if found != _PROBE_TOKENS:
        problem = f"bpe-openai counts {found!r} tokens where there are {_PROBE_TOKENS}"
        raise ContextError(place, problem, _REPAIR)
    return ExactCounter(vocabulary, tokenizer.count)


@cache
def _bindings() -> Any:
    """Return the library's compiled module, without the package around it.

    The package reads three vocabularies into dicts when it is imported, which takes half a second
    and much memory, and refuses texts of a million characters; the compiled module has its own.
    """
    package = find_spec("bpe_openai")
    if package is None or package.submodule_search_locations is None:
        raise ImportError("it is not installed")
    spec = PathFinder.find_spec("bpe_openai._bindings", list(package.submodule_search_locations))
    if spec is None or spec.loader is None:
        raise ImportError("its compiled module is missing")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
