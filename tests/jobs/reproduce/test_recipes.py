"""The recipes that come with logitbank are those that were published.

What was published is written down here once more, a row a pair, from the same sources: the READMEs,
settings and logs that logit-standardization-KD, mdistiller, Multi-Level-Logit-Distillation, CTKD,
Swapped-Logit-Distillation and RLD release.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import pytest
import yaml
from torchvision.models import get_model_weights

from logitbank.jobs.reproduce.recipe import PublishedFigure, Recipe
from logitbank.jobs.reproduce.recipe_files import RECIPES, find_recipes
from logitbank.pipeline.models import load_model
from logitbank.pipeline.views import parse_augmentation

DATASETS = ("cifar10", "cifar100", "digits", "imagenet")
ALL = {name: entry.recipe() for name, entry in find_recipes(str(RECIPES)).items()}
SPECS = {spec.partition("@")[0] for r in ALL.values() for spec in (r.teacher, r.student)}

COLUMNS = ("kd", "lskd", "ctkd", "ctkd+ls", "dkd", "dkd+ls", "mlkd", "mlkd+ls")
TOP1: dict[str, tuple[float, ...]] = {
    "resnet32x4-resnet8x4": (73.33, 76.62, 73.39, 76.67, 76.32, 77.01, 77.08, 78.28),
    "vgg13-vgg8": (72.98, 74.36, 73.52, 74.47, 74.68, 74.81, 75.18, 75.22),
    "wrn_40_2-wrn_40_1": (73.54, 74.37, 73.93, 74.58, 74.81, 74.89, 75.35, 75.56),
    "wrn_40_2-wrn_16_2": (74.92, 76.11, 75.45, 76.08, 76.24, 76.39, 76.63, 76.95),
    "resnet56-resnet20": (70.66, 71.43, 71.19, 71.34, 71.97, 72.32, 72.19, 72.33),
    "resnet110-resnet32": (73.08, 74.17, 73.52, 74.01, 74.11, 74.29, 74.11, 74.32),
    "resnet110-resnet20": (70.67, 71.48, 70.99, 71.39, 71.06, 71.85, 71.89, 72.27),
    "resnet32x4-ShuffleV2": (74.45, 75.56, 75.37, 76.18, 77.07, 77.37, 78.44, 78.76),
    "resnet32x4-wrn_16_2": (74.90, 75.26, 74.57, 75.16, 75.70, 76.19, 76.52, 77.53),
    "resnet32x4-wrn_40_2": (77.70, 77.92, 77.66, 77.99, 78.46, 78.95, 79.26, 79.66),
    "wrn_40_2-resnet8x4": (73.97, 77.11, 74.61, 77.03, 75.56, 76.75, 77.33, 77.68),
    "wrn_40_2-MobileNetV2": (68.36, 69.23, 68.34, 69.53, 69.28, 70.01, 70.78, 71.61),
    "vgg13-MobileNetV2": (67.37, 68.61, 68.50, 68.98, 69.71, 69.98, 70.57, 70.94),
    "ResNet50-MobileNetV2": (67.35, 69.02, 68.67, 69.36, 70.35, 70.45, 71.04, 71.19),
}
"""On CIFAR-100, from the README of logit-standardization-KD."""

OF_MDISTILLER = {
    "resnet32x4-ShuffleV1": {"kd": 74.07, "dkd": 76.45},
    "wrn_40_2-ShuffleV1": {"kd": 74.83, "dkd": 76.70},
}
"""On CIFAR-100, of the pairs that mdistiller's README alone has."""

OF_IMAGENET = {
    "resnet34-resnet18": {"kd": 71.03, "dkd": 71.70},
    "resnet50-MobileNetV1": {"kd": 70.50, "dkd": 72.05},
}

LA = {
    "resnet32x4-resnet8x4": 73.46,
    "vgg13-vgg8": 73.51,
    "wrn_40_2-wrn_40_1": 73.75,
    "resnet56-resnet20": 71.24,
    "resnet110-resnet32": 73.39,
    "resnet110-resnet20": 70.86,
}
"""KD on swapped logits, as arXiv 2408.07703 tables it."""


class Standardised(NamedTuple):
    """The base temperature, the weight, and DKD's β / α."""

    t: float = 2
    weight: float = 9
    ratio: float = 0


