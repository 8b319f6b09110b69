"""A report of small, real stores and made-up runs, for the tests of reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from logitbank.jobs.report.reading import find_mistakes, read_store
from logitbank.jobs.report.results import Report, StudentRun, TeacherCost, Throughput
from logitbank.pipeline.correct import CorrectionTask
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.reader import Store
from tests.pipeline.student.student_examples import small_dataset, small_store, small_teacher

TOP1 = {
    "hard labels": [(91.0, 90.0), (93.5, 92.0), (94.0, 94.0)],
    "KD on raw": [(80.0, 79.0), (81.0, 80.0), (82.0, 81.0)],
    "KD on sort": [(80.5, 80.5), (80.0, 79.5), (83.0, 82.0)],
}
RATES = {
    "no teacher": (1000.0, 500.0, 900.0),
    "cached": (990.0, 505.0, 891.0),
    "in the loop": (400.0, 260.0, 360.0),
    "no teacher, again": (1010.0, 490.0, 900.0),
}


@dataclass(frozen=True)
class Material:
    """A dataset, and stores by name: raw, sort and swap."""

    dataset: MemoryDataset
    stores: dict[str, Path]


def small_material(folder: Path) -> Material:
    """Cache a teacher of random weights, wrong in most rows, and correct what it said."""
    dataset = small_dataset()
    raw = small_store(folder / "raw.zarr", dataset, small_teacher(folder)).store
    stores = {"raw": folder / "raw.zarr"}
    for name in ("sort", "swap"):
        stores[name] = folder / f"{name}.zarr"
        fill_store(CorrectionTask.of(raw, name, str(stores[name])))
    return Material(dataset, stores)


def runs_of(top1: dict[str, list[tuple[float, float]]]) -> tuple[StudentRun, ...]:
    """Runs by method, each with its best and last top-1; seeds count from 0."""
    return tuple(
        StudentRun(method, seed, best, last, 4, f"{method}-{seed}/metrics.jsonl")
        for method, pairs in top1.items()
        for seed, (best, last) in enumerate(pairs)
    )


def small_report(material: Material, **changes: object) -> Report:
    """A whole report; `changes` replace its fields."""
    stores = {name: Store.open(path) for name, path in material.stores.items()}
    raw, samples = stores["raw"], len(material.dataset)
    corrected = {name: store for name, store in stores.items() if name != "raw"}
    fields: dict = {
        "title": "A <small> report",
        "introduction": "All that was measured.",
        "caveat": "It proves the plumbing.",
        "runs": runs_of(TOP1),
        "comparisons": (("KD on sort", "KD on raw"), ("KD on raw", "hard labels")),
        "test_samples": 400,
        "stores": tuple(read_store(store, f"{name}.zarr") for name, store in stores.items()),
        "classes": material.dataset.classes,
        "mistakes": find_mistakes(material.dataset, raw, corrected, count=3),
        "temperature": 4.0,
        "throughput": Throughput(RATES, "cached", "in the loop", "Three rounds."),
        "cost": TeacherCost(samples, raw.manifest.views, 4, 6, cache_seconds=0.5),
        "setting": {"dataset": "small"},
        "commands": ("logitbank cache --dataset digits",),
        "stages": {"cache": 0.5},
    }
    return Report(**(fields | changes))
