"""What `reproduce` plans for recipes, and the table it makes of runs, with nothing run."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from logitbank.jobs.demo.stages import Stage
from logitbank.jobs.report.results import StudentRun
from logitbank.jobs.report.themes import LIGHT
from logitbank.jobs.reproduce.plan import Plan, Planner, Request
from logitbank.jobs.reproduce.plot import draw_rows
from logitbank.jobs.reproduce.recipe import PublishedFigure, Recipe, TeacherTraining
from logitbank.jobs.reproduce.seconds import SECONDS, StageSeconds
from logitbank.jobs.reproduce.table import (
    Cost,
    Results,
    Row,
    comparison_lines,
    cost_lines,
    csv_text,
    shown_lines,
)
from logitbank.pipeline.losses import Loss, LossInputs, Terms
from logitbank.stores.errors import LogitbankError, UsageError

WHOLE = {
    "dataset": "cifar100",
    "teacher": "cifar:resnet8",
    "student": "cifar:resnet8",
    "loss": "dkd",
    "weak": "cifar-weak:flip=no",
    "views": 10,
    "epochs": 40,
    "batch_size": 32,
    "lr": 0.1,
    "milestones": (20,),
    "weight_decay": 5e-4,
}


def recipe(**changes: object) -> Recipe:
    return Recipe(**WHOLE | changes)


def planned(*recipes: Recipe, samples: int = 1000, **request: object) -> Plan:
    settings = {"dataset": "cifar100:data", "out": Path("out"), "seeds": 1}
    asked = Request(**settings | {"teachers": ("cifar:resnet8@t.pt",)} | request)
    return Planner(asked, samples).plan({f"r{i}": one for i, one in enumerate(recipes)})


def flag(stage: Stage, name: str) -> str:
    return stage.argv[stage.argv.index(name) + 1]


@dataclass(frozen=True)
class Focal(Loss):
    """A user's loss whose γ counts no epochs."""

    gamma: float = 0.5

    def terms(self, inputs: LossInputs) -> Terms:
        raise NotImplementedError


