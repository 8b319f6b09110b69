"""What a report says in words: every number is computed from the results."""

from __future__ import annotations

from logitbank.jobs.report.results import Report, StoreOnDisk, TeacherCost, Throughput
from logitbank.jobs.report.shares import rank_shares, wrong_and_all
from logitbank.jobs.report.statistics import Spread, difference, pays_from
from logitbank.jobs.report.tables import row_bytes


def key_figures(report: Report) -> list[tuple[str, str]]:
    """Return the figures at the top of the page, each with what it is."""
    figures = []
    if report.raw is not None:
        wrong, rows = wrong_and_all(report.raw.manifest.measured)
        share = f"{100 * wrong / rows:.1f}%"
        figures.append((share, f"of {rows:,} cached views the teacher gets wrong"))
    if report.throughput is not None:
        cached, online = (
            Spread.of(report.throughput.ratios(way)).median
            for way in (report.throughput.cached, report.throughput.in_the_loop)
        )
        told = f"the speed of training without a teacher, cached; {online:.2f}× in the loop"
        figures.append((f"{cached:.2f}×", told))
    if (cost := report.cost) is not None:
        spent = cost.views * cost.samples
        first = pays_from(spent, 0, cost.epochs * cost.samples)
        served = f"teacher passes served {counted(cost.students, 'student')}"
        figures += [
            (f"{spent:,}", f"{served}; none in their training"),
            (f"from {first}", "students on the cache costs fewer passes than the loop"),
        ]
    return figures


def accuracy_finding(report: Report) -> str:
    """Say which differences stand out, and which say nothing."""
    if not report.comparisons:
        return "All runs learned the same way: there is nothing to compare them with."
    clear = []
    for first, second in report.comparisons:
        found = difference(*([run.last_top1 for run in report.runs_of(m)] for m in (first, second)))
        if found.margin is None:
            return "One run each has no spread: no difference can be told from noise."
        if abs(found.points) > found.margin:
            side = "above" if found.points > 0 else "below"
            clear.append(f"{first} ends {abs(found.points):.1f} points {side} {second}")
    if not clear:
        return (
            "No difference between the methods is beyond the noise of the seeds: nothing here says "
            "that one of them is better than another."
        )
    others = len(report.comparisons) - len(clear)
    told = f"Beyond the noise of the seeds, {join_names(clear)}."
    return f"{told} Nothing follows from the other differences ({others})." if others else told


def accuracy_note(report: Report) -> str:
    """Say how the accuracies are to be read."""
    image = ""
    if report.test_samples is not None:
        points = 100 / report.test_samples
        image = f"One of the {report.test_samples:,} test images is {points:.2f} points. "
    return (
        f"{image}The best epoch is chosen on the test split itself, as this literature does, which "
        "flatters it; intervals are of the last epoch, by Student's t over the seeds with pooled "
        "variance. Of twenty such comparisons of equals, one looks real by chance."
    )


def mistakes_finding(raw: StoreOnDisk) -> str:
    """Say what the teacher got wrong, and what the corrections do to it."""
    wrong, rows = wrong_and_all(raw.manifest.measured)
    if not wrong:
        return f"The teacher is right on all {rows:,} cached views: there is nothing to correct."
    return (
        f"The label does not come first in {wrong:,} of {rows:,} cached rows "
        f"({100 * wrong / rows:.1f}%), and these alone are changed. Sort gives the label the "
        "largest value and moves each class that stood above it one value down; swap exchanges the "
        "label with the class on top. Both only move values between classes."
    )


def ranks_finding(raw: StoreOnDisk) -> str:
    """Say where the label ranks, and so how often the two corrections can differ."""
    shares = rank_shares(raw.manifest.measured)
    _, rows = wrong_and_all(raw.manifest.measured)
    second = sum(share.percent for share in shares if share.rank == 2)
    beyond = sum(share.rows for share in shares if share.rank > 2)
    return (
        f"In {second:.1f}% of the wrong rows the label comes second, where sort and swap are the "
        f"same. They can differ in the other {beyond:,} rows alone, {100 * beyond / rows:.1f}% of "
        "all that was cached."
    )


