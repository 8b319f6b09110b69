"""What README and docs name is there: files, modules and what is imported from them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "stores|pipeline|jobs|tests|docs|examples"


def names_of(page: Path, pattern: str) -> list[str]:
    return re.findall(pattern, page.read_text())


def is_there(dotted: str) -> bool:
    """Say whether a dotted name is a module, or something in one."""
    module, _, name = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        return bool(module) and hasattr(importlib.import_module(module), name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    paths = names_of(page, rf"(?<![\w./-])((?:{FOLDERS})/[\w./*-]*\.(?:py|yaml|sh|md))\b")
    paths += names_of(page, rf"`((?:{FOLDERS})/[\w/]*)`")
    assert not [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert not names_of(page, r"`(test_\w+\.py)`"), "a test is named by its whole path"
    links = names_of(page, r"\]\((?!https?:)([^)#\s]+)")
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_exist(page):
    assert not [name for name in names_of(page, r"\blogitbank(?:\.\w+)+") if not is_there(name)]
    for module, names in names_of(page, r"from (logitbank[\w.]*) import (\w[\w, ]*)"):
        found = importlib.import_module(module)
        assert not [name for name in names.split(", ") if not hasattr(found, name.strip())]
