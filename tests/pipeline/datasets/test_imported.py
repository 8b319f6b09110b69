"""A user's own datasets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.stores.errors import DatasetError, UsageError
from tests.pipeline.views.view_examples import memory_dataset, random_images

MODULE = """
import numpy as np

class Photos:
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, sample):
        return np.full((4, 5, 3), sample, np.uint8), sample % 3

class Labelled(Photos):
    targets = [n % 3 for n in range(200)]
    def __init__(self, others=()):
        super().__init__(200)
        self.others = dict(others)
    def __getitem__(self, sample):
        image, target = super().__getitem__(sample)
        return image, self.others.get(sample, target)

def labelled():
    return Labelled()

def relabelled():
    return Labelled((n, (n + 1) % 3) for n in range(200))

def relabelled_at_the_end():
    return Labelled({199: 0})

def relabelled_in_one_place():
    return Labelled({5: 0})

class InMemory(Photos):
    images = np.zeros((6, 4, 4, 3), np.uint8)
    targets = [0, 1, 0, 1, 0, 1]
    classes = ["cat", "dog"]

def of_split(split):
    return {"train": Photos(6), "test": None}[split]

def of_any(**settings):
    return Photos(5 if settings["split"] == "test" else 6)

def without_split():
    return Photos(7)

def in_memory():
    return InMemory(6)

class Shown(InMemory):
    images = np.arange(6 * 48).reshape(6, 4, 4, 3).astype(np.uint8)
    def __getitem__(self, sample):
        return self.images[sample], self.targets[sample]

class Turned(Shown):
    def __getitem__(self, sample):
        return self.images[sample], 1 - self.targets[sample]

class TurnedTensors(Turned):
    def __getitem__(self, sample):
        return self.images[sample].astype(np.float32), 1 - self.targets[sample]

class Blue(Shown):
    def __getitem__(self, sample):
        return self.images[sample][..., ::-1], self.targets[sample]

class Large(Shown):
    def __getitem__(self, sample):
        return self.images[sample].repeat(2, 0), self.targets[sample]

class Words(Shown):
    def __getitem__(self, sample):
        return dict(image=self.images[sample])

def shown():
    return Shown(6)

def turned():
    return Turned(6)

def turned_tensors():
    return TurnedTensors(6)

def blue():
    return Blue(6)

def large():
    return Large(6)

def words():
    return Words(6)

def failing():
    raise OSError("the disk is away")

def nothing():
    return 5

def empty():
    return Photos(0)
"""


class Items:
    """Items alone, counted."""

    def __init__(self, items, **attributes):
        self.items, self.reads = items, 0
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, sample):
        self.reads += 1
        return self.items[sample]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the current folder, and its name."""
    name = f"photos_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return f"import:{name}"


def test_a_factory_in_the_current_folder_is_found(module):
    dataset = open_dataset(f"{module}:without_split")
    assert len(dataset) == 7
    assert dataset.name == "import"
    assert dataset.targets.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert dataset.classes == ("0", "1", "2")
    assert dataset.where(3) == f"sample 3 of {module}:without_split"


def test_a_factory_may_know_splits(module):
    assert len(open_dataset(f"{module}:of_split", "train")) == 6
    assert has_split(f"{module}:of_split", "train")
    assert not has_split(f"{module}:of_split", "test")
    with pytest.raises(DatasetError, match="of_split: has no test split"):
        open_dataset(f"{module}:of_split", "val")
    assert len(open_dataset(f"{module}:of_any", "val")) == 5
    assert has_split(f"{module}:of_any", "test")


def test_a_factory_without_splits_gives_the_one_asked_for_and_counts_as_training(module):
    assert open_dataset(f"{module}:without_split", "test").split == "test"
    assert has_split(f"{module}:without_split", "train")
    assert not has_split(f"{module}:without_split", "test")


def test_arrays_of_images_are_a_set_in_memory(module):
    dataset = open_dataset(f"{module}:in_memory")
    assert isinstance(dataset, MemoryDataset)
    assert dataset.images.shape == (6, 4, 4, 3)
    assert dataset.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("failing", DatasetError, "failing failed: OSError: the disk is away"),
        ("nothing", DatasetError, "returned a int: expected a dataset"),
        ("empty", DatasetError, "empty: no images"),
        ("without_splits", UsageError, "did you mean 'without_split'"),
    ],
)
def test_a_factory_that_gives_no_dataset_is_named(module, factory, error, message):
    with pytest.raises(error) as refusal:
        open_dataset(f"{module}:{factory}")
    assert message in str(refusal.value)


def test_attributes_of_the_dataset_spare_the_pass_over_its_items():
    items = Items(
        [(image, 1) for image in random_images(5)],
        targets=np.array([0, 1, 0, 1, 0]),
        classes=["cat", "dog"],
        sample_ids=np.arange(5),
    )
    dataset = MapStyleDataset(items)
    assert dataset.targets.tolist() == [0, 1, 0, 1, 0]
    assert dataset.classes == ("cat", "dog")
    assert dataset.sample_ids.tolist() == [0, 1, 2, 3, 4]
    assert len(dataset.fingerprint) == 64
    head = dataset.head(2)
    assert (head.targets.tolist(), head.sample_ids.tolist()) == ([0, 1], [0, 1])
    assert items.reads == 0


def test_targets_that_items_bear_out_are_taken(module):
    dataset = open_dataset(f"{module}:labelled")
    assert dataset.targets.tolist() == [n % 3 for n in range(200)]


