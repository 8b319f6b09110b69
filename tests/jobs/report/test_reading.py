"""Results read from runs and stores, against plain readings of the same files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from logitbank.jobs.report.reading import find_mistakes, read_run, read_store
from logitbank.jobs.report.shares import ordinal, rank_shares, shown_classes, softmax
from logitbank.stores.errors import LogitbankError, PixelError
from logitbank.stores.manifest import Measured
from logitbank.stores.reader import Store
from tests.jobs.report.report_examples import Material, small_material


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    return small_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def mistakes(material):
    corrected = {name: Store.open(material.stores[name]) for name in ("sort", "swap")}
    return find_mistakes(material.dataset, Store.open(material.stores["raw"]), corrected, count=4)


def rank_of_label(logits: np.ndarray, label: int) -> int:
    """Count the classes that come before the label, and it: values down, then classes up."""
    return 1 + sum(
        bool(value > logits[label] or (value == logits[label] and number < label))
        for number, value in enumerate(logits)
    )


def write_metrics(run: Path, epochs: list[dict]) -> None:
    run.mkdir()
    lines = [json.dumps(epoch) for epoch in epochs]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


class TestRuns:
    def test_best_and_last_are_those_of_the_metrics(self, tmp_path):
        write_metrics(tmp_path / "run", [{"top1": 50.0}, {"top1": 70.5}, {"top1": 70.25}])
        run = read_run(tmp_path / "run", "KD", 3)
        assert (run.method, run.seed, run.epochs) == ("KD", 3, 3)
        assert (run.best_top1, run.last_top1) == (70.5, 70.25)

    def test_a_missing_run_is_named(self, tmp_path):
        with pytest.raises(LogitbankError, match=r"metrics.jsonl can't be read: No such file"):
            read_run(tmp_path / "run", "KD", 0)

    @pytest.mark.parametrize(
        "epochs", [[], [{"top1": None}], [{"loss": 1.0}]], ids=["none", "null", "absent"]
    )
    def test_a_run_without_accuracies_is_refused(self, tmp_path, epochs):
        write_metrics(tmp_path / "run", epochs)
        with pytest.raises(LogitbankError, match="has no top1 for each of its epochs"):
            read_run(tmp_path / "run", "KD", 0)

    @pytest.mark.parametrize("text", ["[" * 99_999, "\0" * 9, '{"top1": 5', "[]\n"])
    def test_a_damaged_file_is_refused(self, tmp_path, text):
        (tmp_path / "metrics.jsonl").write_text(text)
        with pytest.raises(LogitbankError, match="has no top1 for each of its epochs"):
            read_run(tmp_path, "KD", 0)

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "metrics.jsonl")
        with pytest.raises(LogitbankError, match=r"metrics.jsonl can't be read: it is not a file"):
            read_run(tmp_path, "KD", 0)


class TestStores:
    def test_the_bytes_are_those_of_the_files(self, material):
        path = material.stores["sort"]
        store = read_store(Store.open(path), "sort.zarr")
        files = [file for file in path.rglob("*") if file.is_file()]
        assert store.total_bytes == sum(file.stat().st_size for file in files)
        for name, size in store.array_bytes.items():
            inside = [file for file in (path / name).rglob("*") if file.is_file()]
            assert size == sum(file.stat().st_size for file in inside) > 0
        assert store.other_bytes > 0

    def test_the_rows_are_views_times_samples(self, material):
        store = read_store(Store.open(material.stores["raw"]), "raw.zarr")
        assert store.rows == 3 * len(material.dataset)


class TestMistakes:
    def test_each_is_a_view_on_which_the_teacher_was_wrong(self, material, mistakes):
        raw = Store.open(material.stores["raw"])
        assert len(mistakes) == 4
        for mistake in mistakes:
            stored = raw.read_view("logits", mistake.view)[mistake.sample]
            assert mistake.label == raw.target[mistake.sample]
            assert stored.max() > stored[mistake.label]
            assert mistake.rank == rank_of_label(stored, mistake.label) >= 2
            np.testing.assert_array_equal(mistake.logits["raw"], stored)

    def test_ranks_rise_to_the_deepest_and_samples_differ(self, material, mistakes):
        raw = Store.open(material.stores["raw"])
        ranks = [mistake.rank for mistake in mistakes]
        assert ranks == sorted(set(ranks))
        assert ranks[-1] == max(
            rank_of_label(row, label)
            for view in range(3)
            for row, label in zip(raw.read_view("logits", view), raw.target, strict=True)
        )
        assert len({mistake.sample for mistake in mistakes}) == 4

    def test_of_the_deepest_rank_the_surest_is_shown(self, material, mistakes):
        raw, chosen = Store.open(material.stores["raw"]), mistakes[-1]
        surest = max(
            np.exp(row.astype(np.float64) - row.max()).sum() ** -1
            for view in range(3)
            for row, label in zip(raw.read_view("logits", view), raw.target, strict=True)
            if rank_of_label(row, label) == chosen.rank
        )
        assert softmax(chosen.logits["raw"], 1.0).max() == pytest.approx(surest)

    def test_corrected_rows_are_those_of_the_corrected_stores(self, material, mistakes):
        for name in ("sort", "swap"):
            store = Store.open(material.stores[name])
            for mistake in mistakes:
                row = mistake.logits[name]
                stored = store.read_view("logits", mistake.view)[mistake.sample]
                np.testing.assert_array_equal(row, stored)
                assert row.argmax() == mistake.label
                np.testing.assert_array_equal(np.sort(row), np.sort(mistake.logits["raw"]))

    def test_the_pixels_are_those_that_the_teacher_saw(self, material, mistakes):
        raw = Store.open(material.stores["raw"])
        for mistake in mistakes:
            seen = raw.read_view("pixel_crc", mistake.view)[mistake.sample]
            assert google_crc32c.value(mistake.pixels.tobytes()) == seen

    def test_pixels_that_were_not_cached_are_not_shown(self, material):
        mirrored = replace(material.dataset, images=material.dataset.images[:, :, ::-1].copy())
        with pytest.raises(PixelError, match="sample"):
            find_mistakes(mirrored, Store.open(material.stores["raw"]), {}, count=1)

    def test_a_teacher_that_is_always_right_made_none(self, material):
        right, swapped = Store.open(material.stores["sort"]), Store.open(material.stores["swap"])
        found = find_mistakes(material.dataset, right, {"swap": swapped}, count=4)
        assert found == ()


class TestShares:
    def test_ranks_are_shared_out_among_the_wrong_rows(self):
        shares = rank_shares(Measured(label_ranks=(90, 6, 0, 4, 0, 0)))
        assert [(share.name, share.rows, share.percent) for share in shares] == [
            ("2", 6, 60.0),
            ("3", 0, 0.0),
            ("4", 4, 40.0),
        ]

    def test_ranks_beyond_those_in_order_have_a_name_of_their_own(self):
        shares = rank_shares(Measured(label_ranks=(5, 3, 1)))
        assert [share.name for share in shares] == ["2", "beyond 2"]

    def test_no_wrong_row_has_no_shares(self):
        assert rank_shares(Measured(label_ranks=(5, 0, 0))) == ()

    def test_of_many_classes_the_largest_and_the_label_are_shown(self, mistakes):
        row = np.float32([5, 1, 9, 3, 8, 2, 7, 4, 6, 0, -1, -2])
        shown = shown_classes(replace(mistakes[0], label=11, logits={"raw": row}))
        assert shown == [0, 1, 2, 3, 4, 5, 6, 7, 8, 11]

    def test_few_classes_are_all_shown(self, mistakes):
        assert shown_classes(mistakes[0]) == list(range(7))

    @pytest.mark.parametrize(
        ("number", "written"),
        [
            (1, "1st"),
            (2, "2nd"),
            (3, "3rd"),
            (4, "4th"),
            (12, "12th"),
            (21, "21st"),
            (113, "113th"),
        ],
    )
    def test_ranks_are_written_as_people_say_them(self, number, written):
        assert ordinal(number) == written
