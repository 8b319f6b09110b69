"""Tasks as other processes see them: pickled, opened once, checked, the same bytes each time."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from logitbank.pipeline.correct import CorrectionTask
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import load_model, load_model_for
from logitbank.pipeline.store_task import OpenTask, StoreTask, compute_missing, fill_store
from logitbank.pipeline.teacher import CacheSettings, TeacherTask
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import DatasetError, LogitbankError, StoreError
from logitbank.stores.reader import Store
from logitbank.stores.units import UnitGroup, UnitWriter, WrittenUnit
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


def teacher_task(teacher: str, store: Path, augmentation=AUGMENTATION) -> TeacherTask:
    """A task over 40 digits, as the process that makes it has it: 9 units."""
    dataset = open_dataset("digits").head(40)
    model = load_model_for(teacher, dataset, pretrained=True)
    return TeacherTask.of(
        dataset, model, augmentation, SETTINGS, str(store), dataset_spec="digits", limit=40
    )


def correction_task(raw: Path, store: Path) -> CorrectionTask:
    """A task over a raw store of 9 units."""
    if not raw.exists():
        write_store(raw)
    return CorrectionTask.of(Store.open(raw), "sort", str(store), location=str(raw))


@pytest.fixture
def started(tmp_path, teacher) -> TeacherTask:
    return teacher_task(teacher, tmp_path / "out.zarr")


@pytest.fixture(params=["teacher", "correction"])
def task(request, tmp_path, teacher) -> StoreTask:
    out = tmp_path / "out.zarr"
    if request.param == "teacher":
        return teacher_task(teacher, out)
    return correction_task(tmp_path / "raw.zarr", out)


def laid_out(task: StoreTask) -> StoreWriter:
    return StoreWriter.open(task.store, task.manifest, *task.open().samples)


def elsewhere(task: StoreTask) -> StoreTask:
    """The task as another process gets it."""
    return pickle.loads(pickle.dumps(task))


def compute(opened: OpenTask, writer: StoreWriter, groups: list[UnitGroup]) -> list[WrittenUnit]:
    """Compute groups as a process that doesn't keep the ledger does."""
    attached = UnitWriter.attach(writer.files.root, writer.manifest)
    opened.require_samples(attached, [unit for group in groups for unit in group])
    written: list[WrittenUnit] = []
    opened.compute(groups, lambda unit, values: written.append(attached.write(unit, values)))
    return written


def files_of(store: Path) -> dict[str, bytes]:
    paths = (path for path in store.glob("*/c/**/*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def test_units_are_the_same_whoever_computes_them_and_however_often(tmp_path, task):
    writer = laid_out(task)
    one, other = (elsewhere(task).open(threads) for threads in (1, 3))
    units = writer.missing
    # Both do all of it, in another order and in other groups.
    told = {each.unit: each for each in compute(one, writer, [(unit,) for unit in units])}
    assert sorted(told) == units
    first = files_of(tmp_path / "out.zarr")
    again = [(units[at],) for at in (3, 8, 0, 1, 2, 4, 7, 6, 5)]
    assert {each.unit: each for each in compute(other, writer, again)} == told
    assert files_of(tmp_path / "out.zarr") == first
    for written in told.values():
        writer.accept(written)
    one.close()
    other.close()
    sealed = fill_store(dataclasses.replace(task, store=str(tmp_path / "plain.zarr")))
    assert task.open().seal(writer).digest == sealed.digest


def test_only_what_is_missing_is_computed_and_counted(tmp_path, task):
    digest = fill_store(task).digest
    assert fill_store(task, progress=lambda done, total: pytest.fail("computed")).digest == digest
    (tmp_path / "out.zarr/logits/c/1/2/0").unlink()
    (tmp_path / "out.zarr/top/c/2/0/0").unlink()
    seen: list[tuple[int, int]] = []
    before = files_of(tmp_path / "out.zarr")
    assert fill_store(task, progress=lambda *rows: seen.append(rows)).digest == digest
    assert seen[-1][0] == seen[-1][1] == sum(len_of(task, block) for block in (2, 0))
    after = files_of(tmp_path / "out.zarr")
    assert after.keys() - before.keys() == {"logits/c/1/2/0", "top/c/2/0/0"}


def len_of(task: StoreTask, block: int) -> int:
    rows, samples = task.manifest.rows_per_chunk, task.manifest.dataset.samples
    return min(rows, samples - block * rows)


def test_a_request_to_stop_leaves_the_rest_out(tmp_path, task):
    def written() -> int:
        return len(list((tmp_path / "out.zarr").glob("logits/c/*/*/0")))

    writer, opened = laid_out(task), task.open(threads=1)
    compute_missing(opened, writer, stop=lambda: written() >= 2)
    opened.close()
    assert 2 <= written() < len(writer.missing)


def test_what_is_open_where_a_task_was_made_does_not_travel(task):
    assert task.here is not None
    assert elsewhere(task).here is None
    assert elsewhere(task) == task
    assert len(pickle.dumps(task)) < 100_000


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"limit": 32}, "dataset.samples: .* has 32, this job wants 40"),
        ({"split": "test"}, "dataset.split: .* has 'test', this job wants 'train'"),
        ({"settings": dataclasses.replace(SETTINGS, batch_size=8)}, "teacher.batch_size"),
        (
            {"versions": {"numpy": "0.1"}},
            "other package versions than the job: numpy .* there, 0.1",
        ),
        (
            {"settings": dataclasses.replace(SETTINGS, device="cuda:77")},
            "can't compute: device 'cuda:77'",
        ),
    ],
)
def test_a_process_that_opens_other_work_says_so(started, changes, line):
    with pytest.raises(LogitbankError, match=line):
        dataclasses.replace(elsewhere(started), **changes).open(threads=1)


