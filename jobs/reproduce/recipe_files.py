"""Files of recipes: how they are found by name, and read; a file holds one recipe, or a table."""

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
"""What recipes of a folder share; no recipe itself."""

_EXTENDS = "extends"
_SUFFIX = ".yaml"


@dataclass(frozen=True)
class RecipeEntry:
    """What a file says of one recipe, not checked yet; `place` is where in a table it says so."""

    file: Path
    place: str
    keys: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """Check the keys, and return the recipe.

        Raises:
            UsageError: an unknown key (the nearest is suggested), one that is missing, or a value
                that can't be meant; the message begins with the file and the place.
        """
        try:
            return from_mapping(Recipe, self.keys, "key of a recipe")
        except UsageError as error:
            where = ": ".join(filter(None, (str(self.file), self.place)))
            raise UsageError(f"{where}: {error}") from error


def find_recipes(name: str) -> dict[str, RecipeEntry]:
    """Find recipes by what a user calls them.

    Args:
        name: first looked for among those that come with logitbank, a dataset, a pair or one
            recipe of it, such as `cifar100/resnet32x4-resnet8x4/kd`, where `.yaml` may follow;
            else a file, or a folder for all files below it. A path that begins with `.` or `/` is
            never looked for among logitbank's own, unless it is the path of their file.

    Returns:
        The recipes by name: DATASET/PAIR/LOSS of logitbank's own, else the file's path in the
        folder that was named, or its own name; in a table followed by the recipe's name there.

    Raises:
        UsageError: there is no such file or folder, no recipe in it, or a file that is not YAML.
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
            raise UsageError(f"{path} holds no recipe (NAME{_SUFFIX})")
        names = (file.relative_to(path).with_suffix("").as_posix() for file in files)
        return dict(sorted(merge_recipes(map(read_recipes, files, names)).items()))
    raise unknown_name("recipe", name, recipe_names(near=name))


def merge_recipes(found: Iterable[Mapping[str, RecipeEntry]]) -> dict[str, RecipeEntry]:
    """Put recipes of several files together.

    Raises:
        UsageError: two files have a recipe of one name.
    """
    entries: dict[str, RecipeEntry] = {}
    for name, entry in (item for each in found for item in each.items()):
        known = entries.setdefault(name, entry).file
        if known.resolve() != entry.file.resolve():
            raise UsageError(f"{known} and {entry.file} are both called {name}: rename one of them")
    return entries


def recipe_names(near: str = "") -> list[str]:
    """List what comes with logitbank: the pairs, each of several losses.

    Args:
        near: what a user asked for; if that names a pair, the recipes of it are listed.
    """
    names = [name for file in sorted(RECIPES.glob(f"*{_SUFFIX}")) for name in _names_in(file)]
    pairs = sorted({_pair(name) for name in names})
    return [name for name in names if _pair(name) == _pair(near)] or pairs


def read_recipes(path: Path, name: str) -> dict[str, RecipeEntry]:
    """Read a file: one recipe, whose name is given, or a table of recipes, named below it.

    In a file of one, `extends: FILE` or `extends: NAME` puts it on top of another, which lies
    beside it or comes with logitbank.

    Raises:
        UsageError: it can't be read, or its table is not well formed; the message begins with the
            path.
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
    """Find what comes with logitbank by name; nothing if there is no such recipe."""
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
    """Read a file's keys, with those of the recipe that it extends beneath them."""
    if path.resolve() in above:
        raise UsageError(f"{path}: extends itself, by way of {above[-1]}")
    own = read_mapping(path, title=str(path), names="the keys of a recipe")
    base = own.pop(_EXTENDS, None)
    if COLUMNS in own and (above or base is not None):
        asked = above[-1] if above else path
        raise UsageError(
            f"{asked}: {_EXTENDS}: {path} is a table, and only a single recipe extends another"
        )
    if base is None:
        return own
    if not isinstance(base, str):
        raise UsageError(f"{path}: {_EXTENDS}: {base!r} is not the path of a file")
    # A home folder is a whole path, which the recipe's own folder is no part of.
    file = path.parent / os.path.expanduser(base)
    shipped = {} if file.exists() else _built_in(base)
    if base in shipped:
        return {**shipped[base].keys, **own}
    return _read(file, (*above, path.resolve())) | own
