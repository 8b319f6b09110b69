"""YAML of settings, read within bounds: a hostile or damaged file is a clear one-line error, at
once."""

from __future__ import annotations

from typing import Any

import yaml

from logitbank.stores.errors import LogitbankError

MOST_CHARACTERS = 50_000
MOST_DEPTH = 32
MOST_VALUES = 20_000


def parse_yaml(text: str, where: str) -> Any:
    """Read plain values from YAML, as `yaml.safe_load` does, within bounds.

    The bounds hold for what the text means: an alias counts as what it stands for.

    Args:
        text: the YAML.
        where: what error messages begin with, such as a file's path.

    Raises:
        LogitbankError: it is not YAML, gives a name twice, refers to itself, or is longer, deeper
            or larger than any settings.
    """
    if len(text) > MOST_CHARACTERS:
        raise LogitbankError(
            f"{where} has {len(text):,} characters, settings have at most {MOST_CHARACTERS:,}"
        )
    try:
        return yaml.load(text, Loader=_BoundedLoader)
    except _OutOfBoundsError as error:
        raise LogitbankError(f"{where} {error}") from error
    except yaml.YAMLError as error:
        raise LogitbankError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    except Exception as error:  # its types may raise anything on a value like `!!int ""`
        raise LogitbankError(
            f"{where} is not YAML: a value is not of its type ({error})"
        ) from error


class _OutOfBoundsError(Exception):
    """What is wrong; the message follows the name of the text."""


class _BoundedLoader(yaml.SafeLoader):
    """A loader that refuses while it composes, before anything is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open = 0
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node and all below it, and add up its values and levels."""
        is_alias = self.check_event(yaml.AliasEvent)
        self._open += 1
        self._require_depth(self._open)
        node = super().compose_node(parent, index)
        assert node is not None, "its event was there"
        if not is_alias:
            self._sizes[node] = self._size(node)
        elif node not in self._sizes:
            raise _OutOfBoundsError("refers to itself")
        self._open -= 1
        self._require_depth(self._open + self._sizes[node][1])
        return node

    def _size(self, node: yaml.Node) -> tuple[int, int]:
        """Return how many values a node stands for, itself included, and how many levels."""
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _require_distinct([name for name, _ in node.value])
            children = [child for pair in node.value for child in pair]
        sizes = [self._sizes[child] for child in children]
        values = 1 + sum(count for count, _ in sizes)
        if values > MOST_VALUES:
            raise _OutOfBoundsError(f"has more than {MOST_VALUES:,} values, more than any settings")
        return values, 1 + max((levels for _, levels in sizes), default=0)

    def _require_depth(self, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise _OutOfBoundsError(f"is nested more than {MOST_DEPTH} deep, settings never are")


def _require_distinct(names: list[yaml.Node]) -> None:
    seen: set[tuple[str, str]] = set()
    for name in names:
        if isinstance(name, yaml.ScalarNode):
            if (name.tag, name.value) in seen:
                raise _OutOfBoundsError(f"gives {name.value!r} twice")
            seen.add((name.tag, name.value))
