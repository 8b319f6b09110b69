"""Recipes: how one student is taught by one teacher, as YAML that is checked before any work."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from logitbank.jobs.yaml_mapping import read_mapping
from logitbank.pipeline.losses import DatasetKind, Loss, published_loss
from logitbank.pipeline.models.cifar import CIFAR_NETWORKS
from logitbank.pipeline.models.loading import ModelSpec
from logitbank.pipeline.student.config import LossSetting
from logitbank.pipeline.student.schedule import scaled_milestones
from logitbank.pipeline.views import Mixed, parse_augmentation
from logitbank.stores.corrections.registry import correction_named
from logitbank.stores.errors import UsageError, unknown_name

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
"""The recipes that come with logitbank."""

BASE = "base.yaml"
"""What recipes of a folder share; no recipe itself."""

UNCORRECTED = "none"
_EXTENDS, _TEACHER_TRAINING = "extends", "teacher_training"
_KINDS = {"imagenet": DatasetKind.IMAGENET}
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class TeacherTraining:
    """How a teacher is trained from labels where none is given; `limit` None takes all of them.

    `apart` keeps the images of teacher and students apart: the teacher learns from the last `limit`
    ones, the students from those before, so that it errs on them as it would on new images.

    Raises:
        UsageError: a value that can't be meant.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    epochs: int
    batch_size: int
    lr: float
    limit: int | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        if self.apart and self.limit is None:
            raise UsageError("teacher_training: apart needs a limit, or no image is left")
        _require(self, ("epochs", "batch_size", "lr", "limit"), "above 0", lambda value: value > 0)


@dataclass(frozen=True)
class Recipe:
    """One teacher, one student, one method, with the settings that it was published with.

    `dataset` is the one that settings and `published` are of; `weak` and `strong` are the
    augmentations, `strong` for a loss that learns from two views alone; `views` V is how many of
    each are cached. `milestones` are the published epochs after which the rate drops tenfold.
    `corrections` of the teacher's logits are tried one by one; `none` takes them as they are.
    `published` is the top-1 of the best epoch, in percent, with the logits as the method has them,
    None where none is known here. `teacher` may name weights, `teacher_training` how it is trained.

    Raises:
        UsageError: a value that can't be meant.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    dataset: str
    teacher: str
    student: str
    loss: str
    weak: str
    views: int
    epochs: int
    batch_size: int
    lr: float
    milestones: tuple[int, ...]
    weight_decay: float
    momentum: float = 0.9
    strong: str | None = None
    corrections: tuple[str, ...] = (UNCORRECTED, "sort", "swap")
    loss_settings: dict[str, LossSetting] = field(default_factory=dict)
    published: float | None = None
    teacher_training: TeacherTraining | None = None

    def __post_init__(self) -> None:
        for names, expected, holds in _BOUNDS:
            _require(self, names, expected, holds)
        if list(self.milestones) != sorted({*self.milestones}) or not all(
            0 < drop < self.epochs for drop in self.milestones
        ):
            raise UsageError(
                f"milestones are epochs in order, above 0 and below {self.epochs}, not "
                f"{list(self.milestones)}"
            )
        _require_models(self.teacher, self.student)
        _require_corrections(self.corrections)
        needs_strong = self.method(self.epochs).views == 2
        if needs_strong != (self.strong is not None):
            learned = "a weak and a strong view: name" if needs_strong else "one view: leave out"
            raise UsageError(f"{self.loss} learns from {learned} `strong`")
        if not self.needs_soft_labels and self.corrections != (UNCORRECTED,):
            raise UsageError(
                f"{self.loss} learns from labels alone, there are no logits to correct: "
                f"corrections: [{UNCORRECTED}]"
            )
        for augmentation in filter(None, (self.weak, self.strong)):
            # Partners of mixed views are drawn from as many samples as a run has.
            if isinstance(parse_augmentation(augmentation, samples=1), Mixed):
                self._require_mixable(augmentation)

    @property
    def own_correction(self) -> str:
        """The correction of the logits that is the method's own, which figures are published of."""
        return self.method(self.epochs).own_correction or UNCORRECTED

    @property
    def tabled_corrections(self) -> tuple[str, ...]:
        """The corrections to make rows of, each once: `none` of raw logits is the method's own."""
        own = self.own_correction
        return tuple(
            dict.fromkeys(own if each == UNCORRECTED else each for each in self.corrections)
        )

    @property
    def needs_soft_labels(self) -> bool:
        """Whether the student learns from a teacher; `ce`, to compare with, takes its views."""
        return self.method(self.epochs).needs_teacher

    def _require_mixable(self, augmentation: str) -> None:
        """Refuse mixed views where something needs one label, or the two views of one image."""
        method = self.method(self.epochs)
        if method.views == 2:
            raise UsageError(
                f"{self.loss} learns from two views of each image, and {augmentation} would mix "
                "them with different others"
            )
        method.require_one_label()
        if self.corrections != (UNCORRECTED,):
            raise UsageError(
                f"{augmentation} makes views of two labels, and a correction puts one first: say "
                f"`corrections: [{UNCORRECTED}]`"
            )

    def method(self, epochs: int) -> Loss:
        """Give the method and its settings for a run of this many epochs.

        The settings that the recipe leaves out are those published for such a dataset and pair.
        What counts epochs, the warm-up and γ, takes the same share of them as of the recipe's own.

        Raises:
            UsageError: an unknown loss or setting, or a value that it can't have.
        """
        drops = (*self.milestones, self.epochs)
        method = published_loss(
            self.loss,
            _KINDS.get(self.dataset, DatasetKind.CIFAR),
            teacher=self.teacher,
            student=self.student,
            first_drop=drops[0],
        ).with_settings(**self.loss_settings)
        method = method.scaled(epochs, self.epochs)
        gamma = dataclasses.asdict(method).get("gamma")
        if gamma is None:
            return method
        return method.with_settings(gamma=scaled_milestones((gamma, self.epochs), epochs)[0])


