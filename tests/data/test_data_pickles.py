"""The restricted unpickler: what the files of CIFAR hold is read, and whatever else a pickle asks for is never done."""

from __future__ import annotations

import contextlib
import operator
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asyncpipe.data.pickles import LARGEST, ByteArray, read_pickle
from asyncpipe.errors import MachineError

PYTHON2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
    b"\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb%sU\x06\x01\x02\x03\x04\xfe\xfftbU\x06labels]q\x08(K\x05K\x07eu."
)
"""As Python 2 and its numpy write {'data': array of shape (2, 3), 'labels': [5, 7]}; %s is the order flag."""


def write(folder: Path, content: bytes) -> Path:
    path = folder / "batch"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    path = write(folder, content)
    with pytest.raises(MachineError) as caught:
        read_pickle(path, "fetch it again")
    start, end = f"{path} is damaged or no pickle of numbers: ", "; nothing was executed"
    assert caught.value.message.startswith(start)
    assert caught.value.message.endswith(end)
    assert (caught.value.hint, caught.value.exit_code) == ("fetch it again", 4)
    return caught.value.message.removeprefix(start).removesuffix(end)


@pytest.mark.parametrize(
    ("flag", "rows"), [(b"\x89", [[1, 2, 3], [4, 254, 255]]), (b"\x88", [[1, 3, 254], [2, 4, 255]])]
)
def test_files_of_python_2_are_read_in_either_order_of_memory(
    tmp_path: Path, flag: bytes, rows: list[list[int]]
) -> None:
    content = read_pickle(write(tmp_path, PYTHON2 % flag), "")
    assert isinstance(content, dict)
    assert content[b"labels"] == [5, 7]
    assert content[b"data"].values.tolist() == rows


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_files_of_python_3_are_read(tmp_path: Path, protocol: int) -> None:
    array = np.arange(256, dtype=np.uint8).reshape(2, 128)
    written = {b"data": array, b"labels": [1, 2], b"filenames": [b"", b"caf\xe9.png"]}
    content = read_pickle(write(tmp_path, pickle.dumps(written, protocol)), "")
    assert isinstance(content, dict)
    assert isinstance(content[b"data"], ByteArray)
    assert np.array_equal(content[b"data"].values, array)
    assert (content[b"labels"], content[b"filenames"]) == (written[b"labels"], written[b"filenames"])


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *values: object) -> None:
        self.call = function, values

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (getattr, "builtins.getattr"), (np.load, "numpy.load")],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_call_that_such_files_do_not_need_is_never_made(
    tmp_path: Path, function: Callable[..., object], name: str, protocol: int
) -> None:
    """Each argument would leave a file where it is run as a command, or as an expression."""
    marker = tmp_path / "executed"
    command = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    content = pickle.dumps({b"data": Calls(function, command)}, protocol)
    name = name.replace("builtins", "__builtin__") if protocol == 2 else name
    assert refusal(tmp_path, content) == f"it names {name}, which such files do not need"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (pickle.dumps(Calls(np.ndarray, (2**50,)), 2), "it calls numpy.ndarray"),
        (pickle.dumps(np.arange(3), 2), "an array is not of unsigned bytes"),
        (pickle.dumps(np.array([print], dtype=object), 2), "it names __builtin__.print, which such files do not need"),
        (pickle.dumps(operator.attrgetter("x"), 2), "it names operator.attrgetter, which such files do not need"),
        (b"cnumpy\ndtype.mro\n.", "it names numpy.dtype.mro, which such files do not need"),
        (b"cnumpy\ndtype\n}U\x05_callU\x01xsb.", "it changes a function"),
        (b"cnumpy\ndtype\nN}U\x05_callU\x01xs\x86b.", "it changes a function"),
        (b"c_codecs\nencode\n(U\x01aU\x05utf-8tR.", "bytes are not written as latin1"),
        ((PYTHON2 % b"\x89").replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "an array of shape (2, 4) has 6 bytes"),
        ((PYTHON2 % b"\x89").replace(b"K\x02K\x03\x86", b"K\x02U\x01x\x86"), "an array has no shape or no bytes"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "it remembers a value at place 2147483647"),
        (b"", "ValueError: pickle exhausted before seeing STOP"),
        (b"\x80\x02", "ValueError: pickle exhausted before seeing STOP"),
        ((PYTHON2 % b"\x89")[:-40], "ValueError: "),
        (b"<html>not found</html>", "ValueError: at position 0, opcode b'<' unknown"),
        (b"\x80\x02Pstorage\n.", "A load persistent id instruction was encountered, but no persistent_load"),
        (b"\x80\x02\x82\x01.", "unregistered extension code 1"),
    ],
)
def test_what_is_no_such_pickle_is_refused_with_the_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    assert cause in refusal(tmp_path, content)


def test_refused_change_of_a_function_leaves_the_next_file_as_it_is(tmp_path: Path) -> None:
    refusal(tmp_path, b"cnumpy\ndtype\n}U\x05_callU\x01xsb.")
    content = read_pickle(write(tmp_path, PYTHON2 % b"\x89"), "")
    assert isinstance(content, dict)
    assert content[b"data"].values.shape == (2, 3)


def test_each_cut_of_a_file_is_an_error(tmp_path: Path) -> None:
    whole = PYTHON2 % b"\x89"
    for size in range(len(whole)):
        refusal(tmp_path, whole[:size])


def test_changed_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    """Each byte once set to each of some opcodes and lengths: a value, or a MachineError."""
    whole = PYTHON2 % b"\x89"
    for place in range(len(whole)):
        for value in b"R\x81\x85.bceiou0\xff\x00":
            changed = whole[:place] + bytes((value,)) + whole[place + 1 :]
            with contextlib.suppress(MachineError):
                read_pickle(write(tmp_path, changed), "")


def test_huge_file_is_refused_before_it_is_read_as_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(MachineError, match=f"has {LARGEST + 1:,} bytes, more than the {LARGEST:,} allowed"):
        read_pickle(path, "")


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"cannot read {tmp_path}: Is a directory\n  help: fetch it"):
        read_pickle(tmp_path, "fetch it")
