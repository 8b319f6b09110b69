"""The page of a report: figures, tables and text in one HTML file that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from logitbank.jobs.report.figures import Picture, save_figures
from logitbank.jobs.report.findings import (
    accuracy_finding,
    accuracy_note,
    bytes_finding,
    cost_finding,
    cost_note,
    key_figures,
    mistakes_finding,
    ranks_finding,
    throughput_finding,
)
from logitbank.jobs.report.results import Report, StoreOnDisk, TeacherCost, Throughput
from logitbank.jobs.report.shares import ordinal, rank_shares
from logitbank.jobs.report.statistics import Spread, pays_from
from logitbank.jobs.report.tables import (
    Table,
    accuracy_table,
    bytes_table,
    comparison_table,
    cost_table,
    throughput_table,
)
from logitbank.jobs.report.themes import THEMES
from logitbank.stores.files import LocalFiles

PAGE, FIGURES = "report.html", "figures"
_TEMPLATE = "report.html"


@dataclass(frozen=True)
class Illustration:
    """A picture with its alternative text and its caption."""

    picture: Picture
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page: a finding, figures, tables, and a note on how to read them."""

    name: str
    heading: str
    finding: str
    illustrations: tuple[Illustration, ...] = ()
    tables: tuple[Table, ...] = ()
    note: str = ""


def write_report(report: Report, folder: Path) -> Path:
    """Write the page and its figures into a folder.

    Args:
        report: the results.
        folder: created if missing; `report.html` and `figures/` in it are replaced.

    Returns:
        The path of the page.

    Raises:
        StoreError: a file can't be written.
    """
    pictures = save_figures(report, folder / FIGURES)
    # Paths in the commands need not be valid text.
    page = render_page(report, pictures).encode(errors="backslashreplace")
    LocalFiles(folder).put(PAGE, [page])
    return folder / PAGE


def render_page(report: Report, pictures: dict[str, Picture]) -> str:
    """Return the page's HTML, with paths to figures relative to the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    light, dark = THEMES
    return environment.get_template(_TEMPLATE).render(
        report=report,
        key_figures=key_figures(report),
        sections=sections(report, pictures),
        light=light,
        dark=dark,
    )


def sections(report: Report, pictures: dict[str, Picture]) -> list[Section]:
    """Return the sections of the page in order, without those that have no results."""
    found = [
        Section("bytes", "Bytes on disk", bytes_finding(report), tables=(bytes_table(report),))
    ]
    if report.raw is not None:
        found.insert(0, _mistakes(report, report.raw, pictures))
    if report.throughput is not None:
        found.insert(-1, _throughput(report.throughput, pictures["throughput"]))
    if report.runs:
        found.insert(0, _accuracy(report, pictures["accuracy"]))
    if report.cost is not None:
        found.append(_cost(report, report.cost, pictures["passes"]))
    return found


def _accuracy(report: Report, picture: Picture) -> Section:
    table = accuracy_table(report)
    rows = "; ".join(f"{row[0]}: last epoch {row[2]}" for row in table.rows)
    return Section(
        "accuracy",
        "Accuracy of the students",
        accuracy_finding(report),
        (
            Illustration(
                picture,
                f"Dot plot of top-1 on the test split by what the student learned from. {rows}.",
                "Each dot is the last epoch of one seed, each ring the best epoch of the same "
                "seed, each vertical line the mean of the dots. Look at the spread of the dots "
                "within a row before comparing rows.",
            ),
        ),
        (table, comparison_table(report)) if report.comparisons else (table,),
        accuracy_note(report),
    )


def _mistakes(report: Report, raw: StoreOnDisk, pictures: dict[str, Picture]) -> Section:
    """Return the section on the mistakes of a raw store, which is named if there are several."""
    several = len([store for store in report.stores if store.manifest.correction is None]) > 1
    finding = (
        f"This is about {raw.name}. {mistakes_finding(raw)}" if several else mistakes_finding(raw)
    )
    illustrations = []
    if "mistakes" in pictures:
        illustrations.append(_shown_mistakes(report, pictures["mistakes"]))
    if "ranks" in pictures:
        finding = f"{finding} {ranks_finding(raw)}"
        illustrations.append(_shown_ranks(raw, pictures["ranks"]))
    heading = "The teacher's mistakes, before and after"
    return Section("mistakes", heading, finding, tuple(illustrations))


def _shown_mistakes(report: Report, picture: Picture) -> Illustration:
    names = [report.classes[mistake.label] for mistake in report.mistakes]
    ranks = "; ".join(
        f"class {name}, label {ordinal(mistake.rank)}"
        for name, mistake in zip(names, report.mistakes, strict=True)
    )
    shown = list(report.mistakes[0].logits)
    corrections = [store.manifest.correction for store in report.stores]
    difference = ""
    if {"sort", "swap"} <= {made.name for made in corrections if made is not None}:
        difference = (
            " The label's bar is the same after either correction; where the label came third or "
            "later, the orange bar falls further under swap than under sort."
        )
    return Illustration(
        picture,
        f"Views that the teacher got wrong ({ranks}), each with a bar chart of its class "
        f"distribution in each of the stores {', '.join(shown)}.",
        f"Blue is the label, orange the class that the teacher preferred, grey all others, as "
        f"probabilities at temperature {report.temperature:g}.{difference} For each rank, the "
        "mistake of which the teacher was most certain is shown.",
    )


def _shown_ranks(raw: StoreOnDisk, picture: Picture) -> Illustration:
    shares = ", ".join(
        f"rank {share.name} {share.percent:.1f}%" for share in rank_shares(raw.manifest.measured)
    )
    return Illustration(
        picture,
        f"Bar chart of the rank of the label where the teacher is wrong: {shares}.",
        "Share and number of the wrong rows. At rank 2 (grey) sort and swap are the same.",
    )


def _throughput(throughput: Throughput, picture: Picture) -> Section:
    medians = "; ".join(
        f"{way} {Spread.of(rates).median:,.0f}" for way, rates in throughput.ways.items()
    )
    return Section(
        "throughput",
        "Throughput of training",
        throughput_finding(throughput),
        (
            Illustration(
                picture,
                f"Bar chart of images per second in training, medians: {medians}.",
                "The cached bar should be as long as the two without a teacher, and the dots show "
                "how much of any gap is noise.",
            ),
        ),
        (throughput_table(throughput),),
        throughput.conditions,
    )


def _cost(report: Report, cost: TeacherCost, picture: Picture) -> Section:
    spent, student = cost.views * cost.samples, cost.epochs * cost.samples
    first = pays_from(spent, 0, student)
    return Section(
        "passes",
        "Teacher passes, and when the cache pays off",
        cost_finding(cost),
        (
            Illustration(
                picture,
                f"Line chart of teacher forward passes by number of students: {student:,} for "
                f"each student with the teacher in the loop, {spent:,} once for the cache; the "
                f"cache is lower from student {first} on.",
                "The loop pays for every student, the cache only once. Where the lines cross they "
                "cost the same; to the right of it the cache is cheaper.",
            ),
        ),
        (cost_table(cost, report.throughput),),
        cost_note(report),
    )
