"""The text of a report, in which every number is computed from the results."""

from __future__ import annotations

from logitbank.jobs.report.results import Report, StoreOnDisk, TeacherCost, Throughput
from logitbank.jobs.report.shares import rank_shares, wrong_and_all
from logitbank.jobs.report.statistics import Spread, difference, pays_from
from logitbank.jobs.report.tables import row_bytes


def key_figures(report: Report) -> list[tuple[str, str]]:
    """Return the figures at the top of the page, each with what it measures."""
    figures = []
    if report.raw is not None:
        wrong, rows = wrong_and_all(report.raw.manifest.measured)
        share = f"{100 * wrong / rows:.1f}%"
        figures.append((share, f"of {rows:,} cached views on which the teacher is wrong"))
    if report.throughput is not None:
        cached, online = (
            Spread.of(report.throughput.ratios(way)).median
            for way in (report.throughput.cached, report.throughput.in_the_loop)
        )
        text = f"the speed of training without a teacher, cached; {online:.2f}× in the loop"
        figures.append((f"{cached:.2f}×", text))
    if (cost := report.cost) is not None:
        spent = cost.views * cost.samples
        first = pays_from(spent, 0, cost.epochs * cost.samples)
        served = f"teacher passes served {counted(cost.students, 'student')}"
        figures += [
            (f"{spent:,}", f"{served}, and none were made while they trained"),
            (f"from {first}", "students on, the cache costs fewer passes than the loop"),
        ]
    return figures


def accuracy_finding(report: Report) -> str:
    """Return sentences on which differences stand out from the noise, and which don't."""
    if not report.comparisons:
        return "All runs used the same method: there is nothing to compare them with."
    clear = []
    for first, second in report.comparisons:
        found = difference(*([run.last_top1 for run in report.runs_of(m)] for m in (first, second)))
        if found.margin is None:
            return "Single runs have no spread: no difference can be told from noise."
        if abs(found.points) > found.margin:
            side = "above" if found.points > 0 else "below"
            clear.append(f"{first} ends {abs(found.points):.1f} points {side} {second}")
    if not clear:
        return (
            "No difference between the methods is beyond the noise of the seeds: there is no "
            "evidence here that one of them is better than another."
        )
    others = len(report.comparisons) - len(clear)
    text = f"Beyond the noise of the seeds, {join_names(clear)}."
    return f"{text} Nothing follows from the other differences ({others})." if others else text


def accuracy_note(report: Report) -> str:
    """Return a note on how to read the accuracies."""
    image = ""
    if report.test_samples is not None:
        points = 100 / report.test_samples
        image = f"Each of the {report.test_samples:,} test images is {points:.2f} points. "
    return (
        f"{image}The best epoch is chosen on the test split itself, as in most of this literature, "
        "which flatters it; intervals are of the last epoch, by Student's t over the seeds with "
        "pooled variance. Of twenty such comparisons of equals, one looks real by chance."
    )


def mistakes_finding(raw: StoreOnDisk) -> str:
    """Return sentences on how often the teacher is wrong, and what corrections do about it."""
    wrong, rows = wrong_and_all(raw.manifest.measured)
    if not wrong:
        return f"The teacher is right on all {rows:,} cached views: there is nothing to correct."
    return (
        f"The label does not come first in {wrong:,} of {rows:,} cached rows "
        f"({100 * wrong / rows:.1f}%), and only these are changed. Sort gives the label the "
        "largest value and moves each class above it down by one; swap exchanges the label with "
        "the class on top. Both only move values between classes."
    )


def ranks_finding(raw: StoreOnDisk) -> str:
    """Return sentences on the label's rank, and so on how often the two corrections can differ."""
    shares = rank_shares(raw.manifest.measured)
    _, rows = wrong_and_all(raw.manifest.measured)
    second = sum(share.percent for share in shares if share.rank == 2)
    beyond = sum(share.rows for share in shares if share.rank > 2)
    return (
        f"In {second:.1f}% of the wrong rows the label comes second, where sort and swap are the "
        f"same. They can differ only in the other {beyond:,} rows, {100 * beyond / rows:.1f}% of "
        "all cached rows."
    )


