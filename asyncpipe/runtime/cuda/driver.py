"""Calls of the CUDA driver that torch does not have."""

from __future__ import annotations

import ctypes

__all__ = ["count_nodes"]


def count_nodes(graph: int) -> int | None:
    """The nodes of a graph (a CUgraph, which is a cudaGraph_t too); None where the driver does not say."""
    count = ctypes.c_size_t(0)
    try:
        answer = ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(ctypes.c_void_p(graph), None, ctypes.byref(count))
    except (OSError, AttributeError):
        return None
    return None if answer else count.value