_ADAPTER = TypeAdapter(Recipe)
_BOUNDS: tuple[tuple[tuple[str, ...], str, Callable[[float], bool]], ...] = (
    (("epochs", "batch_size", "views", "lr"), "above 0", lambda value: value > 0),
    (("weight_decay",), "0 or more", lambda value: value >= 0),
    (("momentum",), "from 0 to below 1", lambda value: 0 <= value < 1),
    (("published",), "a percentage above 0, at most 100", lambda value: 0 < value <= 100),
)


def find_recipes(name: str) -> dict[str, Path]:
    """Find recipes by what a user calls them.

    Args:
        name: a file; a folder, for all that lie below it; or, first looked at, either's path in
            `RECIPES`, where `.yaml` may be left out, such as `cifar100/resnet32x4-resnet8x4/kd`. A
            path that begins with `.` or `/` is never looked for there.

    Returns:
        The files by the recipes' names: the path in `RECIPES`, else the path in the folder that
        was named, or a file's own name.

    Raises:
        UsageError: there is no such file or folder, or no recipe in it.
    """
    shipped = () if name.startswith((".", "/")) else (RECIPES / name, RECIPES / f"{name}.yaml")
    for place in (*shipped, Path(name)):
        if place.is_file():
            return {recipe_name(place): place}
        if place.is_dir():
            found = [path for path in place.rglob("*.yaml") if path.name != BASE]
            if not found:
                raise UsageError(f"{place} holds no recipe (NAME.yaml)")
            return dict(sorted((recipe_name(path, place), path) for path in found))
    raise unknown_name("recipe", name, recipe_names(near=name))


def recipe_names(near: str = "") -> list[str]:
    """List what `RECIPES` holds: the pairs, each a folder of methods.

    Args:
        near: what a user asked for; if that names a pair, the methods of it are listed.
    """
    recipes = [path.relative_to(RECIPES) for path in sorted(RECIPES.rglob("*/*.yaml"))]
    pairs = sorted({str(path.parent) for path in recipes if path.name != BASE})
    of_pair, _, _ = near.rpartition("/")
    if of_pair not in pairs:
        return pairs
    return [
        path.with_suffix("").as_posix()
        for path in recipes
        if str(path.parent) == of_pair and path.name != BASE
    ]


def recipe_name(path: Path, folder: Path | None = None) -> str:
    """Name a recipe: by its path in `RECIPES`, one from elsewhere by that in its folder."""
    resolved = path.resolve()
    if resolved.is_relative_to(RECIPES):
        return resolved.relative_to(RECIPES).with_suffix("").as_posix()
    return path.relative_to(folder or path.parent).with_suffix("").as_posix()


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; `extends: FILE` puts it on top of another, beside it.

    Raises:
        UsageError: it can't be read, has an unknown key (the nearest is suggested), lacks one, or
            holds a value that can't be meant; the message begins with the path.
    """
    settings = _read(path, ())
    known = {each.name for each in dataclasses.fields(Recipe)}
    _require_known(path, "key of a recipe", settings, known)
    training = settings.get(_TEACHER_TRAINING)
    if isinstance(training, Mapping):
        names = {each.name for each in dataclasses.fields(TeacherTraining)}
        _require_known(path, f"key of {_TEACHER_TRAINING}", training, names)
    try:
        return _ADAPTER.validate_python(dict(settings))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']}") from error


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file's settings, with those of the file that it extends beneath them."""
    if path.resolve() in above:
        raise UsageError(f"{path}: extends itself, by way of {above[-1]}")
    own = read_mapping(path, title=str(path), names="the keys of a recipe")
    base = own.pop(_EXTENDS, None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise UsageError(f"{path}: {_EXTENDS}: {base!r} is not the path of a file")
    # A home folder is a whole path, which the recipe's own folder is no part of.
    return _read(path.parent / os.path.expanduser(base), (*above, path.resolve())) | own


def _require_known(path: Path, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = set(known)
    for name in given:
        if name not in names:
            raise UsageError(f"{path}: {unknown_name(kind, str(name), names)}")


def _require_models(teacher: str, student: str) -> None:
    """Require models that there are, as far as that is known without building them."""
    for spec in map(ModelSpec.parse, (teacher, student)):
        if spec.kind == "cifar" and spec.name not in CIFAR_NETWORKS:
            raise unknown_name("CIFAR network", spec.name, CIFAR_NETWORKS)
    if "@" in student:
        raise UsageError(f"student {student} has weights already: name the network alone")


def _require_corrections(corrections: tuple[str, ...]) -> None:
    if not corrections or len({*corrections}) != len(corrections):
        raise UsageError(f"corrections must be one or more, each once, not {list(corrections)}")
    for name in corrections:
        if name != UNCORRECTED:
            correction_named(name)


def _require(
    settings: object, names: tuple[str, ...], expected: str, holds: Callable[[float], bool]
) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not holds(value):
            raise UsageError(f"{name} must be {expected}, not {value}")
