"""Finding recipes by name, and reading their files: one recipe each, or a table of recipes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from logitbank.jobs.command_line.yaml_mapping import read_mapping
from logitbank.jobs.reproduce.recipe import Recipe
from logitbank.jobs.reproduce.recipe_table import COLUMNS, RecipeTable
from logitbank.pipeline.bounds import from_mapping
from logitbank.stores.errors import UsageError, unknown_name

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
"""The tables of recipes that come with logitbank, one a dataset."""

BASE = "base.yaml"
"""The name of a file that recipes of a folder may extend; not a recipe itself."""

_EXTENDS = "extends"
_SUFFIX = ".yaml"


@dataclass(frozen=True)
class RecipeEntry:
    """The unchecked keys of a recipe and the file they are from, with the place in a table."""

    file: Path
    place: str
    keys: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """Check the keys, and return the recipe.

        Raises:
            UsageError: a key is unknown (the nearest is suggested) or missing, or a value is
                invalid; the message begins with the file and the place.
        """
        try:
            return from_mapping(Recipe, self.keys, "key of a recipe")
        except UsageError as error:
            where = ": ".join(filter(None, (str(self.file), self.place)))
            raise UsageError(f"{where}: {error}") from error


def find_recipes(name: str) -> dict[str, RecipeEntry]:
    """Find recipes by the name or path that a user gave.

    Args:
        name: a built-in dataset, pair or recipe, such as `cifar100/resnet32x4-resnet8x4/kd`, with
            or without `.yaml`; otherwise a file, or a folder with all files below it. A path that
            begins with `.` or `/` is never taken for a built-in name.

    Returns:
        The recipes by name: DATASET/PAIR/LOSS for built-in ones; otherwise the name of the file, or
        its path in the given folder. For a table, the recipe's name in it follows.

    Raises:
        UsageError: the file or folder does not exist, contains no recipe, or is not YAML.
    """
    shipped = {} if name.startswith((".", "/")) else _built_in(name)
    if shipped:
        return shipped
    path = Path(name)
    if path.is_file():
        return read_recipes(path, path.stem)
    if path.is_dir():
        files = sorted(file for file in path.rglob(f"*{_SUFFIX}") if file.name != BASE)
        if not files:
            raise UsageError(f"{path} contains no recipe (NAME{_SUFFIX})")
        names = (file.relative_to(path).with_suffix("").as_posix() for file in files)
        return dict(sorted(merge_recipes(map(read_recipes, files, names)).items()))
    raise unknown_name("recipe", name, recipe_names(near=name))


def merge_recipes(found: Iterable[Mapping[str, RecipeEntry]]) -> dict[str, RecipeEntry]:
    """Merge the recipes of several files.

    Raises:
        UsageError: two files have a recipe of the same name.
    """
    entries: dict[str, RecipeEntry] = {}
    for name, entry in (item for each in found for item in each.items()):
        known = entries.setdefault(name, entry).file
        if known.resolve() != entry.file.resolve():
            raise UsageError(f"{known} and {entry.file} are both called {name}: rename one of them")
    return entries


def recipe_names(near: str = "") -> list[str]:
    """Return the names of built-in pairs.

    Args:
        near: a name that a user asked for; if it is in a built-in pair, the recipes of that pair
            are returned instead.
    """
    names = [name for file in sorted(RECIPES.glob(f"*{_SUFFIX}")) for name in _names_in(file)]
    pairs = sorted({_pair(name) for name in names})
    return [name for name in names if _pair(name) == _pair(near)] or pairs


def read_recipes(path: Path, name: str) -> dict[str, RecipeEntry]:
    """Read a file: one recipe called `name`, or a table of recipes called `name/...`.

    A single recipe can extend another one by `extends: FILE`, relative to its own file, or by
    `extends: NAME` of a built-in recipe.

    Raises:
        UsageError: it can't be read, or its table is malformed; the message begins with the path.
    """
    keys = _read(path, ())
    if COLUMNS not in keys:
        return {name: RecipeEntry(path, "", keys)}
    try:
        recipes = from_mapping(RecipeTable, keys, "key of a table of recipes").recipes()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return {
        f"{name}/{each}": RecipeEntry(path, place, found)
        for each, (place, found) in recipes.items()
    }


def _built_in(name: str) -> dict[str, RecipeEntry]:
    """Return the built-in recipes of a name, none if there are no such recipes."""
    wanted = PurePosixPath(name.removesuffix(_SUFFIX))
    file = RECIPES / f"{wanted.parts[0]}{_SUFFIX}" if wanted.parts else RECIPES
    if not file.is_file():
        return {}
    found = read_recipes(file, file.stem)
    return {
        each: entry for each, entry in found.items() if PurePosixPath(each).is_relative_to(wanted)
    }


def _names_in(file: Path) -> list[str]:
    return list(read_recipes(file, file.stem))


def _pair(name: str) -> str:
    return name.rpartition("/")[0]


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file's keys, completed by those of the recipe that it extends."""
    if path.resolve() in above:
        raise UsageError(f"{path}: extends itself, through {above[-1]}")
    own = read_mapping(path, title=str(path), names="the keys of a recipe")
    base = own.pop(_EXTENDS, None)
    if COLUMNS in own and (above or base is not None):
        asked = above[-1] if above else path
        raise UsageError(
            f"{asked}: {_EXTENDS}: {path} is a table, but only a single recipe can extend another"
        )
    if base is None:
        return own
    if not isinstance(base, str):
        raise UsageError(f"{path}: {_EXTENDS}: {base!r} is not the path of a file")
    # An absolute path, such as an expanded `~`, replaces the recipe's own folder.
    file = path.parent / os.path.expanduser(base)
    shipped = {} if file.exists() else _built_in(base)
    if base in shipped:
        return {**shipped[base].keys, **own}
    return _read(file, (*above, path.resolve())) | own