def throughput_finding(throughput: Throughput) -> str:
    """Say what the cache and the loop cost, held against the same work measured twice."""
    cached, online = (
        Spread.of(throughput.ratios(way)) for way in (throughput.cached, throughput.in_the_loop)
    )
    told = (
        f"From the cache a student trains at {cached.median:.3f} of its speed without a teacher "
        f"({cached.low:.3f} to {cached.high:.3f} by round), with the teacher in the loop at "
        f"{online.median:.3f} ({online.low:.3f} to {online.high:.3f})."
    )
    compared = (throughput.reference, throughput.cached, throughput.in_the_loop)
    for way in throughput.ways:
        if way not in compared:
            again = Spread.of(throughput.ratios(way))
            told += (
                f" The same work timed twice differs as well: {again.median:.3f} "
                f"({again.low:.3f} to {again.high:.3f}). {_judged(cached, again)}"
            )
    return told


def _judged(cached: Spread, again: Spread) -> str:
    """Hold the cache's ratios against those of the same work timed twice."""
    gap = 100 * abs(again.median - cached.median)
    if cached.high < again.low:
        return f"The ranges lie apart: the cache costs about {gap:.1f}% here."
    if cached.low > again.high:
        return f"The cache came out {gap:.1f}% faster than that, for no reason that we know."
    return "The ranges overlap: what the cache costs can't be told from noise."


def bytes_finding(report: Report) -> str:
    """Say what a row takes, and what a corrected store adds."""
    stored = [store for store in report.stores if store.manifest.kind != "virtual"]
    if not stored:
        return "Virtual stores hold their manifest alone, and read the rows of their parents."
    shown = stored[0] if report.raw is None else report.raw
    told = (
        f"{shown.rows:,} rows of {shown.manifest.dataset.classes} logits as "
        f"{shown.manifest.encoding} take {shown.total_bytes:,} bytes, {row_bytes(shown):.1f} a row "
        "with the parameters and the checksum of every view."
    )
    if any(store.manifest.correction is not None for store in stored):
        told += (
            " A corrected store takes as much again; a raw store that is corrected while it is "
            "read (train --correction) takes nothing more."
        )
    return told


def cost_finding(cost: TeacherCost) -> str:
    """Say how many passes were spent, and how many saved."""
    spent, online = cost.views * cost.samples, cost.students * cost.epochs * cost.samples
    told = (
        f"The teacher saw {spent:,} views once. {counted(cost.students, 'student')} then took "
        f"{online:,} soft labels from the stores without it: "
    )
    saved = online - spent
    if saved >= 0:
        return told + f"{saved:,} forward passes saved. Each further student costs none."
    return told + f"{-saved:,} forward passes more than the loop; further students cost none."


def cost_note(report: Report) -> str:
    """Say which forward passes are not counted, and how seconds are."""
    apart = ["the teacher's own training"]
    if report.throughput is not None:
        apart.append("the timing above")
    measured = None if report.raw is None else report.raw.manifest.measured
    if measured is not None and measured.clean_samples is not None:
        apart.append(
            f"{measured.clean_samples:,} centre crops of the {measured.clean_split} split, on "
            "which the teacher was checked before it was cached"
        )
    told = f"Not counted: {join_names(apart)}."
    if report.throughput is None:
        return told
    return (
        f"{told} Seconds are images over images a second (no teacher's, times the share of it "
        "that each way keeps)."
    )


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "run"), counted(1200, "run")
    ('1 run', '1,200 runs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join_names(names: list[str]) -> str:
    """Write names in a row.

    >>> join_names(["raw", "sort", "swap"])
    'raw, sort and swap'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
