"""docs/cluster.md: its arithmetic is what the code's own functions say, and its files exist."""

from __future__ import annotations

import re

import pytest

from logitbank.jobs.command_line.plan import store_bytes
from logitbank.jobs.fill.parts import Part
from logitbank.pipeline.teacher import CacheSettings
from logitbank.pipeline.teacher.blocks import unit_groups, views_together
from logitbank.pipeline.views import augmentation_from, parse_augmentation
from logitbank.stores.encodings import encoding_named
from logitbank.stores.layout import all_units, block_bounds, rows_per_chunk, store_arrays
from logitbank.stores.manifest import AugmentationIdentity, DatasetIdentity, Manifest
from tests.jobs.command import ROOT
from tests.stores.store_examples import manifest

PAGE = (ROOT / "docs" / "cluster.md").read_text()
SAMPLES, CLASSES, VIEWS = 1_281_167, 1_000, 100
PASSES = SAMPLES * VIEWS


@pytest.fixture(scope="module")
def imagenet() -> Manifest:
    drawn = parse_augmentation("imagenet-weak", size=224)
    return manifest(
        dataset=DatasetIdentity("imagenet", "train", SAMPLES, CLASSES, "f" * 64),
        augmentation=AugmentationIdentity(
            drawn.name, drawn.parameters, drawn.columns, drawn.dtype, drawn.size, 0
        ),
        views=VIEWS,
        encoding="float16",
        rows_per_chunk=rows_per_chunk(SAMPLES, encoding_named("float16").row_bytes(CLASSES)),
        top_classes=16,
    )


class FilesAlone:
    """A dataset as far as grouping looks at it: its images are files."""

    images = None


@pytest.fixture(scope="module")
def groups(imagenet):
    together = views_together(FilesAlone(), CacheSettings(views=VIEWS), imagenet)
    assert together == 8
    units = sorted(all_units(imagenet), key=lambda unit: (unit.block, unit.view))
    return unit_groups(units, together)


def rows_of(group, imagenet) -> int:
    start, stop = block_bounds(imagenet, group[0].block)
    return stop - start


def said(name: str) -> str:
    """The value that the page gives for a name."""
    (value,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    return value


def test_the_size_of_the_store(imagenet):
    assert said("teacher passes") == f"{PASSES:,}"
    assert said("rows of a block") == f"{imagenet.rows_per_chunk:,}"
    assert said("units (view, block)") == f"{len(all_units(imagenet)):,}"
    assert said("bytes of the store") == f"{store_bytes(imagenet) / 1e9:.1f} GB"
    chunks = sum(len(list(spec.indices())) for spec in store_arrays(imagenet).values())
    assert said("files of chunks") == f"{chunks:,}"


def test_what_shares_a_decoding(imagenet, groups):
    assert said("groups of up to 8 views that share a decoding") == f"{len(groups):,}"
    decodings = sum(rows_of(group, imagenet) for group in groups)
    assert said("decodings of an image file") == f"{decodings:,}"
    most = max(len(group) * rows_of(group, imagenet) for group in groups) * CLASSES * 4
    assert said("float32 logits of such a group") == f"{most / 1e6:.0f} MB"


def test_the_load_of_a_scheduler(imagenet, groups):
    """A task holds whole groups, one at least."""
    assert said("Dask tasks, at most") == f"{len(groups):,}"
    spent = said("time of the scheduler, at 7 ms a task, as measured")
    assert spent == f"{len(groups) * 0.007:.0f} s"


def test_the_hours(imagenet):
    table = PAGE.partition("Hours of the teacher alone")[2]
    head, *rows = re.findall(r"^\| (images/s of one GPU|[\d,]+) \| (.*) \|$", table, re.MULTILINE)
    gpus = [int(word.removesuffix(" GPU")) for word in head[1].split(" | ")]
    assert len(rows) == 3
    for rate, hours in rows:
        wanted = [PASSES / int(rate.replace(",", "")) / count / 3600 for count in gpus]
        assert hours.split(" | ") == [f"{each:.1f}" for each in wanted]


def test_sealing_and_correcting(imagenet):
    minutes = store_bytes(imagenet) / 1e9 / 60
    assert said("checking and sealing, at 1 GB/s") == f"{minutes:.1f} minutes"
    size = f"{store_bytes(imagenet) / 1e9:.1f} GB"
    assert f"reads and writes {size} each: {2 * minutes:.1f} minutes" in PAGE


def test_how_long_a_block_in_hand_takes(imagenet, groups):
    rows = imagenet.rows_per_chunk
    group = max(len(each) for each in groups) * rows
    text = " ".join(PAGE.split())
    assert (
        f"At 1,000 images/s a unit takes {rows / 1_000:.0f} s and a group {group / 1_000:.0f} s"
        in text
    )
    (notice,) = re.findall(
        r"--signal=USR1@(\d+)\n", (ROOT / "jobs" / "batch" / "slurm-array.sh").read_text()
    )
    assert f"notice of {notice} s, as in `jobs/batch/slurm-array.sh`, is enough down to " in text
    assert f"enough down to {-(-group // int(notice))} images/s" in text


def test_the_work_of_a_part(imagenet):
    units = len(Part(0, 64).share(all_units(imagenet)))
    assert (
        f"about {units} units, {units * imagenet.rows_per_chunk / 1_000 / 60:.0f} minutes" in PAGE
    )


def test_every_file_that_it_links_to_is_there():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_the_augmentation_of_the_arithmetic_is_one_that_can_be_made(imagenet):
    assert augmentation_from(imagenet.augmentation.name, imagenet.augmentation.parameters)
