"""The facts: read from files as the system writes them, and from this very machine."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncpipe.data.cifar import FORMATS
from asyncpipe.tools.doctor.environment import CudaDevice, Torch
from asyncpipe.tools.doctor.gather import c_compiler, can_write, kernel_cache, loaded_libraries
from asyncpipe.tools.doctor.gather_host import memory_available, memory_limit, time_quota
from asyncpipe.tools.doctor.gather_installation import DATA_SETS, data_problem
from asyncpipe.tools.doctor.gather_torch import gather_torch, triton_needed_by
from asyncpipe.tools.doctor.versions import NEEDED, OPTIONAL, at_least, numbers
from asyncpipe.tools.nvml import Unavailable

ROOT = Path(__file__).parents[3]
PASSED = ["nvidia-ml-py>=12.535"]
"""A dependency without which nothing fails."""


def system(folder: Path, files: dict[str, str]) -> Path:
    """A folder that looks like the root of a machine."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_limits_of_cgroups_2_are_the_least_of_all_around_this_process(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        {
            "proc/self/cgroup": "0::/job/step\n",
            "sys/fs/cgroup/job/step/cpu.max": "max 100000\n",
            "sys/fs/cgroup/job/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/job/step/memory.max": "4294967296\n",
            "sys/fs/cgroup/job/memory.max": "max\n",
        },
    )
    assert (time_quota(root), memory_limit(root)) == (2.5, 2**32)


def test_limits_of_cgroups_1_are_read_too(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/pod\n2:cpu,cpuacct:/pod\n0::/\n",
            "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "1073741824\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert (time_quota(root), memory_limit(root)) == (1.5, 2**30)


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (time_quota(root), memory_limit(root)) == (None, None)
    assert (time_quota(tmp_path / "none"), memory_limit(tmp_path / "none")) == (None, None)


def test_free_memory_is_what_programs_can_have(tmp_path: Path) -> None:
    root = system(tmp_path, {"proc/meminfo": "MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\n"})
    assert memory_available(root) == 512_000
    assert memory_available(tmp_path / "none") is None


def test_loaded_libraries_are_listed_once_by_their_real_files(tmp_path: Path) -> None:
    real = tmp_path / "libgomp.so.1.0.0"
    real.touch()
    (tmp_path / "libgomp.so.1").symlink_to(real)
    maps = tmp_path / "maps"
    maps.write_text(
        f"7f00-7f01 r-xp 00000000 08:01 12 {tmp_path}/libgomp.so.1\n"
        f"7f01-7f02 rw-p 00000000 08:01 12 {real}\n"
        "7f03-7f04 rw-p 00000000 00:00 0 [heap]\n"
        "7f05-7f06 rw-p 00000000 00:00 0\n"
        "7f07-7f08 r--p 00000000 08:01 13 /usr/lib/locale/locale-archive\n"
    )
    assert loaded_libraries(maps) == (str(real),)
    assert loaded_libraries(tmp_path / "none") == ()


def test_a_folder_that_can_be_made_can_be_written(tmp_path: Path) -> None:
    assert can_write(tmp_path)
    assert can_write(tmp_path / "new" / "deep")
    (tmp_path / "file").touch()
    assert not can_write(tmp_path / "file")


def test_a_folder_that_may_not_be_looked_at_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert not can_write(tmp_path / "new")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not can_write(tmp_path / "new")


def test_the_kernel_cache_is_where_triton_has_it() -> None:
    assert kernel_cache({"TRITON_CACHE_DIR": "/fast", "TRITON_HOME": "/slow"}) == Path("/fast")
    assert kernel_cache({"TRITON_HOME": "/slow"}) == Path("/slow/.triton/cache")
    assert kernel_cache({}) == Path(os.path.expanduser("~")) / ".triton" / "cache"


def test_the_compiler_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("clang", "mine"):
        (tmp_path / name).touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert c_compiler({}) == str(tmp_path / "clang")
    assert c_compiler({"CC": "mine -O2"}) == str(tmp_path / "mine")
    assert c_compiler({"CC": "other"}) is None


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ('triton==3.9.0; platform_system == "Linux"', "3.9.0"),
        ("triton == 3.9.0", "3.9.0"),
        ("pytorch-triton==3.9.0", None),
        ("triton>=3", None),
    ],
)
def test_torch_says_which_triton_it_needs(requirement: str, needed: str | None) -> None:
    assert triton_needed_by(["filelock", requirement]) == needed


