"""Arguments of jobs: flags, a YAML file beneath them, and the types they share."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from logitbank.jobs.yaml_mapping import read_mapping
from logitbank.stores.errors import UsageError, unknown_name

DATASET_HELP = (
    "digits, cifar100:DIR, imagefolder:DIR, imagenet:DIR, hdf5:PATH or import:MODULE:NAME; "
    "behind a DIR, @text or @natural says how numbered class folders are ordered"
)


class JobParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose `--config FILE.yaml` flags override."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            **settings,
        )
        self.add_argument(
            "--config", metavar="FILE.yaml", help="settings by flag name; flags override them"
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(message)

    def parse_job(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a job's arguments, with the settings of `--config` beneath them.

        `words` of the result are the arguments as they were given.

        Raises:
            UsageError: an unknown flag or setting (the nearest is suggested), or a bad value.
        """
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        path = first.parse_known_args(arguments)[0].config
        if path is not None:
            self._apply_settings(path, read_mapping(Path(path), title=f"--config {path}"))
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            raise self._unknown_flag(unknown[0])
        options.words = tuple(arguments)
        return options

    def _unknown_flag(self, word: str) -> UsageError:
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = difflib.get_close_matches(word, flags, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        return UsageError(f"unrecognised argument {word}{hint}")

    def _apply_settings(self, path: str, settings: Mapping[str, Any]) -> None:
        actions = {action.dest: action for action in self._actions if action.dest != "help"}
        for name, value in settings.items():
            dest = str(name).replace("-", "_")
            if dest not in actions:
                raise unknown_name(f"setting in {path}", str(name), actions)
            action = actions[dest]
            action.default = _converted(path, str(name), action, value)
            action.required = False
            if not action.option_strings and action.nargs is None:
                action.nargs = "?"


def _converted(path: str, name: str, action: argparse.Action, value: Any) -> Any:
    """Take a setting's value through the type and choices of its flag."""
    if isinstance(value, list):
        return [_converted(path, name, action, one) for one in value]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {name} must be true or false, not {value!r}")
        return value
    if callable(action.type):
        try:
            value = action.type(str(value))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{path}: {name}: {error}") from None
    if action.choices is not None and value not in action.choices:
        raise unknown_name(f"{name} in {path}", str(value), map(str, action.choices))
    return value


def add_dataset_arguments(parser: argparse.ArgumentParser, split: str = "train") -> None:
    """Declare which samples a job reads."""
    parser.add_argument("--dataset", required=True, metavar="SPEC", help=DATASET_HELP)
    parser.add_argument("--split", default=split, help="train or test (val is a synonym)")
    parser.add_argument("--limit", type=positive, help="the first N samples alone")
    parser.add_argument("--download", action="store_true", help="fetch cifar100 by torchvision")


def add_precision_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where and how a network computes."""
    parser.add_argument("--device", help="cpu or cuda[:N] (CUDA where there is one)")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--tf32", action="store_true", help="let CUDA use TF32")
    parser.add_argument("--channels-last", action="store_true", help="that memory format")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole(text, 1)


def non_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _whole(text, 0)


def percent(text: str) -> float:
    """Parse an accuracy in percent, above 0 and at most 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0, at most 100")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value
