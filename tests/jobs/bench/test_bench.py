"""The bench: its arithmetic, and that what it compares differs in the thing compared alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from logitbank.jobs.bench.paced_run import PacedRun
from logitbank.jobs.bench.student import measure_student
from logitbank.jobs.bench.student_figures import (
    CACHED,
    CONSTANT,
    HARD,
    HARD_AGAIN,
    ONLINE,
    WAYS,
    SlabCost,
    StudentMeasured,
    StudentSettings,
    Work,
    student_lines,
)
from logitbank.jobs.bench.timing import Bar, Spread, interleave, ratio
from logitbank.pipeline.student import Progress, TrainResult
from logitbank.pipeline.student.trainer import Trainer
from logitbank.stores.errors import UsageError
from tests.jobs.command import run

STUDENT = StudentSettings(
    student="cifar:resnet8",
    teacher="cifar:resnet14",
    classes=7,
    samples=50,
    batch_size=8,
    steps=2,
    rounds=2,
    threads=1,
    device="cpu",
)
STUDENT_WORDS = (
    *("--student", "cifar:resnet8", "--teacher", "cifar:resnet8", "--classes", 7),
    *("--batch-size", 8, "--steps", 1),
)
STRONG = ("--strong-views", 30)
FEW = ("--samples", 128, "--rounds", 1)


class Clock:
    """Time that goes on only when some work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# ---- timing


def test_a_spread_is_the_median_its_median_deviation_and_four_rounds_in_five():
    spread = Spread.of([5.0, 1.0, 2.0, 3.0, 104.0])
    assert (spread.median, spread.noise) == (3.0, 2.0)
    assert spread.low == pytest.approx(1.4)
    assert spread.high == pytest.approx(64.4)


@pytest.mark.parametrize(
    ("median", "noise", "verdict"),
    [
        (1.00, 0.01, "met"),
        (0.98, 0.01, "met"),
        (0.98, 0.02, "within the noise"),
        (0.96, 0.02, "within the noise"),
        (0.96, 0.005, "missed"),
    ],
)
def test_a_bar_is_met_or_missed_only_beyond_the_noise(median, noise, verdict):
    """Over 16 rounds the doubt of a median is 0.93 of the rounds' median deviation."""
    assert Bar.judge(Spread(median, noise, 0.0, 2.0, 16), 0.97).verdict == verdict


def test_the_same_work_twice_is_the_yardstick_of_a_bar():
    measured = Spread(1.0, 0.01, 0.9, 1.1, 16)
    assert Bar.judge(measured, 0.97, yardstick=0.001) == Bar(0.97, measured.doubt, "met")
    assert Bar.judge(measured, 0.97, yardstick=0.04) == Bar(0.97, 0.04, "within the noise")


def test_one_round_proves_nothing():
    assert Bar.judge(Spread.of([1.5]), 0.97) == Bar(0.97, None, "within the noise")


def test_the_doubt_of_a_median_is_two_of_its_standard_errors():
    rng = np.random.default_rng(0)
    drawn = rng.normal(100.0, 5.0, (2000, 25))
    doubts = [Spread.of(rounds).doubt for rounds in drawn]
    assert np.mean(doubts) == pytest.approx(2 * np.median(drawn, axis=1).std(), rel=0.1)


def test_ways_take_turns_and_only_their_own_time_counts():
    clock, turns, rounds = Clock(), [], []

    def way(name: str, items: int, seconds: float) -> int:
        turns.append(name)
        clock.now += seconds
        return items

    def progress(done: int, total: int) -> None:
        rounds.append((done, total))
        clock.now += 1000.0

    ways = {"slow": lambda: way("slow", 6, 3.0), "fast": lambda: way("fast", 6, 0.5)}
    rates = interleave(ways, 3, clock=clock, progress=progress)
    assert [sorted(turns[start : start + 2]) for start in (0, 2, 4)] == [["fast", "slow"]] * 3
    assert rates == {"slow": [2.0] * 3, "fast": [12.0] * 3}
    assert rounds == [(1, 3), (2, 3), (3, 3)]


