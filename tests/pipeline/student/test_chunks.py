"""Before its first step a run looks for every chunk that it will still read, and for no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, chunks_ahead, resolved_config, train
from logitbank.pipeline.views.draws import Stream, view_of_epoch
from logitbank.stores.chunks import ChunkError
from tests.pipeline.student.student_examples import (
    small_config,
    small_pair,
    small_teacher,
)
from tests.pipeline.student.student_nets import DROPOUT_NET

VIEWS = {"weak": 3, "strong": 2}
BLOCKS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory, dataset):
    """Two stores and their teacher."""
    folder = tmp_path_factory.mktemp("chunks")
    teacher = small_teacher(folder)
    small_pair(folder, dataset, teacher)
    return folder, teacher


@pytest.fixture
def stores(made, tmp_path) -> dict[str, Path]:
    """Copies that may be spoiled."""
    return {
        name: Path(shutil.copytree(made[0] / f"{name}.zarr", tmp_path / name)) for name in VIEWS
    }


def config(**changes) -> TrainConfig:
    return small_config(**{"student": DROPOUT_NET, "epochs": 2} | changes)


def view(epoch: int, name: str = "weak") -> int:
    order = Stream.STRONG_VIEW_ORDER if name == "strong" else Stream.VIEW_ORDER
    return view_of_epoch(epoch, VIEWS[name], 0, order)


def drop(store: Path, array: str, views: set[int]) -> None:
    for one in views:
        shutil.rmtree(store / array / "c" / str(one))


def test_what_a_later_epoch_lacks_stops_the_run_before_its_first_step(tmp_path, dataset, stores):
    drop(stores["weak"], "logits", {view(1)})
    (stores["weak"] / f"pixel_crc/c/{view(1)}/0").write_bytes(b"short")
    key = f"logits/c/{view(1)}/0/0"
    with pytest.raises(
        ChunkError, match=rf"chunk {key} is missing, and {BLOCKS} more of 20 chunks"
    ):
        train(
            config(),
            dataset,
            out=tmp_path / "run",
            soft_labels=SoftLabels.open(stores["weak"]),
            on_step=lambda step, loss: pytest.fail("a step was taken"),
        )
    assert not (tmp_path / "run").exists()


def test_what_no_epoch_reaches_stops_nothing(tmp_path, dataset, stores):
    for array in ("logits", "view_params", "pixel_crc"):
        drop(stores["weak"], array, {view(1), view(2)})
    drop(stores["weak"], "top", {0, 1, 2})  # Raw logits are read without it.
    train(
        config(epochs=1),
        dataset,
        out=tmp_path / "run",
        soft_labels=SoftLabels.open(stores["weak"]),
    )


def test_a_resumed_run_looks_for_what_remains(tmp_path, dataset, stores):
    class Killed(BaseException):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 3:  # The first of the second epoch.
            raise Killed

    soft, out = SoftLabels.open(stores["weak"]), tmp_path / "run"
    with pytest.raises(Killed):
        train(config(), dataset, out=out, soft_labels=soft, on_step=kill)
    drop(stores["weak"], "logits", {view(0), view(2)})
    run = resolved_config(config(), dataset, (soft,), None)
    assert chunks_ahead(run, out, (soft,), None) == 3 * BLOCKS + 2
    with pytest.raises(ChunkError):
        chunks_ahead(run, tmp_path / "another", (soft,), None)
    again = SoftLabels.open(stores["weak"])
    assert len(train(config(), dataset, out=out, soft_labels=again).metrics) == 2
    # A finished run reads nothing.
    drop(stores["weak"], "logits", {view(1)})
    train(config(), dataset, out=out, soft_labels=again)


@pytest.mark.parametrize(
    ("changes", "needed", "unneeded"),
    [
        ({"loss": "kd"}, {"logits", "view_params", "pixel_crc"}, {"top"}),
        ({"loss": "ce"}, {"view_params", "pixel_crc"}, {"logits", "top"}),
        ({"loss": "kd", "verify_pixels": "off"}, {"logits", "view_params"}, {"pixel_crc"}),
        ({"loss": "kd", "teacher": "in the loop"}, {"view_params", "pixel_crc"}, {"logits"}),
        ({"loss": "sld-kd"}, {"logits", "top"}, set()),
    ],
)
def test_arrays_that_are_not_read_are_not_looked_for(
    made, tmp_path, dataset, stores, changes, needed, unneeded
):
    soft = SoftLabels.open(stores["weak"])
    teacher = made[1] if "teacher" in changes else None
    run = resolved_config(config(**changes), dataset, (soft,), teacher)
    for array in unneeded:
        drop(stores["weak"], array, {0, 1, 2})
    chunks_ahead(run, tmp_path / "run", (soft,), teacher)
    for array in needed:
        kept = stores["weak"] / array / "c" / str(view(1))
        aside = kept.rename(tmp_path / "aside")
        with pytest.raises(ChunkError, match=f"chunk {array}/c/{view(1)}/0"):
            chunks_ahead(run, tmp_path / "run", (soft,), teacher)
        aside.rename(kept)


def test_each_of_two_stores_is_looked_at_in_its_own_order(tmp_path, dataset, stores):
    pair = SoftLabels.open_pair(stores["weak"], stores["strong"])
    run = resolved_config(config(loss="mlkd", epochs=1), dataset, pair, None)
    for name, store in stores.items():
        drop(store, "logits", set(range(VIEWS[name])) - {view(0, name)})
    chunks_ahead(run, tmp_path / "run", pair, None)
    drop(stores["strong"], "logits", {view(0, "strong")})
    with pytest.raises(
        ChunkError, match=f"strong: chunk logits/c/{view(0, 'strong')}/0/0 is missi"
    ):
        chunks_ahead(run, tmp_path / "run", pair, None)


def test_a_loop_of_ones_own_asks_for_its_epochs(stores):
    soft = SoftLabels.open(stores["weak"], correction="sort")
    assert soft.require_epochs(range(10)) == 4 * 3 * BLOCKS + 2
    drop(stores["weak"], "top", {soft.view(1, seed=5)})
    soft.require_epochs([0, 2], seed=5)
    with pytest.raises(ChunkError, match="chunk top/c"):
        soft.require_epochs(range(2), seed=5)
