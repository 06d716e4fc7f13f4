"""Who touched which memory: races, and the caching allocator, which gives a block back to the stream it came from.

A block that no tensor of the program refers to any more goes to the free list of its stream at once, ordered with
nothing else: the next allocation there may overwrite what another stream still reads.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from asyncpipe.runtime.cuda.recording.usage import Usage
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["HOST", "Identities", "Memory", "storage_key"]

HOST = -1
"""The host's number among the streams, and among the devices."""

_Last = dict[int, int]


@dataclass
class _Block:
    """By stream, the position of the last call that read or wrote it. `owner`: the stream that allocated it."""

    owner: int | None = None
    reads: _Last = field(default_factory=dict)
    writes: _Last = field(default_factory=dict)
    tensors: dict[int, weakref.ref[Tensor]] = field(default_factory=dict)


def storage_key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # type: ignore[no-any-return]


class Identities:
    """A weak reference keeps a storage's number from being given to another one; and names for messages."""

    def __init__(self) -> None:
        self._seen: dict[int, StorageWeakRef] = {}
        self.names: dict[int, str] = {}
        self.shared: set[int] = set()
        """Storages with intended races: parameters that readers do not wait for."""
        self.usage = Usage()
        self.devices: dict[int, int] = {}
        """Where each storage lies: on the device of the stream that made it, or touched it first; or on the host."""

    def of(self, tensor: Tensor) -> int:
        key = storage_key(tensor)
        if key not in self._seen:
            self._seen[key] = StorageWeakRef(tensor.untyped_storage())
        return key

    def name(self, key: int) -> str:
        return self.names.get(key, "a tensor")

    def require_on(self, device: int, key: int, what: str) -> None:
        """Violation for memory of another device; all devices reach that of the host."""
        home = self.devices.setdefault(key, device)
        if home not in (device, HOST):
            raise Violation(
                Kind.OTHER_DEVICE, f"{what} on device {device} touches {self.name(key)}, which lies on device {home}"
            )


class Memory:
    """All accesses of one history."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._blocks: dict[int, _Block] = {}
        self.timelines: dict[int, Timeline] = {}
        """By stream."""
        self.host = Timeline(HOST)
        """What the host has waited for comes before all that is issued now."""
        self._calls: dict[tuple[int, int], str] = {}
        self._labels: dict[tuple[int, int], str] = {}
        self.label: str | None = None
        """Of the calls that come now; those with the same one need no order among themselves."""
        self.problems: list[Violation] = []
        """Found where nothing can be raised: while Python drops a tensor."""

    def read(self, at: Timeline, keys: Iterable[int], what: str) -> None:
        for key in keys:
            block = self._touch(at, key, what)
            self._require_order(at, key, (block.writes,), f"{what} reads")
            block.reads[at.number] = at.position

    def write(self, at: Timeline, keys: Iterable[int], what: str) -> None:
        for key in keys:
            block = self._touch(at, key, what)
            self._require_order(at, key, (block.writes, block.reads), f"{what} writes")
            block.writes[at.number] = at.position

    def _touch(self, at: Timeline, key: int, what: str) -> _Block:
        self._calls[at.number, at.position] = what
        if self.label is not None:
            self._labels[at.number, at.position] = self.label
        return self._blocks.setdefault(key, _Block())

    def _call(self, stream: int, position: int) -> str:
        return f"{self._calls.get((stream, position), 'call')} (call {position} of stream {stream})"

    def _unordered(self, stream: int, position: int) -> bool:
        return self.label is not None and self._labels.get((stream, position)) == self.label

    def last_writes(self, key: int) -> Iterator[tuple[int, int]]:
        block = self._blocks.get(key)
        yield from block.writes.items() if block else ()

    def is_within_reach(self, key: int) -> bool:
        """Whether anybody outside this history may touch it: it came from there, or a tensor still refers to it."""
        block = self._blocks.get(key)
        return block is not None and (block.owner is None or bool(block.tensors))

    def allocated(self, key: int) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.owner is not None

    def allocate(self, at: Timeline, key: int) -> None:
        self._blocks[key] = _Block(owner=at.number)

    def timeline(self, stream: int) -> Timeline:
        return self.timelines.setdefault(stream, Timeline(stream))

    def follow(self, key: int, tensor: Tensor) -> None:
        """Another tensor of the program on this storage; the block is free when the last of them is dropped."""
        block = self._blocks.get(key)
        if block is None or block.owner is None:
            return
        dropped = partial(self._dropped, key, id(tensor))
        block.tensors[id(tensor)] = weakref.ref(tensor, dropped)

    def _dropped(self, key: int, tensor: int, _: weakref.ref[Tensor]) -> None:
        block = self._blocks.get(key)
        if block is None or block.tensors.pop(tensor, None) is None or block.tensors:
            return
        del self._blocks[key]
        self._identities.usage.give(key)
        assert block.owner is not None
        owner = self.timeline(block.owner)
        users = [*block.reads.items(), *block.writes.items()]
        self.problems += [
            Violation(
                Kind.EARLY_REUSE,
                f"{self._identities.name(key)}, allocated on stream {block.owner}, was dropped before that stream waits"
                f" for {self._call(stream, position)}, which uses it",
            )
            for stream, position in users
            if not owner.covers(stream, position) and not self.host.covers(stream, position)
        ]

    def _require_order(self, at: Timeline, key: int, lasts: tuple[_Last, ...], what: str) -> None:
        if key in self._identities.shared:
            return
        for last in lasts:
            for stream, position in last.items():
                known = stream == at.number or at.covers(stream, position) or self.host.covers(stream, position)
                if not known and not self._unordered(stream, position):
                    raise Violation(
                        Kind.RACE,
                        f"{what} {self._identities.name(key)} on stream {at.number}, which does not wait for"
                        f" {self._call(stream, position)}",
                    )