def test_no_way_always_follows_the_same_other_way():
    turns: list[str] = []

    def way(name: str) -> int:
        turns.append(name)
        return 1

    interleave({name: partial(way, name) for name in "abcde"}, 60, clock=count().__next__)
    followers = Counter(pairwise(turns))
    assert all(followers[one, other] > 0 for one in "abcde" for other in "abcde" if one != other)
    places = Counter((name, turn % 5) for turn, name in enumerate(turns))
    assert len(places) == 25
    assert min(places.values()) >= 4


def test_ratios_are_of_the_same_round_so_that_a_drift_of_the_machine_cancels():
    drift = np.geomspace(1.0, 8.0, 9)
    found = ratio((90.0 * drift).tolist(), (100.0 * drift).tolist())
    assert found.median == pytest.approx(0.9)
    assert found.noise == pytest.approx(0.0, abs=1e-12)


# ---- a run that takes turns


def paced(steps: int, images: int = 40, fails_at: int | None = None) -> PacedRun:
    """A run of some steps that does nothing, or fails."""

    def train(progress) -> TrainResult:
        for step in range(1, steps + 1):
            if step == fails_at:
                raise UsageError(f"step {step} can't be")
            progress(Progress(0, 1, step, steps, images))
        progress(Progress(0, 1, steps, steps, images, {"epoch": 0}))
        return TrainResult(Path(), ({"epoch": 0},), {"epoch": 0})

    return PacedRun(train, lambda: None)


def test_a_paced_run_takes_the_steps_it_is_allowed_and_then_waits():
    one, other = paced(6), paced(6)
    one.take(2)
    other.take(5)
    one.take(3)
    assert (one.steps, other.steps) == (5, 5)
    assert one.finish().last == {"epoch": 0}
    assert (one.steps, one.images) == (6, 40)
    other.abandon()
    assert (other.steps, other.images) == (5, 0)


def test_a_paced_run_passes_on_what_it_raises_and_can_be_abandoned_at_any_time():
    failing, unused, short = paced(3, fails_at=2), paced(3), paced(2)
    failing.take(1)
    with pytest.raises(UsageError, match="step 2"):
        failing.take(1)
    short.take(1)
    with pytest.raises(ValueError, match="ended after 2 steps"):
        short.take(2)
    for each in (failing, unused, short):
        each.abandon()


# ---- bench student


def test_all_ways_train_on_the_same_pixels_from_the_same_weights(monkeypatch):
    seen: dict[int, list[tuple[list[int], list[int], str, str]]] = {}
    spoken: dict[int, list[torch.Tensor | None]] = {}
    step = Trainer.step

    def spy(trainer, weak):
        batch, teacher_logits = weak
        weights = b"".join(
            value.detach().numpy().tobytes() for value in trainer.model.module.state_dict().values()
        )
        begun = hashlib.sha256(weights).hexdigest() if id(trainer) not in seen else ""
        pixels = hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest()
        seen.setdefault(id(trainer), []).append(
            (batch.rows.tolist(), batch.targets.tolist(), pixels, begun)
        )
        spoken.setdefault(id(trainer), []).append(teacher_logits)
        return step(trainer, weak)

    monkeypatch.setattr(Trainer, "step", spy)
    work = measure_student(STUDENT).work
    assert set(work) == set(WAYS)
    assert {(done.images, done.steps) for done in work.values()} == {(48, 6)}
    assert all(math.isfinite(done.loss) for done in work.values())
    first, *others = seen.values()
    assert len(others) == 4
    assert all(other == first for other in others)
    assert len({row for rows, *_ in first for row in rows}) == 48
    by_way = dict(zip(WAYS, spoken.values(), strict=True))
    assert by_way[HARD] == by_way[HARD_AGAIN] == [None] * 6
    distilled = {name: by_way[name] for name in (CONSTANT, CACHED, ONLINE)}
    assert all(logits.shape == (8, 7) for each in distilled.values() for logits in each)
    constant, cached, online = distilled.values()
    assert all(torch.equal(logits, constant[0]) for logits in constant)
    assert not any(torch.equal(a, b) for a, b in pairwise(cached))
    assert not any(torch.equal(a, b) for a, b in zip(cached, online, strict=True))


def test_the_same_loss_is_reached_where_the_same_is_learned():
    work = measure_student(STUDENT).work
    assert work[HARD].loss == work[HARD_AGAIN].loss
    assert len({done.loss for done in work.values()}) == 4


