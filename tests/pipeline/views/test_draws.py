"""Draws are a pure function of their address, uniform and independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from logitbank.pipeline.views.draws import (
    Stream,
    epoch_order,
    integers,
    permutations,
    philox4x32,
    uniform,
    view_of_epoch,
    words,
)
from logitbank.stores.errors import UsageError
from tests.reference import views as reference

SEEDS = st.integers(0, 2**64 - 1)
WORDS = st.integers(0, 2**32 - 1)
# philox4x32 10 in Random123's kat_vectors: counter, key, result.
KNOWN_ANSWERS = {
    "zeros": ("00000000" * 4, "00000000" * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ("ffffffff" * 4, "ffffffff" * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
}


def from_hex(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), ">u4").astype(np.uint32)


@pytest.mark.parametrize("case", KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(case):
    counter, key, result = map(from_hex, KNOWN_ANSWERS[case])
    assert philox4x32(counter, key).tolist() == result.tolist()
    assert reference.philox4x32(counter.tolist(), key.tolist()) == result.tolist()


def test_philox_treats_every_counter_alone():
    # More counters than are handled at a time, and shaped otherwise.
    counter = np.arange(3 * 2000 * 4, dtype=np.uint32).reshape(3, 2000, 4) * np.uint32(2654435761)
    key = np.array([7, 9], np.uint32)
    together = philox4x32(counter, key)
    for place in [(0, 0), (1, 96), (2, 95), (2, 96), (2, 1999)]:
        assert together[place].tolist() == reference.philox4x32(counter[place].tolist(), [7, 9])


@given(SEEDS, st.lists(WORDS, min_size=1, max_size=3), WORDS, st.integers(1, 11))
def test_a_word_is_a_function_of_seed_sample_view_purpose_and_place(seed, samples, view, count):
    drawn = words(seed, samples, view, Stream.IMAGENET_WEAK, count)
    assert drawn.dtype == np.uint32
    for row, sample in zip(drawn, samples, strict=True):
        assert row.tolist() == reference.words(seed, sample, view, 2, count)


def test_purposes_keep_their_numbers():
    numbers = {purpose.name: int(purpose) for purpose in Stream}
    assert numbers == {
        "CIFAR_WEAK": 1,
        "IMAGENET_WEAK": 2,
        "CIFAR_STRONG": 3,
        "IMAGENET_STRONG": 4,
        "MIXUP": 5,
        "CUTMIX": 6,
        "VIEW_ORDER": 16,
        "SAMPLE_ORDER": 17,
        "STRONG_VIEW_ORDER": 18,
    }


def test_neither_half_of_the_seed_is_lost():
    drawn = [words(seed, [0], 0, Stream.CIFAR_WEAK, 4)[0].tolist() for seed in (1, 2**32, 2**63)]
    assert len({tuple(each) for each in drawn}) == 3


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(UsageError, match=f"seed {seed} is outside"):
        words(seed, [0], 0, Stream.CIFAR_WEAK, 1)


def test_uniform_and_integers_span_their_range():
    ends = np.array([0, 2**31, 2**32 - 1], np.uint32)
    assert uniform(ends).tolist() == [0.0, 0.5, 1 - 2**-32]
    assert integers(ends, 6).tolist() == [0, 3, 5]
    assert integers(ends, 1).tolist() == [0, 0, 0]
    assert integers(ends, 2**32).tolist() == ends.tolist()
    assert integers(ends, [1, 2, 3]).tolist() == [0, 1, 2]


def test_whole_numbers_are_uniform():
    drawn = integers(words(0, np.arange(20_000), 0, Stream.IMAGENET_WEAK, 1)[:, 0], 37)
    assert stats.chisquare(np.bincount(drawn, minlength=37)).pvalue > 1e-3


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_a_permutation_is_the_stable_argsort_of_its_words(random):
    found = permutations(np.array([random], np.uint32))[0]
    assert found.tolist() == sorted(range(len(random)), key=random.__getitem__)


@given(st.integers(1, 40), st.integers(0, 5), SEEDS)
def test_a_cycle_of_epochs_meets_every_view_once(views, cycle, seed):
    epochs = range(cycle * views, (cycle + 1) * views)
    assert sorted(view_of_epoch(epoch, views, seed) for epoch in epochs) == list(range(views))


def test_cycles_and_seeds_order_the_views_anew():
    def order(seed: int, cycle: int) -> tuple[int, ...]:
        return tuple(view_of_epoch(cycle * 20 + epoch, 20, seed) for epoch in range(20))

    orders = {order(seed, cycle) for seed in range(3) for cycle in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize(("epoch", "views"), [(-1, 3), (0, 0)])
def test_an_epoch_before_the_first_and_no_views_are_refused(epoch, views):
    with pytest.raises(UsageError, match=f"epoch {epoch} of {views} views"):
        view_of_epoch(epoch, views, 0)


@given(st.integers(0, 1000), st.integers(1, 200), SEEDS)
def test_an_epochs_order_holds_every_sample_once(epoch, samples, seed):
    order = epoch_order(epoch, samples, seed)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(samples))
    assert epoch_order(epoch, samples, seed).tolist() == order.tolist()


def test_epochs_and_seeds_order_the_samples_anew():
    orders = {tuple(epoch_order(epoch, 50, seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16
    firsts = [int(epoch_order(epoch, 10, 0)[0]) for epoch in range(5000)]
    assert stats.chisquare(np.bincount(firsts, minlength=10)).pvalue > 1e-3