class Pair(NamedTuple):
    """What was released for a pair on CIFAR-100."""

    lr: float
    beta: float
    mlkd: tuple[int, float]  # epochs and rate
    mlkd_ls: tuple[int, float, float]  # epochs, rate and weight
    lskd: Standardised
    dkd_ls: Standardised


USUAL = Standardised()
RELEASED = {
    "resnet32x4-resnet8x4": Pair(
        0.05, 8, (240, 0.025), (480, 0.025, 9), USUAL, Standardised(ratio=8)
    ),
    "vgg13-vgg8": Pair(
        0.05, 6, (240, 0.025), (480, 0.01, 6), Standardised(3), Standardised(2, 15, 2)
    ),
    "wrn_40_2-wrn_40_1": Pair(
        0.05, 6, (240, 0.025), (480, 0.025, 9), USUAL, Standardised(2, 12, 2)
    ),
    "wrn_40_2-wrn_16_2": Pair(
        0.05, 6, (240, 0.025), (480, 0.025, 9), USUAL, Standardised(2, 12, 2)
    ),
    "resnet56-resnet20": Pair(
        0.05, 2, (240, 0.025), (480, 0.025, 9), USUAL, Standardised(3, 18, 2)
    ),
    "resnet110-resnet32": Pair(
        0.05, 2, (240, 0.025), (480, 0.025, 9), USUAL, Standardised(2, 15, 2)
    ),
    "resnet110-resnet20": Pair(
        0.05, 2, (480, 0.025), (480, 0.025, 9), Standardised(4, 12), Standardised(2, 15, 2)
    ),
    "resnet32x4-wrn_16_2": Pair(
        0.05, 8, (480, 0.025), (480, 0.025, 9), Standardised(3), Standardised(2, 9, 2)
    ),
    "resnet32x4-wrn_40_2": Pair(
        0.05, 8, (480, 0.025), (480, 0.025, 9), Standardised(3), Standardised(2, 9, 8)
    ),
    "wrn_40_2-resnet8x4": Pair(
        0.05, 6, (480, 0.025), (480, 0.025, 9), USUAL, Standardised(2, 18, 2)
    ),
    "resnet32x4-ShuffleV2": Pair(
        0.01, 8, (960, 0.01), (960, 0.01, 6), USUAL, Standardised(ratio=8)
    ),
    "wrn_40_2-MobileNetV2": Pair(
        0.01, 8, (480, 0.005), (480, 0.005, 9), Standardised(3), Standardised(2, 15, 2)
    ),
    "vgg13-MobileNetV2": Pair(
        0.01, 6, (480, 0.01), (480, 0.01, 6), Standardised(3), Standardised(3, 9, 2)
    ),
    "ResNet50-MobileNetV2": Pair(
        0.01, 8, (480, 0.01), (480, 0.01, 9), Standardised(3, 1), Standardised(2, 15, 2)
    ),
}

SLD_RATES = {
    "resnet56-resnet20": 0.025,
    "resnet110-resnet32": 0.025,
    "resnet32x4-resnet8x4": 0.025,
    "wrn_40_2-wrn_16_2": 0.025,
    "wrn_40_2-wrn_40_1": 0.025,
    "wrn_40_2-vgg8": 0.025,
    "vgg13-vgg8": 0.025,
    "resnet32x4-ShuffleV1": 0.009,
    "resnet32x4-ShuffleV2": 0.008,
    "vgg13-MobileNetV2": 0.008,
    "ResNet50-MobileNetV2": 0.008,
    "wrn_40_2-ShuffleV1": 0.01,
}


def network(spec: str) -> str:
    return spec.partition("@")[0].partition(":")[2]


def of(dataset: str) -> dict[tuple[str, str], Recipe]:
    """The recipes of a dataset, by pair and loss."""
    recipes = [recipe for recipe in ALL.values() if recipe.dataset == dataset]
    found = {
        (f"{network(each.teacher)}-{network(each.student)}", each.loss): each for each in recipes
    }
    assert len(found) == len(recipes)
    return found


def settings(recipe: Recipe) -> dict[str, Any]:
    return dataclasses.asdict(recipe.loss_of_run(recipe.epochs))


