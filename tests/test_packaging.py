"""The rooms, their links, the wheel, and the two lists of requirements stay what they are."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("stores", "pipeline", "jobs")
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def requirement(line: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(>=[\d.]+)?", line).groups()
    return CONDA_NAMES.get(name, name), version


def test_conda_and_pip_users_get_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["cluster"]
    pip = dict(map(requirement, [*project["dependencies"], *extra]))
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(requirement(line) for line in listed if isinstance(line, str))
    assert conda.pop("python") == project["requires-python"]
    assert conda.pop("pip") is None
    # PyPI's dask[distributed] is two packages of conda-forge.
    assert conda.pop("distributed") == conda["dask"]
    assert conda == pip


@pytest.mark.parametrize("room", ROOMS)
def test_the_import_package_links_to_the_rooms(room):
    link = ROOT / "logitbank" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module)
    return found


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("logitbank.")}


@pytest.mark.parametrize(
    ("room", "forbidden"), [("stores", {"pipeline", "jobs"}), ("pipeline", {"jobs"})]
)
def test_arrows_point_from_jobs_to_pipeline_to_stores(room, forbidden):
    for path in modules(room):
        assert not rooms_of(imports_of(path)) & forbidden, path


USERS_OF_TORCH = {"slab.py", "corrections/device.py"}
IMPORT_AND_LOOK = "import importlib, sys; list(map(importlib.import_module, sys.argv[1:]))"


def test_stores_import_torch_in_the_slab_and_the_corrections_of_devices_alone():
    """Encodings name its tensors in annotations, which are not evaluated."""
    names = {path.relative_to(ROOT / "stores").as_posix(): path for path in modules("stores")}
    users = {name for name, path in names.items() if "torch" in imports_of(path)}
    assert users >= USERS_OF_TORCH
    assert all(name.startswith("encodings/") for name in users - USERS_OF_TORCH)
    others = sorted(names.keys() - USERS_OF_TORCH)
    dotted = [f"logitbank.stores.{name[:-3].replace('/', '.')}" for name in others]
    command = [sys.executable, "-c", f"{IMPORT_AND_LOOK}; print('torch' in sys.modules)", *dotted]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.split() == ["False"]


LEAVES = ("datasets", "views", "models", "losses", "devices.py", "bounds.py")
STAGES = ("teacher", "correct", "student", "evaluate", "soft_labels")


def test_leaves_of_the_pipeline_import_no_stage():
    for path in modules("pipeline"):
        if path.relative_to(ROOT / "pipeline").parts[0] in LEAVES:
            stages = {
                name
                for name in imports_of(path)
                if name.split(".")[2:3]
                and name.startswith("logitbank.pipeline.")
                and name.split(".")[2] in STAGES
            }
            assert not stages, path


def test_the_wheel_holds_exactly_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*ROOMS, "logitbank"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = [path for room in ROOMS for path in (source / room).rglob("*") if path.is_file()]
    wanted = {f"logitbank/{path.relative_to(source).as_posix()}" for path in tree}
    assert packed == wanted | {"logitbank/__init__.py", "logitbank/py.typed"}


LIGHT = """
import sys
from logitbank.jobs.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["inspect", "--help"], ["verify", "x"], ["--version"]]
)
def test_help_inspect_and_verify_need_no_torch(words):
    run = subprocess.run([sys.executable, "-c", LIGHT, *words], cwd=ROOT, capture_output=True)
    assert run.returncode == (1 if words == ["verify", "x"] else 0), run.stderr
    assert b"torch was imported" not in run.stderr
