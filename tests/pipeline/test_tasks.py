"""Jobs as other processes see them: pickled, opened once, checked, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import load_model, load_model_for
from logitbank.pipeline.preprocess import correct_store, corrected_manifest
from logitbank.pipeline.preprocess_job import CorrectionJob
from logitbank.pipeline.tasks import run_task
from logitbank.pipeline.teacher import CacheSettings, cache_views, raw_manifest
from logitbank.pipeline.teacher.job import TeacherJob
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import DatasetError, LogitbankError, StoreError
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import write_store

SETTINGS = CacheSettings(views=3, batch_size=16, block_rows=16)
AUGMENTATION = parse_augmentation("cifar-weak:flip=no", size=32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("teacher") / "resnet8.pt"
    torch.manual_seed(0)
    torch.save({"model": load_model("cifar:resnet8", classes=10).module.state_dict()}, path)
    return f"cifar:resnet8@{path}"


@pytest.fixture
def started(tmp_path, teacher):
    """A job over 40 digits and the writer of its store, as the process that starts it has them."""
    dataset = open_dataset("digits").head(40)
    manifest = raw_manifest(
        dataset, load_model_for(teacher, dataset, pretrained=True), AUGMENTATION, SETTINGS
    )
    writer = StoreWriter.open(tmp_path / "out.zarr", manifest, dataset.targets, dataset.sample_ids)
    store = str(tmp_path / "out.zarr")
    return TeacherJob("digits", "train", 40, teacher, SETTINGS, manifest, store), writer


def files_of(store: Path) -> dict[str, bytes]:
    paths = (path for path in store.glob("*/c/**/*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def test_a_teachers_units_are_the_same_whoever_computes_them_and_however_often(
    tmp_path, teacher, started
):
    job, writer = started
    created = writer.manifest.provenance.created
    one, other = (pickle.loads(pickle.dumps(job)).open(threads) for threads in (1, 2))
    units = writer.lacking
    # Both do all of it, in another order and in other groups.
    told = {each.unit: each for each in one.compute([(unit,) for unit in units], created)}
    first = files_of(tmp_path / "out.zarr")
    again = [(units[at],) for at in (3, 8, 0, 1, 2, 4, 7, 6, 5)]
    assert {each.unit: each for each in other.compute(again, created)} == told
    assert files_of(tmp_path / "out.zarr") == first
    for written in told.values():
        writer.accept(written)
    one.close()
    other.close()
    dataset = open_dataset("digits").head(40)
    plain = StoreWriter.open(
        tmp_path / "plain.zarr", job.manifest, dataset.targets, dataset.sample_ids
    )
    model = load_model_for(teacher, dataset, pretrained=True)
    sealed = cache_views(dataset, model, AUGMENTATION, SETTINGS, plain)
    assert writer.seal().digest == sealed.digest


def test_corrected_units_are_the_same_whoever_computes_them(tmp_path):
    write_store(tmp_path / "raw.zarr")
    parent = Store.open(tmp_path / "raw.zarr")
    wanted = corrected_manifest(parent, "sort")
    writer = StoreWriter.open(tmp_path / "out.zarr", wanted, parent.target, parent.sample_id)
    job = CorrectionJob(
        str(tmp_path / "raw.zarr"), "sort", writer.manifest, str(tmp_path / "out.zarr")
    )
    opened = pickle.loads(pickle.dumps(job)).open(threads=3)
    for _ in range(2):
        groups = [tuple(writer.lacking[:4]), tuple(writer.lacking[4:])]
        told = opened.compute(groups, writer.manifest.provenance.created)
    for written in told:
        writer.accept(written)
    plain = StoreWriter.open(tmp_path / "plain.zarr", wanted, parent.target, parent.sample_id)
    assert writer.seal().digest == correct_store(parent, plain).digest


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"limit": 32}, "dataset.samples: .* has 32, this job wants 40"),
        ({"split": "test"}, "dataset.split: .* has 'test', this job wants 'train'"),
        ({"settings": dataclasses.replace(SETTINGS, batch_size=8)}, "teacher.batch_size"),
        ({"versions": {"numpy": "0.1"}}, "has other packages than the job: numpy .* there, 0.1"),
        (
            {"settings": dataclasses.replace(SETTINGS, device="cuda:77")},
            "can't compute: device 'cuda:77'",
        ),
    ],
)
def test_a_process_that_opens_other_work_says_so(started, changes, line):
    with pytest.raises(LogitbankError, match=line):
        dataclasses.replace(started[0], **changes).open(threads=1)


def test_other_weights_under_the_same_path_are_noticed(started, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "resnet8.pt"
    torch.save({"model": load_model("cifar:resnet8", classes=10).module.state_dict()}, path)
    job = dataclasses.replace(started[0], teacher=f"cifar:resnet8@{path}")
    with pytest.raises(LogitbankError, match=r"teacher\.state_sha256"):
        job.open(threads=1)


def test_another_parent_is_noticed(tmp_path):
    write_store(tmp_path / "raw.zarr")
    parent = Store.open(tmp_path / "raw.zarr")
    wanted = corrected_manifest(parent, "sort")
    job = CorrectionJob(str(tmp_path / "raw.zarr"), "swap", wanted, str(tmp_path / "out.zarr"))
    with pytest.raises(StoreError, match=r"a worker opens other work: correction\.name"):
        job.open(threads=1)


def test_labels_of_other_samples_are_noticed(started):
    job, writer = started
    opened = job.open(threads=1)
    # As a worker whose copy of the dataset differs would have them.
    targets = opened._dataset.targets.copy()
    targets[17] = (targets[17] + 1) % 10
    opened._dataset = dataclasses.replace(opened._dataset, targets=targets)
    created = writer.manifest.provenance.created
    opened.compute([(writer.lacking[0],)], created)
    with pytest.raises(DatasetError, match="is not sample 17 of the store"):
        opened.compute([(writer.lacking[1],)], created)
    opened.close()


def test_labels_of_partners_from_other_blocks_are_noticed(tmp_path, teacher):
    """Each task looks at the samples that its views are mixed with, not at its own block alone."""
    dataset = open_dataset("digits").head(40)
    augmentation = parse_augmentation("cifar-weak+mixup", size=32, samples=40)
    model = load_model_for(teacher, dataset, pretrained=True)
    manifest = raw_manifest(dataset, model, augmentation, SETTINGS)
    out = tmp_path / "out.zarr"
    writer = StoreWriter.open(out, manifest, dataset.targets, dataset.sample_ids)
    opened = TeacherJob("digits", "train", 40, teacher, SETTINGS, manifest, str(out)).open(1)
    unit, created = writer.lacking[0], writer.manifest.provenance.created
    partners, _ = augmentation.draw_mix(0, range(16), unit.view)
    outside = int(partners[partners >= 16][0])
    never = next(each for each in range(16, 40) if each not in partners)

    def relabel(sample: int) -> None:
        targets = dataset.targets.copy()
        targets[sample] = (targets[sample] + 1) % 10
        opened._dataset = dataclasses.replace(dataset, targets=targets)

    relabel(never)
    opened.compute([(unit,)], created)
    relabel(outside)
    with pytest.raises(DatasetError, match=f"is not sample {outside} of the store"):
        opened.compute([(unit,)], created)
    opened.close()


def test_a_failure_that_a_user_can_act_on_is_a_result():
    result = run_task(lambda: 20, lambda opened: opened + 1)
    assert (result.value, result.error) == (21, None)
    assert result.seconds > 0

    def fails(opened):
        raise DatasetError("photos/17.jpg: truncated")

    result = run_task(lambda: 20, fails)
    assert (result.value, result.error) == (None, "photos/17.jpg: truncated")
    with pytest.raises(ZeroDivisionError):
        run_task(lambda: 0, lambda opened: 1 / opened)


def test_tasks_are_understood_without_torch():
    """A scheduler unpickles tasks: it must not need what workers need."""
    modules = ("logitbank.pipeline.tasks", "logitbank.jobs.cluster.worker")
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_task_of_several_views_decodes_each_image_once(tmp_path, teacher):
    """All views of a group, however many groups a task has."""
    from logitbank.pipeline.datasets.imported import MapStyleDataset
    from logitbank.pipeline.teacher.blocks import unit_groups, views_together, work_order
    from logitbank.pipeline.teacher.stage import TeacherStage

    decoded: list[int] = []

    class Photos:
        targets = np.arange(40) % 10
        classes = tuple("abcdefghij")
        sample_ids = np.arange(40)

        def __len__(self):
            return 40

        def __getitem__(self, sample):
            decoded.append(sample)
            return np.full((40, 50, 3), sample, np.uint8), sample % 10

    dataset = MapStyleDataset(Photos())
    model = load_model_for(teacher, dataset, pretrained=True)
    augmentation = parse_augmentation("imagenet-weak:size=32", size=model.input_size)
    settings = dataclasses.replace(SETTINGS, views=4)
    manifest = raw_manifest(dataset, model, augmentation, settings)
    writer = StoreWriter.open(tmp_path / "o.zarr", manifest, dataset.targets, dataset.sample_ids)
    groups = unit_groups(
        work_order(writer.lacking, dataset), views_together(dataset, settings, manifest)
    )
    assert [len(group) for group in groups] == [4, 4, 4]
    with TeacherStage(dataset, model, augmentation, settings, manifest) as stage:
        stage.compute(groups, writer)
    assert sorted(decoded) == list(range(40))
