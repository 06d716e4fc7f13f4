"""The report on machines written down: whole where nothing is wrong, else the lines that say what is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from asyncpipe.tools.doctor import Environment, examine, has_failed, report_document, report_lines
from asyncpipe.tools.doctor.environment import CudaDevice, Processor, Torch
from asyncpipe.tools.nvml import Unavailable
from tests.tools.doctor.machines import GIB, HOST, INSTALLATION, VERSIONS, cpu_machine, gpu_machine, report
from tests.tools.nvml.fake_pynvml import FakeGpu, hopper, without

CPU = """\
ok    python         3.11.7 on Linux 6.1 x86_64
ok    libraries      torch 2.13.0+cpu, numpy 2.4.6, click 8.5.1, ruamel.yaml 0.19.1, rich 15.0.0
ok    optional       triton 3.9.0, nvidia-ml-py not installed, pillow not installed, cuda-bindings not installed
ok    torch          2.13.0+cpu, a CPU build; back ends serial and threads
ok    loaded twice   no library
ok    gpu            none
ok    nvml           nothing to read: nvidia-ml-py is not installed
ok    triton         3.9.0
ok    compiler       /usr/bin/gcc, with Python.h
ok    kernel cache   /srv/kernels
ok    cores          2 of 2 may be used
ok    op threads     2 for an operation (no limit set)
ok    memory         20.0 GiB free, no limit
ok    shared memory  8.0 GiB free
ok    disk           /srv/study, 50.0 GiB free
ok    terminal       100 columns, with color
ok    asyncpipe      0.1.0 in /venv/asyncpipe, 42 schedules, 17 jobs
ok    data           digits; not found: fashion-mnist
18 ok, 0 warn, 0 fail"""
GPU = """\
ok    python         3.11.7 on Linux 6.1 x86_64
ok    libraries      torch 2.13.0+cu130, numpy 2.4.6, click 8.5.1, ruamel.yaml 0.19.1, rich 15.0.0
ok    optional       triton 3.9.0, nvidia-ml-py 13.615.71, pillow not installed, cuda-bindings 13.1.0
ok    torch          2.13.0+cu130, built for CUDA 13.0
ok    loaded twice   no library
ok    driver         580.95.05 runs CUDA 13.1, torch was built for 13.0
ok    cuda:0         NVIDIA H100, capability 9.0, 80.0 GiB
ok    cuda:1         NVIDIA H100, capability 9.0, 80.0 GiB
ok    peer access    between all devices
ok    nvml           answers for cuda:0, cuda:1
ok    gpm            cuda:0: activity of SMs, tensor cores and memory
ok    gpm            cuda:1: activity of SMs, tensor cores and memory
ok    cuda-bindings  13.1.0
ok    triton         3.9.0
ok    compiler       /usr/bin/gcc, with Python.h
ok    kernel cache   /srv/kernels
ok    cores          2 of 2 may be used
ok    op threads     2 for an operation (no limit set)
ok    memory         20.0 GiB free, no limit
ok    shared memory  8.0 GiB free
ok    disk           /srv/study, 50.0 GiB free
ok    terminal       100 columns, with color
ok    asyncpipe      0.1.0 in /venv/asyncpipe, 42 schedules, 17 jobs
ok    data           digits; not found: fashion-mnist
24 ok, 0 warn, 0 fail"""


def test_a_machine_without_a_gpu_can_be_fit() -> None:
    assert report(cpu_machine()) == CPU


def test_a_machine_with_gpus_can_be_fit() -> None:
    assert report(gpu_machine()) == GPU


def problems(machine: Environment) -> str:
    """Each line that is not ok, and its fix."""
    found = [finding for finding in examine(machine) if finding.status != "ok"]
    return "\n".join(f"{f.status} {f.subject}: {f.message}" + (f"\n  {f.fix}" if f.fix else "") for f in found)


def versions(**changed: str | None) -> dict[str, Any]:
    return {"versions": {**VERSIONS, **{name.replace("_", "-"): version for name, version in changed.items()}}}


def host(**changed: Any) -> dict[str, Any]:
    return {"host": replace(HOST, **changed)}


CPU_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        {"python": (3, 10, 4)},
        "fail python: 3.10.4 on Linux 6.1 x86_64; asyncpipe needs 3.11 or later\n"
        "  make an environment with a newer Python",
    ),
    (versions(numpy=None), "fail libraries: numpy is not installed\n  pip install 'numpy>=2.0'"),
    (versions(click="8.1.7"), "fail libraries: click 8.1.7 is older than 8.2\n  pip install 'click>=8.2'"),
    (versions(torch="2.11.0"), ""),
    (versions(triton="3.5.1"), "warn libraries: triton 3.5.1 is older than 3.6\n  pip install 'triton>=3.6'"),
    (versions(triton=None), ""),
    (
        {"torch": Unavailable("OSError: libgomp.so.1: cannot open shared object file")},
        "fail torch: cannot be imported: OSError: libgomp.so.1: cannot open shared object file\n"
        "  pip install --force-reinstall torch",
    ),
    (
        {"has_nvidia_device": True, "nvml": None},
        "warn torch: 2.13.0+cpu is a CPU build, but there is an NVIDIA GPU\n  install torch as pytorch.org says",
    ),
    (
        {"libraries": ("/a/libgomp.so.1", "/b/libgomp-a34b3233.so.1", "/c/libiomp5.so")},
        "warn loaded twice: OpenMP: /a/libgomp.so.1, /b/libgomp-a34b3233.so.1, /c/libiomp5.so\n"
        "  set OMP_NUM_THREADS, or use one source of packages",
    ),
    ({"compiler": None, "python_headers": False}, ""),
    (
        {"kernel_cache_writable": False},
        "warn kernel cache: /srv/kernels cannot be written: Triton keeps compiled kernels there\n"
        "  set TRITON_CACHE_DIR to a folder of yours",
    ),
    (
        {"processor": Processor(64, tuple(range(8, 72)), 4.5)},
        "warn cores: 64 of 64 may be used, but the container gets the time of 4.5: workers stop each other\n"
        "  taskset -c 8-11 asyncpipe ...",
    ),
    (
        {"processor": Processor(8, (3,))},
        "warn cores: 1 of 8 may be used: streams take turns, and `threads` is no faster than `serial`\n"
        "warn op threads: torch starts 2 threads for an operation, on 1 cores\n"
        "  export OMP_NUM_THREADS=1",
    ),
    (
        {"variables": {"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "2"}},
        "warn op threads: OMP_NUM_THREADS=8 is more than 2 cores\n  export OMP_NUM_THREADS=2",
    ),
    (
        {"variables": {"OMP_PROC_BIND": "close"}},
        "warn op threads: OMP_PROC_BIND=close binds the threads of every stream to the same cores\n"
        "  unset OMP_PROC_BIND",
    ),
    (
        host(memory_available=GIB, memory_limit=2 * GIB, address_space_limit=8 * GIB),
        "warn memory: 1.0 GiB free, limit 2.0 GiB\n  end other programs, or raise the limit\n"
        "warn memory: addresses end at 8.0 GiB: CUDA reserves more than it uses\n  ulimit -v unlimited",
    ),
    (
        host(shared_memory_free=64 * 2**20),
        "warn shared memory: 64 MiB free: little for data workers and NCCL\n  start the container with --shm-size=1g",
    ),
    (host(shared_memory_free=None), "warn shared memory: no /dev/shm: data workers and NCCL need it"),
    (
        host(folder_writable=False),
        "fail disk: /srv/study cannot be written: runs go there\n  change the folder, or name one with --out",
    ),
    (
        host(disk_free=10**8),
        "warn disk: /srv/study, 95 MiB free: little for runs and checkpoints\n"
        "  make room, or name another folder with --out",
    ),
    (
        host(encoding="ANSI_X3.4-1968"),
        "warn terminal: its encoding is ANSI_X3.4-1968: pictures of schedules need UTF-8\n  export PYTHONUTF8=1",
    ),
    (
        host(columns=60, color=False),
        "warn terminal: 60 columns, without color: pictures of schedules are cut\n  make it wider",
    ),
    (host(columns=60, is_terminal=False), ""),
    (
        {"installation": replace(INSTALLATION, schedules=0, problem="it has no schedules or jobs")},
        "fail asyncpipe: asyncpipe 0.1.0 in /venv/asyncpipe is not whole: it has no schedules or jobs\n"
        "  install it again; a checkout needs symbolic links",
    ),
    (
        {
            "installation": replace(
                INSTALLATION, data={"digits": "", "cifar10": "/data is no folder"}, data_asked=("cifar10",)
            )
        },
        "warn data: /data is no folder\n  docs/jobs.md says which files it has",
    ),
    (
        {"installation": replace(INSTALLATION, data={"digits": "it is gone"})},
        "fail data: no data set is found, not even the one that ships with asyncpipe\n  install it again",
    ),
]


@pytest.mark.parametrize(("changed", "said"), CPU_PROBLEMS)
def test_what_is_wrong_without_a_gpu(changed: dict[str, Any], said: str) -> None:
    assert problems(cpu_machine(**changed)) == said


def torch(**changed: Any) -> dict[str, Any]:
    usual = gpu_machine().torch
    assert isinstance(usual, Torch)
    return {"torch": replace(usual, **changed)}


def gpu_versions(**changed: str | None) -> dict[str, Any]:
    return versions(**{"torch": "2.13.0+cu130", "nvidia_ml_py": "13.615.71", "cuda_bindings": "13.1.0", **changed})


NO_GPU = Torch("2.13.0+cu130", "13.0", 2, "the driver is too old")
GPU_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        torch(cuda="14.0"),
        "fail driver: 580.95.05 runs CUDA up to 13.1, torch was built for 14.0\n"
        "  install a driver for CUDA 14, or torch built for CUDA 13",
    ),
    (torch(cuda="13.4"), ""),
    (
        {"torch": NO_GPU},
        "fail torch: 2.13.0+cu130 cannot use the GPU: the driver is too old\n"
        "  run nvidia-smi: if it fails too, reinstall the driver",
    ),
    (
        {"torch": NO_GPU, "gpus": (), "variables": {"CUDA_VISIBLE_DEVICES": ""}},
        "warn torch: CUDA_VISIBLE_DEVICES= leaves it no GPU\n  unset CUDA_VISIBLE_DEVICES",
    ),
    (
        {"torch": NO_GPU, "gpus": (), "nvml": Unavailable("the NVIDIA driver is not loaded")},
        "fail torch: 2.13.0+cu130 cannot use the GPU: the driver is too old\n"
        "  run nvidia-smi: if it fails too, reinstall the driver\n"
        "fail driver: does not answer: the NVIDIA driver is not loaded\n"
        "  run nvidia-smi; reinstall the driver\n"
        "warn nvml: the NVIDIA driver is not loaded: use, power and throttling of the GPU are unknown\n"
        "  run nvidia-smi, which uses the same library",
    ),
    (
        {"nvml": Unavailable("nvidia-ml-py is not installed"), "gpus": (), **gpu_versions(nvidia_ml_py=None)},
        "warn nvml: nvidia-ml-py is not installed: use, power and throttling of the GPU are unknown\n"
        "  pip install nvidia-ml-py",
    ),
    (
        torch(devices=(CudaDevice("Tesla V100", (7, 0), 16 * GIB),)),
        "fail cuda:0: Tesla V100, capability 7.0, 16.0 GiB: torch has kernels for sm_80, sm_90, sm_100, compute_120\n"
        "  install a torch that was built for this GPU",
    ),
    (torch(devices=(CudaDevice("A10", (8, 6), 24 * GIB), CudaDevice("A later one", (13, 0), GIB))), ""),
    (
        torch(architectures=("sm_90a",), devices=(CudaDevice("GH", (9, 0), GIB), CudaDevice("B", (10, 0), GIB))),
        "fail cuda:1: B, capability 10.0, 1.0 GiB: torch has kernels for sm_90a\n"
        "  install a torch that was built for this GPU",
    ),
    (
        torch(without_peer_access=((0, 1),)),
        "warn peer access: no peer access between cuda:0 and cuda:1: transfers between them go by way of the host\n"
        "  choose devices that nvidia-smi topo -m joins",
    ),
    (
        {"variables": {"CUDA_LAUNCH_BLOCKING": "1", "CUDA_DEVICE_MAX_CONNECTIONS": "1", "TRITON_INTERPRET": "0"}},
        "warn settings: CUDA_LAUNCH_BLOCKING=1: the host waits for every kernel, so that streams never overlap\n"
        "  unset CUDA_LAUNCH_BLOCKING\n"
        "warn settings: CUDA_DEVICE_MAX_CONNECTIONS=1: all streams share one queue of the GPU, "
        "and wait for each other\n"
        "  unset CUDA_DEVICE_MAX_CONNECTIONS",
    ),
    (
        gpu_versions(cuda_bindings=None),
        "warn cuda-bindings: not installed: no streams with `sms`, "
        "and no names of operations inside CUDA graphs in profiles\n"
        "  pip install 'cuda-bindings>=13.1'",
    ),
    (
        gpu_versions(cuda_bindings="12.9.1"),
        "warn cuda-bindings: 12.9.1 is older than 13.1: no names of operations inside CUDA graphs in profiles\n"
        "  pip install 'cuda-bindings>=13.1'",
    ),
    (
        gpu_versions(triton="3.8.0"),
        "warn triton: 3.8.0, but this torch was tested with 3.9.0\n  pip install triton==3.9.0",
    ),
    (
        gpu_versions(triton=None),
        "fail triton: not installed: no fused kernels, hence no back end streams or graph\n  pip install triton",
    ),
    (
        {"compiler": None, "python_headers": False},
        "fail compiler: no C compiler and no Python.h: Triton cannot start kernels\n  apt install gcc python3-dev",
    ),
    (
        {"kernel_cache_writable": False},
        "fail kernel cache: /srv/kernels cannot be written: Triton keeps compiled kernels there\n"
        "  set TRITON_CACHE_DIR to a folder of yours",
    ),
    (
        {
            "libraries": ("/venv/libcudnn.so.9", "/usr/lib/libcudnn.so.9", "/venv/libcudnn_ops.so.9"),
            "variables": {"LD_LIBRARY_PATH": "/usr/lib"},
        },
        "fail loaded twice: libcudnn: /usr/lib/libcudnn.so.9, /venv/libcudnn.so.9\n  unset LD_LIBRARY_PATH",
    ),
]


@pytest.mark.parametrize(("changed", "said"), GPU_PROBLEMS)
def test_what_is_wrong_with_gpus(changed: dict[str, Any], said: str) -> None:
    assert problems(gpu_machine(**changed)) == said


NVML_PROBLEMS: list[tuple[FakeGpu, str]] = [
    (
        hopper("GPU-a", ComputeMode=2),
        "fail cuda:0: compute mode prohibited: no program may use it\n  sudo nvidia-smi -c DEFAULT",
    ),
    (
        hopper("GPU-a", ComputeMode=3),
        "warn cuda:0: compute mode exclusive process: one program at a time, no trial of `tune` beside another\n"
        "  sudo nvidia-smi -c DEFAULT",
    ),
    (
        hopper("GPU-a", PersistenceMode=0),
        "warn cuda:0: persistence mode is off: each program waits for the driver to load\n  sudo nvidia-smi -pm 1",
    ),
    (
        hopper("GPU-a", CurrentClocksEventReasons=0x45),
        "warn cuda:0: its clocks are slowed now: hardware thermal slowdown\n  look at cooling and power supply",
    ),
    (hopper("GPU-a", CurrentClocksEventReasons=0x5), ""),
    (
        without(hopper("GPU-a"), "GpmSupport"),
        "warn gpm: cuda:0: not supported by this GPU; activity of SMs and tensor cores unknown, `tune` is not affected",
    ),
]


@pytest.mark.parametrize(("gpu", "said"), NVML_PROBLEMS)
def test_what_nvml_tells_of_a_gpu(gpu: FakeGpu, said: str) -> None:
    assert problems(gpu_machine(gpu)) == said


def test_other_processes_on_a_gpu_are_named() -> None:
    process = SimpleNamespace(pid=4711, usedGpuMemory=GIB)
    assert problems(gpu_machine(hopper("GPU-a", ComputeRunningProcesses_v3=[process]))) == (
        "warn cuda:0: other processes compute on it: 4711\n  measure when they have ended"
    )


def test_a_divided_gpu_is_told() -> None:
    whole = hopper("GPU-a", MigMode=[1, 1])
    whole.instances = [FakeGpu("MIG-b", "NVIDIA H100 MIG 1g.10gb", {}, of=whole)]
    assert problems(gpu_machine(whole)) == (
        "warn cuda:0: MIG is on: a part of the GPU, whose clocks and power are shared, and without NVML's utilization\n"
        "  leave it where that is meant"
    )


def test_a_driver_too_old_for_names_in_graphs_is_told() -> None:
    old = tuple(replace(gpu, description=replace(gpu.description, cuda_version="13.0")) for gpu in gpu_machine().gpus)
    assert problems(gpu_machine(gpus=old)) == (
        "warn cuda-bindings: 13.1.0, but the driver's CUDA 13.0 is older than 13.1: no names in CUDA graphs\n"
        "  install a newer driver"
    )


def test_a_gpu_that_only_nvml_sees_is_listed() -> None:
    machine = cpu_machine(has_nvidia_device=True, nvml=None, gpus=gpu_machine(hopper("GPU-a")).gpus)
    assert [f.message for f in examine(machine) if f.subject == "cuda:0"] == [
        "NVIDIA H100, which this torch does not use"
    ]


def test_the_fix_stands_below_its_line() -> None:
    machine = cpu_machine(compiler=None, processor=Processor(4, (0, 2, 4, 6), 2.0))
    lines = list(report_lines(examine(machine)))
    at = next(i for i, line in enumerate(lines) if "cores" in line)
    assert lines[at : at + 2] == [
        "warn  cores          4 of 4 may be used, but the container gets the time of 2: workers stop each other",
        "                     fix: taskset -c 0,2 asyncpipe ...",
    ]
    assert lines[-1] == "17 ok, 1 warn, 0 fail"


def test_only_a_failure_is_one() -> None:
    assert not has_failed(examine(cpu_machine(processor=Processor(8, (3,)))))
    assert has_failed(examine(cpu_machine(python=(3, 10, 0))))


def test_the_document_has_the_same_lines() -> None:
    machine = gpu_machine(hopper("GPU-a", PersistenceMode=0))
    findings = examine(machine)
    document = report_document(findings, machine)
    assert (document["schema"], document["ok"]) == ("asyncpipe.doctor/1", True)
    assert [row for row in document["findings"] if row["status"] != "ok"] == [
        {
            "status": "warn",
            "subject": "cuda:0",
            "message": "persistence mode is off: each program waits for the driver to load",
            "fix": "sudo nvidia-smi -pm 1",
        }
    ]
    assert [row["message"] for row in document["findings"]] == [finding.message for finding in findings]
    assert document["versions"] == machine.versions
    assert document["gpus"][0]["uuid"] == "GPU-a"
