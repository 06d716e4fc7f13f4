"""Our driver on a stand-in for nvidia-ml-py: what it reads, and what it makes of refusals, old versions and losses."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType, SimpleNamespace

import pytest

from asyncpipe.tools.nvml import GpuProcess, Unavailable, open_nvml
from tests.tools.nvml.fake_pynvml import (
    FUNCTION_NOT_FOUND,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    UNKNOWN,
    Error,
    FakeGpu,
    FakePynvml,
    Turns,
    hopper,
    without,
)
from tests.tools.nvml.looks import Clock, connect, text

EVERYTHING = """\
utilization          1.0
memory_utilization   0.4
memory_used_bytes    32212254720
memory_total_bytes   85899345920
power_watts          500.0
energy_joules        1250.0
sm_clock_mhz         1980
memory_clock_mhz     2619
temperature_celsius  61
throttle_reasons     ()
sm_activity          0.7
sm_occupancy         0.35
tensor_activity      0.45
half_tensor_activity 0.4
dram_activity        0.2"""


def second_look(gpu: FakeGpu, *missing: str) -> str:
    """What the second look at it sees, after which everything is freed."""
    pynvml = FakePynvml(gpu, missing=missing)
    with connect(pynvml) as nvml:
        nvml.gpu(0).read()
        seen = text(nvml.gpu(0).read())
    assert (pynvml.connections, pynvml.buffers) == (0, 0)
    return seen


def with_lines(**changed: str) -> str:
    """What a Hopper GPU says, with other values for some fields."""
    lines = (line.split(maxsplit=1) for line in EVERYTHING.splitlines())
    return "\n".join(f"{name:20} {changed.get(name, value)}" for name, value in lines)


def test_a_hopper_gpu_answers_everything() -> None:
    assert second_look(hopper("GPU-a")) == EVERYTHING


def test_the_first_look_has_no_gpm_yet() -> None:
    with connect(FakePynvml(hopper("GPU-a"))) as nvml:
        first = nvml.gpu(0).read()
    why = "GPM measures between two looks, and this was the first"
    assert first.document()["unavailable"] == dict.fromkeys(
        ["sm_activity", "sm_occupancy", "tensor_activity", "half_tensor_activity", "dram_activity"], why
    )
    assert first.power_watts == 500.0


def test_gpm_is_unavailable_before_hopper() -> None:
    why = "unavailable: GPM is not supported by this GPU (it begins with Hopper)"
    ampere = hopper("GPU-a", GpmSupport=SimpleNamespace(isSupportedDevice=0))
    assert second_look(ampere) == with_lines(
        sm_activity=why, sm_occupancy=why, tensor_activity=why, half_tensor_activity=why, dram_activity=why
    )


def test_gpm_is_unavailable_where_nvidia_ml_py_is_older_than_it() -> None:
    why = "unavailable: nvidia-ml-py is too old for it"
    assert second_look(hopper("GPU-a"), "nvmlGpmQueryDeviceSupport") == with_lines(
        sm_activity=why, sm_occupancy=why, tensor_activity=why, half_tensor_activity=why, dram_activity=why
    )


def test_a_metric_that_gpm_lacks_leaves_the_others() -> None:
    gpu = hopper("GPU-a")
    del gpu.gains[7]
    assert second_look(gpu) == with_lines(half_tensor_activity="unavailable: not supported by this GPU")


def test_a_metric_that_is_no_number_is_unavailable() -> None:
    gpu = hopper("GPU-a")
    gpu.gains[2] = float("nan")
    assert second_look(gpu) == with_lines(sm_activity="unavailable: GPM gave no number")


def test_gpm_compares_each_look_with_the_one_before() -> None:
    gpu = hopper("GPU-a")
    gpu.gains[2] = Turns(0.0, 10.0, 90.0, 50.0)
    with connect(FakePynvml(gpu)) as nvml:
        nvml.gpu(0).read()
        assert [nvml.gpu(0).read().sm_activity for _ in range(3)] == [0.1, 0.9, 0.5]


def test_looks_too_close_for_gpm_do_not_spoil_the_next_one() -> None:
    gpu, clock = hopper("GPU-a"), Clock(0.03)
    with connect(FakePynvml(gpu), clock) as nvml:
        looks = [nvml.gpu(0).read().sm_activity for _ in range(3)]
        assert str(looks[1]) == "unavailable: GPM needs 0.1 s between two looks"
        assert looks[2] == 0.7


def test_gpm_begins_anew_after_a_failed_sample() -> None:
    """A gain since the sample that failed would be too long ago."""
    gpu = hopper("GPU-a")
    with connect(pynvml := FakePynvml(gpu)) as nvml:
        nvml.gpu(0).read()
        sample, pynvml_type = FakePynvml._nvmlGpmSampleGet, FakePynvml
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pynvml_type, "_nvmlGpmSampleGet", lambda *_: pynvml._answer(gpu, "Broken"))
            gpu.answers["Broken"] = Error(UNKNOWN)
            failed = nvml.gpu(0).read().sm_activity
        assert FakePynvml._nvmlGpmSampleGet is sample
        looks = [failed, *(nvml.gpu(0).read().sm_activity for _ in range(2))]
    assert list(map(str, looks)) == [
        "unavailable: NVML reports an unknown error",
        "unavailable: GPM measures between two looks, and this was the first",
        "0.7",
    ]


def test_each_refused_field_has_its_reason_and_is_asked_once() -> None:
    gpu = without(hopper("GPU-a"), "UtilizationRates", "TotalEnergyConsumption")
    without(gpu, "PowerUsage", value=NO_PERMISSION)
    with connect(pynvml := FakePynvml(gpu)) as nvml:
        looks = [nvml.gpu(0).read() for _ in range(3)]
    assert text(looks[1]) == with_lines(
        utilization="unavailable: not supported by this GPU",
        memory_utilization="unavailable: not supported by this GPU",
        power_watts="unavailable: no permission",
        energy_joules="unavailable: not supported by this GPU",
    )
    once = ["nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"]
    assert [pynvml.asked(function) for function in [*once, "nvmlDeviceGetMemoryInfo"]] == [1, 1, 1, 3]


def test_older_drivers_and_bindings_are_asked_by_the_older_names() -> None:
    gpu = hopper("GPU-a", Temperature=61, CurrentClocksThrottleReasons=0)
    without(gpu, "TemperatureV", value=FUNCTION_NOT_FOUND)
    assert second_look(gpu, "nvmlDeviceGetCurrentClocksEventReasons") == EVERYTHING


def test_a_failure_in_mid_run_is_one_missing_reading() -> None:
    gpu = hopper("GPU-a", PowerUsage=Turns(400_000, Error(UNKNOWN), 600_000))
    with connect(FakePynvml(gpu)) as nvml:
        power = [nvml.gpu(0).read().power_watts for _ in range(3)]
    assert power == [400.0, Unavailable("NVML reports an unknown error", "failed"), 600.0]


def test_an_error_without_words_here_keeps_those_of_nvml() -> None:
    with connect(FakePynvml(hopper("GPU-a", PowerUsage=Error(21)))) as nvml:
        assert str(nvml.gpu(0).read().power_watts) == "unavailable: NVML: Error 21"


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, ()),
        (0x1, ("idle",)),
        (0x4, ("software power cap",)),
        (0x68, ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown")),
        (0x80, ("hardware power brake",)),
        (0x1000, ("reason 0x1000",)),
    ],
)
def test_throttling_is_told_in_words(mask: int, words: tuple[str, ...]) -> None:
    with connect(FakePynvml(hopper("GPU-a", CurrentClocksEventReasons=mask))) as nvml:
        assert nvml.gpu(0).read().throttle_reasons == words


def test_a_gpu_lost_in_mid_run_is_not_asked_again_and_the_other_one_goes_on() -> None:
    first, second = hopper("GPU-a"), hopper("GPU-b")
    pynvml = FakePynvml(first, second)
    with connect(pynvml) as nvml:
        for gpu in nvml.gpus:
            gpu.read()
        first.is_lost = True
        looks = [gpu.read() for gpu in nvml.gpus]
        assert [gpu.is_lost for gpu in nvml.gpus] == [True, False]
        assert set(looks[0].document()["unavailable"].values()) == {"the GPU is lost"}
        assert len(looks[0].document()["unavailable"]) == 15
        assert looks[1].document()["unavailable"] == {}
        before = len(pynvml.calls)
        assert nvml.gpu(0).read().power_watts == Unavailable("the GPU is lost", "failed")
        assert nvml.gpu(0).other_processes() == Unavailable("the GPU is lost", "failed")
        assert len(pynvml.calls) == before
    assert (pynvml.connections, pynvml.buffers) == (0, 0)


DESCRIPTION = """\
ordinal              0
index                0
uuid                 GPU-a
name                 NVIDIA H100
pci_bus_id           00000000:1B:00.0
capability           9.0
memory_bytes         85899345920
power_limit_watts    700.0
max_sm_clock_mhz     1980
compute_mode         default
persistence_mode     True
mig_mode             False
is_mig_instance      False
gpm                  True
driver_version       580.95.05
cuda_version         13.1"""


def test_a_gpu_is_described_once() -> None:
    with connect(pynvml := FakePynvml(hopper("GPU-a"))) as nvml:
        assert text(nvml.gpu(0).description) == DESCRIPTION
        asked = len(pynvml.calls)
        assert nvml.gpu(0).description.document()["unavailable"] == {}
        assert len(pynvml.calls) == asked


def test_a_mig_instance_has_its_own_memory_and_gpm_and_the_power_of_the_whole() -> None:
    whole = hopper("GPU-a", MigMode=[1, 1])
    small = FakeGpu("MIG-b", "NVIDIA H100 MIG 1g.10gb", {"MemoryInfo": SimpleNamespace(used=1, total=10)}, of=whole)
    large = FakeGpu("MIG-c", "NVIDIA H100 MIG 2g.20gb", {"MemoryInfo": SimpleNamespace(used=2, total=20)}, of=whole)
    large.gains = {2: 33.0}
    whole.instances = [small, large]
    with connect(FakePynvml(whole), CUDA_VISIBLE_DEVICES="MIG-c") as nvml:
        (gpu,) = nvml.gpus
        gpu.read()
        seen = gpu.read()
    known = gpu.description
    assert (known.uuid, known.name, known.is_mig_instance, known.index) == ("MIG-c", large.name, True, 0)
    no = "unavailable: not supported by this GPU"
    assert text(seen) == with_lines(
        memory_used_bytes="2",
        memory_total_bytes="20",
        utilization=no,
        memory_utilization=no,
        sm_activity="0.33",
        sm_occupancy=no,
        tensor_activity=no,
        half_tensor_activity=no,
        dram_activity=no,
    )


def test_other_processes_are_listed_without_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in ((7, 1024), (8, None), (9, 2048))]
    monkeypatch.setattr("os.getpid", lambda: 9)
    with connect(FakePynvml(hopper("GPU-a", ComputeRunningProcesses_v3=listed))) as nvml:
        assert nvml.gpu(0).other_processes() == (
            GpuProcess(7, 1024),
            GpuProcess(8, Unavailable("the driver does not tell")),
        )


def test_no_look_asks_for_processes() -> None:
    with connect(pynvml := FakePynvml(hopper("GPU-a"))) as nvml:
        nvml.gpu(0).read()
    assert [call.function for call in pynvml.calls if "Process" in call.function] == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LIBRARY_NOT_FOUND, "libnvidia-ml.so.1 is not on this machine"),
        (9, "the NVIDIA driver is not loaded"),
        (18, "the driver was updated under a running kernel module: restart the machine"),
        (NO_PERMISSION, "no permission"),
    ],
)
def test_without_nvml_every_reading_is_the_reason(error: int, reason: str) -> None:
    with connect(FakePynvml(hopper("GPU-a"), init=Error(error))) as nvml:
        assert (nvml.missing, list(nvml.gpus)) == (Unavailable(reason), [])
        gpu = nvml.gpu(0)
        assert set(gpu.read().document()["unavailable"].values()) == {reason}
        assert gpu.description.document()["unavailable"]["uuid"] == reason
        assert gpu.description.ordinal == 0
        assert (gpu.other_processes(), gpu.is_lost) == (Unavailable(reason), False)


def test_without_nvidia_ml_py_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_nvml().missing == Unavailable("nvidia-ml-py is not installed")


def test_another_module_of_that_name_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))
    missing = open_nvml().missing
    assert missing is not None
    assert missing.reason == ("nvidia-ml-py does not work: AttributeError: module 'pynvml' has no attribute 'nvmlInit'")


def test_a_gpu_that_cuda_does_not_see_has_no_readings() -> None:
    with connect(FakePynvml(hopper("GPU-a"))) as nvml:
        assert str(nvml.gpu(1).read().power_watts) == "unavailable: CUDA sees 1 GPU, hence no cuda:1"


def test_every_call_fits_the_functions_of_nvidia_ml_py() -> None:
    """The stand-in takes any arguments; the real module does not."""
    real = pytest.importorskip("pynvml")
    pynvml = FakePynvml(hopper("GPU-a"))
    with connect(pynvml) as nvml:
        nvml.gpu(0).read()
        nvml.gpu(0).read()
        assert nvml.gpu(0).description.document()["unavailable"] == {}
        nvml.gpu(0).other_processes()
    assert len({call.function for call in pynvml.calls}) > 25
    for call in pynvml.calls:
        function = inspect.unwrap(getattr(real, call.function))
        inspect.signature(function).bind(*[None] * call.arguments, **dict.fromkeys(call.names))


def test_constants_and_structures_are_those_of_nvidia_ml_py() -> None:
    real = pytest.importorskip("pynvml")
    names = [name for name in vars(FakePynvml) if name.startswith(("NVML_", "nvmlMemory_"))]
    assert {name: getattr(real, name) for name in names} == {name: getattr(FakePynvml, name) for name in names}
    request = real.c_nvmlGpmMetricsGet_t()
    ours = FakePynvml().c_nvmlGpmMetricsGet_t()
    assert all(hasattr(request, name) for name in vars(ours))
    assert all(hasattr(request.metrics[0], name) for name in vars(ours.metrics[0]))
