"""Memory that ends is an error of its own, with a code and exit code 8, wherever it ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.errors import OutOfMemoryError
from asyncpipe.runtime.out_of_memory import is_out_of_memory, naming_what_is_built
from tests.networks import batches

PETABYTE = 1 << 50


class Hungry(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.empty(PETABYTE // 4)[0]


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_a_stage_that_asks_the_host_for_too_much_is_named(backend: str) -> None:
    model = nn.Sequential(nn.Flatten(), Hungry(64, 10))
    trainer = Trainer(model, "async-lu", backend=backend, stages=1)
    with pytest.raises(OutOfMemoryError) as ended:
        trainer.fit(batches(2))
    assert ended.value.exit_code == 8
    assert str(ended.value).startswith(
        "error[AP707]: stream forward, action 0F0 (forward of stage 0): the host has no memory left, which was asked"
        " for 1125899906842624 bytes more\n  help: lower the batch or `in_flight`"
    )


def test_memory_that_ends_while_stages_are_built_is_named() -> None:
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
    words = r"AP707\]: stage 1 of replica 0: the device has no memory left, .* 2.00 GiB more"
    with pytest.raises(OutOfMemoryError, match=words), naming_what_is_built("stage 1 of replica 0"):
        raise torch.OutOfMemoryError(said)


def test_other_errors_stay_as_they_are() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ValueError, match="another"), naming_what_is_built("a stage"):
        raise ValueError("another")
