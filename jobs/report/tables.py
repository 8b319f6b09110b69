"""The tables of a report, as rows of text, for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logitbank.jobs.report.results import Report, StoreOnDisk, TeacherCost, Throughput
from logitbank.jobs.report.statistics import MeanStd, Spread, difference, pays_from

MINUS = "−"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; a row's first cell names it.

    `numeric` tells for each column whether it holds numbers, to be right-aligned. `last` is the
    number of rows at the end that sum up the others.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    last: int = 0


def accuracy_table(report: Report) -> Table:
    """Tabulate top-1 over the seeds of each method, and the teacher's own if it is known."""
    rows = []
    for method in report.methods:
        runs = report.runs_of(method)
        last = MeanStd.of([run.last_top1 for run in runs])
        best = MeanStd.of([run.best_top1 for run in runs])
        rows.append((method, str(len(runs)), str(last), str(best)))
    teacher = teacher_top1(report)
    if teacher is not None:
        rows.append(("(the teacher itself)", "1", f"{teacher:.2f}", ""))
    return Table(
        "Top-1 on the test split, %: mean ± standard deviation over seeds",
        ("the student learned from", "seeds", "last epoch", "best epoch"),
        tuple(rows),
        (False, True, True, True),
    )


def teacher_top1(report: Report) -> float | None:
    """Return the teacher's own top-1 on the test split, None if it is not known."""
    if report.raw is None or report.raw.manifest.measured.clean_split != "test":
        return None
    return report.raw.manifest.measured.clean_top1


def comparison_table(report: Report) -> Table:
    """Tabulate differences of last-epoch top-1, with Student's t intervals and verdicts."""
    rows = []
    for first, second in report.comparisons:
        found = difference(*([run.last_top1 for run in report.runs_of(m)] for m in (first, second)))
        interval = "none" if found.margin is None else _interval(found.points, found.margin)
        rows.append(
            (f"{first} {MINUS} {second}", _signed(found.points), interval, found.verdict),
        )
    return Table(
        "Differences of last-epoch top-1, in points",
        ("difference", "points", "95% interval", "it is"),
        tuple(rows),
        (False, True, True, False),
    )


def throughput_table(throughput: Throughput) -> Table:
    """Tabulate images per second and ratios to the reference, with their ranges."""
    rows = []
    for way, rates in throughput.ways.items():
        rate, relative = Spread.of(rates), Spread.of(throughput.ratios(way))
        is_reference = way == throughput.reference
        rows.append(
            (
                way,
                f"{rate.median:,.0f}",
                f"{rate.low:,.0f} to {rate.high:,.0f}",
                "1" if is_reference else f"{relative.median:.3f}",
                "" if is_reference else f"{relative.low:.3f} to {relative.high:.3f}",
            )
        )
    return Table(
        f"Images per second over {len(next(iter(throughput.ways.values())))} rounds",
        ("training with", "median", "lowest to highest", f"of {throughput.reference}", "by round"),
        tuple(rows),
        (False, True, True, True, True),
    )


def bytes_table(report: Report) -> Table:
    """Tabulate the bytes of every array in every store, their sums and the bytes per cached row.

    Cells are empty for arrays that a store does not have.
    """
    stores = report.stores
    names = dict.fromkeys(name for store in stores for name in store.array_bytes)
    rows = [(name, *(_count(store.array_bytes.get(name)) for store in stores)) for name in names]
    rows += [
        ("crc, metadata", *(f"{store.other_bytes:,}" for store in stores)),
        ("total", *(f"{store.total_bytes:,}" for store in stores)),
        ("total per cached row", *(f"{row_bytes(store):.1f}" for store in stores)),
    ]
    return Table(
        "Bytes on disk",
        ("array", *(store.name for store in stores)),
        tuple(rows),
        (False, *[True] * len(stores)),
        last=2,
    )


def row_bytes(store: StoreOnDisk) -> float:
    """Return the bytes per row, with all files of the store counted."""
    return store.total_bytes / store.rows


def cost_table(cost: TeacherCost, throughput: Throughput | None = None) -> Table:
    """Tabulate the teacher's forward passes and when the cache pays off, with the arithmetic.

    Seconds are included if both the stores and the students were timed.
    """
    spent, student = cost.views * cost.samples, cost.epochs * cost.samples
    online = cost.students * student
    rows = [
        ("spent on the cache", f"{cost.views} views × {cost.samples:,} images", f"{spent:,}"),
        (
            "the loop would have spent",
            f"{cost.students} students × {cost.epochs} epochs × {cost.samples:,} images",
            f"{online:,}",
        ),
        ("saved", f"{online:,} {MINUS} {spent:,}", f"{online - spent:,}".replace("-", MINUS)),
        (
            "pays off, in passes, from",
            f"s × {student:,} > {spent:,}",
            _from_student(pays_from(spent, 0, student)),
        ),
        *_seconds_rows(cost, throughput),
    ]
    return Table(
        "Teacher forward passes, and from how many students (s) on the cache pays off",
        ("", "arithmetic", "result"),
        tuple(rows),
        (False, False, True),
    )


def _seconds_rows(cost: TeacherCost, throughput: Throughput | None) -> list[tuple[str, str, str]]:
    """Return rows that compare whole training times, none if either was not timed.

    Both rates are taken as shares of the reference's rate, since shares are measured round by
    round, so that a machine whose speed drifts doesn't favour one of them.
    """
    if cost.cache_seconds is None or throughput is None:
        return []
    images = cost.epochs * cost.samples
    reference = Spread.of(throughput.ways[throughput.reference]).median
    cached, online = (
        Spread.of(throughput.ratios(way)).median
        for way in (throughput.cached, throughput.in_the_loop)
    )
    gain = images / (reference * online) - images / (reference * cached)
    once = f"{cost.cache_seconds:.1f}"
    return [
        ("seconds for the stores", "caching and correcting, timed", once),
        (
            "seconds a student saves",
            f"{images:,} ÷ ({reference:,.0f} × {online:.3f}) {MINUS} {images:,} ÷ "
            f"({reference:,.0f} × {cached:.3f})",
            f"{gain:.1f}".replace("-", MINUS),
        ),
        (
            "pays off, in seconds, from",
            f"s × {gain:.1f} > {once}".replace("-", MINUS),
            _from_student(pays_from(cost.cache_seconds, 0, gain)),
        ),
    ]


def table_lines(table: Table) -> list[str]:
    """Return a table as lines of plain text, with aligned columns."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [table.caption, *("  " + _aligned(line, widths, table.numeric) for line in lines)]


def markdown_lines(table: Table) -> list[str]:
    """Return a table as lines of Markdown, under its caption.

    >>> markdown_lines(Table("Top-1", ("from", "%"), (("KD", "73.33"),), (False, True)))
    ['Top-1', '', '| from | % |', '| --- | ---: |', '| KD | 73.33 |']
    """
    rule = tuple("---:" if is_number else "---" for is_number in table.numeric)
    lines = (table.header, rule, *table.rows)
    return [table.caption, "", *(f"| {' | '.join(cells)} |" for cells in lines)]


def _aligned(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    placed = (
        cell.rjust(width) if is_number else cell.ljust(width)
        for cell, width, is_number in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(placed).rstrip()


def _from_student(first: int | None) -> str:
    return "never here" if first is None else f"student {first}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", MINUS)


def _interval(points: float, margin: float) -> str:
    return f"{_signed(points - margin)} to {_signed(points + margin)}"