def test_a_student_bench_compares_by_round_and_judges_the_cached_way():
    rates = {name: [100.0, 200.0, 400.0] for name in WAYS}
    rates[CACHED] = [96.0, 196.0, 380.0]
    rates[CONSTANT] = [98.0, 198.0, 396.0]
    slab = SlabCost(Spread(20.0, 1.0, 19.0, 22.0), *[Spread(5.0, 0.0, 5.0, 5.0)] * 2)
    work = {name: Work(48, 6, 1.0) for name in WAYS}
    found = StudentMeasured.of(STUDENT, rates, slab, work)
    assert found.ratio_to_hard_labels[CACHED].median == pytest.approx(0.96)
    assert found.ratio_to_hard_labels[HARD_AGAIN] == Spread(1.0, 0.0, 1.0, 1.0, 3)
    assert found.ratio_to_constant_logits[CACHED].median == pytest.approx(96 / 98)
    assert {name: bar.wanted for name, bar in found.bars.items()} == {HARD: 0.97, CONSTANT: 0.99}
    assert found.bars[HARD].verdict == "within the noise"
    text = "\n".join(student_lines(found))
    assert all(way in text for way in WAYS.values())
    assert "20.0 ± 1.0" in text


def test_the_share_of_the_slab_follows_from_its_cost_and_the_rate():
    slab = SlabCost(*[Spread(20.0, 0.0, 20.0, 20.0)] * 3)
    # 500 batches a second of 20 µs are 10 ms of each second.
    assert slab.batch_percent(32_000, batch_size=64) == pytest.approx(1.0)
    assert slab.rate_at_percent(1.0, batch_size=64) == pytest.approx(32_000)
    # 40 ms of an epoch that takes 25 s.
    assert slab.epoch_percent(2_000, samples=50_000) == pytest.approx(0.16)


# ---- the command line


def test_the_whole_bench_prints_one_object_with_all_that_it_measured(capsys):
    words = ("--rounds", 2, "--samples", 40, "--views", 2, "--view-batch", 16)
    words += (*STRONG, "--megabytes", 1, "--store-samples", 40, "--small-samples", 40)
    words += ("--tasks", 4)
    threads = torch.get_num_threads()
    assert run("bench", "--json", *words, *STUDENT_WORDS) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"machine", "correct", "dask", "student", "views"}
    student, views = found["student"], found["views"]
    for rates in (student["images_per_second"], views["views_per_second"]):
        for spread in rates.values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
            assert spread["noise"] >= 0
    assert set(student["images_per_second"]) == set(WAYS) == set(student["work"])
    assert set(student["slab"]) == {
        "batch_microseconds",
        "view_milliseconds",
        "check_milliseconds",
    }
    assert {bar["wanted"] for bar in student["bars"].values()} == {0.97, 0.99}
    assert set(views["views_per_second"]) == {
        "batched",
        "plain_loop",
        "batched_first_view",
        "strong_one_core",
    }
    wanted = {way: bar["wanted"] for way, bar in views["bars"].items()}
    assert wanted == {"batched": 200_000, "strong_one_core": 4_000}
    assert (views["settings"]["threads"], student["settings"]["threads"]) == (2, 1)
    assert {"cpu", "cores", "versions", "load_average", "time"} == set(found["machine"])


def test_one_bench_alone_prints_lines_for_people(capsys):
    assert run("bench", "views", "--rounds", 1, "--samples", 20, "--views", 2, *STRONG) == 0
    out = capsys.readouterr().out
    assert "cifar-weak on 20 images" in out
    assert "batched, 2 views under one seed" in out
    assert "wanted: batched at 200,000 or more" in out
    assert "cifar-strong in Pillow, 30 views by one thread" in out
    assert "wanted: 4,000 or more" in out
    assert "student" not in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("vews",), "did you mean 'views'"),
        (("student", "--samples", 40, *STUDENT_WORDS), "328 images, more than --samples 40"),
        (("student", "--student", "cifar:resnet9", *FEW), "did you mean 'resnet8'"),
        (("student", "--device", "cuda:77", *FEW), "cuda:77"),
        (("views", "--views", 163), "162"),
        (("views", "--rounds", 0), "at least 1"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(capsys, words, line):
    assert run("bench", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err
    assert captured.err.count("\n") == 1