@pytest.mark.parametrize(
    ("factory", "sample", "says", "targets"),
    [("relabelled", 0, 1, 0), ("relabelled_at_the_end", 199, 0, 1)],
)
def test_targets_are_held_against_items_as_a_set_is_opened(module, factory, sample, says, targets):
    with pytest.raises(DatasetError) as refusal:
        open_dataset(f"{module}:{factory}")
    assert str(refusal.value).startswith(
        f"sample {sample} of {module}:{factory}: its item says class {says}, but the dataset's "
        f".targets say {targets}: "
    )


def test_every_target_is_held_against_its_item_where_all_are_gone_through(module):
    dataset = open_dataset(f"{module}:relabelled_in_one_place")
    with pytest.raises(DatasetError, match="sample 5 of .*says class 0, but .*targets say 2"):
        dataset.fingerprint  # noqa: B018
    assert len(dataset.head(5).fingerprint) == 64


@pytest.mark.parametrize("factory", ["shown", "large", "words"])
def test_a_set_in_memory_need_not_show_its_images_as_items(module, factory):
    assert isinstance(open_dataset(f"{module}:{factory}"), MemoryDataset)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("turned", "its item says class 1, but the dataset's .targets say 0"),
        ("turned_tensors", "its item says class 1, but the dataset's .targets say 0"),
        ("blue", "its item's image is not that of the dataset's .images: by a transform"),
    ],
)
def test_items_of_a_set_in_memory_are_its_images_and_targets(module, factory, message):
    with pytest.raises(DatasetError) as refusal:
        open_dataset(f"{module}:{factory}")
    assert str(refusal.value).startswith(f"sample 0 of {module}:{factory}: {message}")


@pytest.mark.parametrize("classes", ["cat,dog", 2, 2.5, {"cat": 0}, {"cat", "dog"}, [None], []])
def test_class_names_that_are_no_list_are_named(classes):
    items = Items([(image, 0) for image in random_images(2)], targets=[0, 1], classes=classes)
    with pytest.raises(DatasetError, match="my photos: classes must be a list of names, such as"):
        MapStyleDataset(items, source="my photos").classes  # noqa: B018


def test_class_names_may_be_tuples_of_synonyms():
    items = Items([], classes=[("tench", "Tinca tinca"), ("goldfish",), np.str_("ray")])
    assert MapStyleDataset(items).classes == ("('tench', 'Tinca tinca')", "('goldfish',)", "ray")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1, 2, 1], "run from 1 to 2, so class 0 has no samples: number the classes from 0"),
        ([0, 70_000, 1], "target 70000 of sample 1 would make 70,001 classes, but 65,536 are"),
        ([0, 2**70, 1], "must be whole numbers in one row"),
        ([[0], [1, 2], [0]], "must be whole numbers in one row"),
    ],
)
def test_targets_that_number_no_classes_are_named(targets, message):
    items = Items([(image, 0) for image in random_images(3)], targets=targets)
    with pytest.raises(DatasetError) as refusal:
        MapStyleDataset(items, source="my photos").classes  # noqa: B018
    assert str(refusal.value).startswith("my photos: ")
    assert message in str(refusal.value)


def test_without_attributes_all_is_learned_in_one_pass():
    memory = memory_dataset(count=8)
    items = Items([(Image.fromarray(memory.images[n]), n % 3) for n in range(8)])
    dataset = MapStyleDataset(items)
    assert not dataset.has_cheap_ids
    assert dataset.fingerprint == memory.fingerprint
    assert dataset.classes == ("0", "1", "2")
    assert items.reads == 8
    assert dataset.has_cheap_ids


def test_pillow_images_of_other_colours_become_rgb():
    dataset = MapStyleDataset(Items([(Image.new("L", (5, 4), 90), 0)]))
    assert np.array_equal(dataset.pixels(0), np.full((4, 5, 3), 90))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, "an item must be (image, target), not int"),
        ((np.zeros((4, 4), np.uint8), 0), "an array must be (height, width, 3), found (4, 4)"),
        ((np.zeros((4, 4, 3)), 0), "found ndarray of shape (4, 4, 3)"),
        (("photo.jpg", 0), "found str"),
        ((np.zeros((4, 4, 3), np.uint8), 0.5), "a target must be a whole number, not float"),
        ((np.zeros((4, 4, 3), np.uint8), [0, 1]), "a target must be a whole number, not list"),
    ],
)
def test_items_of_another_kind_are_named(item, message):
    dataset = MapStyleDataset(Items([item]), source="my photos")
    with pytest.raises(DatasetError) as refusal:
        dataset.pixels(0)
    assert str(refusal.value).startswith("sample 0 of my photos: ")
    assert message in str(refusal.value)


def test_an_item_that_fails_is_named():
    with pytest.raises(DatasetError, match="sample 4 of the dataset: can't be read: IndexError"):
        MapStyleDataset(Items([])).pixels(4)


def test_targets_and_ids_that_dont_fit_are_named():
    images = [(image, 0) for image in random_images(2)]
    with pytest.raises(DatasetError, match="target 2 of sample 1 is outside the 2 classes"):
        MapStyleDataset(Items(images, targets=[0, 2], classes=["a", "b"])).targets  # noqa: B018
    with pytest.raises(DatasetError, match="sample_ids must be 2 whole numbers"):
        MapStyleDataset(Items(images, sample_ids=[0.5, 1])).sample_ids  # noqa: B018
