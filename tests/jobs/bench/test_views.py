"""`bench views`: nothing wrong is timed, and its ways make the views that they say they make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from logitbank.jobs.bench.views import ViewSettings, ViewWork, measure_views, plain_views
from logitbank.pipeline.views import CifarStrong, CifarWeak
from logitbank.stores.errors import LogitbankError, UsageError

VIEWS = ViewSettings(samples=37, views=3, batch_size=16, strong_views=80, rounds=2, threads=1)


def test_the_plain_loop_equals_the_augmentation_image_by_image():
    augmentation = CifarWeak()
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (5, 32, 32, 3), np.uint8)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    samples = np.array([4, 0, 2, 2])
    params = np.array([[0, 0, 0], [8, 8, 1], [4, 4, 0], [3, 7, 1]], np.int16)
    expected = [
        augmentation.render(images[sample], row)
        for sample, row in zip(samples, params, strict=True)
    ]
    assert np.array_equal(plain_views(padded, samples, params), expected)
    assert np.array_equal(expected[2], images[2])


def test_nothing_is_timed_where_the_batched_views_are_wrong(monkeypatch):
    work = ViewWork(VIEWS)
    work.require_same_pixels()
    draw = work._renderer.draw

    def wrong(seed, view, samples):
        pixels, params = draw(seed, view, samples)
        if view == 2:
            pixels[samples == 17, 3, 4, 1] += 1
        return pixels, params

    monkeypatch.setattr(work._renderer, "draw", wrong)
    with pytest.raises(LogitbankError, match="view 2 of sample 17"):
        work.require_same_pixels()


def test_both_ways_make_as_many_views_from_the_same_draws(monkeypatch):
    work = ViewWork(VIEWS)
    plain, batched = [], []
    draw = work._renderer.draw

    def batched_draw(seed, view, samples):
        pixels, params = draw(seed, view, samples)
        batched.append(pixels.numpy())
        return pixels, params

    def plain_draw(*given):
        plain.append(plain_views(*given))
        return plain[-1]

    monkeypatch.setattr(work._renderer, "draw", batched_draw)
    monkeypatch.setattr("logitbank.jobs.bench.views.plain_views", plain_draw)
    assert work.batched(5, VIEWS.views) == work.plain(5, VIEWS.views) == 111
    assert [len(each) for each in batched] == [16, 16, 5] * 3
    assert all(map(np.array_equal, batched, plain))


def test_a_slice_of_strong_views_is_what_the_augmentation_draws(monkeypatch):
    work, augmentation = ViewWork(VIEWS), CifarStrong()
    made, draw = [], work._strong.draw
    assert work._strong._images._pool is None

    def recorded(seed, view, samples):
        pixels, params = draw(seed, view, samples)
        made.extend((view, sample) for sample in samples.tolist())
        images = work._strong.dataset.images[samples]
        sizes = [[32, 32]] * len(samples)
        assert np.array_equal(params, augmentation.draw(seed, samples, view, sizes))
        assert np.array_equal(pixels, list(map(augmentation.render, images, params)))
        return pixels, params

    monkeypatch.setattr(work._strong, "draw", recorded)
    assert work.strong(5) == len(made) == len(set(made)) == 80
    assert {view for view, _ in made} == {0, 1, 2}


def test_more_views_than_there_are_is_a_usage_error():
    with pytest.raises(UsageError, match="162"):
        measure_views(replace(VIEWS, views=163))