class TestPlan:
    def test_a_loss_of_ones_own_keeps_its_settings_whatever_they_are_called(self):
        plan = planned(recipe(loss=f"import:{__name__}:Focal"), scale=0.1)
        student = plan.stages[-1]
        assert flag(student, "--loss") == f"import:{__name__}:Focal"
        assert flag(student, "--loss-setting") == "gamma=0.5"

    def test_a_given_teacher_is_cached_not_trained(self):
        plan = planned(recipe(corrections=("none",)))
        assert [stage.argv[0] for stage in plan.stages] == ["cache", "train"]
        assert flag(plan.stages[0], "--teacher") == "cifar:resnet8@t.pt"
        assert plan.cached_rows == 10 * 1000

    def test_recipes_of_one_teacher_share_its_stores(self):
        strong = {"loss": "mlkd", "strong": "cifar-strong"}
        plan = planned(recipe(), recipe(loss="kd"), recipe(**strong))
        assert [stage.argv[0] for stage in plan.stages].count("cache") == 2
        assert [stage.argv[0] for stage in plan.stages].count("correct") == 4
        assert [stage.argv[0] for stage in plan.stages].count("train") == 9
        assert plan.cached_rows == 2 * 10 * 1000

    @pytest.mark.parametrize(
        ("loss", "corrections", "made"),
        [
            ("sld-kd", ("none", "sort", "swap"), ["swap", "sort"]),
            ("sld-kd", ("none",), ["swap"]),
            ("kd", ("none", "sort", "swap"), ["none", "sort", "swap"]),
        ],
    )
    def test_raw_logits_of_a_method_that_swaps_are_its_swap_and_one_row(
        self, loss, corrections, made
    ):
        plan = planned(recipe(loss=loss, corrections=corrections))
        assert [student.correction for student in plan.students.values()] == made

    def test_other_views_are_another_store(self):
        plan = planned(recipe(), recipe(views=12))
        assert len({stage.output for stage in plan.stages if stage.argv[0] == "cache"}) == 2
        plan = planned(recipe(), recipe(views=12), views=3)
        assert plan.cached_rows == 3 * 1000

    def test_scale_shrinks_all_that_counts_epochs_and_the_data(self):
        plan = planned(recipe(epochs=240, milestones=(150, 180, 210)), scale=0.1, samples=50_000)
        student = plan.stages[-1]
        assert (flag(student, "--epochs"), flag(student, "--limit")) == ("24", "5000")
        at = student.argv.index("--milestones")
        assert student.argv[at + 1 : at + 4] == ("15", "18", "21")
        assert "warmup=2" in student.argv
        assert plan.cached_rows == 10 * 5_000
        assert plan.students[student.output].soft_labels == 24 * 5_000

    def test_no_more_views_than_epochs_and_no_fewer_samples_than_a_batch(self):
        plan = planned(recipe(), scale=0.001)
        assert plan.cached_rows == 1 * 32

    def test_a_recipe_may_name_its_weights(self):
        plan = planned(recipe(teacher="torchvision:resnet34@IMAGENET1K_V1"), teachers=())
        assert flag(plan.stages[0], "--teacher") == "torchvision:resnet34@IMAGENET1K_V1"

    def test_digits_need_no_teacher_all_else_does(self):
        plan = planned(recipe(), dataset="digits", teachers=())
        assert plan.stages[0].argv[0] == "train-teacher"
        training = TeacherTraining(2, 16, 0.1, limit=40)
        plan = planned(recipe(teacher_training=training), teachers=())
        assert flag(plan.stages[0], "--limit") == "40"
        with pytest.raises(UsageError, match="r0 needs its teacher: add --teacher cifar:resnet8@"):
            planned(recipe(), teachers=())

    def test_a_teacher_apart_learns_from_images_that_no_student_sees(self):
        training = TeacherTraining(2, 16, 0.1, limit=300, apart=True)
        for scale, kept, learned in ((1.0, 300, 700), (0.5, 150, 350)):
            plan = planned(recipe(teacher_training=training), teachers=(), scale=scale)
            teacher, cached, student = plan.stages[0], plan.stages[1], plan.stages[-1]
            assert (flag(teacher, "--skip"), flag(teacher, "--limit")) == (
                str(1000 - kept),
                str(kept),
            )
            assert flag(cached, "--limit") == flag(student, "--limit") == str(learned)
        given = planned(recipe(teacher_training=training))
        assert flag(given.stages[0], "--limit") == "700"
        with pytest.raises(UsageError, match="takes 300 of 300 images, so that none is left"):
            planned(recipe(teacher_training=training), samples=300)

    def test_labels_alone_are_learned_on_the_views_of_the_others(self):
        plan = planned(recipe(), recipe(loss="ce", corrections=("none",)))
        student = plan.stages[-1]
        assert flag(student, "--loss") == "ce"
        assert flag(student, "--soft-labels") == flag(plan.stages[0], "--out")
        assert plan.students[student.output].soft_labels == 0
        assert plan.cached_rows == 10 * 1000

    def test_two_teachers_of_one_network_are_refused(self):
        """One would teach the students of both, from one store."""
        short, apart = TeacherTraining(2, 16, 0.1), TeacherTraining(9, 16, 0.1, 300, apart=True)
        for one, other in (
            (recipe(teacher_training=short), recipe(teacher_training=apart)),
            (recipe(teacher="cifar:resnet8@a.pt"), recipe(teacher="cifar:resnet8@b.pt")),
        ):
            planned(one, one, teachers=())
            with pytest.raises(
                UsageError, match="r0 and r1 have different teachers of the network cifar:resnet8"
            ):
                planned(one, other, teachers=())

    def test_one_checkpoint_a_network(self):
        with pytest.raises(UsageError, match="names cifar:resnet8 twice"):
            planned(recipe(), teachers=("cifar:resnet8@a.pt", "cifar:resnet8@b.pt"))