class TestFigures:
    def test_of_cifar100(self):
        wanted: dict[tuple[str, str], float | None] = {
            (pair, loss): figure
            for pair, figures in TOP1.items()
            for loss, figure in zip(COLUMNS, figures, strict=True)
        }
        wanted |= {
            (pair, loss): figure
            for pair, figures in OF_MDISTILLER.items()
            for loss, figure in figures.items()
        }
        wanted |= {(pair, "sld"): None for pair in SLD_RATES}
        assert {key: recipe.published for key, recipe in of("cifar100").items()} == wanted

    def test_of_imagenet(self):
        wanted = {
            (pair, loss): figures.get(loss)
            for pair, figures in OF_IMAGENET.items()
            for loss in (*COLUMNS, "sld")
        }
        assert {key: recipe.published for key, recipe in of("imagenet").items()} == wanted

    def test_no_other_recipe_claims_a_figure(self):
        for dataset in ("cifar10", "digits"):
            assert of(dataset)
            assert all(recipe.published is None for recipe in of(dataset).values())

    def test_swapped_logits_go_by_the_name_that_they_were_published_under(self):
        found = {name: each.published_corrected for name, each in ALL.items()}
        assert {name: figures for name, figures in found.items() if figures} == {
            f"cifar100/{pair}/kd": {"swap": PublishedFigure(figure, "LA (RLD)")}
            for pair, figure in LA.items()
        }


class TestSettings:
    @pytest.mark.parametrize("pair", RELEASED)
    def test_of_a_pair_on_cifar100(self, pair):
        row = RELEASED[pair]
        weights = {"ce": 0.1, "kd": 0.9}
        dkd = {"ce": 1, "warmup": 20}
        ls, weight = row.dkd_ls, row.dkd_ls.weight
        epochs, mlkd_lr = row.mlkd
        ls_epochs, ls_lr, ls_weight = row.mlkd_ls
        wanted: dict[str, tuple[int, float, dict[str, float]]] = {
            "kd": (240, row.lr, {**weights, "temperature": 4}),
            "lskd": (240, row.lr, {"ce": 0.1, "kd": row.lskd.weight, "temperature": row.lskd.t}),
            "ctkd": (240, row.lr, {**weights, "loops": 10, "start": 1, "span": 20}),
            "ctkd+ls": (240, row.lr, {"ce": 0.1, "kd": 9, "loops": 10, "start": 1, "span": 20}),
            "dkd": (240, row.lr, {**dkd, "alpha": 1, "beta": row.beta, "temperature": 4}),
            "dkd+ls": (
                240,
                row.lr,
                {**dkd, "alpha": weight, "beta": weight * ls.ratio, "temperature": ls.t},
            ),
            "mlkd": (epochs, mlkd_lr, {**weights, "temperature": 4}),
            "mlkd+ls": (ls_epochs, ls_lr, {"ce": 0.1, "kd": ls_weight, "temperature": 2}),
        }
        found = {
            loss: (recipe.epochs, recipe.lr, settings(recipe))
            for (of_pair, loss), recipe in of("cifar100").items()
            if of_pair == pair and loss != "sld"
        }
        assert found == wanted

    @pytest.mark.parametrize("pair", OF_MDISTILLER)
    def test_of_the_pairs_that_mdistiller_alone_has(self, pair):
        kd, dkd = of("cifar100")[pair, "kd"], of("cifar100")[pair, "dkd"]
        assert (kd.lr, kd.epochs, dkd.lr, dkd.epochs) == (0.01, 240, 0.01, 240)
        assert settings(kd) == {"ce": 0.1, "kd": 0.9, "temperature": 4}
        assert settings(dkd) == {"ce": 1, "alpha": 1, "beta": 8, "temperature": 4, "warmup": 20}

    def test_of_sld_on_cifar100(self):
        recipes = {pair: each for (pair, loss), each in of("cifar100").items() if loss == "sld"}
        assert {pair: recipe.lr for pair, recipe in recipes.items()} == SLD_RATES
        for recipe in recipes.values():
            found = settings(recipe)
            assert (found["ce"], found["kd"], found["gamma"]) == (0.1, 0.9, 150)
            assert found["temperatures"] == (1, 2, 3, 4, 5, 6)
            assert (found["stop_gradient"], recipe.epochs) == (False, 240)

    def test_the_schedule_of_cifar100(self):
        """The drops stay where they are in runs of 480 and 960 epochs."""
        for recipe in of("cifar100").values():
            assert (recipe.milestones, recipe.batch_size) == ((150, 180, 210), 64)
            assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)

    @pytest.mark.parametrize(
        ("pair", "beta", "lskd_ce", "sld_ce"),
        [("resnet34-resnet18", 0.5, 1, 0.5), ("resnet50-MobileNetV1", 2, 0.5, 1)],
    )
    def test_of_a_pair_on_imagenet(self, pair, beta, lskd_ce, sld_ce):
        half, usual, mlkd = {"ce": 0.5, "kd": 0.5}, (100, 512, 0.2), (100, 512, 0.1)
        theta, dkd = {"loops": 5, "start": 1, "span": 20}, {"ce": 1, "warmup": 1}
        wanted: dict[str, tuple[tuple[int, int, float], dict[str, object]]] = {
            "kd": (usual, {**half, "temperature": 1}),
            "lskd": (usual, {"ce": lskd_ce, "kd": 9, "temperature": 2}),
            "ctkd": ((120, 256, 0.1), {"ce": 1, "kd": 1, **theta}),
            "ctkd+ls": ((120, 256, 0.1), {"ce": 1, "kd": 9, **theta}),
            "dkd": (usual, {**dkd, "alpha": 1, "beta": beta, "temperature": 1}),
            "dkd+ls": (usual, {**dkd, "alpha": 9, "beta": 9 * beta, "temperature": 2}),
            "mlkd": (mlkd, {**half, "temperature": 1}),
            "mlkd+ls": (mlkd, {"ce": 0.5, "kd": 9, "temperature": 2}),
            "sld": (
                usual,
                {
                    "ce": sld_ce,
                    "kd": 0.5,
                    "gamma": 30,
                    "temperatures": (1, 2, 3, 4, 5, 6),
                    "stop_gradient": False,
                    "swap_teacher": True,
                },
            ),
        }
        recipes = {loss: each for (name, loss), each in of("imagenet").items() if name == pair}
        assert {
            loss: ((each.epochs, each.batch_size, each.lr), settings(each))
            for loss, each in recipes.items()
        } == wanted
        for each in recipes.values():
            assert (each.milestones, each.momentum) == ((30, 60, 90), 0.9)
            assert each.weight_decay == 1e-4


