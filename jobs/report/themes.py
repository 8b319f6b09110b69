"""The look of figures: a light and a dark theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

WIDTH_INCHES = 7.6
DOTS_PER_INCH = 200


@dataclass(frozen=True)
class Theme:
    """Colours by role.

    `accent` is for the truth and for the cache, `contrast` for the teacher's errors and for the
    teacher in the loop (the two are distinct in any colour vision); `quiet` is for everything else.
    """

    name: str
    surface: str
    ink: str
    muted: str
    rule: str
    accent: str
    contrast: str
    quiet: str

    def settings(self) -> Any:
        """Return settings for matplotlib's `rc_context`."""
        return {
            "figure.facecolor": self.surface,
            "savefig.facecolor": self.surface,
            "axes.facecolor": self.surface,
            "axes.edgecolor": self.rule,
            "axes.labelcolor": self.muted,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.titlecolor": self.ink,
            "axes.titlesize": 9.5,
            "axes.labelsize": 9,
            "text.color": self.ink,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "grid.color": self.rule,
            "grid.linewidth": 0.6,
            "font.size": 9,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
        }


LIGHT = Theme(
    "light",
    surface="#fdfdfc",
    ink="#1d1d1b",
    muted="#5d5d58",
    rule="#dcdbd5",
    accent="#1f6fc4",
    contrast="#d9541e",
    quiet="#b9b8b1",
)
DARK = Theme(
    "dark",
    surface="#191a1b",
    ink="#ecebe6",
    muted="#a3a29b",
    rule="#393a3b",
    accent="#5aa2ee",
    contrast="#f0824f",
    quiet="#63645f",
)
THEMES = (LIGHT, DARK)


def name_rows(axes: Axes, names: list[str], theme: Theme) -> None:
    """Label rows 0, 1, ... from the top on the left, without ticks or axis."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink, labelsize=9.5)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