def test_other_weights_under_the_same_path_are_noticed(started, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "resnet8.pt"
    torch.save({"model": load_model("cifar:resnet8", classes=10).module.state_dict()}, path)
    task = dataclasses.replace(elsewhere(started), teacher=f"cifar:resnet8@{path}")
    with pytest.raises(LogitbankError, match=r"teacher\.state_sha256"):
        task.open(threads=1)


def test_another_parent_is_noticed(tmp_path):
    task = correction_task(tmp_path / "raw.zarr", tmp_path / "out.zarr")
    other = dataclasses.replace(elsewhere(task), correction="swap")
    with pytest.raises(StoreError, match=r"a worker opens other work: correction\.name"):
        other.open(threads=1)


def test_labels_of_other_samples_are_noticed(started):
    writer, opened = laid_out(started), elsewhere(started).open(threads=1)
    # As a worker whose copy of the dataset differs would have them.
    targets = opened.dataset.targets.copy()
    targets[17] = (targets[17] + 1) % 10
    opened.dataset = dataclasses.replace(opened.dataset, targets=targets)
    compute(opened, writer, [(writer.missing[0],)])
    with pytest.raises(DatasetError, match="is not sample 17 of the store"):
        compute(opened, writer, [(writer.missing[1],)])
    opened.close()


def test_labels_of_partners_from_other_blocks_are_noticed(tmp_path, teacher):
    """Each task looks at the samples that its views are mixed with, not at its own block alone."""
    augmentation = parse_augmentation("cifar-weak+mixup", size=32, samples=40)
    task = teacher_task(teacher, tmp_path / "out.zarr", augmentation)
    writer, opened = laid_out(task), elsewhere(task).open(threads=1)
    dataset, unit = open_dataset("digits").head(40), writer.missing[0]
    partners, _ = augmentation.draw_mix(0, range(16), unit.view)
    outside = int(partners[partners >= 16][0])
    never = next(each for each in range(16, 40) if each not in partners)

    def relabel(sample: int) -> None:
        targets = dataset.targets.copy()
        targets[sample] = (targets[sample] + 1) % 10
        opened.dataset = dataclasses.replace(dataset, targets=targets)

    relabel(never)
    compute(opened, writer, [(unit,)])
    relabel(outside)
    with pytest.raises(DatasetError, match=f"is not sample {outside} of the store"):
        compute(opened, writer, [(unit,)])
    opened.close()


def test_a_task_of_several_views_decodes_each_image_once(tmp_path, teacher):
    """All views of a group, however many groups a task has."""
    from logitbank.pipeline.datasets.imported import MapStyleDataset

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
    store = str(tmp_path / "o.zarr")
    opened = TeacherTask.of(dataset, model, augmentation, settings, store).open()
    writer = StoreWriter.open(store, opened.task.manifest, *opened.samples)
    groups = opened.groups(writer.missing)
    assert [len(group) for group in groups] == [4, 4, 4]
    opened.compute(groups, writer.write_unit)
    opened.close()
    assert sorted(decoded) == list(range(40))
