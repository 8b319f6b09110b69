"""MixUp and CutMix: what is drawn, what is rendered, and what labels it has."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitbank.pipeline.views import (
    Center,
    CifarStrong,
    CifarWeak,
    CutMix,
    ImagenetStrong,
    ImagenetWeak,
    Mixed,
    MixUp,
    ViewRenderer,
    augmentation_from,
    main_labels,
    parse_augmentation,
    parse_views,
)
from logitbank.pipeline.views.rendering import renderer as renderer_module
from logitbank.stores.errors import DatasetError, PixelError, UsageError
from tests.pipeline.views.view_examples import file_dataset, memory_dataset
from tests.reference import mixed_views as reference

MEMORY = memory_dataset(count=30, side=8)
SEEDS = st.integers(0, 2**64 - 1)
VIEWS = st.integers(0, 2**32 - 1)
MIXES = st.one_of(
    st.builds(MixUp, st.sampled_from([0.2, 1.0])), st.builds(CutMix, st.sampled_from([0.5, 1.0]))
)
IN_MEMORY = [CifarWeak(size=8, pad=1), CifarStrong(size=8, pad=1), ImagenetWeak(size=6)]
BOTH = pytest.mark.parametrize("mix", [MixUp(), CutMix()])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return file_dataset(tmp_path_factory.mktemp("photos") / "root")


def plain(dataset, augmentation, samples, params) -> np.ndarray:
    name, parameters = augmentation.name, augmentation.parameters
    rows = [
        reference.render(name, parameters, dataset.pixels, sample, row)
        for sample, row in zip(samples, params, strict=True)
    ]
    return np.stack(rows)


# ---- drawing


@settings(max_examples=40)
@given(MIXES, st.sampled_from(IN_MEMORY), SEEDS, st.integers(0, 29), VIEWS)
def test_a_draw_is_the_one_of_the_definition(mix, base, seed, sample, view):
    augmentation = Mixed(base, mix, 30)
    _, params = ViewRenderer(MEMORY, augmentation).draw(seed, view, [sample])
    assert params.dtype == np.int32
    parameters = augmentation.parameters
    expected = reference.mixed_params(
        augmentation.name, parameters, seed, sample, view, lambda each: (8, 8)
    )
    assert params[0].tolist() == expected


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MIXES, st.sampled_from([ImagenetWeak(size=12), ImagenetStrong(size=12)]), SEEDS, VIEWS)
def test_a_draw_of_files_goes_by_the_sizes_of_both(photos, mix, base, seed, view):
    augmentation = Mixed(base, mix, 12)
    _, params = ViewRenderer(photos, augmentation).draw(seed, view, range(12))
    for sample, row in enumerate(params.tolist()):
        assert row == reference.mixed_params(
            augmentation.name,
            augmentation.parameters,
            seed,
            sample,
            view,
            lambda each: photos.pixels(each).shape[:2],
        )


@BOTH
def test_a_partner_appears_in_the_very_view_that_it_has_itself(mix):
    base = CifarWeak(size=8, pad=1)
    augmentation = Mixed(base, mix, 30)
    renderer = ViewRenderer(MEMORY, augmentation)
    for view in (0, 5, 18 + 5):
        _, params = renderer.draw(4, view, range(30))
        alone = base.draw(4, range(30), view % 18, [[8, 8]] * 30)
        parts = augmentation.split(params)
        assert np.array_equal(parts.own, alone)
        assert np.array_equal(parts.other, alone[parts.partner])


def test_views_of_a_base_come_again_with_other_partners():
    """cifar-weak has 18 views here; mixed ones have no end."""
    augmentation = Mixed(CifarWeak(size=8, pad=1), MixUp(), 30)
    renderer = ViewRenderer(MEMORY, augmentation)
    first, again = (augmentation.split(renderer.draw(4, view, range(30))[1]) for view in (2, 20))
    assert np.array_equal(first.own, again.own)
    assert not np.array_equal(first.partner, again.partner)
    assert augmentation.count is None
    with pytest.raises(UsageError, match=r"cifar-weak\+mixup has no end of views"):
        parse_views(augmentation, "all")


def test_partners_are_even_and_shares_as_published():
    samples = np.arange(40_000)
    for mix in (MixUp(alpha=1.0), CutMix()):
        partners, drawn = Mixed(CifarWeak(), mix, 10).draw_mix(1, samples, 3)
        assert np.abs(np.bincount(partners, minlength=10) / len(samples) - 0.1).max() < 0.01
        own = (partners == samples % 10).mean()
        assert own == pytest.approx(0.1, abs=0.01)
        share = mix.shares(drawn, 32)
        assert ((share >= 0) & (share <= 1)).all()
        # CutMix's boxes are cut off at the border, so that more is left of the own view: 0.7008
        # over 400,000 boxes of the released code at 32 x 32.
        expected = {"mixup": 0.5, "cutmix": 0.7008}[mix.name]
        assert share.mean() == pytest.approx(expected, abs=0.01)
    box = drawn.astype(int)
    assert (box >= 0).all()
    assert (box[:, :2] + box[:, 2:] <= 32).all()
    assert ((box[:, 2] == 0) == (box[:, 3] == 0)).all()


def test_mixup_and_cutmix_are_drawn_apart():
    samples = np.arange(100)
    one, other = (
        Mixed(CifarWeak(), mix, 1000).draw_mix(0, samples, 0)[0] for mix in (MixUp(), CutMix())
    )
    assert (one == other).mean() < 0.1


# ---- rendering


@settings(max_examples=30)
@given(
    MIXES,
    st.sampled_from([*IN_MEMORY, Center(size=6)]),
    SEEDS,
    st.permutations(range(30)),
    st.integers(1, 30),
)
def test_pixels_are_the_plain_ones_whatever_the_order_and_the_batch(mix, base, seed, order, batch):
    augmentation = Mixed(base, mix, 30)
    whole, params = ViewRenderer(MEMORY, augmentation).draw(seed, 7, range(30))
    assert np.array_equal(whole.numpy(), plain(MEMORY, augmentation, range(30), params))
    renderer = ViewRenderer(MEMORY, augmentation)
    for start in range(0, 30, batch):
        part = order[start : start + batch]
        pixels, drawn = renderer.draw(seed, 7, part)
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous()
        assert torch.equal(pixels, whole[part])
        assert np.array_equal(drawn, params[part])
        assert torch.equal(renderer.render(part, params[part]), whole[part])


@BOTH
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)), batch=st.integers(1, 12), threads=st.integers(0, 3))
def test_pixels_of_files_do_not_depend_on_batching_order_or_threads(
    photos, mix, order, batch, threads
):
    augmentation = Mixed(ImagenetWeak(size=12), mix, 12)
    views = ViewRenderer(photos, augmentation).draw_views(3, [0, 4], range(12))
    for pixels, params in views:
        assert np.array_equal(pixels.numpy(), plain(photos, augmentation, range(12), params))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        renderer = ViewRenderer(photos, augmentation, pool=pool if threads else None)
        for start in range(0, 12, batch):
            part = order[start : start + batch]
            for view, (whole, params) in zip([0, 4], views, strict=True):
                pixels, drawn = renderer.draw(3, view, part)
                assert torch.equal(pixels, whole[part])
                assert np.array_equal(drawn, params[part])
                assert torch.equal(renderer.render(part, params[part]), whole[part])


@BOTH
def test_many_views_are_mixed_as_few_are(mix, monkeypatch):
    monkeypatch.setattr(renderer_module, "_MIXED_BYTES", 256 * 8 * 8 * 3)
    dataset = memory_dataset(count=700)
    augmentation = Mixed(CifarWeak(size=8, pad=2), mix, 700)
    renderer = ViewRenderer(dataset, augmentation)
    whole, params = renderer.draw(1, 2, range(700))
    assert torch.equal(renderer.render(range(700), params), whole)
    for sample in (0, 255, 256, 512, 699):
        assert torch.equal(renderer.draw(1, 2, [sample])[0][0], whole[sample])
    assert renderer.render([], params[:0]).shape == (0, 8, 8, 3)


@given(st.integers(0, 1024), st.integers(0, 255), st.integers(0, 255))
def test_a_blend_is_rounded_to_the_nearest_byte_in_whole_numbers(share, own, other):
    one, two = (torch.full((1, 1, 1, 3), value, dtype=torch.uint8) for value in (own, other))
    found = MixUp().mix(one, two, np.array([[share]]))
    exact = Fraction(share * own + (1024 - share) * other, 1024)
    assert abs(int(found[0, 0, 0, 0]) - exact) <= Fraction(1, 2)
    assert int(found[0, 0, 0, 0]) == (share * own + (1024 - share) * other + 512) >> 10


def test_an_image_is_itself_at_a_share_of_one_and_its_partner_at_none():
    own, other = (torch.from_numpy(MEMORY.images[rows]) for rows in (slice(0, 2), slice(2, 4)))
    for mix, all_own, all_other in (
        (MixUp(), [[1024]] * 2, [[0]] * 2),
        (CutMix(), [[3, 3, 0, 0]] * 2, [[0, 0, 8, 8]] * 2),
    ):
        assert torch.equal(mix.mix(own, other, np.array(all_own)), own)
        assert torch.equal(mix.mix(own, other, np.array(all_other)), other)
        assert mix.shares(np.array([all_own[0], all_other[0]]), 8).tolist() == [1, 0]


def drawn_in_a_process(dataset, augmentation):
    pixels, params = ViewRenderer(dataset, augmentation).draw(9, 2, range(len(dataset)))
    return pixels.numpy(), params


def test_views_are_drawn_and_rendered_alike_in_another_process(photos):
    both = [
        (MEMORY, Mixed(CifarWeak(size=8), MixUp(), 30)),
        (photos, Mixed(ImagenetStrong(size=12), CutMix(), 12)),
    ]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = [pool.submit(drawn_in_a_process, *each) for each in both]
    for (dataset, augmentation), other in zip(both, there, strict=True):
        pixels, params = drawn_in_a_process(dataset, augmentation)
        assert np.array_equal(pixels, other.result()[0])
        assert np.array_equal(params, other.result()[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@BOTH
def test_a_gpu_gives_the_same_pixels(mix):
    augmentation = Mixed(CifarWeak(size=8, pad=2), mix, 30)
    here, params = ViewRenderer(MEMORY, augmentation).draw(0, 3, range(30))
    there = ViewRenderer(MEMORY, augmentation, device="cuda")
    assert torch.equal(there.render(range(30), params).cpu(), here)
    assert torch.equal(there.draw(0, 3, range(30))[0].cpu(), here)


# ---- labels


@BOTH
def test_the_label_of_a_view_is_that_of_the_larger_share_its_own_at_a_tie(mix):
    augmentation = Mixed(CifarWeak(size=8, pad=1), mix, 30)
    _, params = ViewRenderer(MEMORY, augmentation).draw(0, 0, range(30))
    samples = np.arange(30)
    target = np.random.default_rng(0).permutation(30).astype(np.int32)
    found = main_labels(augmentation, target, samples, params)
    shares = augmentation.shares(params)
    for sample, row in enumerate(params.tolist()):
        share = reference.own_share(augmentation.name, 8, row)
        assert shares[sample] == share
        assert found[sample] == target[sample if share >= Fraction(1, 2) else row[0]]
    halves = {"mixup": [512], "cutmix": [0, 4, 8, 4]}
    tie = np.array([[7, 0, 0, 0, 0, 0, 0, *halves[mix.name]]])
    assert main_labels(augmentation, target, np.array([3]), tie).tolist() == [target[3]]


# ---- specs


def test_a_spec_has_the_parameters_of_both_in_one_list():
    found = parse_augmentation("cifar-weak+mixup:alpha=0.4,pad=2", size=28, samples=50)
    assert found == Mixed(CifarWeak(28, 2), MixUp(0.4), 50)
    assert found.name == "cifar-weak+mixup"
    assert found.parameters == {"size": 28, "pad": 2, "flip": True, "alpha": 0.4, "partners": 50}
    assert parse_augmentation("imagenet-strong+cutmix", samples=9).mix == CutMix(1.0)
    assert parse_augmentation("center+mixup:partners=9", samples=9) == Mixed(Center(), MixUp(), 9)
    assert found.columns == (
        *("partner", "dy", "dx", "flip", "partner_dy", "partner_dx", "partner_flip", "share"),
    )
    assert Mixed(Center(), CutMix(), 9).columns[-4:] == (
        *("box_top", "box_left", "box_height", "box_width"),
    )


@given(MIXES, st.sampled_from([*IN_MEMORY, Center(), ImagenetStrong()]), st.integers(1, 2**31 - 1))
def test_a_manifest_gives_the_augmentation_back(mix, base, partners):
    augmentation = Mixed(base, mix, partners)
    parameters = json.loads(json.dumps(augmentation.parameters))
    assert augmentation_from(augmentation.name, parameters) == augmentation


def test_a_whole_alpha_is_the_same_number():
    whole, real = (
        parse_augmentation(f"cifar-weak+cutmix:alpha={alpha}", samples=3) for alpha in ("1", "1.0")
    )
    assert json.dumps(whole.parameters) == json.dumps(real.parameters)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar-weak+mixpu", "unknown way to mix views 'mixpu': did you mean 'mixup'"),
        ("cifar-weak+", "unknown way to mix views ''"),
        ("cifar-wek+mixup", "unknown augmentation 'cifar-wek': did you mean 'cifar-weak'"),
        ("mixup", "mixup mixes the views of another augmentation: use cifar-weak+mixup"),
        ("cifar-weak+mixup:alfa=1", "unknown parameter of cifar-weak+mixup 'alfa': did you mean"),
        ("cifar-weak+mixup:operations=1", "unknown parameter of cifar-weak+mixup 'operations'"),
        ("cifar-weak:alpha=1", "unknown parameter of cifar-weak 'alpha'"),
        ("cifar-weak+mixup:alpha=0", "alpha of cifar-weak+mixup is 0: expected a number from"),
        ("cifar-weak+cutmix:alpha=yes", "alpha of cifar-weak+cutmix is True: expected a number"),
        ("cifar-weak+cutmix:alpha=nan", "alpha of cifar-weak+cutmix is nan: expected a number"),
        ("cifar-weak+mixup:alpha=much", "alpha of cifar-weak+mixup is 'much'"),
        ("cifar-weak+mixup:partners=7", "partners are drawn from all 50 samples of the dataset"),
    ],
)
def test_a_spec_that_cant_be_meant_is_refused(spec, message):
    with pytest.raises(UsageError) as refusal:
        parse_augmentation(spec, samples=50)
    assert message in str(refusal.value)


def test_partners_are_named_where_no_dataset_says_how_many_there_are():
    with pytest.raises(UsageError, match=r"cifar-weak\+mixup is missing its partners"):
        parse_augmentation("cifar-weak+mixup")
    with pytest.raises(UsageError, match="partners of cifar-weak.mixup is 0"):
        Mixed(CifarWeak(), MixUp(), 0)


# ---- numbers that aren't drawn


@pytest.mark.parametrize(
    ("mix", "changed", "message"),
    [
        (MixUp(), {0: 30}, "partner 30 is not one of the 30 samples"),
        (MixUp(), {0: -1}, "partner -1 is not one"),
        (MixUp(), {7: 1025}, "mixup's share 1025 is outside what is drawn: 0 to 1024"),
        (MixUp(), {7: -1}, "mixup's share -1"),
        (MixUp(), {6: 2}, "outside what cifar-weak draws"),
        (CutMix(), {7: 1, 9: 8}, "cutmix's box at top 1, left 0 of height 8, width 8 is not in"),
        (CutMix(), {10: -1}, "is not in a view of 8 x 8"),
    ],
)
def test_numbers_that_no_view_has_are_refused(mix, changed, message):
    augmentation = Mixed(CifarWeak(size=8, pad=1), mix, 30)
    params = np.zeros((3, len(augmentation.columns)), np.int32)
    if mix.name == "cutmix":
        params[:, 9:] = 8
    for column, value in changed.items():
        params[1, column] = value
    with pytest.raises(PixelError) as refusal:
        ViewRenderer(MEMORY, augmentation).render([0, 1, 2], params)
    assert message in str(refusal.value)


def test_a_dataset_without_all_the_partners_is_refused():
    with pytest.raises(DatasetError, match=r"any of 31 samples, but there are 30"):
        ViewRenderer(MEMORY, Mixed(CifarWeak(size=8), MixUp(), 31))
