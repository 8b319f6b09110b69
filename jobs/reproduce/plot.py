"""The plot of a reproduction: a row per recipe, with the runs of each correction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from logitbank.jobs.report.figures import save_figure
from logitbank.jobs.report.themes import WIDTH_INCHES, Theme, name_rows
from logitbank.jobs.reproduce.table import Results, Row

PLOT = "table"
_MARKERS = "osD^vP*X"


def save_plot(results: Results, out: Path) -> list[Path]:
    """Save the plot as `table-light.png` and `table-dark.png`, and return their paths."""
    picture = save_figure(PLOT, partial(draw_rows, results.rows), out)
    return [out / Path(name).name for name in (picture.light, picture.dark)]


def draw_rows(rows: Sequence[Row], theme: Theme) -> Figure:
    """Draw last epochs (filled), best ones (hollow), means of the last, and published figures.

    Corrections are below one another in their recipe's row, in different colours and shapes.
    """
    names = list(dict.fromkeys(row.name for row in rows))
    corrections = list(dict.fromkeys(row.correction for row in rows))
    spread = 0.62 / len(corrections)
    figure = Figure(
        figsize=(WIDTH_INCHES, 1.15 + len(names) * (0.14 + 0.17 * len(corrections))),
        layout=ConstrainedLayoutEngine(),
    )
    axes = figure.subplots()
    for row in rows:
        place = corrections.index(row.correction)
        height = names.index(row.name) + spread * (place - (len(corrections) - 1) / 2)
        _draw_row(axes, row, height, spread, _style(place, theme), theme)
    shared = _shared_folder(names)
    name_rows(axes, [name.removeprefix(shared) for name in names], theme)
    axes.margins(x=0.08)
    axes.set_xlabel("top-1 on the test split, %")
    axes.set_title(shared.rstrip("/"), loc="left")
    has_published = any(row.published is not None for row in rows)
    figure.legend(
        handles=_legend(corrections, has_published, theme),
        loc="outside upper right",
        ncols=len(corrections) + 2 + has_published,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.2,
    )
    return figure


def _draw_row(
    axes: Axes, row: Row, height: float, spread: float, style: tuple[str, str], theme: Theme
) -> None:
    colour, marker = style
    last = [run.last_top1 for run in row.runs]
    best = [run.best_top1 for run in row.runs]
    # Seeds are drawn below one another, so that equal accuracies don't overlap.
    half = spread * 0.22 if len(row.runs) > 1 else 0.0
    heights = height + np.linspace(-half, half, len(row.runs))
    axes.plot(best, heights, marker, ms=7, mfc="none", mec=colour, mew=0.8, ls="none")
    axes.plot(last, heights, marker, ms=4, color=colour, ls="none")
    axes.vlines(row.last.mean, height - spread * 0.45, height + spread * 0.45, color=colour, lw=1.4)
    if row.published is not None:
        axes.plot([row.published], [height], "|", ms=11, mew=2, color=theme.ink)


def _style(place: int, theme: Theme) -> tuple[str, str]:
    """Return the colour and the marker of the correction at this place."""
    colours = theme.muted, theme.accent, theme.contrast, theme.ink, theme.quiet
    return colours[place % len(colours)], _MARKERS[place % len(_MARKERS)]


def _legend(corrections: Sequence[str], has_published: bool, theme: Theme) -> list[Line2D]:
    def entry(label: str, **look: object) -> Line2D:
        return Line2D([], [], ls="none", label=label, **look)  # type: ignore[arg-type]

    styles = [_style(place, theme) for place in range(len(corrections))]
    entries = [
        entry(name, color=colour, marker=marker, ms=5)
        for name, (colour, marker) in zip(corrections, styles, strict=True)
    ]
    entries.append(entry("best epoch", mfc="none", mec=theme.muted, marker="o", ms=7))
    entries.append(entry("mean of last", color=theme.muted, marker="|", ms=10, mew=1.4))
    if has_published:
        entries.append(entry("published", color=theme.ink, marker="|", ms=11, mew=2))
    return entries


def _shared_folder(names: Sequence[str]) -> str:
    """Return the folder that all names begin with, including the final `/`.

    >>> _shared_folder(["digits/kd", "digits/dkd"]), _shared_folder(["a/kd", "b/kd"])
    ('digits/', '')
    """
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return f"{folder}/" if folder else ""
