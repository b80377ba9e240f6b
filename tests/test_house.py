"""The house is as the plan says: floors, layers, sizes, and nothing unsafe in the walls.

These rules hold for files that nobody has written yet. The plan is in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "undercroft"
LAYERS = PACKAGE / "layers"

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
SIX = {"sequencing", "parallelism", "conflicts", "breakers", "context", "observability"}
FIVE = {"policy.py", "state.py", "guard.py", "lint.py", "symptoms.py"}
UNSAFE_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# What each extra is imported as.
EXTRA_MODULES = {
    "anthropic": {"anthropic"},
    "langchain": {"langchain", "langchain_core", "langgraph"},
    "mcp": {"mcp"},
    "openai": {"openai"},
    "openai-agents": {"agents"},
    "otel": {"opentelemetry"},
    "prices": {"genai_prices"},
    "pydantic-ai": {"pydantic_ai"},
    "tokens": {"bpe_openai"},
}
# The environments that cannot be one, and the extras that are tested in each.
FRAMEWORKS = {
    "langchain": {"langchain"},
    "mcp": {"mcp"},
    "models": {"anthropic", "openai"},
    "openai-agents": {"openai-agents"},
    "pydantic-ai": {"pydantic-ai"},
}

# Folders of one machine, and the address that opens a port to every network.
FOREIGN = re.compile(
    r"(?<![\w.:~/-])/(?:root|work|home|tmp)(?![\w-])|(?<![\d.])0(?:\.0){3}(?![\d.])"
)


def sources() -> list[Path]:
    """Return every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path as a reader of a failure wants it: from the repository down."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def lint_imports(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `folder`, whose own package goes before the installed one."""
    run = (
        "from importlinter.cli import lint_imports as lint\n"
        f"raise SystemExit(lint(limit_to_contracts={contracts!r}, no_cache=True, no_logo=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", run],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder that holds the contracts and a copy of the package, free to be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "undercroft", ignore=ignore)
    return tmp_path


