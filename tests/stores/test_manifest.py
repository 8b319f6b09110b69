"""The manifest: what round-trips, what is refused, what counts as identity."""

from __future__ import annotations

import dataclasses

import pytest

from logitbank.stores.errors import StoreError
from logitbank.stores.manifest import (
    CorrectionIdentity,
    Manifest,
    Measured,
    Provenance,
    identity_differences,
)
from tests.stores.store_examples import manifest

FULL = manifest(
    kind="corrected",
    correction=CorrectionIdentity("sort", "d" * 64),
    measured=Measured(91.5, 99.0, "test", 360, 88.25, 97.0, (7, 2, 1)),
    provenance=Provenance("2026-01-01", None, "cpu", {"torch": "2"}, "cifar:resnet8@x.pt", "raw"),
)


@pytest.mark.parametrize("one", [manifest(), FULL, FULL.sealed("0" * 64, "now")])
def test_attributes_round_trip(one):
    assert Manifest.from_attributes(one.to_attributes(), "x") == one


def test_a_manifest_keeps_the_seal_that_the_first_release_gave_it():
    """What came later and holds nothing is no part of it."""
    assert FULL.sealed("0" * 64, "now").seal_value() == (
        "f5aafcfbec624c6bb1a30071b7400c6f2f7bbfd91e36890ffc15795931bc17b6"
    )


def test_a_later_field_counts_once_it_holds_something():
    revised = manifest(kind="corrected", correction=CorrectionIdentity("mine", "d" * 64, 4.0))
    assert revised.identity()["correction"]["temperature"] == 4.0
    assert Manifest.from_attributes(revised.to_attributes(), "x") == revised


def test_every_field_is_either_identity_or_known_not_to_be():
    beside = {"format", "status", "measured", "provenance", "digest", "seal"}
    names = {field.name for field in dataclasses.fields(Manifest)}
    assert names - FULL.identity().keys() == beside


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": "3"}, "x: manifest field 'views': Input should be a valid integer"),
        ({"extra": 1}, "x: manifest field 'extra': Unexpected keyword argument"),
        ({"kind": "cooked"}, "x: manifest field 'kind': Input should be 'raw', 'corrected' or 'vi"),
        ({"format": "zip"}, "x is not a logitbank store"),
        ({"format_version": 9}, "x has store format version 9"),
    ],
)
def test_a_bad_manifest_is_one_line_that_names_the_field(change, message):
    with pytest.raises(StoreError, match=message) as caught:
        Manifest.from_attributes(manifest().to_attributes() | change, "x")
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    attributes = manifest().to_attributes()
    del attributes["teacher"]["state_sha256"]
    with pytest.raises(StoreError, match=r"'teacher\.state_sha256': Field required"):
        Manifest.from_attributes(attributes, "x")


def test_differences_name_field_and_both_values():
    other = dataclasses.replace(
        FULL, augmentation=dataclasses.replace(FULL.augmentation, seed=5), measured=Measured()
    )
    assert identity_differences(FULL, other) == [
        "augmentation.seed: the store has 0, this job wants 5"
    ]


def test_the_seal_covers_what_identity_leaves_out():
    sealed = FULL.sealed("0" * 64, "now")
    edited = dataclasses.replace(sealed, measured=Measured())
    assert sealed.seal == sealed.seal_value() != edited.seal_value()
