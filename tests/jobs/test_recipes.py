"""The recipes that come with logitbank say what was published, and a wrong recipe is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from torchvision.models import get_model_weights

from logitbank.jobs.reproduce.recipe import (
    BASE,
    RECIPES,
    Recipe,
    TeacherTraining,
    find_recipes,
    load_recipe,
    recipe_names,
)
from logitbank.pipeline.losses import DatasetKind, published_method
from logitbank.pipeline.models import load_model
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import UsageError

FILES = sorted(path for path in RECIPES.rglob("*.yaml") if path.name != BASE)
ALL = {path.relative_to(RECIPES).with_suffix("").as_posix(): load_recipe(path) for path in FILES}
SPECS = {spec.partition("@")[0] for r in ALL.values() for spec in (r.teacher, r.student)}
OF_CIFAR = {name: recipe for name, recipe in ALL.items() if recipe.dataset == "cifar100"}
OF_IMAGENET = {name: recipe for name, recipe in ALL.items() if recipe.dataset == "imagenet"}

COLUMNS = ("kd", "lskd", "ctkd", "dkd", "dkd+ls", "mlkd", "mlkd+ls")
PUBLISHED = {
    ("resnet32x4", "resnet8x4"): (73.33, 76.62, 73.39, 76.32, 77.01, 77.08, 78.28),
    ("vgg13", "vgg8"): (72.98, 74.36, 73.52, 74.68, 74.81, 75.18, 75.22),
    ("wrn_40_2", "wrn_40_1"): (73.54, 74.37, 73.93, 74.81, 74.89, 75.35, 75.56),
    ("wrn_40_2", "wrn_16_2"): (74.92, 76.11, 75.45, 76.24, 76.39, 76.63, 76.95),
    ("resnet56", "resnet20"): (70.66, 71.43, 71.19, 71.97, 72.32, 72.19, 72.33),
    ("resnet110", "resnet32"): (73.08, 74.17, 73.52, 74.11, 74.29, 74.11, 74.32),
    ("resnet32x4", "ShuffleV2"): (74.45, 75.56, 75.37, 77.07, 77.37, 78.44, 78.76),
    ("wrn_40_2", "MobileNetV2"): (68.36, 69.23, 68.34, 69.28, 70.01, 70.78, 71.61),
    ("vgg13", "MobileNetV2"): (67.37, 68.61, 68.50, 69.71, 69.98, 70.57, 70.94),
    ("ResNet50", "MobileNetV2"): (67.35, 69.02, 68.67, 70.35, 70.45, 71.04, 71.19),
}
"""Top-1 on CIFAR-100 from the READMEs of logit-standardization-KD and mdistiller."""

SLD_RATES = {
    ("resnet56", "resnet20"): 0.025,
    ("resnet110", "resnet32"): 0.025,
    ("resnet32x4", "resnet8x4"): 0.025,
    ("wrn_40_2", "wrn_16_2"): 0.025,
    ("wrn_40_2", "wrn_40_1"): 0.025,
    ("wrn_40_2", "vgg8"): 0.025,
    ("vgg13", "vgg8"): 0.025,
    ("resnet32x4", "ShuffleV1"): 0.009,
    ("resnet32x4", "ShuffleV2"): 0.008,
    ("vgg13", "MobileNetV2"): 0.008,
    ("ResNet50", "MobileNetV2"): 0.008,
    ("wrn_40_2", "ShuffleV1"): 0.01,
}

BETAS = {
    ("resnet56", "resnet20"): 2,
    ("resnet110", "resnet32"): 2,
    ("vgg13", "vgg8"): 6,
    ("vgg13", "MobileNetV2"): 6,
    ("wrn_40_2", "wrn_16_2"): 6,
    ("wrn_40_2", "wrn_40_1"): 6,
}

OF_IMAGENET_PAIRS = {
    ("resnet34", "resnet18"): {"kd": 71.03, "dkd": 71.70},
    ("resnet50", "MobileNetV1"): {"kd": 70.50, "dkd": 72.05},
}


def network(spec: str) -> str:
    return spec.partition("@")[0].partition(":")[2]


def pair(recipe: Recipe) -> tuple[str, str]:
    return network(recipe.teacher), network(recipe.student)


def by_method(recipes: dict[str, Recipe]) -> dict[tuple[tuple[str, str], str], Recipe]:
    found = {(pair(recipe), recipe.loss): recipe for recipe in recipes.values()}
    assert len(found) == len(recipes)
    return found


class TestPublished:
    def test_every_pair_and_method_of_the_table_and_its_figure(self):
        wanted = {
            (both, loss): figure
            for both, figures in PUBLISHED.items()
            for loss, figure in zip(COLUMNS, figures, strict=True)
        } | {(both, "sld"): None for both in SLD_RATES}
        found = {key: recipe.published for key, recipe in by_method(OF_CIFAR).items()}
        assert found == wanted

    def test_of_imagenet(self):
        wanted = {
            (both, loss): figures.get(loss)
            for both, figures in OF_IMAGENET_PAIRS.items()
            for loss in (*COLUMNS, "sld")
        }
        found = {key: recipe.published for key, recipe in by_method(OF_IMAGENET).items()}
        assert found == wanted

    def test_no_other_recipe_claims_a_figure(self):
        others = ALL.keys() - OF_CIFAR.keys() - OF_IMAGENET.keys()
        assert {name.split("/")[0] for name in others} == {"cifar10", "digits"}
        assert all(ALL[name].published is None for name in others)

    @pytest.mark.parametrize("name", OF_CIFAR)
    def test_the_rate(self, name):
        recipe = OF_CIFAR[name]
        light = network(recipe.student).startswith(("MobileNet", "Shuffle"))
        usual = 0.025 if recipe.loss.startswith("mlkd") else 0.05
        if recipe.loss == "sld":
            assert recipe.lr == SLD_RATES[pair(recipe)]
        else:
            assert recipe.lr == (0.01 if light else usual)

    @pytest.mark.parametrize("name", OF_CIFAR)
    def test_the_schedule(self, name):
        recipe = OF_CIFAR[name]
        assert (recipe.epochs, recipe.milestones, recipe.batch_size) == (240, (150, 180, 210), 64)
        assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)

    @pytest.mark.parametrize("name", OF_IMAGENET)
    def test_the_schedule_of_imagenet(self, name):
        recipe = OF_IMAGENET[name]
        own = (120, 256, 0.1) if recipe.loss == "ctkd" else (100, 512, 0.2)
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == own
        assert (recipe.milestones, recipe.weight_decay) == ((30, 60, 90), 1e-4)

    @pytest.mark.parametrize("name", [*OF_CIFAR, *OF_IMAGENET])
    def test_the_loss(self, name):
        """Written by hand here: the weights of each method, and beta by pair."""
        recipe = ALL[name]
        settings = dict(recipe.loss_settings)
        if recipe.dataset == "cifar100":
            beta, warmup, t, gamma = BETAS.get(pair(recipe), 8), 20, 4, 150
            kd, ls = {"ce": 0.1, "kd": 0.9}, {"ce": 0.1, "kd": 9}
            ctkd, mlkd_ls, loops, sld_ce, sld_kd = kd, ls, 10, 0.1, 0.9
        else:
            beta = {"resnet18": 0.5, "MobileNetV1": 2}[network(recipe.student)]
            warmup, t, gamma, loops, sld_kd = 1, 1, 30, 5, 0.5
            kd, ls, ctkd = {"ce": 0.5, "kd": 0.5}, {"ce": 1, "kd": 9}, {"ce": 1, "kd": 1}
            mlkd_ls = {"ce": 0.5, "kd": 9}
            sld_ce = {"resnet18": 0.5, "MobileNetV1": 1}[network(recipe.student)]
        dkd = {"ce": 1, "warmup": warmup}
        assert (
            settings
            == {
                "kd": {**kd, "temperature": t},
                "lskd": {**ls, "temperature": 2},
                "ctkd": {**ctkd, "loops": loops},
                "dkd": {**dkd, "alpha": 1, "beta": beta, "temperature": t},
                "dkd+ls": {**dkd, "alpha": 9, "beta": 9 * beta, "temperature": 2},
                "mlkd": {**kd, "temperature": t},
                "mlkd+ls": {**mlkd_ls, "temperature": 2},
                "sld": {
                    "ce": sld_ce,
                    "kd": sld_kd,
                    "temperatures": tuple(range(1, 7)),
                    "gamma": gamma,
                },
            }[recipe.loss]
        )

    @pytest.mark.parametrize("name", [*OF_CIFAR, *OF_IMAGENET])
    def test_what_the_file_says_is_what_the_method_has_by_itself(self, name):
        recipe = ALL[name]
        kind = DatasetKind.CIFAR if name.startswith("cifar100") else DatasetKind.IMAGENET
        by_itself = published_method(
            recipe.loss, kind, teacher=recipe.teacher, student=recipe.student
        )
        assert recipe.method(recipe.epochs) == by_itself


class TestNames:
    @pytest.mark.parametrize("spec", sorted(SPECS))
    def test_networks_can_be_built(self, spec):
        assert load_model(spec, classes=10).classes == 10

    def test_teachers_of_imagenet_have_their_published_weights(self):
        for recipe in OF_IMAGENET.values():
            weights = get_model_weights(network(recipe.teacher))
            assert recipe.teacher.partition("@")[2] in weights.__members__

    @pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
    def test_views_and_corrections(self, recipe):
        for spec in filter(None, (recipe.weak, recipe.strong)):
            count = parse_augmentation(spec).count
            assert count is None or recipe.views <= count
        assert set(recipe.corrections) <= {"none", "sort", "swap"}
        # SLD swaps raw logits itself: `none` would be `swap` once more.
        some = {"sld": {"swap", "sort"}, "ce": {"none"}}
        assert set(recipe.corrections) == some.get(recipe.loss, {"none", "sort", "swap"})

    @pytest.mark.parametrize("name", ALL)
    def test_a_file_lies_where_its_pair_and_method_say(self, name):
        path, recipe = RECIPES / f"{name}.yaml", ALL[name]
        assert path.stem == recipe.loss.replace("+", "-")
        if recipe.dataset != "digits":
            assert path.parent.name == "-".join(pair(recipe))
            assert path.parent.parent.name == recipe.dataset
            assert len(path.read_text()) < 700

    def test_by_name(self):
        one = "cifar100/resnet32x4-resnet8x4/dkd"
        path = RECIPES / f"{one}.yaml"
        assert find_recipes(one) == find_recipes(f"{one}.yaml") == find_recipes(str(path))
        assert find_recipes(one) == {one: path}
        whole_pair = find_recipes("cifar100/resnet32x4-resnet8x4")
        assert len(whole_pair) == 8
        assert find_recipes("cifar100/resnet32x4-resnet8x4/") == whole_pair
        assert find_recipes("cifar100").keys() == OF_CIFAR.keys()
        assert "imagenet/resnet34-resnet18" in recipe_names()

    def test_a_folder_of_data_does_not_hide_recipes(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cifar100").mkdir()
        assert find_recipes("cifar100").keys() == OF_CIFAR.keys()
        with pytest.raises(UsageError, match="cifar100 holds no recipe"):
            find_recipes("./cifar100")

    def test_your_own_is_named_by_its_file(self, tmp_path, recipe_file):
        path = recipe_file({})
        assert find_recipes(str(path)) == {"mine": path}
        assert find_recipes(str(tmp_path)) == {"mine": path}

    def test_your_own_folder_names_recipes_by_their_place_in_it(self, tmp_path, recipe_file):
        for pair_ in ("a", "b"):
            (tmp_path / "own" / pair_).mkdir(parents=True)
            recipe_file({}, f"own/{pair_}/kd")
        found = find_recipes(str(tmp_path / "own"))
        assert found == {
            "a/kd": tmp_path / "own" / "a" / "kd.yaml",
            "b/kd": tmp_path / "own" / "b" / "kd.yaml",
        }

    def test_a_mistyped_method_is_told_those_of_its_pair(self):
        with pytest.raises(UsageError, match="did you mean 'cifar100/vgg13-vgg8/dkd'"):
            find_recipes("cifar100/vgg13-vgg8/dkdd")


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


@pytest.fixture
def recipe_file(tmp_path):
    def write(changes: dict, name: str = "mine") -> Path:
        settings = {key: value for key, value in (WHOLE | changes).items() if value is not None}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


class TestReading:
    def test_what_is_left_out_is_as_published(self, recipe_file):
        recipe = load_recipe(
            recipe_file({"student": "cifar:resnet20", "teacher": "cifar:resnet56"})
        )
        assert recipe.corrections == ("none", "sort", "swap")
        assert (recipe.published, recipe.strong, recipe.teacher_training) == (None, None, None)
        assert recipe.method(240).settings.beta == 2

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
            epochs: dataclasses.asdict(recipe.method(epochs).settings)[name] for epochs in by_epochs
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
            ({"weak": "cifar-weak+mixup"}, "dkd tells an image's label from the other classes"),
            ({"weak": "cifar-weak+mixup", "loss": "kd", "loss_settings": {}},
             "a correction puts one first: say `corrections: [none]`"),
            ({"strong": "cifar-strong+cutmix", "loss": "mlkd", "loss_settings": {}},
             "and cifar-strong+cutmix would mix them with different others"),
            ({"lr": None}, "lr: "),
            ({"lr": "fast"}, "lr: "),
            ({"lr": 0}, "lr must be above 0, not 0"),
            ({"published": 0.7, "views": 0}, "views must be above 0, not 0"),
            ({"published": 733}, "published must be a percentage above 0, at most 100"),
            ({"milestones": [180, 150]}, "milestones are epochs in order"),
            ({"milestones": [150, 240]}, "milestones are epochs in order, above 0 and below 240"),
            ({"loss": "mlkd"}, "mlkd learns from a weak and a strong view: name `strong`"),
            ({"strong": "cifar-strong"}, "dkd learns from one view: leave out `strong`"),
            ({"loss": "ce"}, "ce learns from labels alone, there are no logits to correct"),
            (
                {"teacher_training": {"epochs": 1, "batch_size": 1, "lr": 1, "apart": True}},
                "teacher_training: apart needs a limit",
            ),
            ({"teacher_training": {"epoch": 1}}, "unknown key of teacher_training 'epoch'"),
            ({"teacher_training": {"epochs": 1}}, "teacher_training.batch_size: "),
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
            ("a: [1\n", "is not YAML"),
            ("extends: mine.yaml\n", "extends itself"),
            ("extends: other.yaml\n", "other.yaml can't be read: No such file"),
        ],
    )
    def test_no_recipe_at_all(self, tmp_path, text, message):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            load_recipe(path)

    def test_no_such_recipe(self):
        with pytest.raises(UsageError, match="did you mean 'cifar100/resnet56-resnet20'"):
            find_recipes("cifar100/resnet56-resnet21")
