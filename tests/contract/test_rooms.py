"""A line of code knows its room by what it may touch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "scripts" / "ml_deploy"
PURE = {"models", "images", "releases", "checks"}
#: Libraries that a pure room may use: they read files or texts and touch nothing else.
PURE_LIBRARIES = {"yaml", "onnx", "numpy", "picklescan", "safetensors", "lz4", "google", "h5py", "py7zr"}
SDKS = {"docker", "kubernetes", "azure", "msal", "knack", "requests", "aiohttp", "urllib3"}
NETWORK = {"socket", "http", "urllib", "ssl", "asyncio", "time"}
MAY_IMPORT = {
    "errors": set(),
    "runtime": {"errors", "runtime", "commands"},
    "models": {"errors", *PURE},
    "images": {"errors", *PURE},
    "releases": {"errors", *PURE},
    "checks": {"errors", *PURE},
    "adapters": {"errors", "adapters", *PURE},
    "commands": {"errors", "runtime", "commands", *PURE},
    "wiring": {"errors", "runtime", "adapters", *PURE},
}
#: These parts of network packages touch no network.
HARMLESS = ("urllib.parse", "http.HTTPStatus")

Import = tuple[Path, int, str, bool]


def imports() -> Iterator[Import]:
    """Every import of the package: file, line, full name, whether it happens when the module is loaded."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        lazy = {id(n) for function in functions for n in ast.walk(function)}
        conditions = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
        typing = {id(n) for condition in conditions for n in ast.walk(condition)}
        for node in ast.walk(tree):
            if id(node) in typing:
                continue
            if isinstance(node, ast.Import):
                yield from ((path, node.lineno, alias.name, id(node) not in lazy) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative import"
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from ((path, node.lineno, name, id(node) not in lazy) for name in names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def place(path: Path, line: int, name: str) -> str:
    return f"{path.relative_to(PACKAGE)}:{line}: {name}"


ALL = list(imports())


def test_there_are_imports_to_check() -> None:
    assert len(ALL) > 50


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_what_they_may(room: str) -> None:
    ours = [one for one in ALL if room_of(one[0]) == room and one[2].startswith("ml_deploy.")]
    allowed = MAY_IMPORT[room] | {"__version__"}
    assert [place(p, line, name) for p, line, name, _ in ours if name.split(".")[1] not in allowed] == []


def test_sdks_are_imported_by_adapters_only() -> None:
    sdks = [one for one in ALL if one[2].split(".")[0] in SDKS]
    assert [place(p, line, name) for p, line, name, _ in sdks if room_of(p) != "adapters"] == []


def test_sdks_are_imported_lazily() -> None:
    sdks = [one for one in ALL if one[2].split(".")[0] in SDKS]
    assert [place(p, line, name) for p, line, name, now in sdks if now] == []


def test_pure_rooms_touch_no_network_no_clock_and_only_known_libraries() -> None:
    wrong = []
    for path, line, name, _ in ALL:
        first = name.split(".")[0]
        if room_of(path) not in PURE or first == "ml_deploy" or name.startswith(HARMLESS):
            continue
        if first in NETWORK or (first not in sys.stdlib_module_names and first not in PURE_LIBRARIES):
            wrong.append(place(path, line, name))
    assert wrong == []


def test_commands_do_not_read_the_environment_print_or_exit() -> None:
    wrong = []
    for path in sorted((PACKAGE / "commands").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Call)) else ""
            if text.startswith(("os.environ", "print(", "sys.exit(", "os.getenv(")):
                wrong.append(f"{path.name}: {text[:60]}")
    assert wrong == []
