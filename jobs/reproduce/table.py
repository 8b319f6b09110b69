"""The table of a reproduction: top-1 next to the published figures, and what it cost."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logitbank.jobs.report.results import StudentRun
from logitbank.jobs.report.statistics import MeanStd, paired_difference
from logitbank.jobs.report.tables import MINUS, Table, markdown_lines, table_lines
from logitbank.jobs.reproduce.recipe import Recipe
from logitbank.stores.files import LocalFiles

MARKDOWN, CSV = "table.md", "table.csv"

CSV_COLUMNS = (
    "recipe",
    "teacher",
    "student",
    "loss",
    "correction",
    "seeds",
    "last_mean",
    "last_std",
    "best_mean",
    "best_std",
    "published_best",
    "published_as",
)


@dataclass(frozen=True)
class Row:
    """A recipe with one correction, and its finished runs, one per seed."""

    name: str
    recipe: Recipe
    correction: str
    runs: tuple[StudentRun, ...]

    @property
    def published(self) -> float | None:
        """The published figure of the loss with this correction, None if it is not known."""
        if self.correction == self.recipe.own_correction:
            return self.recipe.published
        figure = self.recipe.published_corrected.get(self.correction)
        return figure.top1 if figure is not None else None

    @property
    def published_as(self) -> str:
        """The name that the figure was published under, empty if it is the row's own."""
        figure = self.recipe.published_corrected.get(self.correction)
        return figure.source if figure is not None else ""

    @property
    def last(self) -> MeanStd:
        """Top-1 of the last epochs."""
        return MeanStd.of([run.last_top1 for run in self.runs])

    @property
    def best(self) -> MeanStd:
        """Top-1 of the best epochs, which papers report."""
        return MeanStd.of([run.best_top1 for run in self.runs])


@dataclass(frozen=True)
class Cost:
    """What the rows took: the teacher's forward passes, those of a loop, and seconds by kind."""

    spent: int
    in_the_loop: int
    seconds: Mapping[str, float]

    @property
    def saved(self) -> int:
        """The passes that the stores saved; negative if the loop would have taken fewer."""
        return self.in_the_loop - self.spent


@dataclass(frozen=True)
class Results:
    """The rows so far and their cost, with the dataset and the scale."""

    rows: tuple[Row, ...]
    cost: Cost
    dataset: str
    scale: float

    @property
    def closing_lines(self) -> list[str]:
        """The lines below the table."""
        return [*filter(None, [self.caveat]), *comparison_lines(self.rows), *cost_lines(self.cost)]

    @property
    def caveat(self) -> str:
        """A note on how to read the published figures, empty if there are none."""
        figures = {row.recipe.dataset for row in self.rows if row.published is not None}
        if not figures:
            return ""
        text = f"Published figures are of {' and '.join(sorted(figures))}, of the best epoch."
        own = self.dataset.partition(":")[0]
        if own in {"digits", "cifar100", "imagenet"} - figures or self.scale != 1:
            return f"{text} This is {own} at scale {self.scale:g}: they can't be compared."
        if own in figures:
            return text
        return f"{text} Whether {self.dataset} can be compared is for you to judge."


def results_table(results: Results) -> Table:
    """Tabulate the rows: mean ± standard deviation over the seeds, and the published figure."""
    rows = tuple(
        (
            row.name,
            row.correction,
            str(len(row.runs)),
            str(row.last),
            str(row.best),
            _published(row),
        )
        for row in results.rows
    )
    return Table(
        "Top-1 on the test split, %: mean ± standard deviation over seeds",
        ("recipe", "correction", "seeds", "last epoch", "best epoch", "published"),
        rows,
        (False, False, True, True, True, True),
    )


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """Compare corrections by the runs that share a recipe and a seed, a line for each pair.

    Such runs start from the same weights and see the same views in the same order.
    """
    last: dict[str, dict[tuple[str, int], float]] = {row.correction: {} for row in rows}
    for row in rows:
        last[row.correction] |= {(row.name, run.seed): run.last_top1 for run in row.runs}
    lines = []
    for other, first in itertools.combinations(last, 2):
        shared = last[first].keys() & last[other].keys()
        if len(shared) > 1:
            pairs = [last[first][key] - last[other][key] for key in sorted(shared)]
            found = paired_difference(pairs)
            points = f"{found.points:+.2f}".replace("-", MINUS)
            verdict = f", {found.verdict}" if found.margin else ""
            lines.append(
                f"{first} less {other}: {points} ± {found.margin:.2f} points of the last epoch "
                f"(95% interval over {len(pairs)} pairs of one recipe and seed){verdict}"
            )
    return lines


def cost_lines(cost: Cost) -> list[str]:
    """Return lines on what was spent and saved."""
    hours = ", ".join(f"{seconds / 3600:,.3f} {kind}" for kind, seconds in cost.seconds.items())
    saved = f"{cost.saved:,}".replace("-", MINUS)
    return [
        f"teacher forward passes spent: {cost.spent:,}",
        f"teacher forward passes saved: {saved} "
        f"(with the teacher in the loop these students take {cost.in_the_loop:,})",
        f"hours: {sum(cost.seconds.values()) / 3600:,.3f} ({hours})",
    ]


def write_table(results: Results, out: Path) -> None:
    """Write the table as Markdown and CSV, each atomically.

    Raises:
        StoreError: a file can't be written.
    """
    ends = [f"- {line}" for line in results.closing_lines]
    lines = [*markdown_lines(results_table(results)), "", *ends, ""]
    files = LocalFiles(out)
    files.put(MARKDOWN, ["\n".join(lines).encode(errors="backslashreplace")])
    files.put(CSV, [csv_text(results).encode(errors="backslashreplace")])


def csv_text(results: Results) -> str:
    """Return the rows as CSV, and their cost as comments (#) at its end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in results.rows:
        recipe = row.recipe
        figures = (row.last.mean, row.last.std, row.best.mean, row.best.std, row.published)
        names = (row.name, recipe.teacher, recipe.student, recipe.loss, row.correction)
        writer.writerow([*names, len(row.runs), *map(_figure, figures), row.published_as])
    return text.getvalue() + "".join(f"# {line}\n" for line in results.closing_lines)


def shown_lines(results: Results) -> list[str]:
    """Return the table and its cost as lines for a terminal."""
    return ["", *table_lines(results_table(results)), "", *results.closing_lines]


def _published(row: Row) -> str:
    """Return the published figure with the name it was published under, such as 73.46, LA (RLD)."""
    if row.published is None:
        return ""
    return ", ".join(filter(None, (f"{row.published:.2f}", row.published_as)))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