def throughput_finding(throughput: Throughput) -> str:
    """Return sentences on the cost of the cache and the loop, against the same work done twice."""
    cached, online = (
        Spread.of(throughput.ratios(way)) for way in (throughput.cached, throughput.in_the_loop)
    )
    text = (
        f"From the cache, a student trains at {cached.median:.3f} of its speed without a teacher "
        f"({cached.low:.3f} to {cached.high:.3f} by round), with the teacher in the loop at "
        f"{online.median:.3f} ({online.low:.3f} to {online.high:.3f})."
    )
    compared = (throughput.reference, throughput.cached, throughput.in_the_loop)
    for way in throughput.ways:
        if way not in compared:
            again = Spread.of(throughput.ratios(way))
            text += (
                f" The same work timed twice differs as well: {again.median:.3f} "
                f"({again.low:.3f} to {again.high:.3f}). {_judged(cached, again)}"
            )
    return text


def _judged(cached: Spread, again: Spread) -> str:
    """Compare the cache's ratios with those of the same work timed twice."""
    gap = 100 * abs(again.median - cached.median)
    if cached.high < again.low:
        return f"The ranges don't overlap: the cache costs about {gap:.1f}% here."
    if cached.low > again.high:
        return f"The cache came out {gap:.1f}% faster than that, for no known reason."
    return "The ranges overlap: what the cache costs can't be told from noise."


def bytes_finding(report: Report) -> str:
    """Return sentences on the size of a row, and on what a corrected store adds."""
    stored = [store for store in report.stores if store.manifest.kind != "virtual"]
    if not stored:
        return "Virtual stores hold only a manifest, and read the rows of their parents."
    shown = stored[0] if report.raw is None else report.raw
    text = (
        f"{shown.rows:,} rows of {shown.manifest.dataset.classes} logits as "
        f"{shown.manifest.encoding} take {shown.total_bytes:,} bytes, {row_bytes(shown):.1f} per "
        "row, including the parameters and the checksum of every view."
    )
    if any(store.manifest.correction is not None for store in stored):
        text += (
            " A corrected store takes as much again; a raw store that is corrected while it is "
            "read (train --correction) takes no more."
        )
    return text


def cost_finding(cost: TeacherCost) -> str:
    """Return sentences on how many passes were spent, and how many were saved."""
    spent, online = cost.views * cost.samples, cost.students * cost.epochs * cost.samples
    text = (
        f"The teacher saw {spent:,} views once. {counted(cost.students, 'student')} then took "
        f"{online:,} soft labels from the stores without it: "
    )
    saved = online - spent
    if saved >= 0:
        return text + f"{saved:,} forward passes saved. Each further student costs none."
    return text + f"{-saved:,} forward passes more than the loop; further students cost none."


def cost_note(report: Report) -> str:
    """Return a note on which forward passes are not counted, and on how seconds are."""
    apart = ["the teacher's own training"]
    if report.throughput is not None:
        apart.append("the timing above")
    measured = None if report.raw is None else report.raw.manifest.measured
    if measured is not None and measured.clean_samples is not None:
        apart.append(
            f"{measured.clean_samples:,} centre crops of the {measured.clean_split} split, on "
            "which the teacher was checked before it was cached"
        )
    text = f"Not counted: {join_names(apart)}."
    if report.throughput is None:
        return text
    return (
        f"{text} Seconds are the number of images divided by images per second (the rate without "
        "a teacher, times the share of it that each way keeps)."
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "run"), counted(1200, "run")
    ('1 run', '1,200 runs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join_names(names: list[str]) -> str:
    """Join names to a list in a sentence.

    >>> join_names(["raw", "sort", "swap"])
    'raw, sort and swap'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
