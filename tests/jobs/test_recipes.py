"""The recipes that come with logitbank are those that were published."""

from __future__ import annotations

import pytest
from torchvision.models import get_model_weights

from logitbank.jobs.reproduce.recipe import Recipe
from logitbank.jobs.reproduce.recipe_files import RECIPES, find_recipes
from logitbank.pipeline.models import load_model
from logitbank.pipeline.views import parse_augmentation

ALL = {name: entry.recipe() for name, entry in find_recipes(str(RECIPES)).items()}
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
