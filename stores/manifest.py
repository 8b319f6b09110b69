"""The manifest: what a store holds, how it was made and how accurate it is.

The manifest is the attributes of the store's root group. Its *identity* fields define the work: two
runs of the same work have the same identity, the same arrays and the same digest. Times, versions,
devices and measurements are not part of it and may differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from logitbank.stores.encodings import ENCODINGS, encoding_named
from logitbank.stores.errors import NotAStoreError, StoreError, UsageError
from logitbank.stores.files.printable import printable, shortened

FORMAT = "logitbank"
FORMAT_VERSION = 1
PARTNER = "partner"
"""The column of `view_params` with the second sample that a view is mixed with."""

MAX_UNITS = 2**22
"""The most units of a store, with up to 16 files each, so that listing them fits in memory."""

# Bounds of parsed numbers, so that nothing divides by zero or allocates unbounded memory. The
# generator of views counts samples in 32 bits, and `top` holds classes in 16.
_Count = Annotated[int, Field(ge=1, le=2**32)]
_Classes = Annotated[int, Field(ge=1, le=2**16)]
_Side = Annotated[int, Field(ge=1, le=2**16)]
_Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]
_Percent = Annotated[float, Field(ge=0, le=100)]
_Rows = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Positive = Annotated[float, Field(gt=0)]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
# Fields added since the first release: omitted if empty, so that stores keep their digest and
# seal, and older releases can still read them.
_ADDED_LATER = (
    ("correction", "temperature"),
    ("measured", "probe"),
    ("provenance", "parent_places"),
)
_BESIDE_IDENTITY = ("format", "status", "measured", "provenance", "digest", "seal")


@dataclass(frozen=True)
class DatasetIdentity:
    """One split of a dataset: N samples in dataset order, C classes.

    `fingerprint` is the sha256 over the samples' ids and targets.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    split: str
    samples: _Count
    classes: _Classes
    fingerprint: str


@dataclass(frozen=True)
class AugmentationIdentity:
    """How the views were drawn; `columns` names the columns of `view_params`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    parameters: dict[str, bool | int | float | str]
    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]
    dtype: Literal["int16", "int32"]
    size: _Side
    seed: _Seed

    @property
    def is_mixed(self) -> bool:
        """Whether each view mixes two images, and so has two labels."""
        return PARTNER in self.columns


@dataclass(frozen=True)
class TeacherIdentity:
    """The network that computed the logits, and everything they depend on.

    `spec` names the architecture without the path of its checkpoint; `state_sha256` covers the
    names, dtypes, shapes and bytes of its state dict.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    spec: str
    state_sha256: str
    mean: tuple[float, float, float]
    std: tuple[_Positive, _Positive, _Positive]
    input_size: _Side
    precision: str
    batch_size: _Count
    memory_format: str


