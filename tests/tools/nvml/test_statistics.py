"""What the snapshots of a window say together."""

from __future__ import annotations

from asyncpipe.tools.nvml import GpuSnapshot, Quantiles, Unavailable, summarize
from tests.tools.nvml.looks import snapshot

NO = Unavailable("not supported by this GPU")


def hot_run() -> list[GpuSnapshot]:
    """Ten looks, one a second; the last three are throttled, and the power rises."""
    hot = ("software power cap", "hardware thermal slowdown")
    return [
        snapshot(
            time=float(second),
            power_watts=100.0 * second,
            energy_joules=1000.0 + 300.0 * second,
            sm_activity=Unavailable("the first look", "later") if second == 0 else second / 10,
            sm_occupancy=NO,
            throttle_reasons=hot if second >= 7 else ("software power cap",) if second >= 5 else (),
        )
        for second in range(10)
    ]


def test_a_window_has_means_quantiles_energy_and_throttling() -> None:
    assert summarize(hot_run(), 0.0, 10.0).document(samples=1000) == {
        "seconds": 10.0,
        "count": 10,
        "energy_joules": 3000.0,
        "energy_source": "counter",
        "throttled": 0.3,
        "power_capped": 0.5,
        "throttle_reasons": {"hardware thermal slowdown": 3, "software power cap": 5},
        "utilization": {"mean": 1.0, "p10": 1.0, "p90": 1.0, "count": 10},
        "memory_utilization": {"mean": 0.4, "p10": 0.4, "p90": 0.4, "count": 10},
        "memory_used_bytes": {"mean": 30.0, "p10": 30, "p90": 30, "count": 10},
        "power_watts": {"mean": 450.0, "p10": 0.0, "p90": 800.0, "count": 10},
        "sm_clock_mhz": {"mean": 1980.0, "p10": 1980, "p90": 1980, "count": 10},
        "memory_clock_mhz": {"mean": 2619.0, "p10": 2619, "p90": 2619, "count": 10},
        "temperature_celsius": {"mean": 61.0, "p10": 61, "p90": 61, "count": 10},
        "sm_activity": {"mean": 0.5, "p10": 0.1, "p90": 0.9, "count": 9},
        "sm_occupancy": None,
        "tensor_activity": {"mean": 0.45, "p10": 0.45, "p90": 0.45, "count": 10},
        "half_tensor_activity": {"mean": 0.4, "p10": 0.4, "p90": 0.4, "count": 10},
        "dram_activity": {"mean": 0.2, "p10": 0.2, "p90": 0.2, "count": 10},
        "energy_per_sample_joules": 3.0,
        "unavailable": {"sm_occupancy": "not supported by this GPU"},
    }


def test_only_snapshots_inside_count() -> None:
    window = summarize(hot_run(), 2.0, 4.0)
    assert (window.count, window.throttled, window.energy_joules) == (3, 0.0, 600.0)
    assert window.readings["power_watts"] == Quantiles(300.0, 200.0, 400.0, 3)


def test_without_a_counter_energy_is_mean_power_times_time() -> None:
    looks = [snapshot(time=float(t), power_watts=power, energy_joules=NO) for t, power in ((0, 100.0), (1, 300.0))]
    window = summarize(looks, 0.0, 4.0)
    assert (window.energy_joules, window.energy_source) == (800.0, "power")
    assert window.energy_per_sample(400) == 2.0


def test_without_power_and_counter_there_is_no_energy() -> None:
    window = summarize([snapshot(power_watts=NO, energy_joules=NO)], 0.0, 1.0)
    assert (window.energy_joules, window.energy_source, window.energy_per_sample(1)) == (NO, NO, NO)


def test_a_window_without_snapshots_says_so() -> None:
    window = summarize(hot_run(), 100.0, 101.0)
    none = Unavailable("no snapshot in this window")
    assert (window.count, window.throttled, window.throttle_reasons, window.energy_joules) == (0, none, none, none)
    assert set(window.readings.values()) == {none}


def test_no_samples_have_no_energy_each() -> None:
    assert summarize(hot_run(), 0.0, 10.0).energy_per_sample(0) == Unavailable("no samples in this window")
