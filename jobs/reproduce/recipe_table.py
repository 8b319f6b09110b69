"""Tables of recipes: a row per pair of networks, a column per loss, and cells for exceptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from logitbank.jobs.reproduce.recipe import Recipe
from logitbank.pipeline.bounds import Expected, check_fields
from logitbank.stores.errors import UsageError, unknown_name

COLUMNS = "columns"
"""The key that makes a file a table rather than one recipe."""

Keys = dict[str, Any]
"""Keys of a recipe and their values."""

Figure = Annotated[
    float | Literal[False] | None,
    Expected("a percentage, ~ where none is known, or `no` where there is no recipe"),
]

_RECIPE_KEYS = tuple(each.name for each in dataclasses.fields(Recipe))
_SETTINGS = "loss_settings"


@dataclass(frozen=True)
class RecipeTable:
    """The recipes of one dataset.

    `columns` are losses; figures of corrected logits have a column `LOSS/CORRECTION`, and `sources`
    gives their names in the literature. `pairs` holds for each `TEACHER-STUDENT` the published
    top-1, one per column: None if it is not known, False if there is no recipe; None in place of a
    row means that all are unknown. `models` is the kind of the networks, such as `cifar`. Without
    pairs, `shared` names both networks.

    A recipe takes each key from the first of these that sets it: `cells` by pair and loss, its
    student, its teacher, its loss, `shared`. `loss_settings` are merged from all of them, and
    settings that none of them has are as published for the pair.

    Raises:
        UsageError: a name appears nowhere else in the table, a key of a recipe is unknown, or a row
            doesn't fit the columns.
    """

    dataset: str
    columns: tuple[str, ...]
    models: str = ""
    shared: Keys = field(default_factory=dict)
    losses: dict[str, Keys] = field(default_factory=dict)
    teachers: dict[str, Keys] = field(default_factory=dict)
    students: dict[str, Keys] = field(default_factory=dict)
    pairs: dict[str, tuple[Figure, ...] | None] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, Keys]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        losses = [column for column in self.columns if "/" not in column]
        for column in self.columns:
            _require_name(COLUMNS, "column", column.partition("/")[0], losses)
        if len({*self.columns}) != len(self.columns):
            raise UsageError(f"{COLUMNS}: names must be unique, not {', '.join(self.columns)}")
        for pair, row in self.pairs.items():
            self._require_row(pair, row)
        networks = [_networks(pair) for pair in self.pairs]
        _require_keys("shared", self.shared)
        _require_section("losses", "column", self.losses, losses)
        _require_section("teachers", "teacher", self.teachers, [each for each, _ in networks])
        _require_section("students", "student", self.students, [each for _, each in networks])
        for name in self.sources:
            _require_name("sources", "column", name, self.columns)
        for pair, cells in self.cells.items():
            _require_name("cells", "pair", pair, self.pairs)
            _require_section(f"cells: {pair}", "column", cells, losses)

    def recipes(self) -> dict[str, tuple[str, Keys]]:
        """Return the place in the table and the keys of each recipe, by its name.

        A name is `TEACHER-STUDENT/LOSS`, or `LOSS` in a table without pairs, with `-` in place of
        `+`.
        """
        found = {}
        for pair in self.pairs or ("",):
            for loss, figure in self._figures(pair).items():
                if "/" not in loss and figure is not False:
                    path = [pair, loss] if pair else [loss]
                    name = "/".join(path).replace("+", "-")
                    found[name] = ", ".join(path), self._keys(pair, loss)
        return found

    def _keys(self, pair: str, loss: str) -> Keys:
        """Merge the keys that the sections set for a recipe."""
        found: Keys = {"dataset": self.dataset, "loss": loss, **self._published(pair, loss)}
        sections = [self.shared, self.losses.get(loss, {})]
        if pair:
            teacher, student = _networks(pair)
            found["teacher"] = f"{self.models}:{teacher}"
            found["student"] = f"{self.models}:{student}"
            sections += [self.teachers.get(teacher, {}), self.students.get(student, {})]
        sections.append(self.cells.get(pair, {}).get(loss, {}))
        for section in sections:
            settings = {**found.get(_SETTINGS, {}), **section.get(_SETTINGS, {})}
            found |= {**section, _SETTINGS: settings}
        return found

    def _published(self, pair: str, loss: str) -> Keys:
        """Return the published figures as a recipe holds them."""
        figures = self._figures(pair)
        corrected = {
            column.partition("/")[2]: {"top1": figure, "source": self.sources.get(column, "")}
            for column, figure in figures.items()
            if column.startswith(f"{loss}/") and figure
        }
        return {"published": figures[loss], "published_corrected": corrected}

    def _figures(self, pair: str) -> dict[str, float | None]:
        row = self.pairs.get(pair)
        return dict(zip(self.columns, row or (None,) * len(self.columns), strict=True))

    def _require_row(self, pair: str, row: tuple[object, ...] | None) -> None:
        if not all(_networks(pair)):
            raise UsageError(f"pairs: {pair!r} is not TEACHER-STUDENT")
        if not self.models:
            raise UsageError("pairs: `models` must name the kind of the networks, such as cifar")
        if row is not None and len(row) != len(self.columns):
            raise UsageError(
                f"pairs: {pair} has {len(row)} figures for {len(self.columns)} columns: write ~ "
                "for an unknown figure, `no` for no recipe"
            )


def _networks(pair: str) -> tuple[str, str]:
    """Split a pair into the networks of teacher and student."""
    teacher, _, student = pair.partition("-")
    return teacher, student


def _require_section(
    section: str, kind: str, found: Mapping[str, Keys], known: Iterable[str]
) -> None:
    names = sorted({*known})
    for name, keys in found.items():
        _require_name(section, kind, name, names)
        _require_keys(f"{section}: {name}", keys)


def _require_keys(place: str, keys: Keys) -> None:
    for name in keys:
        _require_name(place, "key of a recipe", name, _RECIPE_KEYS)
    if not isinstance(keys.get(_SETTINGS, {}), Mapping):
        raise UsageError(f"{place}: {_SETTINGS} must be a mapping, not {keys[_SETTINGS]!r}")


def _require_name(place: str, kind: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        raise UsageError(f"{place}: {unknown_name(kind, name, names)}")