class TestTables:
    def test_there_is_one_a_dataset(self):
        assert sorted(path.name for path in RECIPES.iterdir()) == [f"{d}.yaml" for d in DATASETS]
        for name, recipe in ALL.items():
            assert name.split("/")[0] == recipe.dataset
            assert name.endswith(recipe.loss.replace("+", "-"))

    @pytest.mark.parametrize("dataset", DATASETS)
    def test_a_cell_says_only_what_differs(self, dataset, tmp_path):
        table = yaml.safe_load((RECIPES / f"{dataset}.yaml").read_text())
        cells = table.pop("cells", {})
        (tmp_path / f"{dataset}.yaml").write_text(yaml.safe_dump(table))
        usual = find_recipes(str(tmp_path / f"{dataset}.yaml"))
        for pair, row in cells.items():
            for loss, keys in row.items():
                recipe = usual[f"{dataset}/{pair}/{loss.replace('+', '-')}"].recipe()
                without = settings(recipe) | vars(recipe)
                said = keys.pop("loss_settings", {}) | keys
                assert said
                assert not [key for key, value in said.items() if without[key] == value]

    @pytest.mark.parametrize("spec", sorted(SPECS))
    def test_networks_can_be_built(self, spec):
        assert load_model(spec, classes=10).classes == 10

    def test_teachers_of_imagenet_have_their_published_weights(self):
        for recipe in of("imagenet").values():
            weights = get_model_weights(network(recipe.teacher))
            assert recipe.teacher.partition("@")[2] in weights.__members__

    def test_views_and_corrections(self):
        some = {"sld": {"swap", "sort"}, "ce": {"none"}}
        for recipe in ALL.values():
            for spec in filter(None, (recipe.weak, recipe.strong)):
                count = parse_augmentation(spec).count
                assert count is None or recipe.views <= count
            # SLD swaps raw logits itself: `none` would be `swap` once more.
            assert set(recipe.corrections) == some.get(recipe.loss, {"none", "sort", "swap"})
