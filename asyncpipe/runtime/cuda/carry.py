"""What a period of a graph leaves for the next one: the tensors of the microbatches in flight, at fixed places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from asyncpipe.errors import InternalError
from asyncpipe.runtime.cuda.references import storage_of
from asyncpipe.runtime.cuda.static import several_shapes

__all__ = ["Carried"]


class _Here:
    """Stands for a tensor among the other leaves."""


_HERE = _Here()


@dataclass(frozen=True)
class Carried:
    """A state as tensors and all else. Two states are alike if they differ in the tensors only."""

    tensors: Sequence[Tensor]
    others: Sequence[Any]
    spec: TreeSpec

    @classmethod
    def of(cls, state: Any) -> Carried:
        leaves, spec = tree_flatten(state)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return cls(tensors, [_HERE if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)

    def state(self) -> Any:
        """As `of` got it."""
        tensors = iter(self.tensors)
        return tree_unflatten([next(tensors) if leaf is _HERE else leaf for leaf in self.others], self.spec)

    def has_same_places(self, other: Carried) -> bool:
        """Whether both have tensors at the same places; a slot that no microbatch has used yet has none."""
        return self.spec == other.spec and self.others == other.others

    def require_alike(self, other: Carried) -> None:
        """InternalError where the state of one period is not that of another; UsageError for microbatches of
        several shapes.
        """
        mine, others = ([(t.shape, t.dtype, t.stride()) for t in one.tensors] for one in (self, other))
        different = [pair for pair in zip(mine, others, strict=False) if pair[0][0] != pair[1][0]]
        if self.has_same_places(other) and different:
            raise several_shapes(*([shapes] for shapes, *_ in different[0]))
        if not self.has_same_places(other) or mine != others:
            raise InternalError("the state after a period is not alike the state before it")

    def receive(self, other: Carried, wanted: Callable[[Tensor], bool]) -> None:
        """Copies the wanted tensors of an alike state to their places in this one, all sources first where they are
        targets.
        """
        self.require_alike(other)
        targets = {storage_of(tensor) for tensor in self.tensors}
        moves = [move for move in self._moves(other) if wanted(move[0])]
        sources = [of.clone() if storage_of(of) in targets else of for _, of in moves]
        for (to, _), source in zip(moves, sources, strict=True):
            to.copy_(source)

    def _moves(self, other: Carried) -> list[tuple[Tensor, Tensor]]:
        """(to, of) where these are not the same."""
        return [(to, of) for to, of in zip(self.tensors, other.tensors, strict=True) if not _same_place(to, of)]


def _same_place(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()
