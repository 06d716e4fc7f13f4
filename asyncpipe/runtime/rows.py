"""Batches that nobody has gathered yet: which rows of a table they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

__all__ = ["Rows", "materialised"]


@dataclass(frozen=True, eq=False)
class Rows:
    """`chosen` (int64) rows of `table`, both on the host; a device that holds the table gathers them itself."""

    table: Tensor
    chosen: Tensor

    def __len__(self) -> int:
        return len(self.chosen)

    def gathered(self) -> Tensor:
        return self.table.index_select(0, self.chosen)


def materialised(batch: Any) -> Any:
    """The same with tensors."""
    return tree_map_only(Rows, Rows.gathered, batch)
