"""Files of weights: reading their tensors, and explaining what a file without any is."""

from __future__ import annotations

import argparse
import pathlib
import re
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logitbank.stores.errors import LogitbankError

_NUMPYS_CORES = ("numpy.core", "numpy._core")
_HEADER = 512
_LONGEST_SAFETENSORS_HEADER = 100_000_000


def load_weights(path: Path) -> Any:
    """Read a file of weights of either format, safetensors or `torch.save`'s, onto the CPU.

    Raises:
        LogitbankError: as `load_tensors`; or safetensors is not installed.
    """
    _require_file(path)
    return _load_safetensors(path) if _is_safetensors(path) else load_tensors(path)


def load_tensors(path: Path) -> Any:
    """Read any file that `torch.save` wrote of tensors and plain values, onto the CPU.

    Nothing in the file is executed: torch's weights-only unpickler reads it, and of other classes
    only `_harmless` ones are allowed.

    Raises:
        LogitbankError: there is no such file, or it can't be read so; the message says what it is
            instead, as far as its first bytes show.
    """
    _require_file(path)
    try:
        # A file, not its name: by that torch would choose the format.
        with path.open("rb") as file, torch.serialization.safe_globals(_harmless()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise LogitbankError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:  # the unpickler may raise anything on foreign bytes
        raise LogitbankError(_why_unreadable(path, error)) from error


def _harmless() -> list[Any]:
    """Return the classes that training scripts keep beside weights and that run no code.

    Namespaces (RepDistiller, timm), paths, and NumPy's numbers and arrays, under the names that
    NumPy 1 and 2 have for what rebuilds them, and each Python for paths.
    """
    rebuilt = [
        (np.zeros(1).__reduce__()[0], "multiarray._reconstruct"),
        (np.float64(0).__reduce__()[0], "multiarray.scalar"),
    ]
    paths = [
        (pure, f"{package}.{kind}")
        for pure, kinds in (
            (pathlib.PurePosixPath, ("PosixPath", "PurePosixPath")),
            (pathlib.PureWindowsPath, ("WindowsPath", "PureWindowsPath")),
        )
        for kind in kinds
        for package in ("pathlib", "pathlib._local")
    ]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        np.ndarray,
        np.dtype,
        *sorted(dtypes, key=repr),
        *((each, f"{core}.{name}") for each, name in rebuilt for core in _NUMPYS_CORES),
        *paths,
    ]


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError  # Comes with timm, and few files are of its format.
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise LogitbankError(
            f"{path} needs a package that is not installed: pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except PermissionError as error:
        raise LogitbankError(f"{path} can't be read: {error.strerror}") from error
    except SafetensorError as error:
        raise LogitbankError(
            f"{path} is not a checkpoint, or a damaged one: safetensors can't read it "
            f"({_what_it_is(path) or error})"
        ) from error


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    what = "no such file"
    if path.is_dir():
        inside = sorted(
            each.name for each in path.iterdir() if each.suffix in (".safetensors", ".pth", ".bin")
        )
        what = "a folder" + (f": name a file of it, such as {path / inside[0]}" if inside else "")
    raise LogitbankError(f"there is no checkpoint at {path}: {what}")


def _is_safetensors(path: Path) -> bool:
    """Return whether the name, or the first bytes (a length and a JSON header's brace), say so."""
    head = _head(path)
    length = int.from_bytes(head[:8], "little")
    by_content = head[8:9] == b"{" and length <= _LONGEST_SAFETENSORS_HEADER
    return by_content or (path.suffix == ".safetensors" and not head.startswith(b"PK\x03\x04"))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER)
    except OSError as error:
        raise LogitbankError(f"{path} can't be read: {error.strerror}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    what = _what_it_is(path)
    if what is None and (refused := re.search(r"GLOBAL (\S+)", str(error))):
        return (
            f"{path} holds more than weights ({refused[1]}), which is not loaded since it could "
            "run code: save the state dict alone, torch.save(model.state_dict(), FILE)"
        )
    because = "" if what is None else f" ({what})"
    return f"{path} is not a checkpoint, or a damaged one: torch.load can't read it{because}"


def _what_it_is(path: Path) -> str | None:
    """Return what a file without a state dict is, and what to do; None if unknown."""
    head = _head(path)
    start = head.lstrip().lower()
    if not head:
        return "it is empty"
    if head.startswith(b"PK\x03\x04"):
        return _what_archive(path)
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: git lfs pull fetches it"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page: download the file itself"
    if start.startswith(b"{"):
        return "it is a JSON text: name the file of weights that lies beside it"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")) or (
        head[257:262] == b"ustar"
    ):
        return "it is an archive: unpack it, and name the file of weights in it"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file, such as Keras writes: a PyTorch checkpoint is expected"
    if path.suffix == ".onnx" or (head.startswith(b"\x08") and b"pytorch" in head[:32]):
        return "it is an ONNX file: use the PyTorch checkpoint that it was exported from"
    return None


def _what_archive(path: Path) -> str | None:
    """Return what a ZIP archive, torch's own format, is if it is not a checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "it is cut short: copy it again"
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "it is a TorchScript archive: name a function of yours that returns "
            "torch.jit.load(FILE), import:package.module:factory, or save its state dict"
        )
    if any(
        name.endswith(("/archive_format", "serialized_exported_program.json")) for name in names
    ):
        return (
            "it is a program of torch.export: use the state dict of the network that it was "
            "exported from"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "it is an archive of NumPy arrays: a PyTorch checkpoint is expected"
    if not any(name.endswith("data.pkl") for name in names):
        return "it is a ZIP archive: unpack it, and name the file of weights in it"
    return None
