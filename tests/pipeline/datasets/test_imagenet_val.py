"""ImageNet's validation images in one flat folder, labelled by the files that are published."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.folders import imagefolder
from logitbank.stores.errors import DatasetError

# The classes in the order of their WordNet ids, and what the images show.
NAMES = ["n01440764", "n02119789", "n04037443"]
SHOWN = [1, 0, 2, 1, 1]
# The devkit numbers classes otherwise, groups of classes last.
DEVKIT = {1: NAMES[1], 2: NAMES[2], 3: NAMES[0], 4: "n00001740"}


def stem(number):
    return f"ILSVRC2012_val_{number + 1:08}"


def write_meta(folder):
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, name, "x", 3 * (number == 4)) for number, name in DEVKIT.items()]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, kinds)})


def write_labels(folder, form, shown=SHOWN):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: number for number, name in DEVKIT.items()}
    table = [f"{stem(n)},{NAMES[k]} 1 2 3 4 {NAMES[0]} 5 6 7 8 " for n, k in enumerate(shown)]
    lines, name = {
        "kaggle": (["ImageId,PredictionString", *table[::-1]], "LOC_val_solution.csv"),
        "synsets": (
            [NAMES[k] for k in shown],
            "imagenet_2012_validation_synset_labels.txt",
        ),
        "caffe": ([f"{stem(n)}.JPEG {k}" for n, k in enumerate(shown)], "val.txt"),
        "devkit": (
            [str(numbers[NAMES[k]]) for k in shown],
            "ILSVRC2012_validation_ground_truth.txt",
        ),
    }[form]
    (folder / name).write_text("\n".join(lines) + "\n")
    if form == "devkit":
        write_meta(folder)
    return folder / name


@pytest.fixture
def root(tmp_path):
    """ImageNet as it is unpacked: `train/` in class folders, `val/` flat."""
    root = tmp_path / "a" / "b" / "c"
    (root / "val").mkdir(parents=True)
    for number in range(len(SHOWN)):
        Image.new("RGB", (6, 5), (number, 0, 0)).save(root / "val" / f"{stem(number)}.JPEG")
    return root


def write_train(root, *names):
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        Image.new("RGB", (6, 5)).save(root / "train" / name / "0.JPEG")


FORMS = ["kaggle", "synsets", "caffe", "devkit"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["val", ".", "../..", "ILSVRC2012_devkit_t12/data"])
def test_a_published_file_labels_the_images(root, form, place):
    write_labels(root / place, form)
    write_train(root, *NAMES)
    for spec in (f"imagenet:{root}", f"imagefolder:{root}", f"imagenet:{root / 'val'}"):
        assert has_split(spec, "val")
        dataset = open_dataset(spec, "val")
        assert dataset.targets.tolist() == SHOWN
        assert list(dataset.classes) == NAMES
        assert dataset.where(3) == str(root / "val" / "ILSVRC2012_val_00000004.JPEG")
        assert dataset.pixels(3).shape == (5, 6, 3)
    assert len(set(dataset.sample_ids.tolist())) == len(SHOWN)
    assert len(open_dataset(f"imagenet:{root}", "train")) == 3


@pytest.mark.parametrize("form", FORMS)
def test_without_a_training_split_the_sorted_ids_are_the_classes(root, form):
    write_labels(root, form)
    dataset = open_dataset(f"imagenet:{root}", "val")
    assert dataset.targets.tolist() == SHOWN
    assert list(dataset.classes) == (["0", "1", "2"] if form == "caffe" else NAMES)
    assert imagefolder(root / "val", "test").targets.tolist() == SHOWN


def refusal(root):
    with pytest.raises(DatasetError) as refused:
        open_dataset(f"imagenet:{root}", "val")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_labels_the_files_that_would_be_read_are_named(root):
    message = refusal(root)
    assert "holds 5 of ImageNet's validation images without class folders" in message
    for name in ("LOC_val_solution.csv", "val.txt", "ground_truth.txt with meta.mat"):
        assert name in message
    write_labels(root, "devkit")
    (root / "meta.mat").unlink()
    assert "ground_truth.txt with meta.mat" in refusal(root)


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_other_images_are_refused(root, form):
    path = write_labels(root, form, SHOWN[:-1])
    assert str(path) in refusal(root)
    assert "4" in refusal(root)
    assert "5" in refusal(root)


def test_lines_are_of_images_numbered_from_1_on(root):
    write_labels(root, "synsets")
    (root / "val" / f"{stem(2)}.JPEG").rename(root / "val" / f"{stem(7)}.JPEG")
    assert "5 lines, but the images are not numbered 1 to 5" in refusal(root)
    (root / "imagenet_2012_validation_synset_labels.txt").unlink()
    write_labels(root, "kaggle")
    assert f"has no label for {stem(7)}" in refusal(root)


def test_files_that_disagree_are_refused(root):
    write_labels(root, "synsets")
    write_labels(root, "kaggle")
    assert open_dataset(f"imagenet:{root}", "val").targets.tolist() == SHOWN
    write_labels(root, "caffe", SHOWN[::-1])
    assert "give ImageNet's images different labels" in refusal(root)


@pytest.mark.parametrize(
    ("form", "line", "message"),
    [
        ("synsets", "cat", "'cat' is not a WordNet id"),
        ("kaggle", f"{stem(0)},", "'' is not a WordNet id"),
        ("caffe", f"{stem(0)}.JPEG cat", "'cat' is not the number of a class"),
        ("caffe", f"{stem(0)}.JPEG 3", "target 3 of sample 0 is outside the 3 classes"),
        ("devkit", "4", "class 4 is not in"),
        ("devkit", "9" * 30, "is not the number of a class"),
    ],
)
def test_a_line_that_is_no_class_is_named(root, form, line, message):
    write_train(root, *NAMES)
    path = write_labels(root, form)
    lines = path.read_text().splitlines()
    at = 5 if form == "kaggle" else 0
    path.write_text("\n".join([*lines[:at], line, *lines[at + 1 :]]))
    assert message in refusal(root)
    assert str(path) in refusal(root)


def test_a_class_that_training_lacks_is_named(root):
    write_train(root, *NAMES[:2])
    write_labels(root, "synsets")
    assert "n04037443 is not among the 2 classes of train/" in refusal(root)


def test_a_damaged_table_is_named(root):
    write_labels(root, "devkit")
    (root / "meta.mat").write_bytes(b"\0" * 200)
    assert "meta.mat: can't be read as the devkit's table: " in refusal(root)


def test_images_that_are_half_sorted_or_mixed_are_refused(root):
    write_labels(root, "synsets")
    Image.new("RGB", (6, 5)).save(root / "val" / "holiday.png")
    assert "holiday.png lies among ImageNet's validation images" in refusal(root)
    (root / "val" / NAMES[0]).mkdir()
    assert "beside class folders, such as n01440764" in refusal(root)
