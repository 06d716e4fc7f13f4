"""What the assembler made of the fused kernels, without a GPU: wide accesses, no spills, vector reductions."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest

from tests.kernels.compile_table import DOCUMENT, documented, row_of, spills
from tests.kernels.sass import KINDS, parse, path_of_wide_accesses, wide_accesses, width
from tests.kernels.variants import VARIANTS, accesses

# Not imported here: other tests of this process interpret kernels, which is decided when Triton is imported.
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

HOPPER = 90
PORTABLE = tuple(name for name, variant in VARIANTS.items() if variant.portable)
"""Each kernel and each rule once."""
CORE = (*PORTABLE, "sgd plain", "sgd master", "sgd stochastic", "sgd drift", "adam table")

Row = dict[str, Any]


class Asked(NamedTuple):
    """One report of tests/kernels/compile_report.py."""

    architecture: int
    names: tuple[str, ...]
    misalign: str | None = None


QUICK = {
    "sm_90": Asked(HOPPER, CORE),
    "sm_80, atomic": Asked(80, ("sgd atomic",)),
    "sm_90, misaligned": Asked(HOPPER, ("sgd",), "weights"),
}
"""One process compiles them: it takes half a second for a kernel, and two to start."""
SLOW = {"sm_80": Asked(80, PORTABLE), "sm_90, all": Asked(HOPPER, tuple(VARIANTS)), "sm_100": Asked(100, PORTABLE)}
"""What `sm_90` and `sm_80, atomic` show, of every variant, and for Hopper's neighbours of every kernel and rule."""
REPORTS = ["sm_90", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@functools.cache
def compile_reports(*asked: Asked) -> list[dict[str, Any]]:
    """What tests/kernels/compile_report.py says; nothing is taken from an earlier run."""
    command = [sys.executable, "-m", "tests.kernels.compile_report", *(json.dumps(one._asdict()) for one in asked)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
        environment |= {"TRITON_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def report_on(name: str) -> dict[str, Any]:
    """Skips where the assembler does not know the architecture."""
    quick = name in QUICK
    found = compile_reports(*QUICK.values())[[*QUICK].index(name)] if quick else compile_reports(SLOW[name])[0]
    if found["missing"]:
        pytest.skip(found["missing"])
    return found


@pytest.fixture(params=REPORTS, scope="module")
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    return report_on(request.param)


@pytest.fixture
def rows(report: dict[str, Any]) -> list[Row]:
    """One of each kernel that was compiled."""
    rows: list[Row] = report["kernels"]
    return rows


def label(row: Row) -> str:
    return f"{row['variant']}: {row['kernel']}"


def expected_accesses(row: Row) -> dict[str, int]:
    return accesses(VARIANTS[row["variant"]], row["kernel"], row["block"], row["threads"])


def names_of_atomics(row: Row) -> list[str]:
    return [name for name in row["whole_block"] if name.startswith(("RED", "ATOM"))]


def test_every_kernel_and_every_rule_is_compiled(report: dict[str, Any]) -> None:
    kernels: dict[str, list[str]] = {}
    for row in report["kernels"]:
        kernels.setdefault(row["variant"], []).append(row["kernel"])
    clipped = {name for name in kernels if "clip_norm" in VARIANTS[name].options.transforms}
    assert {name for name, found in kernels.items() if found == ["norm_kernel", "update_kernel"]} == clipped != set()
    assert all(kernels[name] == ["update_kernel"] for name in kernels.keys() - clipped)
    assert {VARIANTS[name].rule for name in kernels} == set(report["rules"])


def test_each_tensor_of_a_whole_block_is_loaded_and_stored_16_bytes_at_a_time(rows: list[Row]) -> None:
    wrong = {
        label(row): (found, expected)
        for row in rows
        if (found := wide_accesses(row["whole_block"])) != (expected := expected_accesses(row))
    }
    assert wrong == {}, "accesses of a thread: (found, expected)"


def test_a_whole_block_makes_no_narrow_load_or_store(rows: list[Row]) -> None:
    narrow = {label(row): names for row in rows if (names := narrow_accesses(row))}
    assert narrow == {}


def narrow_accesses(row: Row) -> list[str]:
    return [name for name in row["whole_block"] if name.split(".")[0] in KINDS and width(name) < 128]


def test_nothing_is_spilled(rows: list[Row]) -> None:
    assert {label(row): row["resources"] for row in rows if spills(row)} == {}


def test_a_time_stamp_is_one_warp_that_reads_each_register_once_and_stores_three_numbers(
    report: dict[str, Any],
) -> None:
    stamp = report["stamp"]
    kinds: Counter[str] = Counter()
    for name, number in stamp["instructions"].items():
        kinds[name.split(".")[0]] += number
    assert stamp["threads"] == 32
    assert stamp["registers"] == ["globaltimer", "smid"]
    assert (kinds["LDG"], kinds["STG"], spills(stamp)) == (1, 3, 0)


def test_the_document_shows_what_the_assembler_made(report: dict[str, Any]) -> None:
    """docs/kernels.md; registers depend on the version of Triton and of its assembler."""
    version, shown = documented(DOCUMENT.read_text("utf-8"))
    assert {name for name, _ in shown} == {*VARIANTS}
    if report["architecture"] != HOPPER:
        return
    same_version = report["triton"].startswith(version)
    for row in report["kernels"]:
        name, kernel, registers, *rest = row_of(row)
        expected = shown[name, kernel]
        assert (rest, registers if same_version else expected[0]) == (expected[1:], expected[0]), name


@pytest.mark.parametrize(
    ("given", "start", "bits"),
    [("sm_80, atomic", "RED.E.ADD.F32.", 32), ("sm_90", "REDG.E.ADD.F32x4.", 128)],
)
def test_atomic_updates_add_four_floats_at_once_from_hopper_on(given: str, start: str, bits: int) -> None:
    """One kind of atomic operation, which returns nothing."""
    (row,) = (row for row in report_on(given)["kernels"] if row["variant"] == "sgd atomic")
    (name,) = (name for name in row["whole_block"] if name.startswith(("RED", "ATOM")))
    assert (name[: len(start)], width(name)) == (start, bits)


def test_a_tensor_cut_at_one_element_loses_its_wide_accesses() -> None:
    """What the tests above rest on: they fail where an alignment is lost, and for that tensor alone."""
    (row,) = report_on("sm_90, misaligned")["kernels"]
    expected = expected_accesses(row)
    lost = row["block"] // (row["threads"] * 4)
    assert wide_accesses(row["whole_block"]) == expected | {
        "load": expected["load"] - lost,
        "store": expected["store"] - lost,
    }
    assert set(narrow_accesses(row)) == {"LDG.E", "STG.E"}


TEXT = """
        /*0000*/                   LDG.E.64 R2, desc[UR4][R2.64] ;
.L_x_1:
        /*0010*/              @!P0 BRA `(.L_x_2) ;
        /*0020*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0030*/               @P1 BRA `(.L_x_3) ;
        /*0040*/                   STG.E.U16 desc[UR4][R2.64], R4 ;
.L_x_3:
        /*0050*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0060*/                   BRA `(.L_x_4) ;
.L_x_2:
        /*0070*/               @P2 LDG.E R4, desc[UR4][R2.64] ;
.L_x_4:
        /*0080*/               @P3 BRA `(.L_x_1) ;
        /*0090*/                   EXIT ;
"""


def test_the_path_of_wide_accesses_has_both_arms_between_them_and_nothing_around_them() -> None:
    path = [instruction.name for instruction in path_of_wide_accesses(parse(TEXT))]
    assert path == ["LDG.E.128", "BRA", "STG.E.U16", "STG.E.128", "BRA"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("LDG.E", 32),
        ("LDG.E.U16.CONSTANT", 16),
        ("LDG.E.64", 64),
        ("STG.E.128", 128),
        ("REDG.E.ADD.F32x4.FTZ.RN.STRONG.GPU", 128),
        ("RED.E.ADD.F32.FTZ.RN.STRONG.GPU", 32),
        ("REDG.E.ADD.F64.RN.STRONG.GPU", 64),
    ],
)
def test_the_width_of_an_access_is_read_from_its_name(name: str, bits: int) -> None:
    assert width(name) == bits