class TestSeconds:
    def stage(self, tmp_path: Path) -> Stage:
        return Stage("a stage", ("train",), tmp_path / "students" / "a")

    def test_what_was_broken_off_counts_and_what_is_done_is_not_timed_again(self, tmp_path):
        stage = self.stage(tmp_path)

        def breaks_off() -> int:
            raise KeyboardInterrupt

        def entry() -> list:
            return json.loads((tmp_path / SECONDS).read_text())["students/a"]

        with pytest.raises(KeyboardInterrupt):
            StageSeconds(tmp_path).run(stage, breaks_off)
        (tmp_path / SECONDS).write_text(json.dumps({"students/a": [100.0, entry()[1]]}))
        assert StageSeconds(tmp_path).run(stage, lambda: 75) == 75
        assert entry()[0] >= 100
        assert entry()[1] is False
        assert StageSeconds(tmp_path).run(stage, lambda: 0) == 0
        assert entry()[1] is True
        done = entry()
        StageSeconds(tmp_path).run(stage, lambda: 0)
        assert entry() == done
        assert StageSeconds(tmp_path).total((stage,)) == done[0]

    @pytest.mark.parametrize("text", ["{", '{"a": 1}', "[]"])
    def test_a_damaged_file_is_named(self, tmp_path, text):
        (tmp_path / SECONDS).write_text(text)
        with pytest.raises(LogitbankError, match="seconds.json is damaged: it holds the seconds"):
            StageSeconds(tmp_path)


def rows_of(top1: dict[tuple[str, str], dict[int, float]]) -> list[Row]:
    """Rows by recipe and correction, from the last epochs' top-1 by seed."""
    return [
        Row(
            name,
            recipe(),
            correction,
            tuple(StudentRun("", seed, 99.0, last, 1, "") for seed, last in found.items()),
        )
        for (name, correction), found in top1.items()
    ]


class TestPlot:
    def test_the_plot_holds_every_figure_of_the_table(self):
        def student(seed: int, best: float, last: float) -> StudentRun:
            return StudentRun("", seed, best, last, 1, "")

        rows = (
            Row("a/kd", recipe(published=73.0), "none", (student(0, 70, 69), student(1, 71, 68))),
            Row("a/kd", recipe(), "sort", (student(0, 72, 67),)),
            Row("a/b/dkd", recipe(), "sort", (student(0, 60, 59),)),
        )
        figure = draw_rows(rows, LIGHT)
        (axes,) = figure.axes
        drawn = [value for line in axes.lines for value in line.get_xdata()]
        assert sorted(drawn) == [59, 60, 67, 68, 69, 70, 71, 72, 73]
        means = [lines.get_segments()[0][0][0] for lines in axes.collections]
        assert means == [68.5, 67, 59]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["kd", "b/dkd"]
        assert axes.get_title(loc="left") == "a"
        told = [text.get_text() for text in figure.legends[0].get_texts()]
        assert told == ["none", "sort", "best epoch", "mean of last", "published"]


