"""The page of a report: all of its parts, its tables' arithmetic, and what its figures draw."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from logitbank.jobs.report.figures import (
    draw_accuracy,
    draw_mistakes,
    draw_passes,
    draw_ranks,
    draw_throughput,
)
from logitbank.jobs.report.findings import accuracy_finding, key_figures, throughput_finding
from logitbank.jobs.report.page import write_report
from logitbank.jobs.report.results import Report, TeacherCost, Throughput
from logitbank.jobs.report.shares import softmax
from logitbank.jobs.report.tables import (
    accuracy_table,
    bytes_table,
    comparison_table,
    cost_table,
    table_lines,
)
from logitbank.jobs.report.themes import DARK, LIGHT
from tests.jobs.report.report_examples import (
    RATES,
    TOP1,
    Material,
    runs_of,
    small_material,
    small_report,
)
from tests.jobs.report.report_pages import Page


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    return small_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def report(material) -> Report:
    return small_report(material)


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(report, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def html(folder) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page.of(html)


class TestPage:
    def test_it_has_every_part(self, page):
        parts = ["accuracy", "mistakes", "throughput", "bytes", "passes", "setting"]
        assert page.ids == parts
        assert len(page.headings) == len(parts)

    def test_it_says_what_its_author_says(self, page, report):
        for text in (report.introduction, report.caveat, *report.commands):
            assert text in page.text

    def test_text_is_escaped(self, html):
        assert "A &lt;small&gt; report" in html
        assert "<small>" not in html

    def test_it_asks_the_web_for_nothing(self, html, page, folder):
        assert "script" not in page.tags
        assert "link" not in page.tags
        assert not re.search(r"(https?:)?//[a-z]|url\(|@import", html)
        assert all((folder / link).is_file() for link in page.links)

    def test_pictures_are_told_in_words(self, page):
        assert len(page.images) == 5
        for image in page.images:
            assert len(image["alt"]) > 40
        assert page.tags.count("figcaption") == page.tags.count("figure") == 5

    def test_pictures_have_their_size_and_a_dark_version(self, page, folder):
        for image, dark in zip(page.images, page.sources, strict=True):
            light_image, dark_image = Image.open(folder / image["src"]), Image.open(folder / dark)
            assert light_image.size == dark_image.size
            assert light_image.size == (2 * int(image["width"]), 2 * int(image["height"]))
            for file, theme in ((light_image, LIGHT), (dark_image, DARK)):
                assert "#{:02x}{:02x}{:02x}".format(*file.getpixel((0, 0))[:3]) == theme.surface

    def test_tables_are_real_ones(self, page):
        assert all(page.captions)
        assert set(page.scopes) == {"col", "row"}
        for rows in page.tables.values():
            assert len({len(row) for row in rows}) == 1

    def test_writing_it_again_replaces_it(self, report, folder, html):
        (folder / "report.html").write_text("an older page")
        write_report(report, folder)
        assert (folder / "report.html").read_text() == html

    def test_drawing_leaves_matplotlib_as_it_was(self, report, tmp_path):
        before = dict(mpl.rcParams)
        write_report(report, tmp_path)
        assert dict(mpl.rcParams) == before

    def test_without_mistakes_there_is_nothing_to_show_of_them(self, report, material, tmp_path):
        manifest = report.raw.manifest
        measured = replace(manifest.measured, label_ranks=(360, 0, 0))
        raw = replace(report.raw, manifest=replace(manifest, measured=measured))
        right = small_report(material, mistakes=(), stores=(raw, *report.stores[1:]))
        page = Page.of(write_report(right, tmp_path).read_text())
        assert len(page.images) == 3
        assert "there is nothing to correct" in page.text


class TestAccuracy:
    def test_means_and_deviations_are_those_of_the_runs(self, page):
        rows = page.tables["Top-1 on the test split, %: mean ± standard deviation over seeds"]
        for row, (method, pairs) in zip(rows[1:], TOP1.items(), strict=True):
            best, last = zip(*pairs, strict=True)
            assert row == [method, "3", written(last), written(best)]

    def test_a_terminal_sees_the_same(self, report):
        lines = table_lines(accuracy_table(report))
        assert len(lines) == 2 + len(TOP1)
        for line, (method, pairs) in zip(lines[2:], TOP1.items(), strict=True):
            assert line.split("  ")[1] == method
            assert line.endswith(written([best for best, _ in pairs]))
        assert len({len(line) for line in lines[2:]}) == 1

    def test_the_teacher_stands_below_where_it_was_measured(self, report, material):
        from dataclasses import replace

        raw = report.raw
        measured = replace(raw.manifest.measured, clean_top1=87.5, clean_split="test")
        known = replace(raw, manifest=replace(raw.manifest, measured=measured))
        rows = accuracy_table(small_report(material, stores=(known,))).rows
        assert rows[-1] == ("(the teacher itself)", "1", "87.50", "")

    def test_differences_are_first_minus_second(self, report):
        rows = comparison_table(report).rows
        assert [row[:2] for row in rows] == [
            ("KD on sort − KD on raw", "+0.67"),
            ("KD on raw − hard labels", "−12.00"),
        ]
        assert [row[3] for row in rows] == ["within the noise", "beyond the noise"]

    def test_the_text_tells_noise_from_what_stands_out(self, report, material):
        assert accuracy_finding(report) == (
            "Beyond the noise of the seeds, KD on raw ends 12.0 points below hard labels. Nothing "
            "follows from the other differences (1)."
        )
        same = runs_of(dict.fromkeys(TOP1, TOP1["KD on raw"]))
        assert accuracy_finding(small_report(material, runs=same)).startswith("No difference")
        single = runs_of({name: pairs[:1] for name, pairs in TOP1.items()})
        assert accuracy_finding(small_report(material, runs=single)).startswith("Single runs")

    def test_each_run_is_a_dot_and_a_ring_and_each_mean_a_line(self, report):
        (axes,) = draw_accuracy(report, LIGHT).axes
        drawn = [line.get_xdata().tolist() for line in axes.lines]
        pairs = [list(zip(*runs, strict=True)) for runs in TOP1.values()]
        assert drawn == [list(values) for best, last in pairs for values in (best, last)]
        means = [float(lines.get_segments()[0][0][0]) for lines in axes.collections]
        assert means == pytest.approx([statistics.fmean(last) for _, last in pairs])
        assert [label.get_text() for label in axes.get_yticklabels()] == list(TOP1)


class TestMistakes:
    @pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
    def test_bars_are_the_distributions_in_their_colours(self, report, theme):
        figure = draw_mistakes(report, theme)
        shown = iter(figure.axes)
        for mistake in report.mistakes:
            np.testing.assert_array_equal(next(shown).images[0].get_array(), mistake.pixels)
            wrong = int(mistake.logits["raw"].argmax())
            for name in ("raw", "sort", "swap"):
                bars = next(shown).patches
                heights = [bar.get_height() for bar in bars]
                np.testing.assert_allclose(heights, softmax(mistake.logits[name], 4.0))
                assert sum(heights) == pytest.approx(1)
                colours = [mpl.colors.to_hex(bar.get_facecolor()) for bar in bars]
                assert colours.pop(max(mistake.label, wrong)) in (theme.accent, theme.contrast)
                assert colours.pop(min(mistake.label, wrong)) in (theme.accent, theme.contrast)
                assert set(colours) == {theme.quiet}
                assert mpl.colors.to_hex(bars[mistake.label].get_facecolor()) == theme.accent
        assert next(shown, None) is None

    def test_ranks_are_shares_of_the_wrong_rows(self, report):
        counts = report.raw.manifest.measured.label_ranks
        (axes,) = draw_ranks(report.raw, LIGHT).axes
        heights = [bar.get_height() for bar in axes.patches]
        wrong = [100 * rows / sum(counts[1:]) for rows in counts[1:]]
        while wrong[-1] == 0:
            wrong.pop()
        assert heights == pytest.approx(wrong)

    def test_the_key_figure_is_the_share_of_wrong_rows(self, report):
        counts = report.raw.manifest.measured.label_ranks
        share = 100 * (1 - counts[0] / sum(counts))
        assert key_figures(report)[0][0] == f"{share:.1f}%"


class TestThroughput:
    def test_rates_and_ratios_are_medians_by_round(self, page):
        rows = page.tables["Images per second over 3 rounds"][1:]
        assert rows[0] == ["no teacher", "900", "500 to 1,000", "1", ""]
        assert rows[1] == ["cached", "891", "505 to 990", "0.990", "0.990 to 1.010"]
        assert rows[2] == ["in the loop", "360", "260 to 400", "0.400", "0.400 to 0.520"]
        assert rows[3] == ["no teacher, again", "900", "490 to 1,010", "1.000", "0.980 to 1.010"]

    @pytest.mark.parametrize(
        ("cached", "verdict"),
        [
            ((990.0, 505.0, 891.0), "can't be told from noise"),
            ((900.0, 475.0, 900.0), "can't be told from noise"),
            ((900.0, 450.0, 810.0), "the cache costs about 10.0% here"),
            ((1100.0, 550.0, 990.0), "for no known reason"),
        ],
    )
    def test_the_cache_is_held_against_the_same_work_timed_twice(self, material, cached, verdict):
        ways = RATES | {"cached": cached}
        throughput = Throughput(ways, "cached", "in the loop", "")
        assert verdict in throughput_finding(throughput)

    def test_bars_are_medians_and_dots_are_slices(self, report):
        (axes,) = draw_throughput(report.throughput, LIGHT).axes
        medians = [statistics.median(rates) for rates in RATES.values()]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(medians)
        assert [tuple(line.get_xdata()) for line in axes.lines] == list(RATES.values())


class TestBytes:
    def test_columns_add_up_and_are_the_files(self, report, material):
        rows = {row[0]: row[1:] for row in bytes_table(report).rows}
        totals = [whole(cell) for cell in rows.pop("total")]
        by_row = rows.pop("total per cached row")
        sums = np.sum([[whole(cell) for cell in row] for row in rows.values()], axis=0)
        assert sums.tolist() == totals
        for total, cell, path in zip(totals, by_row, material.stores.values(), strict=True):
            assert total == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
            assert float(cell) == pytest.approx(total / (3 * 120), abs=0.05)


class TestCost:
    def test_passes_and_seconds_are_computed_as_they_are_written(self, report):
        rows = {row[0]: row[1:] for row in cost_table(report.cost, report.throughput).rows}
        assert rows["spent on the cache"] == ("3 views × 120 images", "360")
        assert rows["the loop would have spent"] == ("6 students × 4 epochs × 120 images", "2,880")
        assert rows["saved"] == ("2,880 − 360", "2,520")
        assert rows["pays off, in passes, from"] == ("s × 480 > 360", "student 1")
        arithmetic, saved = rows["seconds a student saves"]
        assert arithmetic == "480 ÷ (900 × 0.400) − 480 ÷ (900 × 0.990)"
        assert saved == f"{480 / 360 - 480 / 891:.1f}"
        assert rows["pays off, in seconds, from"][1] == "student 1"

    def test_more_views_than_a_student_sees_pay_later(self, report):
        cost = TeacherCost(samples=120, views=10, epochs=4, students=2)
        rows = {row[0]: row[1:] for row in cost_table(cost, report.throughput).rows}
        assert rows["pays off, in passes, from"] == ("s × 480 > 1,200", "student 3")
        assert rows["saved"] == ("960 − 1,200", "−240")

    def test_seconds_that_were_not_timed_are_left_out(self, report):
        cost = TeacherCost(samples=120, views=3, epochs=4, students=6)
        names = [row[0] for row in cost_table(cost, report.throughput).rows]
        assert not [name for name in names if "seconds" in name]

    def test_lines_are_the_passes_by_number_of_students(self, report):
        (axes,) = draw_passes(report.cost, LIGHT).axes
        in_the_loop, cached, first = axes.lines
        students = range(7)
        assert in_the_loop.get_ydata().tolist() == [number * 4 * 120 for number in students]
        assert cached.get_ydata().tolist() == [360] * len(students)
        assert first.get_xdata()[0] == 1


def written(values) -> str:
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def whole(cell: str) -> int:
    return int(cell.replace(",", ""))