@dataclass(frozen=True)
class CorrectionIdentity:
    """The correction that made this store, and the digest of the store it was made from.

    `temperature` is the one that the correction acts at, None if its result is the same at any.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    parent_digest: str
    temperature: _Positive | None = None


@dataclass(frozen=True)
class Probe:
    """The teacher's logits for view 0 of the store's first samples, a row of C per sample.

    They are computed in float32 whatever the store's precision, and kept to six digits. They are
    not part of the identity, since devices differ in the last bits. Any process that computes units
    must reproduce them closely, which detects a teacher with the same weights but different code.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    logits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Measured:
    """Measurements; accuracies are in percent, and right means that the label attains the maximum.

    `clean_*` are the teacher's on centre crops of `clean_split`, measured before the first unit;
    `top1`, `top5` and `label_ranks` are those of this store's rows. `label_ranks[r]` counts the
    rows whose label has rank r (0 is right); the last entry counts the labels that `top` omits.
    `probe` is None in stores begun by earlier releases.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    clean_top1: _Percent | None = None
    clean_top5: _Percent | None = None
    clean_split: str | None = None
    clean_samples: _Count | None = None
    top1: _Percent | None = None
    top5: _Percent | None = None
    label_ranks: tuple[_Rows, ...] = ()
    probe: Probe | None = None

    def inconsistency(self) -> str | None:
        """Return which figures are missing though others of their kind are not, None if none."""
        clean = (self.clean_top1, self.clean_top5, self.clean_split, self.clean_samples)
        if any(figure is None for figure in clean) != all(figure is None for figure in clean):
            return "some of clean_top1, clean_top5, clean_split, clean_samples are null, others not"
        if len({self.top1 is None, self.top5 is None, not self.label_ranks}) > 1:
            return "some of top1, top5 and label_ranks are missing, others are not"
        if self.label_ranks and not any(self.label_ranks):
            return "label_ranks counts no rows"
        return None


@dataclass(frozen=True)
class Provenance:
    """Where and when the store was made; not part of its identity.

    `parent_places` are the locations where a virtual store looks for its parent: relative to its
    own folder, then an absolute path or URL.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    created: str = ""
    sealed: str | None = None
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    teacher_spec: str = ""
    parent: str | None = None
    parent_places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The description of a store; V is `views`, N and C are those of `dataset`.

    A virtual store is corrected as it is read, and its arrays are its parent's (see
    `stores/virtual.py`). `encoding` is in text form (see `stores/encodings`). `rows_per_chunk` is
    B, the rows of a unit; `top_classes` is K. `digest` and `seal` are None until `status` is
    "complete" (see `stores/seal.py`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["raw", "corrected", "virtual"]
    dataset: DatasetIdentity
    augmentation: AugmentationIdentity
    views: _Count
    encoding: str
    rows_per_chunk: _Count
    top_classes: _Count
    teacher: TeacherIdentity
    correction: CorrectionIdentity | None = None
    measured: Measured = Measured()
    provenance: Provenance = field(default_factory=Provenance)
    status: Literal["incomplete", "complete"] = "incomplete"
    digest: str | None = None
    seal: str | None = None
    format: Literal["logitbank"] = "logitbank"
    format_version: Literal[1] = 1

    @classmethod
    def from_attributes(cls, attributes: Any, where: str) -> Manifest:
        """Parse a root group's attributes.

        Raises:
            StoreError: it is not a logitbank store or of another format version, a field is
                missing, unknown, of the wrong type or out of bounds, fields contradict each other,
                or mixed views are corrected; the message begins with `where`.
        """
        if not isinstance(attributes, Mapping) or attributes.get("format") != FORMAT:
            raise NotAStoreError(
                f"{where} is not a logitbank store: its attributes are not a manifest"
            )
        version = attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{where} has store format version {shortened(version)}, this logitbank reads "
                f"version {FORMAT_VERSION}: read it with the release that wrote it, or cache again"
            )
        try:
            manifest = _ADAPTER.validate_json(json.dumps(attributes), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            name = shortened(".".join(str(part) for part in first["loc"]))
            raise StoreError(f"{where}: manifest field {name}: {first['msg']}") from None
        cause = manifest.inconsistency()
        if cause is not None:
            raise StoreError(f"{where}: manifest field {cause}")
        if manifest.kind != "raw" and manifest.augmentation.is_mixed:
            raise StoreError(f"{where} can't be corrected: {manifest.why_uncorrectable()}")
        return manifest

    def inconsistency(self) -> str | None:
        """Return which field contradicts the others, beginning with its name; None if none does."""
        samples, rows = self.dataset.samples, self.rows_per_chunk
        try:
            encoding_named(self.encoding)
        except UsageError:
            known = " or ".join(sorted(ENCODINGS))
            return f"'encoding' is {shortened(self.encoding)}, this logitbank reads {known}"
        if rows > samples:
            return f"'rows_per_chunk' is {rows:,}, more than the {samples:,} samples"
        if self.top_classes > self.dataset.classes:
            return f"'top_classes' is {self.top_classes:,}, of {self.dataset.classes:,} classes"
        if (units := self.views * -(-samples // rows)) > MAX_UNITS:
            return (
                f"'views': {self.views:,} of {samples:,} samples in blocks of {rows:,} are "
                f"{units:,} units, more than {MAX_UNITS:,}"
            )
        if (cause := self.measured.inconsistency()) is not None:
            return f"'measured': {cause}"
        probe, classes = self.measured.probe, self.dataset.classes
        if probe is not None and any(len(row) != classes for row in probe.logits):
            return f"'measured.probe' has rows that are not of {classes:,} classes"
        if self.status == "complete" and not self.measured.label_ranks:
            return "'measured.label_ranks' is empty, though the store is complete"
        return None

    def require_correctable(self, where: str) -> None:
        """Check that each view has one label, which a correction can rank first.

        Raises:
            UsageError: views are mixed; the message begins with `where`.
        """
        if self.augmentation.is_mixed:
            raise UsageError(f"{where} can't be corrected: {self.why_uncorrectable()}")

    def why_uncorrectable(self) -> str:
        """Return why a store of mixed views can't be corrected, and what to do."""
        return (
            f"its views are {self.augmentation.name}, each mixed of two images with a label of its "
            "own, and a correction puts one label first: use the store as it is, or cache without "
            "MixUp and CutMix"
        )

    def to_attributes(self) -> dict[str, Any]:
        """Return the JSON-serialisable attributes that `from_attributes` parses."""
        attributes = json.loads(json.dumps(dataclasses.asdict(self)))
        for part, name in _ADDED_LATER:
            if attributes[part] and attributes[part][name] in (None, []):
                del attributes[part][name]
        return attributes

    def identity(self) -> dict[str, Any]:
        """Return the fields that define the work, JSON-serialisable."""
        attributes = self.to_attributes()
        return {name: attributes[name] for name in attributes if name not in _BESIDE_IDENTITY}

    def seal_value(self) -> str:
        """Return the sha256 hex over the whole manifest except `seal` itself."""
        attributes = self.to_attributes()
        del attributes["seal"]
        return hashlib.sha256(canonical_json(attributes)).hexdigest()

    def sealed(self, digest: str, when: str) -> Manifest:
        """Return the manifest marked complete, for files with this digest."""
        provenance = dataclasses.replace(self.provenance, sealed=when)
        complete = dataclasses.replace(
            self, status="complete", digest=digest, seal=None, provenance=provenance
        )
        return dataclasses.replace(complete, seal=complete.seal_value())

    def unsealed(self) -> Manifest:
        """Return the manifest marked incomplete."""
        return dataclasses.replace(self, status="incomplete", digest=None, seal=None)


_ADAPTER = TypeAdapter(Manifest)


def canonical_json(value: Any) -> bytes:
    """Serialise to the canonical JSON that digests cover: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def identity_differences(found: Manifest, wanted: Manifest, holder: str = "the store") -> list[str]:
    """Return the identity fields that differ, one line each, empty if none does.

    `holder` is what the lines call the owner of `found`.

    >>> # doctest: +SKIP
    >>> identity_differences(found, wanted)
    ['augmentation.seed: the store has 0, this job wants 1']
    """
    return differences(found.identity(), wanted.identity(), holder)


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], holder: str = "the store"
) -> list[str]:
    """Return the fields in which two identities, as from `Manifest.identity`, differ."""
    have, want = _flat(found), _flat(wanted)
    return [
        f"{printable(name)}: {holder} has {shortened(have.get(name))}, this job wants "
        f"{shortened(want.get(name))}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else name)
    return flat
