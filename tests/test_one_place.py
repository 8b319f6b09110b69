"""What has one place in the source stays there: encodings' names, kinds of files, URLs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from logitbank.stores.encodings import ENCODINGS

ROOT = Path(__file__).resolve().parents[1]
ARRAYS = {array.name for kind in ENCODINGS.values() for array in kind().arrays(10)}
KINDS_OF_FILES = {"Files", "LocalFiles", "MemoryFiles", "ObjectStoreFiles", "LocalPath", "Url"}


def sources(outside: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the parsed source of every module outside a folder."""
    for room in ("stores", "pipeline", "jobs"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(outside):
                yield name, ast.parse(path.read_text())


def strings_of(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, but those that stand alone, as docstrings do."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def require_only(found: dict[str, object], allowed: dict[str, str]) -> None:
    """Require that only the modules listed with a reason, all of them, were found."""
    others = {name: what for name, what in found.items() if not name.startswith(tuple(allowed))}
    assert not others
    assert all(any(name.startswith(each) for name in found) for each in allowed)


def test_no_module_but_its_own_names_an_encoding_or_its_arrays():
    named = {
        name: words
        for name, tree in sources("stores/encodings/")
        if (words := {*ENCODINGS, *ARRAYS}.intersection(strings_of(tree)))
    }
    allowed = {
        "stores/corrections/correction.py": "the dtypes of codes that a correction moves",
        "pipeline/stored_logits.py": "the precision that a teacher computes in",
        "pipeline/teacher/settings.py": "the precision that a teacher computes in",
        "pipeline/teacher/soundness.py": "the precision that a teacher computes in",
        "jobs/bench/correct": "the dtypes that are measured, and a store to measure with",
    }
    require_only(named, allowed)


def test_no_module_asks_for_the_kind_of_files():
    asked = {
        name: ast.unparse(node)
        for name, tree in sources("stores/files/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("isinstance", "issubclass")
        and KINDS_OF_FILES.intersection(
            each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)
        )
    }
    assert not asked


def test_no_module_tells_urls_from_paths():
    found = {
        name: urls
        for name, tree in sources("stores/files/")
        if (urls := [text for text in strings_of(tree) if "://" in text])
    }
    allowed = {
        "jobs/cluster/": "the address of a Dask scheduler",
        "pipeline/models/timm_models.py": "a page on the hub, for an error to name",
    }
    require_only(found, allowed)


@pytest.mark.parametrize("name", sorted(KINDS_OF_FILES))
def test_the_kinds_of_files_are_what_they_are_called(name):
    folder = ROOT / "stores/files"
    assert any(f"class {name}" in path.read_text() for path in folder.glob("*.py"))