def test_imports_go_downwards_only(copy: Path) -> None:
    """Every import contract of the house is kept, in place and in an untouched copy."""
    for folder in (ROOT, copy):
        result = lint_imports(folder)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("contract", "file", "code"),
    [
        pytest.param(
            "floors",
            "model/__init__.py",
            "def _late():\n    import undercroft.engine\n",
            id="late-import-upwards",
        ),
        pytest.param(
            "floors",
            "errors.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from undercroft import engine\n",
            id="import-upwards-for-types",
        ),
        pytest.param("floors", "errors.py", "import undercroft\n", id="import-of-the-front-door"),
        pytest.param("floors", "queries.py", "import undercroft.app\n", id="import-on-one-floor"),
        pytest.param("floors", "attic.py", "", id="module-on-no-floor"),
        pytest.param(
            "layers",
            "layers/breakers/__init__.py",
            "import undercroft.layers.context\n",
            id="layer-that-knows-another",
        ),
        pytest.param(
            "pure",
            "layers/context/__init__.py",
            "def _late():\n    import asyncio\n",
            id="event-loop-below-the-engine",
        ),
        pytest.param(
            "circles",
            "engine/_left.py",
            "import undercroft.engine._right\n",
            id="circle",
        ),
    ],
)
def test_import_contracts_can_fail(copy: Path, contract: str, file: str, code: str) -> None:
    """Each import contract notices what it forbids, also in a function or only for types."""
    package = copy / "undercroft"
    (package / "engine" / "_right.py").write_text(
        "def _late():\n    import undercroft.engine._left\n" if contract == "circles" else ""
    )
    with (package / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{code}")

    result = lint_imports(copy, contract)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout, result.stdout + result.stderr


def test_files_and_functions_stay_short() -> None:
    """A file is split at 600 lines, and a function stops at 70."""
    long = []
    for path in sources():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES_MAX:
            long.append(f"{name_of(path)}: {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines")
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    """A file opens by saying what it is for."""
    assert not [name_of(path) for path in sources() if not ast.get_docstring(parse(path))]


def test_there_are_six_layers() -> None:
    """`layers/` holds the six layers and nothing beside them."""
    entries = {path.name for path in LAYERS.iterdir()} - {"__init__.py", "__pycache__"}
    assert entries == SIX


@pytest.mark.parametrize("layer", sorted(SIX))
def test_a_layer_answers_the_five_questions(layer: str) -> None:
    """A layer holds the five files; any other must be named in its `__init__` docstring."""
    folder = LAYERS / layer
    introduced = ast.get_docstring(parse(folder / "__init__.py")) or ""
    entries = {path.name for path in folder.iterdir()} - FIVE - {"__init__.py", "__pycache__"}
    assert not [name for name in sorted(entries) if f"`{name}`" not in introduced]


def test_no_file_is_an_empty_shell() -> None:
    """A file of a layer defines something: where a question has no answer, there is no file."""
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    assert not [
        name_of(path)
        for path in sorted(LAYERS.rglob("*.py"))
        if path.name != "__init__.py"
        and not any(isinstance(node, definitions) for node in parse(path).body)
    ]


def test_data_is_never_run() -> None:
    """Encoding is data only: nothing in the package unpickles, evaluates or executes text."""
    unsafe = []
    for path in sources():
        for node in ast.walk(parse(path)):
            match node:
                case ast.Import(names=names):
                    found = {alias.name.partition(".")[0] for alias in names} & UNSAFE_MODULES
                case ast.ImportFrom(module=str(module), level=0):
                    found = {module.partition(".")[0]} & UNSAFE_MODULES
                case ast.Call(func=ast.Name(id=called)):
                    found = {called} & UNSAFE_CALLS
                case _:
                    continue
            unsafe += [f"{name_of(path)}:{node.lineno} {name}" for name in sorted(found)]
    assert not unsafe


def tracked() -> list[Path]:
    """Return what belongs to the repository: by git, or where that is absent, all but caches."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(
                part == "__pycache__" or (part.startswith(".") and part != ".ci")
                for part in path.relative_to(ROOT).parent.parts
            )
        ]
    return [path for path in paths if path.is_file()]


def test_no_file_knows_a_machine() -> None:
    """No file names a folder of somebody's machine, or listens to every network."""
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(text.splitlines(), start=1):
            found += [f"{name_of(path)}:{number} {hit}" for hit in FOREIGN.findall(line)]
    assert not found


def test_the_front_door_is_in_order() -> None:
    """`undercroft.__all__` is sorted (constants, classes, functions) and keeps its word."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    front = importlib.import_module("undercroft")
    names: list[str] = front.__all__
    assert names == sorted(set(names), key=rank)
    assert not [name for name in names if not hasattr(front, name)]


def pins(name: str) -> set[str]:
    """Return what a lock pins, as `name==version`; each must be pinned by hash, wherever it is."""
    lock = (ROOT / f"requirements-{name}.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^[^\s#].*(?:\n[ ].*)*", lock, flags=re.MULTILINE)
    assert not [block for block in blocks if "--hash=sha256:" not in block]
    assert "://" not in lock
    return {block.partition(" ")[0] for block in blocks}


def names(requirements: Iterable[str]) -> set[str]:
    """Return the names in requirements or pins."""
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_locks_agree() -> None:
    """Both locks pin by hash, and whoever runs Undercroft runs what its tests ran with."""
    assert pins("run") <= pins("dev")


def test_the_core_depends_on_no_extra() -> None:
    """Who installs Undercroft alone gets nothing that an extra brings, even through others."""
    optional = set().union(*(names(wanted) for wanted in EXTRAS.values()))
    assert not optional & (names(PROJECT["dependencies"]) | names(pins("run")))


def test_the_core_looks_for_no_extra() -> None:
    """Undercroft and its command line are imported without a look at what an extra brings."""
    assert set(EXTRA_MODULES) == set(EXTRAS)
    watched = set().union(*EXTRA_MODULES.values())
    # Also an import that fails is a look, and most of these are missing here.
    code = (
        "import sys\n"
        "class Looks:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        looked.append(name.partition('.')[0])\n"
        "looked = []\n"
        "sys.meta_path.insert(0, Looks())\n"
        "import undercroft, undercroft.cli.main\n"
        "print(*looked)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    looked = set(done.stdout.split())
    assert "msgspec" in looked
    assert not looked & watched


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_a_framework_has_an_environment_of_its_own(name: str) -> None:
    """A framework's lock pins what its extra brings, and `make` checks it with tests of its own."""
    wanted = set().union(*(names(EXTRAS[extra]) for extra in FRAMEWORKS[name]))
    assert wanted <= names(pins(name))
    assert list((ROOT / "tests" / "frameworks" / name.replace("-", "_")).glob("test_*.py"))
    listed = re.search(r"^FRAMEWORKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed
    assert set(listed[1].split()) == set(FRAMEWORKS)
