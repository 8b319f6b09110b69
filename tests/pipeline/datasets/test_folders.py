"""Image files in class folders, as torchvision's ImageFolder orders them."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.folders import EXTENSIONS, imagefolder, imagenet
from logitbank.stores.errors import DatasetError
from tests.pipeline.views.view_examples import write_photos


@pytest.fixture
def root(tmp_path):
    """Class folders with nested ones, mixed case, and files that are no images."""
    root = write_photos(tmp_path / "photos")
    (root / "B").mkdir()
    (root / "a" / "nested").mkdir()
    for name in ("B/z.PNG", "B/a.jpeg", "a/nested/00.png", "a/é.bmp"):
        kind = {"PNG": "png", "jpeg": "jpeg", "png": "png", "bmp": "bmp"}[name.split(".")[-1]]
        Image.new("RGB", (9, 7), (len(name), 50, 60)).save(root / name, kind)
    (root / "a" / "notes.txt").write_text("no image")
    (root / "readme.md").write_text("no class")
    return root


def test_classes_files_and_pixels_are_torchvisions(root):
    ours, theirs = imagefolder(root, "train"), ImageFolder(str(root))
    assert list(ours.classes) == theirs.classes == ["B", "a", "b", "c"]
    assert [ours.where(n) for n in range(len(ours))] == [path for path, _ in theirs.imgs]
    assert ours.targets.tolist() == theirs.targets
    for sample, (image, _) in enumerate(theirs):
        assert np.array_equal(ours.pixels(sample), np.asarray(image))
    assert EXTENSIONS == IMG_EXTENSIONS


def test_the_id_of_a_file_is_the_hash_of_its_path_and_size(root, tmp_path):
    dataset = imagefolder(root, "train")
    for sample, path in enumerate(dataset.where(n) for n in range(len(dataset))):
        name = os.path.relpath(path, root).encode() + b"\0" + str(os.path.getsize(path)).encode()
        digest = hashlib.blake2b(name, digest_size=8).digest()
        assert int(dataset.sample_ids[sample]) == int.from_bytes(digest, "little")
    shutil.copytree(root, tmp_path / "elsewhere")
    assert imagefolder(tmp_path / "elsewhere", "train").fingerprint == dataset.fingerprint


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_other_colours_become_rgb(root, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    image = Image.new("RGB", (6, 5), (200, 100, 50)).convert("RGBA" if mode == "LA" else "RGB")
    path = root / "B" / f"0.{suffix}"
    image.convert(mode).save(path)
    pixels = imagefolder(root, "train").pixels(0)
    assert pixels.shape == (5, 6, 3)
    assert np.array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))


def test_exif_orientation_is_ignored(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 5)).save(root / "B" / "0.jpg", exif=exif)
    assert imagefolder(root, "train").pixels(0).shape == (5, 6, 3)


@pytest.mark.parametrize("damage", ["truncated", "no image", "empty", "gone"])
def test_an_image_that_cant_be_read_is_named(root, damage):
    dataset = imagefolder(root, "train")
    path = root / "c" / "11.png"
    sample = [dataset.where(n) for n in range(len(dataset))].index(str(path))
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        damaged = {"truncated": content[: len(content) // 2], "no image": b"text", "empty": b""}
        path.write_bytes(damaged[damage])
    with pytest.raises(DatasetError, match="11.png: can't be read as an image: .") as refusal:
        dataset.pixels(sample)
    assert str(path) in str(refusal.value)
    assert dataset.pixels(sample - 1).ndim == 3


def test_a_file_that_has_gone_has_no_id(root):
    dataset = imagefolder(root, "train")
    (root / "c" / "11.png").unlink()
    with pytest.raises(DatasetError, match="11.png: No such file"):
        dataset.fingerprint  # noqa: B018


def test_an_empty_class_is_named(root):
    (root / "d").mkdir()
    (root / "d" / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match="class folder .*/d holds no images"):
        imagefolder(root, "train")


def test_missing_folders_and_splits_are_named(tmp_path):
    with pytest.raises(DatasetError, match="imagefolder: .*nowhere is not a folder"):
        imagefolder(tmp_path / "nowhere", "train")
    with pytest.raises(DatasetError, match="imagenet:.*nowhere is not a folder"):
        imagenet(tmp_path / "nowhere", "train")
    with pytest.raises(DatasetError, match="holds no class folders"):
        imagefolder(tmp_path, "train")
    write_photos(tmp_path / "val")
    with pytest.raises(DatasetError, match="no such split, it has no folder train/"):
        imagenet(tmp_path, "train")
    with pytest.raises(DatasetError, match="no such split, it has no folder train/"):
        imagefolder(tmp_path, "train")


def test_splits_are_folders(tmp_path):
    write_photos(tmp_path / "train", per_class=2)
    for name in ("imagefolder", "imagenet"):
        assert len(open_dataset(f"{name}:{tmp_path}", "train")) == 6
        assert has_split(f"{name}:{tmp_path}", "train")
        assert not has_split(f"{name}:{tmp_path}", "val")
    write_photos(tmp_path / "test", per_class=3)
    assert len(open_dataset(f"imagefolder:{tmp_path}", "test")) == 9
    # ImageNet's own test/ has no labels.
    assert not has_split(f"imagenet:{tmp_path}", "test")
    write_photos(tmp_path / "val", per_class=4)
    for name in ("imagefolder", "imagenet"):
        assert len(open_dataset(f"{name}:{tmp_path}", "val")) == 12
        assert open_dataset(f"{name}:{tmp_path}", "test").split == "test"


def test_class_folders_alone_serve_any_split_but_count_as_the_training_one(root):
    assert len(open_dataset(f"imagefolder:{root}", "test")) == len(imagefolder(root, "train"))
    assert has_split(f"imagefolder:{root}", "train")
    assert not has_split(f"imagefolder:{root}", "test")


def test_splits_of_other_classes_are_refused(tmp_path):
    write_photos(tmp_path / "train")
    write_photos(tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / "b")
    with pytest.raises(DatasetError, match="differ in 1 class folders, 'b' first"):
        imagenet(tmp_path, "test")


def test_the_real_photos(shared):
    dataset = open_dataset(f"imagenet:{shared / 'imagenet-photos'}", "val")
    assert (len(dataset), len(dataset.classes)) == (1000, 1000)
    assert dataset.classes[0] == "n01440764"
    assert min(dataset.pixels(7).shape[:2]) == 256
