"""Which actions exist where workers update a block of stages only (PASSM+ arXiv 1905.11845, LPPSGD 2203.06638)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Blocks"]


@dataclass(frozen=True)
class Blocks:
    """Worker c takes microbatch m where m % workers == c; its block are the stages s with s * workers // stages == c.

    With `alternate`, every other microbatch of a worker goes through all stages.
    """

    stages: int
    workers: int
    alternate: bool = False

    def whole(self, microbatch: int) -> bool:
        """Whether a microbatch updates all stages."""
        return self.alternate and microbatch // self.workers % 2 == 0

    def lowest(self, microbatch: int) -> int:
        """The lowest stage that its backward reaches."""
        return 0 if self.whole(microbatch) else -(-(microbatch % self.workers) * self.stages // self.workers)

    def updates(self, stage: int, update: int) -> bool:
        """Whether U[stage, update] exists."""
        return self.whole(update) or stage * self.workers // self.stages == update % self.workers
