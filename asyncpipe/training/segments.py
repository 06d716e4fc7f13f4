"""Into which runs a training falls: an evaluation drains the pipeline, and ends the update that was being gathered."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Segment", "Segmentation"]


@dataclass(frozen=True)
class Segment:
    """From one evaluation to the next: microbatches of all replicas together, and updates."""

    microbatches: int
    updates: int


@dataclass(frozen=True)
class Segmentation:
    """`between` microbatches lie between two evaluations; replicas share them, and update after `every` of their own.

    What is left over when each replica had equally many goes into the next segment, and is lost at the end.
    """

    between: int
    replicas: int = 1
    every: int = 1

    @property
    def full(self) -> Segment:
        """One that ends with its evaluation."""
        return self._of(self.between)

    def of_microbatches(self, count: int) -> list[Segment]:
        """Those of a training on `count` microbatches."""
        found: list[Segment] = []
        while count >= max(1, self.replicas):
            found.append(self._of(min(self.between, count)))
            if not found[-1].updates:
                break
            count -= found[-1].microbatches
        return found

    def of_updates(self, count: int) -> list[Segment]:
        """Those of a training of exactly `count` updates."""
        if not self.full.updates:
            return [self.full]
        whole, rest = divmod(count, self.full.updates)
        last = [Segment(rest * self.every * self.replicas, rest)] if rest else []
        return [self.full] * whole + last

    def _of(self, microbatches: int) -> Segment:
        each = microbatches // self.replicas
        # Fewer batches than replicas stay as they are: `fit` then says what is wrong.
        return Segment(each * self.replicas or microbatches, -(-each // self.every))
