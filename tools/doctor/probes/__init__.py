"""Every probe, in the order of the report."""

from __future__ import annotations

from asyncpipe.tools.doctor.finding import Probe
from asyncpipe.tools.doctor.probes.cuda import probe_driver, probe_gpus, probe_peers, probe_settings
from asyncpipe.tools.doctor.probes.host import probe_disk, probe_memory, probe_shared_memory, probe_terminal
from asyncpipe.tools.doctor.probes.installation import probe_data, probe_schedules
from asyncpipe.tools.doctor.probes.kernels import probe_compiler, probe_kernel_cache, probe_triton
from asyncpipe.tools.doctor.probes.libraries import probe_copies, probe_libraries, probe_python, probe_torch
from asyncpipe.tools.doctor.probes.processor import probe_cores, probe_intra_op_threads
from asyncpipe.tools.doctor.probes.telemetry import probe_bindings, probe_nvml

__all__ = ["PROBES"]

PROBES: tuple[Probe, ...] = (
    probe_python,
    probe_libraries,
    probe_torch,
    probe_copies,
    probe_driver,
    probe_gpus,
    probe_peers,
    probe_settings,
    probe_nvml,
    probe_bindings,
    probe_triton,
    probe_compiler,
    probe_kernel_cache,
    probe_cores,
    probe_intra_op_threads,
    probe_memory,
    probe_shared_memory,
    probe_disk,
    probe_terminal,
    probe_schedules,
    probe_data,
)
