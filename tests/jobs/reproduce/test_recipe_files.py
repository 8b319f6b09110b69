"""Recipes are found by name and read, from logitbank's tables and from files of one's own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from logitbank.jobs.reproduce.recipe import PublishedFigure, Recipe, TeacherTraining
from logitbank.jobs.reproduce.recipe_files import (
    RECIPES,
    find_recipes,
    read_recipes,
    recipe_names,
)
from logitbank.stores.errors import UsageError

WHOLE = {
    "dataset": "cifar100",
    "teacher": "cifar:resnet14",
    "student": "cifar:resnet8",
    "loss": "dkd",
    "weak": "cifar-weak",
    "views": 4,
    "epochs": 240,
    "batch_size": 64,
    "lr": 0.05,
    "milestones": [150, 180, 210],
    "weight_decay": 5e-4,
}


def load_recipe(path: Path) -> Recipe:
    (entry,) = read_recipes(path, "mine").values()
    return entry.recipe()


@pytest.fixture
def recipe_file(tmp_path):
    def write(changes: dict, name: str = "mine") -> Path:
        settings = {key: value for key, value in (WHOLE | changes).items() if value is not None}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


class TestNames:
    def test_by_name(self):
        one = "cifar100/resnet32x4-resnet8x4/dkd"
        assert find_recipes(one) == find_recipes(f"{one}.yaml")
        assert find_recipes(one).keys() == {one}
        whole_pair = find_recipes("cifar100/resnet32x4-resnet8x4")
        assert {name.rpartition("/")[0] for name in whole_pair} == {one.rpartition("/")[0]}
        assert one in whole_pair
        assert find_recipes("cifar100/resnet32x4-resnet8x4/") == whole_pair
        dataset = find_recipes("cifar100")
        assert whole_pair.items() <= dataset.items()
        assert find_recipes(str(RECIPES / "cifar100.yaml")) == dataset
        assert find_recipes(str(RECIPES)).keys() > dataset.keys()
        assert "imagenet/resnet34-resnet18" in recipe_names()

    def test_a_pair_is_not_known_by_the_beginning_of_its_name(self):
        with pytest.raises(UsageError, match="unknown recipe 'cifar100/resnet32x4-resnet8'"):
            find_recipes("cifar100/resnet32x4-resnet8")

    def test_a_folder_of_data_does_not_hide_recipes(self, tmp_path, monkeypatch):
        usual = find_recipes("cifar100")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cifar100").mkdir()
        assert find_recipes("cifar100") == usual
        with pytest.raises(UsageError, match="cifar100 contains no recipe"):
            find_recipes("./cifar100")

    def test_your_own_is_named_by_its_file(self, tmp_path, recipe_file):
        path = recipe_file({})
        for found in (find_recipes(str(path)), find_recipes(str(tmp_path))):
            assert {name: entry.file for name, entry in found.items()} == {"mine": path}

    def test_your_own_folder_names_recipes_by_their_place_in_it(self, tmp_path, recipe_file):
        for pair_ in ("a", "b"):
            (tmp_path / "own" / pair_).mkdir(parents=True)
            recipe_file({}, f"own/{pair_}/kd")
        recipe_file({}, "own/a/base")
        found = find_recipes(str(tmp_path / "own"))
        assert {name: entry.file for name, entry in found.items()} == {
            "a/kd": tmp_path / "own" / "a" / "kd.yaml",
            "b/kd": tmp_path / "own" / "b" / "kd.yaml",
        }

    def test_a_table_and_a_file_that_name_one_recipe_are_refused(self, tmp_path, recipe_file):
        (tmp_path / "own" / "mine").mkdir(parents=True)
        recipe_file({}, "own/mine/kd")
        table = {"dataset": "cifar100", "columns": ["kd"]}
        (tmp_path / "own" / "mine.yaml").write_text(yaml.safe_dump(table))
        with pytest.raises(UsageError, match="are both called mine/kd: rename one of them"):
            find_recipes(str(tmp_path / "own"))

    def test_a_mistyped_loss_is_told_those_of_its_pair(self):
        with pytest.raises(UsageError, match="did you mean 'cifar100/vgg13-vgg8/dkd'"):
            find_recipes("cifar100/vgg13-vgg8/dkdd")

    def test_no_such_recipe(self):
        with pytest.raises(UsageError, match="did you mean 'cifar100/resnet56-resnet20'"):
            find_recipes("cifar100/resnet56-resnet21")


class TestReading:
    def test_what_is_left_out_is_as_published(self, recipe_file):
        recipe = load_recipe(
            recipe_file({"student": "cifar:resnet20", "teacher": "cifar:resnet56"})
        )
        assert recipe.corrections == ("none", "sort", "swap")
        assert (recipe.published, recipe.strong, recipe.teacher_training) == (None, None, None)
        assert recipe.loss_of_run(240).beta == 2

    def test_a_base_lies_beneath(self, recipe_file, tmp_path):
        recipe_file({"teacher_training": {"epochs": 3, "batch_size": 8, "lr": 0.1}}, "under")
        path = tmp_path / "over.yaml"
        path.write_text("extends: under.yaml\nloss: kd\nepochs: 300\n")
        recipe = load_recipe(path)
        assert (recipe.loss, recipe.epochs, recipe.views) == ("kd", 300, 4)
        assert recipe.teacher_training == TeacherTraining(3, 8, 0.1)

    @pytest.mark.parametrize(
        ("loss", "name", "by_epochs"),
        [
            ("dkd", "warmup", {240: 20, 120: 10, 12: 1, 1: 1, 25: 3}),
            ("ctkd", "loops", {240: 10, 120: 5, 2: 1, 25: 2}),
            ("sld", "gamma", {240: 150, 24: 15, 10: 7, 2: 2}),
        ],
    )
    def test_what_counts_epochs_scales_with_them(self, recipe_file, loss, name, by_epochs):
        strong = "cifar-strong" if loss == "sld" else None
        recipe = load_recipe(recipe_file({"loss": loss, "strong": strong}))
        found = {
            epochs: dataclasses.asdict(recipe.loss_of_run(epochs))[name] for epochs in by_epochs
        }
        assert found == by_epochs

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"weigth_decay": 0.1}, "unknown key of a recipe 'weigth_decay': did you mean 'weight"),
            ({"loss": "dkb"}, "unknown loss 'dkb': did you mean 'dkd'"),
            ({"loss_settings": {"bta": 8}}, "unknown setting of dkd 'bta': did you mean 'beta'"),
            ({"loss_settings": {"beta": -1}}, "beta must be finite and 0 or more, not -1"),
            ({"student": "cifar:resnet9"}, "unknown CIFAR network 'resnet9': did you mean"),
            ({"student": "resnet8"}, "a model is KIND:NAME"),
            ({"student": "cifar:resnet8@a.pt"}, "has weights already"),
            ({"weak": "cifar-week"}, "unknown augmentation 'cifar-week': did you mean"),
            ({"corrections": ["sorted"]}, "unknown correction 'sorted': did you mean 'sort'"),
            ({"corrections": ["sort", "sort"]}, "corrections must be one or more, each once"),
            ({"corrections": []}, "corrections must be one or more"),
            ({"weak": "cifar-weak+mixup"}, "dkd needs one label for each image"),
            ({"weak": "cifar-weak+mixup", "loss": "kd", "loss_settings": {}},
             "a correction puts one first: set `corrections: [none]`"),
            ({"strong": "cifar-strong+cutmix", "loss": "mlkd", "loss_settings": {}},
             "but cifar-strong+cutmix mixes each with a different image"),
            ({"lr": None}, "lr is missing"),
            ({"lr": None, "views": None, "loss": None}, "loss, views and lr are missing"),
            ({"lr": "fast"}, "lr must be a number, not 'fast'"),
            ({"dataset": "cifar1000"}, "unknown dataset 'cifar1000': did you mean 'cifar100'"),
            ({"lr": 0}, "lr must be above 0, not 0"),
            ({"published": 0.7, "views": 0}, "views must be 1 or more, not 0"),
            ({"published": 733}, "published must be a percentage above 0, at most 100"),
            ({"published_corrected": {"sorted": {"top1": 70}}}, "unknown correction 'sorted': did"),
            ({"published_corrected": {"none": {"top1": 70}}},
             "published_corrected: none is the correction that dkd itself uses: write its figure"),
            ({"published_corrected": {"sort": {"top1": 700}}},
             "published_corrected.sort.top1 must be a percentage above 0, at most 100, not 700"),
            ({"milestones": [180, 150]}, "milestones are epochs in order"),
            ({"milestones": [150, 240]}, "milestones are epochs in order, above 0 and below 240"),
            ({"loss": "mlkd"}, "mlkd learns from a weak and a strong view: set `strong`"),
            ({"strong": "cifar-strong"}, "dkd learns from one view: leave out `strong`"),
            ({"loss": "ce"}, "ce learns from labels alone, so that there are no logits to correct"),
            (
                {"teacher_training": {"epochs": 1, "batch_size": 1, "lr": 1, "apart": True}},
                "teacher_training: apart needs a limit",
            ),
            ({"teacher_training": {"epoch": 1}}, "unknown setting of teacher_training 'epoch'"),
            ({"teacher_training": {"epochs": 1}},
             "teacher_training: batch_size and lr are missing"),
        ],
    )  # fmt: skip
    def test_a_wrong_recipe_is_one_line_that_names_it(self, recipe_file, changes, message):
        path = recipe_file(changes)
        with pytest.raises(UsageError) as error:
            load_recipe(path)
        assert str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- a\n- b\n", "must map the keys of a recipe to values"),
            ("a: [1\n", "mine.yaml is no"),
            ("extends: mine.yaml\n", "extends itself"),
            (f"extends: {RECIPES}/digits.yaml\n", "digits.yaml is a table, but only a single"),
            ("extends: digits/kd\ncolumns: [kd]\n", "mine.yaml is a table, but only a single"),
            ("extends: other.yaml\n", "other.yaml can't be read: No such file"),
        ],
    )
    def test_no_recipe_at_all(self, tmp_path, text, message):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            load_recipe(path)

    def test_one_that_comes_with_logitbank_lies_beneath(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("extends: cifar100/vgg13-vgg8/dkd\nepochs: 300\n")
        shipped = find_recipes("cifar100/vgg13-vgg8/dkd")["cifar100/vgg13-vgg8/dkd"].recipe()
        assert load_recipe(path) == dataclasses.replace(shipped, epochs=300)


TABLE = {
    "dataset": "cifar100",
    "models": "cifar",
    "shared": {
        key: value
        for key, value in WHOLE.items()
        if key not in ("dataset", "teacher", "student", "loss")
    },
    "losses": {"dkd": {"lr": 0.02, "loss_settings": {"warmup": 5, "alpha": 2}}},
    "teachers": {"resnet14": {"teacher": "cifar:resnet14@a.pt"}},
    "students": {"resnet8": {"lr": 0.03, "epochs": 300}},
    "columns": ["kd", "kd/swap", "dkd", "dkd+ls"],
    "sources": {"kd/swap": "LA"},
    "pairs": {"resnet14-resnet8": [70.5, 71, None, False], "resnet20-resnet14": None},
    "cells": {"resnet14-resnet8": {"dkd": {"epochs": 400, "loss_settings": {"alpha": 3}}}},
}


@pytest.fixture
def table_file(tmp_path):
    def write(changes: dict) -> Path:
        keys = {key: value for key, value in (TABLE | changes).items() if value is not None}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(keys, sort_keys=False))
        return path

    return write


class TestTable:
    @pytest.fixture
    def recipes(self, table_file) -> dict[str, Recipe]:
        found = find_recipes(str(table_file({})))
        return {name.removeprefix("mine/"): entry.recipe() for name, entry in found.items()}

    def test_a_row_a_pair_and_a_column_a_loss(self, recipes):
        assert list(recipes) == [
            "resnet14-resnet8/kd",
            "resnet14-resnet8/dkd",
            "resnet20-resnet14/kd",
            "resnet20-resnet14/dkd",
            "resnet20-resnet14/dkd-ls",
        ]
        recipe = recipes["resnet20-resnet14/dkd-ls"]
        assert (recipe.teacher, recipe.student) == ("cifar:resnet20", "cifar:resnet14")
        assert (recipe.loss, recipe.dataset) == ("dkd+ls", "cifar100")

    def test_published_figures_are_those_of_the_column(self, recipes):
        recipe = recipes["resnet14-resnet8/kd"]
        assert recipe.published == 70.5
        assert recipe.published_corrected == {"swap": PublishedFigure(71, "LA")}
        for name in recipes.keys() - {"resnet14-resnet8/kd"}:
            assert (recipes[name].published, recipes[name].published_corrected) == (None, {})

    def test_the_cell_goes_before_networks_loss_and_what_is_shared(self, recipes):
        def found(name: str) -> tuple[float, int, int]:
            return recipes[name].lr, recipes[name].epochs, recipes[name].batch_size

        assert found("resnet14-resnet8/dkd") == (0.03, 400, 64)
        assert found("resnet14-resnet8/kd") == (0.03, 300, 64)
        assert found("resnet20-resnet14/dkd") == (0.02, 240, 64)
        assert found("resnet20-resnet14/kd") == (0.05, 240, 64)
        assert recipes["resnet14-resnet8/kd"].teacher == "cifar:resnet14@a.pt"

    def test_settings_of_the_loss_are_put_together_one_by_one(self, recipes):
        assert recipes["resnet14-resnet8/dkd"].loss_settings == {"warmup": 5, "alpha": 3}
        assert recipes["resnet20-resnet14/dkd"].loss_settings == {"warmup": 5, "alpha": 2}
        assert recipes["resnet14-resnet8/kd"].loss_settings == {}

    def test_without_pairs_what_is_shared_names_both_networks(self, table_file):
        shared = TABLE["shared"] | {"teacher": "cifar:resnet14", "student": "cifar:resnet8"}
        none = {"pairs": None, "cells": None, "teachers": None, "students": None, "models": None}
        found = find_recipes(str(table_file({"shared": shared} | none)))
        assert list(found) == ["mine/kd", "mine/dkd", "mine/dkd-ls"]
        assert found["mine/kd"].recipe().student == "cifar:resnet8"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"column": []}, "unknown key of a table of recipes 'column': did you mean 'columns'"),
            ({"dataset": None}, "dataset is missing"),
            ({"columns": "kd"}, "columns must be a list, not 'kd'"),
            ({"columns": ["kd", "kd"]}, "columns: names must be unique, not kd, kd"),
            ({"columns": ["kd/swap"]}, "columns: unknown column 'kd'"),
            ({"models": None}, "pairs: `models` must name the kind of the networks"),
            ({"pairs": {"resnet14": None}}, "pairs: 'resnet14' is not TEACHER-STUDENT"),
            (
                {"pairs": {"resnet14-resnet8": [70]}},
                "pairs: resnet14-resnet8 has 1 figures for 4 columns: write ~ for an unknown",
            ),
            (
                {"pairs": {"resnet14-resnet8": [70, "x", None, None]}},
                "pairs.resnet14-resnet8.1 must be a percentage, ~ where none is known, or `no`",
            ),
            ({"shared": [1]}, "shared must be a mapping, not [1]"),
            ({"shared": {1: 2}}, "shared"),
            ({"shared": {"lrr": 1}}, "shared: unknown key of a recipe 'lrr': did you mean 'lr'"),
            ({"losses": {"dk": {}}}, "losses: unknown column 'dk': did you mean 'dkd'"),
            ({"losses": {"dkd": {"l": 1}}}, "losses: dkd: unknown key of a recipe 'l'"),
            ({"losses": {"dkd": {"loss_settings": 1}}}, "losses: dkd: loss_settings must be a map"),
            ({"teachers": {"resnet8": {}}}, "teachers: unknown teacher 'resnet8': did you mean"),
            ({"students": {"resnet9": {}}}, "students: unknown student 'resnet9': did you mean"),
            ({"sources": {"swap": "LA"}}, "sources: unknown column 'swap'"),
            ({"cells": {"resnet14-resnet9": {}}}, "cells: unknown pair 'resnet14-resnet9': did"),
            (
                {"cells": {"resnet14-resnet8": {"dkdd": {}}}},
                "cells: resnet14-resnet8: unknown column 'dkdd': did you mean 'dkd'",
            ),
            (
                {"cells": {"resnet14-resnet8": {"dkd": {"lrr": 1}}}},
                "cells: resnet14-resnet8: dkd: unknown key of a recipe 'lrr': did you mean 'lr'",
            ),
            (
                {"cells": {"resnet14-resnet8": {"dkd": {"lr": -1}}}},
                "resnet14-resnet8, dkd: lr must be above 0, not -1",
            ),
            (
                {"cells": {"resnet14-resnet8": {"dkd": {"loss_settings": {"beat": 1}}}}},
                "resnet14-resnet8, dkd: unknown setting of dkd 'beat': did you mean 'beta'",
            ),
            ({"dataset": "cifar1000"}, "resnet14-resnet8, kd: unknown dataset 'cifar1000'"),
            ({"pairs": {"resnet14-resnet8": [700, 1, 1, 1]}}, "published must be a percentage"),
        ],
    )
    def test_a_wrong_table_is_one_line_that_names_the_place(self, table_file, changes, message):
        if "pairs" in changes:
            changes = {"cells": None, "teachers": None, "students": None} | changes
        path = table_file(changes)
        with pytest.raises(UsageError) as error:
            [entry.recipe() for entry in find_recipes(str(path)).values()]
        assert str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


class TestPage:
    """What docs/recipes.md shows is read as it says."""

    def test_its_table_and_its_recipe(self, tmp_path):
        page = (Path(__file__).parents[3] / "docs/recipes.md").read_text()
        table, mine = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        (tmp_path / "cifar100.yaml").write_text(table)
        recipes = {
            name: entry.recipe()
            for name, entry in find_recipes(str(tmp_path / "cifar100.yaml")).items()
        }
        assert len(recipes) == 6
        recipe = recipes["cifar100/vgg13-MobileNetV2/mlkd"]
        assert (recipe.epochs, recipe.lr, recipe.strong) == (480, 0.01, "cifar-strong")
        assert (
            recipe
            == find_recipes("cifar100/vgg13-MobileNetV2/mlkd")[
                "cifar100/vgg13-MobileNetV2/mlkd"
            ].recipe()
        )
        (tmp_path / "mine.yaml").write_text(mine)
        own = load_recipe(tmp_path / "mine.yaml")
        assert (own.student, own.epochs, own.loss_of_run(120).beta) == ("cifar:resnet8x4", 120, 6)

    def test_it_marks_the_required_keys(self):
        page = (Path(__file__).parents[3] / "docs/recipes.md").read_text()
        rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        required = {name for row in rows for name in re.findall(r"`(\w+)` \*", row)}
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        fields = dataclasses.fields(Recipe)
        missing = dataclasses.MISSING
        assert named - {"extends"} == {field.name for field in fields}
        assert required == {
            field.name
            for field in fields
            if field.default is missing and field.default_factory is missing
        }
