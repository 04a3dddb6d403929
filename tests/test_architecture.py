"""How the code is laid out: imports point one way, and some things happen in one place only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tap_circleci
from tap_circleci.streams import STREAMS

PACKAGE = Path(tap_circleci.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in PACKAGE.rglob("*.py")
}
READING = [name for name in MODULES if name.startswith("reading.")]
SYNC = [name for name in MODULES if name.startswith("sync.")]


def imports(module: str) -> set[str]:
    """The modules that a module imports, ours without the package's name."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "tap_circleci":
            found |= {alias.name if alias.name in MODULES else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.removeprefix("tap_circleci."))
    return found


@pytest.mark.parametrize(
    ("library", "users"),
    [
        ("requests", {"http.transport"}),
        ("urllib3.connection", {"http.transport"}),
        ("threading", {"client", "http.rate_limit", "http.traffic", "http.transport", "reading.pipelines", "workers"}),
        ("signal", {"__init__", "cli"}),
    ],
)
def test_some_libraries_are_used_in_one_place(library, users):
    """HTTP, threads and signals are each used in the listed modules only."""
    assert {module for module in MODULES if library in imports(module)} == users


def test_standard_output_has_one_writer():
    """Only messages writes to stdout; terminal merely asks whether it is a terminal."""
    users = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "write_message")
    }
    assert users == {"output.messages", "output.terminal"}


def test_no_code_compares_with_the_name_of_a_stream():
    """No module that sends rows compares a value with a stream's name."""
    for module in (
        "exports.orders",
        "output.messages",
        "reading.organizations",
        "reading.paging",
        "reading.pipelines",
        *SYNC,
    ):
        for node in ast.walk(MODULES[module]):
            if isinstance(node, ast.Compare):
                compared = {item.value for item in node.comparators if isinstance(item, ast.Constant)}
                assert not compared & set(STREAMS), (module, node.lineno)


def test_what_is_public_says_what_it_gives():
    """Modules, public classes and their public methods have docstrings, and so have functions."""

    def look(module: str, node: ast.Module | ast.ClassDef) -> None:
        assert ast.get_docstring(node), module
        for inner in node.body:
            if isinstance(inner, ast.ClassDef) and not inner.name.startswith("_"):
                look(module, inner)
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                assert ast.get_docstring(inner), (module, inner.name)

    for module, tree in MODULES.items():
        look(module, tree)
