"""The tensors of one update, grouped as the kernel takes them. All are flat; None leaves a part out of the kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Buffers", "Counters", "Gradients", "States"]

# Any: a tensor on the host, a pointer inside the kernel.


class Buffers(NamedTuple):
    """Each of n elements.

    weights: what F and B read, any float dtype.
    master: float32; the weights are then its rounded copy, and where they are not, somebody else's values, which count.
    private: the stream's own copy; read instead of the weights, and stored with them.
    read: the weights that F read (delay compensation).
    ahead: receives the weights extrapolated by `horizon` updates, for the next forward.
    drift: float32 (float64 weights: float64), moving average of the change of the weights (PipeMare T2).
    corrected: receives weights - `drift_horizon` * drift, for the next backward.
    peer: receives the new weights too: another replica's memory, as a tensor on this device (symmetric memory).
    """

    weights: Any
    master: Any = None
    private: Any = None
    read: Any = None
    ahead: Any = None
    drift: Any = None
    corrected: Any = None
    peer: Any = None


class States(NamedTuple):
    """The optimizer's, each of n elements: momentum or first moment, second moment, largest second moment."""

    first: Any = None
    second: Any = None
    largest: Any = None


class Gradients(NamedTuple):
    """Either `flat`, of n elements; or tensors anywhere: `addresses` int64 (tensors), `blocks` int64 (rows, 4).

    A row is one block of work: which tensor, where in the arena, where in the tensor, how many elements.
    An address of 0 leaves that tensor's weights and states alone.
    """

    flat: Any = None
    addresses: Any = None
    blocks: Any = None


class Counters(NamedTuple):
    """Small tensors that the last program of a launch changes, after all others have stored.

    step: int64 (1), updates with this optimizer state; `product`: float64 (1), nadam's product of momenta.
    ticket: int32 (1), zero between launches; one for each stream that may launch at the same time.
    version: int64 (1), updates of these weights.
    reads: int64 (microbatches), the versions that their forwards found.
    histogram: int64 (h), counts of the measured staleness; the last entry takes all that is longer.
    norm: float64 (1), the squared norm that `norm.py` wrote.
    seed: int64 (1), of stochastic rounding.
    """

    step: Any
    ticket: Any
    product: Any = None
    version: Any = None
    reads: Any = None
    histogram: Any = None
    norm: Any = None
    seed: Any = None
