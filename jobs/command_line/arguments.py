"""Command-line arguments of jobs: flags, `--config FILE.yaml`, and argparse types."""

from __future__ import annotations

import argparse
import difflib
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from logitbank.jobs.command_line.paths import location
from logitbank.jobs.command_line.yaml_mapping import read_as_written
from logitbank.stores.errors import UsageError, unknown_name

DATASET_HELP = (
    "digits, cifar100:DIR, imagefolder:DIR, imagenet:DIR, hdf5:PATH or import:MODULE:NAME; "
    "DIR@text or DIR@natural sets the order of numbered class folders"
)

MAX_COUNT, MAX_PLANNED, MAX_THREADS, MAX_NUMBER = 10**12, 100_000, 4096, 1e30
"""Upper bounds: more than any job needs, and still safe to compute with."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises its errors."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and exiting."""
        raise UsageError(message)


class JobParser(OneLineParser):
    """A job's parser, with `--config FILE.yaml`; flags override its settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            **settings,
        )
        self.add_argument(
            "--config",
            type=location,
            metavar="FILE.yaml",
            help="settings by flag name; flags override them",
        )

    def parse_job(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a job's arguments; settings in the file of `--config` are their defaults.

        `argv` of the result holds the arguments as they were given.

        Raises:
            UsageError: an unknown flag or setting (the nearest is suggested), or a bad value.
        """
        if any("\0" in word for word in arguments):
            raise UsageError("an argument contains a NUL character, which no name can")
        first = OneLineParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config", type=location)
        path = first.parse_known_args(arguments)[0].config
        if path is not None:
            self._apply_settings(path, read_as_written(Path(path), title=f"--config {path}"))
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            raise self._unknown_flag(unknown[0])
        options.argv = tuple(arguments)
        return options

    def _unknown_flag(self, word: str) -> UsageError:
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = difflib.get_close_matches(word, flags, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        return UsageError(f"unrecognised argument {word}{hint}")

    def _apply_settings(self, path: str, settings: Mapping[str, Any]) -> None:
        actions = {
            action.dest: action for action in self._actions if action.dest not in ("help", "config")
        }
        given: dict[str, str] = {}
        for name, value in settings.items():
            dest = name.replace("-", "_")
            if dest not in actions:
                raise unknown_name(f"setting in {path}", name, actions)
            if dest in given:
                raise UsageError(f"{path}: {given[dest]} and {name} are the same setting")
            given[dest] = name
            action = actions[dest]
            action.default = _converted(f"{path}: {name}", action, value)
            action.required = False
            if not action.option_strings:
                action.nargs = "*" if action.nargs == "+" else "?"


def _converted(where: str, action: argparse.Action, value: Any) -> Any:
    """Convert a setting's text by the type and choices of its flag.

    Args:
        where: the place in the file, with which error messages begin.
        action: the flag's.
        value: a text, None where the file has no value, or a list of texts.

    Raises:
        UsageError: the flag would not accept the value.
    """
    if value in (None, []) and action.default == value and not action.required:
        return value
    if value is None:
        raise UsageError(f"{where} has no value: write one, or leave the name out")
    if action.nargs == 0 or (action.nargs == "?" and action.const is not None):
        switch = yaml.SafeLoader.bool_values.get(value.lower()) if isinstance(value, str) else None
        if switch is not None:
            return (action.const if switch else action.default) if action.nargs else switch
        if action.nargs == 0:
            raise UsageError(f"{where} must be true or false, not {value!r}")
    if action.nargs in ("+", "*"):
        values = value if isinstance(value, list) else [value]
        if not values and action.nargs == "+":
            raise UsageError(f"{where} has no value: write one, or leave the name out")
        return [_converted_text(where, action, one) for one in values]
    return _converted_text(where, action, value)


def _converted_text(where: str, action: argparse.Action, value: Any) -> Any:
    if not isinstance(value, str):
        raise UsageError(f"{where} takes a text or number, not {_kind(value)}")
    if "\0" in value:
        raise UsageError(f"{where} contains a NUL character, which no name can")
    converted: Any = value
    if callable(action.type):
        try:
            converted = action.type(value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{where}: {error}") from None
    if action.choices is not None and converted not in action.choices:
        raise unknown_name(where, value, map(str, action.choices))
    return converted


def _kind(value: Any) -> str:
    """Return the kind of a value that should be a text, for an error message.

    >>> _kind({"beta": "6"}), _kind(b"")
    ('a mapping', 'bytes')
    """
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def command_line(argv: Sequence[str]) -> str:
    """Return a job's command as it would be typed in a shell.

    >>> command_line(["inspect", "my store.zarr"])
    "logitbank inspect 'my store.zarr'"
    """
    return shlex.join(["logitbank", *argv])


def add_dataset_arguments(parser: argparse.ArgumentParser, split: str = "train") -> None:
    """Declare the arguments that select a job's samples."""
    parser.add_argument("--dataset", required=True, metavar="SPEC", help=DATASET_HELP)
    parser.add_argument("--split", default=split, help="train or test (val is a synonym)")
    parser.add_argument("--limit", type=positive, help="use only the first N samples")
    parser.add_argument("--download", action="store_true", help="download cifar100 by torchvision")


def add_precision_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the device, precision and memory format of a network."""
    parser.add_argument("--device", help="cpu or cuda[:N] (CUDA if available)")
    parser.add_argument("--amp", action="store_true", help="use mixed precision")
    parser.add_argument("--tf32", action="store_true", help="let CUDA use TF32")
    parser.add_argument(
        "--channels-last", action="store_true", help="use the channels_last memory format"
    )


def positive(text: str) -> int:
    """Parse a count of at least 1."""
    return whole(text, 1, MAX_COUNT)


def plan_count(text: str) -> int:
    """Parse a count of at least 1 of things that a plan lists one by one."""
    return whole(text, 1, MAX_PLANNED)


def view_count(text: str) -> str:
    """Check the size of a number of views; other texts, such as `all`, pass unchanged."""
    if text.strip().isdecimal():
        whole(text, 0, MAX_PLANNED)
    return text


def positive_number(text: str) -> float:
    """Parse a number above 0."""
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def threads(text: str) -> int:
    """Parse a number of threads or processes, of at least 1."""
    return whole(text, 1, MAX_THREADS)


def seed(text: str) -> int:
    """Parse a seed, a whole number of 64 bits."""
    return whole(text, 0, 2**64 - 1)


def finite(text: str) -> float:
    """Parse a finite number, small enough for float32, and for its square as a Python float."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    if abs(value) > MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: {MAX_NUMBER:g} at most")
    return value


def percent(text: str) -> float:
    """Parse an accuracy in percent, above 0 and at most 100."""
    return _part_of(100, text, "a percentage")


def share(text: str) -> float:
    """Parse a share above 0 and at most 1."""
    return _part_of(1, text, "a number")


def _part_of(most: int, text: str, kind: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind} above 0, at most {most}")
    return value


def whole(text: str, least: int, most: int) -> int:
    """Parse a whole number within bounds."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    if value > most:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: {most:,} at most")
    return value
