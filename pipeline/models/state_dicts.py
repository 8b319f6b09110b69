"""State dicts as people's tools write them: where in a file they lie, and which fits a network.

A file may hold several, raw and averaged weights, a student's and a teacher's. The names in one may
have prefixes: of wrappers (`module.`, `_orig_mod.`), and of the class that held the network
(`model.`, `net.`). Neither is known by lists of keys alone: a *place* of a file is the dotted keys
that lead to a state dict and the prefix in it, and fits where all names and shapes of the network
are there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

BATCH_COUNT = "num_batches_tracked"
"""Counts that old files lack, and nothing reads."""

_DEEPEST = 3
# DistributedDataParallel and AveragedModel, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_HOLDERS = frozenset(("model", "net", "network", "student", "teacher"))
_AVERAGED = frozenset(("swa", "average", "averaged", "avg", "shadow"))

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors by name as they lie under one key of a file, wrappers' names taken off.

    `keys` are the dotted keys that lead there, "" for the file itself; `versions` is what torch
    keeps of each module's format, None where the file has none.
    """

    keys: str
    tensors: State
    versions: Mapping[str, Any] | None = None

    def renamed(self, rename: Callable[[str], str]) -> StateDict:
        """Return the state dict with each name changed."""
        return replace(self, tensors={rename(name): each for name, each in self.tensors.items()})


@dataclass(frozen=True, eq=False)
class Place:
    """A prefix in a state dict under which names of a network are found, `count` of them."""

    source: StateDict
    prefix: str
    count: int

    @property
    def name(self) -> str:
        """How a user names it: the keys and the prefix, dotted; "" for the file itself."""
        return ".".join(filter(None, (self.source.keys, self.prefix.rstrip("."))))

    @property
    def is_averaged(self) -> bool:
        """Whether its name says that it is an average of weights."""
        return is_averaged(self.name)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what lies under the prefix, by the names behind it."""
        start = len(self.prefix)
        return {
            name[start:]: each
            for name, each in self.source.tensors.items()
            if name.startswith(self.prefix)
        }

    def beside(self) -> list[str]:
        """Return the names of the same state dict that don't lie under the prefix."""
        return [name for name in self.source.tensors if not name.startswith(self.prefix)]

    def versions(self) -> dict[str, Any] | None:
        """Return what torch keeps of the formats of the modules under the prefix."""
        if self.source.versions is None:
            return None
        start = len(self.prefix)
        return {
            name[start:]: each
            for name, each in self.source.versions.items()
            if f"{name}.".startswith(self.prefix)
        }

    def is_usual(self) -> bool:
        """Whether the prefix is that of a class that holds a network and little else."""
        parts = self.prefix.rstrip(".").split(".")
        return all(part in _HOLDERS or is_averaged(part) for part in parts)


def state_dicts(content: Any) -> tuple[StateDict, ...]:
    """Return all state dicts in a file's content: mappings of names to tensors, three keys deep.

    A list of tensors is taken for one too, named by their numbers: some tools keep averages so.
    """
    return tuple(_found(content, ()))


def _found(content: Any, keys: tuple[str, ...]) -> Iterator[StateDict]:
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content)) if all(map(torch.is_tensor, content)) else {}
    if not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value)}
    if tensors:
        plain = plain_names(tensors)
        versions = getattr(content, "_metadata", None)
        yield StateDict(
            keys=".".join(keys),
            tensors={plain[name]: value for name, value in tensors.items()},
            versions=_plain_versions(versions) if isinstance(versions, Mapping) else None,
        )
    if len(keys) < _DEEPEST:
        for key, value in content.items():
            yield from _found(value, (*keys, str(key)))


def _plain_versions(versions: Mapping[str, Any]) -> dict[str, Any]:
    return {plain_name(str(name)): value for name, value in versions.items()}


def plain_name(name: str) -> str:
    """Remove the names of wrappers from a dotted name."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def plain_names(names: Mapping[str, Any]) -> dict[str, str]:
    """Return each name without wrappers; or all as they are, if two would become the same."""
    plain = {name: plain_name(name) for name in names}
    if len(set(plain.values())) == len(plain) and all(plain.values()):
        return plain
    return {name: name for name in names}


def is_averaged(name: str) -> bool:
    """Return whether a key or prefix is of averaged weights: `state_dict_ema`, `averaged_model`."""
    parts = re.split(r"[^a-z]+", name.lower())
    return any(
        part in _AVERAGED or part.startswith("ema") or part.endswith("ema") for part in parts
    )


def places(found: Sequence[StateDict], names: Sequence[str]) -> list[Place]:
    """Return the places where names of a network lie, in the order of the file.

    Args:
        found: the file's state dicts.
        names: the network's, without wrappers.
    """
    wanted = frozenset(names)
    return [
        Place(source, prefix, count)
        for source in found
        for prefix, count in _prefixes(source.tensors, wanted).items()
    ]


def _prefixes(tensors: State, wanted: frozenset[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    return counts


def named(found: Sequence[Place], part: str) -> list[Place]:
    """Return the places that a user's `#PART` can mean.

    It is a place's name, or its beginning or end up to a dot; or `ema` for averaged weights, `raw`
    for the others.
    """
    wanted = {part, plain_name(part)}
    ways: tuple[Callable[[Place], bool], ...] = (
        lambda place: place.name in wanted,
        lambda place: any(place.name.startswith(f"{each}.") for each in wanted),
        lambda place: any(place.name.endswith(f".{each}") for each in wanted),
        lambda place: part == "ema" and place.is_averaged,
        lambda place: part == "raw" and not place.is_averaged,
    )
    return next((chosen for way in ways if (chosen := [*filter(way, found)])), [])


def distinct(found: Sequence[Place], names: Sequence[str]) -> list[Place]:
    """Return the places without those whose tensors of these names equal an earlier one's."""
    kept: list[Place] = []
    for place in found:
        if not any(_same(place, other, names) for other in kept):
            kept.append(place)
    return kept


def _same(one: Place, other: Place, names: Sequence[str]) -> bool:
    def tensor(place: Place, name: str) -> torch.Tensor | None:
        return place.source.tensors.get(place.prefix + name)

    pairs = ((tensor(one, name), tensor(other, name)) for name in names)
    return all(
        a is b or (a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b))
        for a, b in pairs
    )
