"""The wheels that a machine with torch and triton, but without a network, needs for `make gpu`: Python 3.12, x86-64.

    python benchmarks/gpu_wheels.py                       # the requirements, one a line
    python benchmarks/gpu_wheels.py --download build/wheels     # fetches them, and lists the files

There:  python3 -m pip install --no-index --find-links wheels -r wheels/requirements.txt

Versions are those of constraints.txt. Each wheel is pure, or for cp312 (or for any later Python, abi3).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
THERE = {"torch", "triton", "numpy"}
"""What the machine has, and what those need."""
TESTING = ("pytest", "hypothesis")
PYTHON, PLATFORM = "3.12", "manylinux2014_x86_64"
ENVIRONMENT = {
    "python_version": PYTHON,
    "python_full_version": "3.12.0",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "extra": "",
}


def pinned() -> dict[str, str]:
    """Versions by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def roots() -> list[str]:
    """What asyncpipe imports, and its tests on a GPU."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [canonicalize_name(Requirement(text).name) for text in (*declared, *TESTING)]


def needed(names: Iterable[str], versions: Mapping[str, str]) -> list[str]:
    """`name==version` of these and of all that they need, but for what is there; LookupError for one without a version.

    What a package needs is read from its installed metadata.
    """
    found: set[str] = set()
    left = [name for name in names if name not in THERE]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        requirements = map(Requirement, metadata.requires(name) or ())
        wanted = (r for r in requirements if r.marker is None or r.marker.evaluate(ENVIRONMENT))
        left += [canonicalize_name(r.name) for r in wanted if canonicalize_name(r.name) not in THERE]
    if unknown := sorted(found - versions.keys()):
        raise LookupError(f"constraints.txt has no version of {', '.join(unknown)}")
    return [f"{name}=={versions[name]}" for name in sorted(found)]


def fits(wheel: str) -> bool:
    """Whether a wheel's file name says that Python 3.12 on x86-64 Linux can use it."""
    tags = parse_wheel_filename(wheel)[3]
    return any(
        (tag.interpreter in ("cp312", "py3", "py2.py3") or (tag.abi == "abi3" and _at_most(tag.interpreter, 12)))
        and (tag.platform == "any" or tag.platform.endswith("x86_64"))
        for tag in tags
    )


def _at_most(interpreter: str, minor: int) -> bool:
    match = re.fullmatch(r"cp3(\d+)", interpreter)
    return match is not None and int(match[1]) <= minor


def download(requirements: list[str], folder: Path) -> list[str]:
    """The wheels, with the requirements beside them; RuntimeError where one does not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    target = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    platforms = [word for name in (PLATFORM, "manylinux_2_28_x86_64") for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", *target, *platforms, "-d", str(folder)]
    subprocess.run([*command, *requirements], check=True)
    wheels = sorted(file.name for file in folder.glob("*.whl"))
    if wrong := [wheel for wheel in wheels if not fits(wheel)]:
        raise RuntimeError(f"not for Python {PYTHON}: {', '.join(wrong)}")
    return wheels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--download", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    try:
        requirements = needed(roots(), pinned())
    except (LookupError, metadata.PackageNotFoundError) as error:
        print(f"benchmarks/gpu_wheels.py: {error}; run it in an environment that `make test` has made", file=sys.stderr)
        return 1
    print("\n".join(download(requirements, options.download) if options.download else requirements))
    return 0


if __name__ == "__main__":
    sys.exit(main())
