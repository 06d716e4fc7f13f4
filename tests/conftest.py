"""What every test may rely on: one thread per operator, the same random numbers, no thread left behind."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator

# Before anything imports torch, and inherited by subprocesses: several workers with a thread pool each would
# fight for the cores, and sums are bit-equal only between runs with equally many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read when triton is imported: its kernels run in its interpreter, on the CPU. With 0 they are compiled for the GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from hypothesis import settings

settings.register_profile("asyncpipe", deadline=None, derandomize=True, database=None)
settings.load_profile("asyncpipe")

# A job in the background of a shell ignores interrupts, and its children with it; some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DEVICES_NEEDED = {"cuda": 1, "multi_gpu": 2}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine has too few CUDA devices for."""
    needed = max((n for marker, n in DEVICES_NEEDED.items() if item.get_closest_marker(marker)), default=0)
    if needed and (found := count_cuda_devices()) < needed:
        pytest.skip(f"needs {needed} CUDA device(s), this machine has {found}")


def count_cuda_devices() -> int:
    """Import torch only when a marked test asks: most of the suite does without."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Make each test independent of those that ran before it in the same worker."""
    random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test whose threads outlive it; threads that Python did not start are not ours to join."""
    before = set(threading.enumerate())
    yield
    new = [thread for thread in threading.enumerate() if thread not in before]
    left = [thread.name for thread in new if not isinstance(thread, threading._DummyThread)]
    assert left == [], f"threads still run after the test: {left}"