class TestResults:
    COST = Cost(1_000, 400, {"to cache": 3600.0, "to train students": 5400.0})

    def results(self, dataset: str = "cifar100:data", scale: float = 1.0) -> Results:
        runs = (StudentRun("kd, none", 0, 71.5, 71.25, 240, "metrics.jsonl"),)
        row = Row("kd", recipe(loss="kd", published=73.33), "none", runs)
        return Results((row,), self.COST, dataset, scale)

    def test_one_seed_has_no_deviation(self):
        (row,) = csv.DictReader(io.StringIO(csv_text(self.results()).split("#")[0]))
        assert (row["last_mean"], row["last_std"], row["best_mean"]) == ("71.2500", "", "71.5000")
        assert any(
            line.split() == ["kd", "none", "1", "71.25", "71.50", "73.33"]
            for line in shown_lines(self.results())
        )

    def test_corrections_are_compared_by_runs_of_one_recipe_and_seed(self):
        """Of the runs that lack a partner nothing is said."""
        top1 = {
            ("kd", "none"): {0: 70.0, 1: 71.0},
            ("kd", "sort"): {0: 71.0, 1: 71.5},
            ("dkd", "none"): {0: 60.0, 1: 61.0},
            ("dkd", "sort"): {0: 62.0, 1: 61.5},
            ("sld", "sort"): {0: 90.0, 1: 90.0},
            ("ce", "none"): {0: 10.0, 1: 10.0},
            ("kd", "swap"): {0: 50.0},
        }
        rows = rows_of(top1)
        pairs = [1.0, 0.5, 2.0, 0.5]
        margin = 3.182 * statistics.stdev(pairs) / 2  # t of 3 degrees of freedom
        assert comparison_lines(rows) == [
            f"sort less none: +1.00 ± {margin:.2f} points of the last epoch "
            "(95% interval over 4 pairs of one recipe and seed), within the noise"
        ]

    def test_equal_differences_have_no_spread_to_judge_by(self):
        top1 = {("kd", "my-own"): {0: 70.0, 1: 71.0}, ("kd", "sort"): {0: 69.0, 1: 70.0}}
        assert comparison_lines(rows_of(top1)) == [
            "sort less my-own: −1.00 ± 0.00 points of the last epoch "
            "(95% interval over 2 pairs of one recipe and seed)"
        ]

    def test_the_cost(self):
        assert cost_lines(self.COST) == [
            "teacher forward passes spent: 1,000",
            "teacher forward passes saved: −600 (with the teacher in the loop these students take "
            "400)",
            "hours: 2.500 (1.000 to cache, 1.500 to train students)",
        ]

    @pytest.mark.parametrize(
        ("dataset", "scale", "compares"),
        [
            ("cifar100:a", 1.0, ""),
            ("cifar100:a", 0.5, " This is cifar100 at scale 0.5: they can't be compared."),
            ("digits", 1.0, " This is digits at scale 1: they can't be compared."),
            ("hdf5:a", 1.0, " Whether hdf5:a can be compared is for you to judge."),
        ],
    )
    def test_what_published_figures_are_held_against(self, dataset, scale, compares):
        told = "Published figures are of cifar100, of the best epoch."
        assert self.results(dataset, scale).caveat == told + compares

    def test_a_figure_stands_beside_the_logits_that_the_method_has(self):
        """SLD's are swapped."""
        sld = recipe(loss="sld", strong="cifar-strong", published=77.7)
        for one, corrections in ((sld, ("swap",)), (recipe(published=76.3), ("none",))):
            shown = [c for c in ("none", "sort", "swap") if Row("a", one, c, ()).published]
            assert tuple(shown) == corrections

    def test_a_figure_of_corrected_logits_stands_beside_that_correction_and_is_named(self):
        runs = (StudentRun("", 0, 71.5, 71.25, 240, "metrics.jsonl"),)
        la = {"swap": PublishedFigure(73.46, "LA (RLD)")}
        kd = recipe(loss="kd", published=73.33, published_corrected=la)
        rows = tuple(Row("kd", kd, each, runs) for each in ("none", "sort", "swap"))
        results = Results(rows, self.COST, "cifar100:data", 1.0)
        shown = [line.split()[5:] for line in shown_lines(results) if line.split()[:1] == ["kd"]]
        assert shown == [["73.33"], [], ["73.46,", "LA", "(RLD)"]]
        found = list(csv.DictReader(io.StringIO(csv_text(results).split("#")[0])))
        assert [(row["published_best"], row["published_as"]) for row in found] == [
            ("73.3300", ""),
            ("", ""),
            ("73.4600", "LA (RLD)"),
        ]
