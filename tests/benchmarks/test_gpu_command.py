"""benchmarks/gpu.py and gpu_wheels.py without a GPU: parts and shares, the skip, and what must be carried."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("triton", reason="the benchmarks of kernels need it")

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """The script as a module, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


gpu, gpu_wheels = script("gpu"), script("gpu_wheels")


def test_all_parts_fit_into_nine_minutes() -> None:
    assert sum(part.seconds for part in gpu.parts()) + gpu.RESERVE <= 60 * gpu.MINUTES
    assert [part.name for part in gpu.parts()] == ["tests", "tests of kernels", "kernels", "experiments", "suite"]


def test_what_a_part_leaves_goes_to_the_next_ones() -> None:
    now = count(0, 0)
    parts = [gpu.Part(name, seconds, ()) for name, seconds in (("a", 10), ("b", 30), ("c", 60))]
    assert [limit for _, limit in gpu.shares(parts, 200, lambda: next(now))] == [20, 200 * 30 / 90, 200]
    clock = iter([0.0, 0.0, 10.0, 30.0])
    assert [limit for _, limit in gpu.shares(parts, 100, lambda: next(clock))] == [10, 30, 70]


def test_all_files_and_options_of_the_parts_exist() -> None:
    files = [word for part in gpu.parts() for word in part.command if word.endswith(".py") or "/" in word]
    assert [word for word in files if not (ROOT / word).exists()] == []
    assert all("--budget" in part.command for part in gpu.parts() if part.writes)


def test_a_part_gives_its_document_or_the_reason(tmp_path: Path) -> None:
    write = "import sys, json, pathlib; pathlib.Path(sys.argv[1]).write_text(json.dumps({'budget': sys.argv[2]}))"
    found = gpu.run_part(gpu.Part("writes", 1, ("-c", write, "{out}", "{budget}")), 20.0)
    assert (found["document"], "failed" in found) == ({"budget": "18"}, False)
    found = gpu.run_part(gpu.Part("hangs", 1, ("-c", "import time; time.sleep(60)")), 0.3)
    assert found["failed"] == "stopped after 0 s"
    parts = [gpu.Part("fails", 1, ("-c", "raise SystemExit(3)"))]
    out = tmp_path / "results" / "gpu.json"
    assert gpu.run(parts, 20.0, out) == 1
    assert json.loads(out.read_text())["parts"]["fails"]["failed"] == "exit code 3"


def test_without_a_gpu_it_is_skipped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if gpu.gpu_name() is not None:
        pytest.skip("torch has seen this machine's GPU already")
    assert gpu.main() == 0
    assert capsys.readouterr().err == f"skipped: no NVIDIA GPU that the torch of {sys.executable} can use\n"


def test_missing_modules_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("torch", "no_such_package.inner"))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 4
    assert "lacks no_such_package.inner; `make gpu-wheels` fetches what to carry" in capsys.readouterr().err


def test_results_are_called_after_the_gpu_and_the_day() -> None:
    file: Any = gpu.result_file("NVIDIA H100 80GB HBM3", "2026-11-21")
    assert file.name == "nvidia-h100-80gb-hbm3-2026-11-21.json"


def test_wheels_are_what_asyncpipe_and_its_tests_need_but_torch() -> None:
    requirements = gpu_wheels.needed(gpu_wheels.roots(), gpu_wheels.pinned())
    names = {requirement.split("==")[0] for requirement in requirements}
    assert {"click", "rich", "ruamel-yaml", "pytest", "hypothesis", "pluggy", "markdown-it-py"} <= names
    assert names & {"torch", "triton", "numpy", "sympy", "colorama", "mypy"} == set()
    with pytest.raises(LookupError, match=r"constraints\.txt has no version of click"):
        gpu_wheels.needed(["click"], {})


@pytest.mark.parametrize(
    ("wheel", "expected"),
    [
        ("click-8.5.1-py3-none-any.whl", True),
        ("sortedcontainers-2.4.0-py2.py3-none-any.whl", True),
        ("hypothesis-6.170.15-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", True),
        ("cryptography-44.0.0-cp39-abi3-manylinux_2_28_x86_64.whl", True),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_28_x86_64.whl", False),
        ("numpy-2.4.6-cp312-cp312-macosx_14_0_arm64.whl", False),
        ("numpy-2.4.6-cp312-cp312-manylinux_2_28_aarch64.whl", False),
    ],
)
def test_wheels_must_fit_python_312_on_x86_linux(wheel: str, expected: bool) -> None:
    assert gpu_wheels.fits(wheel) is expected
