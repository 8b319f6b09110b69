"""Range checks: pydantic's bounds, in one line of our own words."""

from __future__ import annotations

import doctest
import math
from dataclasses import dataclass, field
from typing import Annotated

import pytest
from pydantic import Field

from logitbank.pipeline import bounds
from logitbank.pipeline.bounds import (
    Count,
    Expected,
    FieldKind,
    FinitePositive,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Seed,
    Weight,
    check_fields,
    field_kinds,
    from_mapping,
)
from logitbank.stores.errors import UsageError

Percentage = Annotated[float, Field(gt=0, le=100)]
Many = Annotated[tuple[FinitePositive, ...], Field(min_length=1), Expected("one or more above 0")]


@dataclass(frozen=True)
class Inner:
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Settings:
    epochs: Count
    skip: NonNegativeInt = 0
    seed: Seed = 0
    lr: Positive = 0.1
    decay: NonNegative = 0.0
    momentum: Fraction = 0.9
    temperature: FinitePositive | None = None
    weight: Weight = 1.0
    top1: Percentage | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    below: Annotated[int, Field(lt=7)] = 0
    milestones: tuple[NonNegativeInt, ...] = ()
    many: Many = (1.0,)
    flag: bool = False
    name: str = ""
    inner: Inner | None = None
    more: dict[str, Annotated[int | tuple[int, ...], Expected("a number or a list")]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"epochs": "ten"}, "epochs must be a whole number, not 'ten'"),
        ({"epochs": None}, "epochs must be a whole number, not None"),
        ({"skip": -1}, "skip must be 0 or more, not -1"),
        ({"seed": -1}, "seed must be from 0 to below 2**64, not -1"),
        ({"seed": 2**64}, "seed must be from 0 to below 2**64, not 18446744073709551616"),
        ({"lr": 0}, "lr must be above 0, not 0"),
        ({"lr": math.nan}, "lr must be above 0, not nan"),
        ({"decay": math.nan}, "decay must be 0 or more, not nan"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1, not 1.0"),
        ({"temperature": 0}, "temperature must be finite and above 0, not 0"),
        ({"temperature": math.inf}, "temperature must be finite and above 0, not inf"),
        ({"weight": -0.5}, "weight must be finite and 0 or more, not -0.5"),
        ({"weight": "much"}, "weight must be a number, not 'much'"),
        ({"top1": 101}, "top1 must be above 0, at most 100, not 101"),
        ({"share": 2}, "share must be from 0 to 1, not 2"),
        ({"below": 7}, "below must be below 7, not 7"),
        ({"milestones": 3}, "milestones must be a list, not 3"),
        ({"milestones": (3, -1)}, "milestones.1 must be 0 or more, not -1"),
        ({"many": ()}, "many must be one or more above 0, not []"),
        ({"many": (1, 0)}, "many must be one or more above 0, not [1, 0]"),
        ({"flag": "perhaps"}, "flag must be true or false, not 'perhaps'"),
        ({"name": 3}, "name must be text, not 3"),
        ({"more": {"beta": "x"}}, "more.beta must be a number or a list, not 'x'"),
        ({"inner": 3}, "inner must be a mapping, not 3"),
        ({"inner": {"limit": 0}}, "inner: limit must be 1 or more, not 0"),
        ({"inner": {"limits": 1}}, "inner: unknown setting of inner 'limits': did you mean"),
        ({"epoch": 3}, "unknown setting 'epoch': did you mean 'epochs'?"),
    ],
)
def test_what_a_field_cant_hold_is_said_in_one_line(given, message):
    with pytest.raises(UsageError) as caught:
        from_mapping(Settings, {"epochs": 1, **given})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Required:
    epochs: Count
    lr: Positive


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match=r"^epochs is missing$"):
        from_mapping(Settings, {})
    with pytest.raises(UsageError, match=r"^epochs and lr are missing$"):
        from_mapping(Required, {})


def test_what_fields_take():
    kinds = field_kinds(Settings)
    assert kinds["epochs"] == FieldKind(int, many=False, least=1, most=None)
    assert kinds["seed"] == FieldKind(int, many=False, least=0, most=2**64 - 1)
    assert kinds["milestones"] == FieldKind(int, many=True, least=0, most=None)
    assert (kinds["flag"].type, kinds["lr"].type, kinds["name"].type) == (bool, float, str)
    assert "inner" not in kinds


def test_the_examples_in_docstrings_are_true():
    found = doctest.testmod(bounds)
    assert found.attempted > 0
    assert found.failed == 0


def test_values_become_what_is_annotated_however_settings_are_made():
    typed = {"epochs": "3", "milestones": [1, 2], "weight": "0.5", "flag": "yes", "many": ["2"]}
    typed["inner"] = {"limit": "4"}
    made = from_mapping(Settings, typed)
    assert made == Settings(
        epochs=3, milestones=(1, 2), weight=0.5, flag=True, many=(2.0,), inner=Inner(4)
    )
    assert isinstance(made.milestones, tuple)
    assert made == Settings(**{**typed, "inner": Inner(4)})


def test_settings_made_in_python_are_checked_as_well():
    with pytest.raises(UsageError, match="epochs must be 1 or more, not 0"):
        Settings(epochs=0)