@pytest.mark.parametrize(
    ("version", "release"),
    [("2.13.0+cu130", (2, 13, 0)), ("13", (13,)), ("3.6.0rc1", (3, 6, 0)), ("unknown", ())],
)
def test_a_version_is_compared_by_its_numbers(version: str, release: tuple[int, ...]) -> None:
    assert numbers(version) == release
    assert at_least("2.13.0+cpu", "2.11")
    assert not at_least("2.9", "2.11")


def test_the_versions_asked_for_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for extra in project["optional-dependencies"].values() for text in extra]
    known = {text.partition(";")[0] for text in [*project["dependencies"], *optional]}
    wanted = [f"{name}>={least}" for name, least in {**NEEDED, **OPTIONAL}.items()]
    assert sorted(NEEDED) == sorted(text.partition(">=")[0] for text in project["dependencies"] if text not in PASSED)
    assert set(wanted) <= known


def test_data_sets_are_found_in_their_folder_or_the_one_around_it(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    assert data_problem("cifar10", str(tmp_path)) == f"data cifar10 needs data_batch_1: {tmp_path} does not hold it"
    (inner / "data_batch_1").touch()
    assert data_problem("cifar10", str(tmp_path)) == ""
    assert data_problem("cifar10", str(inner)) == ""
    assert data_problem("imdb", "/nowhere") == "data imdb needs train: /nowhere is no folder"


def test_a_compressed_file_is_as_good(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert data_problem("mnist", str(tmp_path)) == ""


def test_folders_and_files_are_those_that_are_read() -> None:
    for name, format in FORMATS.items():
        assert DATA_SETS[name] == (format.folder, format.train[:1])


def fake_torch(**cuda: Any) -> SimpleNamespace:
    """torch with two GPUs, one of which the other cannot reach."""
    devices = [SimpleNamespace(name=name, major=9, minor=0, total_memory=2**34) for name in ("H100", "H200")]
    usual = {
        "is_available": lambda: True,
        "init": lambda: None,
        "device_count": lambda: 2,
        "get_device_properties": devices.__getitem__,
        "get_arch_list": lambda: ["sm_90"],
        "can_device_access_peer": lambda a, b: False,
    }
    return SimpleNamespace(
        __version__="2.13.0+cu130",
        version=SimpleNamespace(cuda="13.0"),
        get_num_threads=lambda: 4,
        cuda=SimpleNamespace(**{**usual, **cuda}),
    )


def gathered(monkeypatch: pytest.MonkeyPatch, torch: object) -> Torch | Unavailable:
    monkeypatch.setitem(sys.modules, "torch", torch)
    found = gather_torch()
    return found if isinstance(found, Unavailable) else replace(found, triton_needed=None)


def test_torch_lists_its_gpus_and_the_pairs_that_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = tuple(CudaDevice(name, (9, 0), 2**34) for name in ("H100", "H200"))
    assert gathered(monkeypatch, fake_torch()) == Torch(
        "2.13.0+cu130", "13.0", 4, "", devices, ("sm_90",), without_peer_access=((0, 1),)
    )


def test_what_torch_warns_of_is_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old.\nMore of it.", stacklevel=1)
        return False

    found = gathered(monkeypatch, fake_torch(is_available=is_available))
    assert found == Torch("2.13.0+cu130", "13.0", 4, "The NVIDIA driver on your system is too old")


def test_what_torch_raises_is_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("CUDA unknown error\nCompile with TORCH_USE_CUDA_DSA")

    assert gathered(monkeypatch, fake_torch(init=init)) == Torch("2.13.0+cu130", "13.0", 4, "CUDA unknown error")


def test_without_torch_there_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gathered(monkeypatch, None)
    assert str(found) == "unavailable: ModuleNotFoundError: import of torch halted; None in sys.modules"


def test_the_doctor_starts_without_torch() -> None:
    code = "import sys, asyncpipe.cli.tools_doctor, asyncpipe.tools.doctor; print({'torch', 'pynvml'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
