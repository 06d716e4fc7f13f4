"""Which optimizers CUDA gets, and what of that can be told without it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.optimizers import FUSED_ON_CUDA, OptimizerSpec, StageOptimizer, make_optimizer

ROOT = Path(__file__).parents[2]
LR = 0.05

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # what an import finds where it is not installed
import torch
from asyncpipe.errors import MachineError
from asyncpipe.runtime.arena import Arena, Layout
from asyncpipe.runtime.optimizers import OptimizerSpec, make_optimizer
empty = Arena(Layout((), {}, {}, torch.device("cuda")))
make_optimizer(OptimizerSpec("torch.optim.Adam", 0.1), empty)
for use in ("adam", "muon"):
    try:
        make_optimizer(OptimizerSpec(use, 0.1), empty)
    except MachineError as error:
        print(error)
"""


def test_cuda_without_triton_says_what_to_install_and_cpu_never_asks() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for use in ("adam", "muon"):
        assert f"optimizer {use} on CUDA needs Triton, which is not installed" in done.stdout
    assert done.stdout.count("pip install 'triton>=3.6'") == 2


@pytest.mark.cuda
@pytest.mark.parametrize("use", FUSED_ON_CUDA)
def test_updates_on_cuda_equal_those_of_the_cpu_and_never_synchronise(use: str) -> None:
    import triton

    from asyncpipe.runtime.fused_rule import FusedRule

    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set: its interpreter copies every tensor to the host; set it to 0")
    network = nn.Sequential(nn.Linear(70, 33), nn.Linear(33, 5))
    theirs = Arena.of(network.named_parameters())
    ours = Arena.of(copy.deepcopy(network).cuda().named_parameters())
    fused = make_optimizer(OptimizerSpec(use, LR), ours)
    assert isinstance(fused._rule, FusedRule)
    assert fused.concurrent
    plain = StageOptimizer(theirs, BuiltinRule(theirs, use, {}, "default"))
    for step in range(4):
        gradients = [torch.randn(view.shape) for view in theirs.views]
        plain.step(list(gradients), LR)
        moved = [gradient.cuda() for gradient in gradients]
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            fused.step(list(moved), LR)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for found, expected in zip(ours.views, theirs.views, strict=True):
        assert torch.allclose(found.cpu(), expected, rtol=1e-6, atol=1e-6)
