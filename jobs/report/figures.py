"""The figures of a report, each drawn in a light and a dark theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from logitbank.jobs.report.results import (
    Mistake,
    Report,
    StoreOnDisk,
    StudentRun,
    TeacherCost,
    Throughput,
)
from logitbank.jobs.report.shares import (
    ordinal,
    rank_shares,
    shown_classes,
    softmax,
    wrong_and_all,
)
from logitbank.jobs.report.statistics import MeanStd, Spread, pays_from
from logitbank.jobs.report.tables import teacher_top1
from logitbank.jobs.report.themes import (
    DOTS_PER_INCH,
    THEMES,
    WIDTH_INCHES,
    Theme,
    name_rows,
)

Draw = Callable[[Theme], Figure]


@dataclass(frozen=True)
class Picture:
    """A figure's file in each theme, relative to the page, and its size in pixels of the page."""

    name: str
    light: str
    dark: str
    width: int
    height: int


def save_figures(report: Report, folder: Path) -> dict[str, Picture]:
    """Save every figure that the report has results for, in both themes, as PNG.

    Args:
        report: the results.
        folder: created if missing.

    Returns:
        The pictures by name: `accuracy`, `mistakes`, `ranks`, `throughput` and `passes`, or those
        of them that the report has results for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {name: save_figure(name, draw, folder) for name, draw in _drawn(report).items()}


def _drawn(report: Report) -> dict[str, Draw]:
    drawn: dict[str, Draw] = {}
    if report.runs:
        drawn["accuracy"] = partial(draw_accuracy, report)
    if report.mistakes:
        drawn["mistakes"] = partial(draw_mistakes, report)
    if report.raw is not None and wrong_and_all(report.raw.manifest.measured)[0]:
        drawn["ranks"] = partial(draw_ranks, report.raw)
    if report.throughput is not None:
        drawn["throughput"] = partial(draw_throughput, report.throughput)
    if report.cost is not None:
        drawn["passes"] = partial(draw_passes, report.cost)
    return drawn


def save_figure(name: str, draw: Draw, folder: Path) -> Picture:
    """Save a figure in both themes, as `NAME-THEME.png` in an existing folder."""
    files = {}
    for theme in THEMES:
        with mpl.rc_context(theme.settings()):
            figure = draw(theme)
            path = folder / f"{name}-{theme.name}.png"
            # Without the library's version in the file, the same results give the same bytes.
            figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
        files[theme.name] = f"{folder.name}/{path.name}"
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return Picture(name, files["light"], files["dark"], width, height)


def draw_accuracy(report: Report, theme: Theme) -> Figure:
    """Draw each run's top-1, of its last epoch (filled) and its best one (a ring), and means."""
    figure, axes = draw_runs({name: report.runs_of(name) for name in report.methods}, theme)
    teacher = teacher_top1(report)
    if teacher is not None:
        axes.axvline(teacher, color=theme.contrast, lw=1.2, ls=(0, (4, 3)))
        axes.annotate(
            f"the teacher, {teacher:.1f}",
            (teacher, 1.0),
            xytext=(4, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=theme.contrast,
        )
    return figure


def draw_runs(groups: Mapping[str, Sequence[StudentRun]], theme: Theme) -> tuple[Figure, Axes]:
    """Draw a row per group of runs: dots for last epochs, rings for best ones, and means."""
    figure, axes = _axes(height=0.75 + 0.42 * len(groups))
    for row, runs in enumerate(groups.values()):
        last = [run.last_top1 for run in runs]
        # Seeds are drawn below one another, so that equal accuracies don't overlap.
        heights = row + np.linspace(-0.16, 0.16, len(runs)) if len(runs) > 1 else [row]
        axes.plot([run.best_top1 for run in runs], heights, "o", ms=8, mfc="none", mec=theme.accent)
        axes.plot(last, heights, "o", ms=4.5, color=theme.accent)
        axes.vlines(MeanStd.of(last).mean, row - 0.33, row + 0.33, color=theme.ink, lw=1.6)
    name_rows(axes, list(groups), theme)
    axes.margins(x=0.08)
    axes.set_xlabel("top-1 on the test split, %")
    return figure, axes


def draw_mistakes(report: Report, theme: Theme) -> Figure:
    """Draw what the teacher saw, and next to it its distribution, raw and corrected."""
    names = list(report.mistakes[0].logits)
    rows = len(report.mistakes)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    figure = Figure(figsize=(WIDTH_INCHES, 0.35 + 1.42 * rows), layout=layout)
    grid = figure.subplots(
        rows, 1 + len(names), squeeze=False, width_ratios=[0.8, *[1.0] * len(names)]
    )
    for line, mistake in zip(grid, report.mistakes, strict=True):
        _draw_view(line[0], mistake, report)
        shares = {name: softmax(mistake.logits[name], report.temperature) for name in names}
        top = max(float(values.max()) for values in shares.values())
        for axes, name in zip(line[1:], names, strict=True):
            _draw_distribution(axes, mistake, shares[name], report.classes, theme)
            axes.set_ylim(0, top * 1.22)
    for axes, name in zip(grid[0], ["what it saw", *names], strict=True):
        axes.set_title(name, loc="left", fontweight="bold", pad=7)
    return figure


def _draw_view(axes: Axes, mistake: Mistake, report: Report) -> None:
    raw = next(iter(mistake.logits.values()))
    axes.imshow(mistake.pixels, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(
        f"it is {report.classes[mistake.label]}, read as {report.classes[int(raw.argmax())]}\n"
        f"label comes {ordinal(mistake.rank)}",
        fontsize=8.5,
    )


def _draw_distribution(
    axes: Axes, mistake: Mistake, shares: np.ndarray, classes: tuple[str, ...], theme: Theme
) -> None:
    """Draw a bar per class, with the label and the teacher's choice in colour and numbered."""
    raw = next(iter(mistake.logits.values()))
    shown, chosen = shown_classes(mistake), int(raw.argmax())
    colours = {mistake.label: theme.accent, chosen: theme.contrast}
    for place, number in enumerate(shown):
        colour = colours.get(number, theme.quiet)
        axes.bar(place, shares[number], width=0.74, color=colour)
        if number in colours:
            text = f"{shares[number]:.2f}".lstrip("0")
            axes.annotate(
                text,
                (place, shares[number]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
    names = [classes[number] for number in shown]
    # Long names don't fit next to one another.
    turned = 90 if max(map(len, names)) > 2 else 0
    axes.set_xticks(range(len(shown)), names, rotation=turned)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.spines["left"].set_visible(False)


def draw_ranks(raw: StoreOnDisk, theme: Theme) -> Figure:
    """Draw the rank of the label in the rows in which the teacher was wrong."""
    shares = rank_shares(raw.manifest.measured)
    figure, axes = _axes(height=2.3)
    colours = [theme.quiet if share.rank == 2 else theme.accent for share in shares]
    places = range(len(shares))
    axes.bar(places, [share.percent for share in shares], width=0.7, color=colours)
    for place, share in zip(places, shares, strict=True):
        axes.annotate(
            f"{share.percent:.1f}%\n{share.rows:,}",
            (place, share.percent),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=theme.ink,
        )
    axes.set_xticks(places, [share.name for share in shares])
    axes.set_yticks([])
    axes.margins(y=0.22)
    axes.tick_params(axis="x", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("rank of the label in the teacher's order, where it is wrong")
    return figure


def draw_throughput(throughput: Throughput, theme: Theme) -> Figure:
    """Draw every measured slice, and each way's median as a bar."""
    figure, axes = _axes(height=0.7 + 0.42 * len(throughput.ways))
    colours = {throughput.cached: theme.accent, throughput.in_the_loop: theme.contrast}
    for row, (way, rates) in enumerate(throughput.ways.items()):
        spread = Spread.of(rates)
        axes.barh(row, spread.median, height=0.52, color=colours.get(way, theme.quiet))
        heights = row + np.linspace(-0.17, 0.17, len(rates)) if len(rates) > 1 else [row]
        axes.plot(rates, heights, "o", ms=3, color=theme.ink, alpha=0.75, mew=0)
    name_rows(axes, list(throughput.ways), theme)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("images a second (bar: median; dots: every slice)")
    return figure


def draw_passes(cost: TeacherCost, theme: Theme) -> Figure:
    """Draw teacher forward passes against the number of students, in the loop and cached."""
    spent, epoch_passes = cost.samples * cost.views, cost.samples * cost.epochs
    first = pays_from(spent, 0, epoch_passes) or 1
    last = max(cost.students, first + 1)
    students = np.arange(last + 1)
    figure, axes = _axes(height=2.9)
    axes.plot(students, students * epoch_passes, color=theme.contrast, lw=2)
    axes.plot(students, np.full(last + 1, spent), color=theme.accent, lw=2)
    axes.axvline(first, color=theme.muted, lw=1, ls=(0, (2, 3)))
    top = last * epoch_passes
    for height, text, colour in (
        (last * epoch_passes, " teacher in the loop", theme.contrast),
        (spent, " cached once", theme.accent),
    ):
        axes.annotate(text, (last, height), va="center", color=colour, annotation_clip=False)
    axes.annotate(
        f"pays off from student {first} on",
        (first, top * 0.97),
        xytext=(5, 0),
        textcoords="offset points",
        va="top",
        color=theme.muted,
    )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlim(0, last)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel(f"students of {cost.epochs} epochs each")
    axes.set_title("teacher forward passes", loc="left", color=theme.muted)
    return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    return figure, figure.subplots()
