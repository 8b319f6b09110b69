"""Which folders are classes: none that are hidden, a loop, one level off, or numbered by chance."""

from __future__ import annotations

import logging
import os

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from logitbank.pipeline.datasets import (
    absolute_spec,
    has_split,
    open_dataset,
    require_two_classes,
)
from logitbank.pipeline.datasets.class_folders import ordered_classes
from logitbank.pipeline.datasets.folders import imagefolder, imagenet
from logitbank.stores.errors import DatasetError, UsageError


def write(root, *names, images=2):
    """Write class folders of a few images."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            Image.new("RGB", (6, 5), (number, len(name), 9)).save(root / name / f"{number}.png")
    return root


def refusal(location, split="train", **more):
    with pytest.raises(DatasetError) as refused:
        imagefolder(location, split, **more)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", ".Trash-1000", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"],
)
def test_hidden_folders_are_no_classes_and_hold_no_images_of_any(tmp_path, caplog, name):
    plain = imagefolder(write(tmp_path / "plain", "cat", "dog"), "train")
    root = write(tmp_path / "photos", "cat", "dog", name, f"dog/{name}", f"dog/inner/{name}")
    Image.new("RGB", (6, 5)).save(root / "cat" / "._0.png", "png")
    with caplog.at_level(logging.WARNING):
        dataset = imagefolder(root, "train")
    assert dataset.classes == ("cat", "dog")
    assert dataset.fingerprint == plain.fingerprint
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}: hidden folders are not classes: {name}"
    ]


def test_a_hidden_folder_of_another_split_is_no_class_of_it(tmp_path):
    write(tmp_path / "train", "cat", "dog", ".ipynb_checkpoints")
    write(tmp_path / "val", "cat", "dog")
    write(tmp_path / ".cache", "cat")
    assert imagefolder(tmp_path, "test").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("a/self", "."),
        ("a/up", ".."),
        ("a/far", "/"),
        ("a/inner/top", "../.."),
        ("all", "."),
        ("a/inner/again", "../inner"),
    ],
)
def test_links_back_lead_nowhere(tmp_path, link, target):
    root = write(tmp_path / "photos", "a", "a/inner", "b")
    before = imagefolder(root, "train").fingerprint
    (root / link).symlink_to(target)
    assert imagefolder(root, "train").fingerprint == before


def test_folders_that_link_to_each_other_count_once(tmp_path):
    root = write(tmp_path, "a/x", "a/y", "a/z", "b")
    before = imagefolder(root, "train").fingerprint
    for here in "xyz":
        for there in "xyz":
            (root / "a" / here / f"to_{there}").symlink_to(f"../{there}")
    assert imagefolder(root, "train").fingerprint == before


@pytest.mark.parametrize(("link", "target"), [("latest", "b"), ("a/more", "../b")])
def test_a_folder_of_two_classes_is_refused(tmp_path, link, target):
    root = write(tmp_path, "a", "b")
    (root / link).symlink_to(target)
    message = refusal(root)
    assert link in message
    assert "are the same folder, by a link, so its images would have two classes" in message


def test_links_to_folders_and_images_elsewhere_are_followed(tmp_path):
    write(tmp_path / "far", "b", "deep")
    root = write(tmp_path / "photos", "a")
    (root / "b").symlink_to(tmp_path / "far" / "b")
    (root / "b" / "more").symlink_to(tmp_path / "far" / "deep")
    (root / "a" / "7.png").symlink_to(tmp_path / "far" / "b" / "0.png")
    ours, theirs = imagefolder(root, "train"), ImageFolder(str(root))
    assert [ours.where(n) for n in range(len(ours))] == [path for path, _ in theirs.imgs]
    assert ours.targets.tolist() == theirs.targets == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("link", ["c", "a/more", "a/7.png", "a/loop.png"])
def test_a_link_to_nothing_is_named(tmp_path, link):
    root = write(tmp_path, "a", "b")
    (root / link).symlink_to("loop.png" if "loop" in link else "gone")
    assert f"{root / link}: is a broken link" in refusal(root)


def test_a_pipe_is_no_image(tmp_path):
    root = write(tmp_path, "a", "b")
    os.mkfifo(root / "a" / "notes")
    assert len(imagefolder(root, "train")) == 4
    os.mkfifo(root / "a" / "0.jpg")
    assert f"{root / 'a' / '0.jpg'}: is named like an image but is not a file" in refusal(root)


def test_a_folder_named_as_an_image_is_a_folder(tmp_path):
    root = write(tmp_path, "a", "b", "a/x.png")
    assert imagefolder(root, "train").where(2) == str(root / "a" / "x.png" / "0.png")


def test_a_folder_that_cant_be_listed_is_named(tmp_path, monkeypatch):
    root, scan = write(tmp_path, "a", "b"), os.scandir

    def refused(folder):
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    assert f"{root / 'b'}: can't be listed: Permission denied" in refusal(root)


NUMBERS = [str(number) for number in range(12)]


@pytest.mark.parametrize("names", [NUMBERS, [f"class{name}" for name in NUMBERS], ["a10", "a9"]])
def test_numbered_folders_are_numbered_as_one_asks(tmp_path, names):
    root = write(tmp_path / "photos", *names, images=1)
    message = refusal(root)
    assert "in the order of text, as torchvision's ImageFolder" in message
    assert f"use imagefolder:{root}@text or imagefolder:{root}@natural" in message
    natural = open_dataset(f"imagefolder:{root}@natural")
    assert list(natural.classes) == sorted(names, key=lambda name: int(name.strip("clas")))
    text = open_dataset(f"imagefolder:{root}@text")
    assert list(text.classes) == ImageFolder(str(root)).classes
    assert [text.where(n) for n in range(len(text))] == [
        path for path, _ in ImageFolder(str(root)).imgs
    ]


def test_the_natural_order_is_that_of_timms_reader(tmp_path):
    find = pytest.importorskip("timm.data.readers.reader_image_folder").find_images_and_targets
    names = ["n10", "N9", "3", "20", "b1x2", "b1x10", "B", "a b", "007x"]
    root = write(tmp_path, *names, images=1)
    assert list(imagefolder(root, "train", "natural").classes) == list(find(str(root))[1])


@pytest.mark.parametrize(
    "names",
    [["n01440764", "n01443537", "n15075141"], ["001", "002", "010"], ["0", "1", "2"], ["a", "b"]],
)
def test_names_that_both_readers_order_alike_ask_for_nothing(names, caplog):
    assert list(ordered_classes(names[::-1], None, "imagefolder:x")) == names
    assert not caplog.records


def test_capitals_come_first_as_in_torchvision_and_it_is_said(caplog):
    assert ordered_classes(["ant", "Bee"], None, "imagefolder:x") == ("Bee", "ant")
    assert "choose by imagefolder:x@natural or imagefolder:x@text" in caplog.records[0].getMessage()
    assert ordered_classes(["ant", "Bee"], "natural", "imagefolder:x") == ("ant", "Bee")


def test_the_order_holds_for_both_splits(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split, "9", "10", images=1)
    with pytest.raises(DatasetError, match=f"use imagenet:{tmp_path}@text"):
        imagenet(tmp_path, "test")
    for split in ("train", "val"):
        assert open_dataset(f"imagenet:{tmp_path}@natural", split).classes == ("9", "10")
    assert has_split(f"imagenet:{tmp_path}@natural", "val")


def test_an_order_belongs_to_the_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, "a", "b").parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute_spec("imagefolder:x@natural") == f"imagefolder:{os.getcwd()}/x@natural"
    assert absolute_spec("imagefolder:~@text") == f"imagefolder:{tmp_path}@text"
    with pytest.raises(UsageError, match="order of classes 'naturl': did you mean 'natural'"):
        open_dataset(f"imagefolder:{tmp_path}@naturl")
    write(tmp_path / "x@text", "9", "10")
    assert open_dataset(f"imagefolder:{tmp_path}/x@text@natural").classes == ("9", "10")
    assert "x@text@natural" in refusal(tmp_path / "x@text")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("Train", "Test"),
        ("TRAIN", "VAL"),
        ("train", "valid"),
        ("training", "Validation"),
    ],
)
def test_splits_go_by_several_names(tmp_path, caplog, train, test):
    write(tmp_path / train, "a", "b", images=2)
    write(tmp_path / test, "a", "b", images=1)
    for kind in ("imagefolder", "imagenet"):
        if (kind, test) in [("imagenet", "Test"), ("imagenet", "Testing")]:
            continue  # ImageNet's own test/ has no labels.
        spec = f"{kind}:{tmp_path}"
        assert has_split(spec, "val")
        assert [len(open_dataset(spec, split)) for split in ("train", "test")] == [4, 2]
    said = {record.getMessage().split(": ")[1] for record in caplog.records}
    assert f"{train}/ is taken as the train split of class folders" in said or train == "train"
    assert f"{test}/ is taken as the test split of class folders" in said


def test_two_folders_of_one_split_are_refused(tmp_path):
    write(tmp_path / "train", "a", "b")
    write(tmp_path / "Training", "a", "b")
    assert "both Training and train are named like the train split" in refusal(tmp_path)


@pytest.mark.parametrize("inner", ["pets", "pets/pets"])
@pytest.mark.parametrize("below", [["a", "b"], ["train/a", "train/b", "val/a", "val/b"]])
def test_a_folder_around_the_dataset_is_refused_by_the_name_of_the_dataset(tmp_path, inner, below):
    write(tmp_path / inner, *below)
    assert refusal(tmp_path).endswith(f"use imagefolder:{tmp_path / inner}")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["seg_train/a", "seg_train/b", "seg_test/a"], "seg_test and seg_train, which look like"),
        (["TrainSet/a", "TestSet/a"], "TestSet and TrainSet, which look like splits rather than"),
        (["train images", "test images"], "which look like splits rather than classes"),
        (["a/train", "a/val", "b/train"], "class folder a holds train and val: splits must hold"),
    ],
)
def test_splits_are_no_classes(tmp_path, folders, message):
    assert message in refusal(write(tmp_path, *folders))


@pytest.mark.parametrize("names", [["bus", "train"], ["test_tube", "train_station", "vase"]])
def test_classes_may_be_called_as_splits_are(tmp_path, names):
    assert imagefolder(write(tmp_path, *names), "train").classes == tuple(names)


def test_the_same_folders_in_every_class_are_pointed_out(tmp_path, caplog):
    dataset = imagefolder(write(tmp_path, "2023/a", "2023/b", "2024/a", "2024/b"), "train")
    assert dataset.classes == ("2023", "2024")
    assert "each holds the same folders (a, b)" in caplog.records[0].getMessage()


def test_a_folder_of_images_says_so(tmp_path):
    write(tmp_path, "a")
    assert "holds no class folders, but 2 images of its own" in refusal(tmp_path / "a")


def test_one_class_alone_is_nothing_to_learn(tmp_path):
    alone = imagefolder(write(tmp_path / "photos", "cat"), "train")
    with pytest.raises(DatasetError, match="has only one class, 'cat', that of .*0.png"):
        require_two_classes(alone)
    require_two_classes(imagefolder(write(tmp_path / "photos", "dog"), "train"))


def test_a_fingerprint_is_what_it_always_was(tmp_path):
    root = tmp_path / "photos"
    for number, name in enumerate(["b/1.png", "b/10.png", "b/2.PNG", "b/x/0.png", "b-c/0.jpg"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"." * number)
    dataset = imagefolder(root, "train")
    names = [os.path.relpath(dataset.where(n), root) for n in range(5)]
    assert names == ["b/1.png", "b/10.png", "b/2.PNG", "b/x/0.png", "b-c/0.jpg"]
    assert dataset.targets.tolist() == [0, 0, 0, 0, 1]
    # What the first release gave these files.
    assert dataset.fingerprint.startswith("73afdf5e4e428880dcd77aa2349113b9bee6c647d035ac7b")
