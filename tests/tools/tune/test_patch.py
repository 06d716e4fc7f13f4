"""The change of a schedule file: whole texts before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncpipe.compiler import check_expect
from asyncpipe.errors import Report
from asyncpipe.schedule import load
from asyncpipe.schedule.load import library, load_text
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.patch import make_patch
from asyncpipe.tools.tune.yaml_edit import with_key, without_key

MINE = """\
asyncpipe: 1
# what this is for
streams:                # all of them
  forward:  {runs: [F]} # one is enough

  # the slow ones
  backward:
    runs: [B, U]
    count: 2   # two of them
stages:      # named
  - {name: a, layers: 0-2}
  - {name: b, layers: 3-4}
# the end of the stages
in_flight: 3
expect: {stages: 8, staleness: [2, 2, 2, 1, 1, 1, 0, 0], period: 8, max_staleness: 3}  # as planned
"""
CHANGED = """\
asyncpipe: 1
# what this is for
streams:                # all of them
  forward:  {runs: [F], count: 2} # one is enough

  # the slow ones
  backward:
    runs: [B, U]
    count: 1   # two of them
stages: 4      # named
# the end of the stages
in_flight: 4
expect: {stages: 8, staleness: [3, 3, 3, 3, 3, 3, 2, 2], period: 16, max_staleness: 3}  # as planned
"""


def changed(text: str, settings: Sequence[tuple[str, str]], asked: Sequence[str] = ()) -> str:
    Path("mine.yaml").write_text(text)
    return make_patch(load("mine.yaml", asked), Candidate("mine.yaml", tuple(settings)), asked, "").after


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_values_change_in_place_and_all_else_stays() -> None:
    settings = [("streams.forward.count", "2"), ("streams.backward.count", "1"), ("in_flight", "4"), ("stages", "4")]
    assert changed(MINE, settings) == CHANGED


def test_keys_of_the_base_go_into_the_file_that_extends_it() -> None:
    before = "asyncpipe: 1\nextends: pd-asgd   # two to four\nin_flight: 5"
    after = "asyncpipe: 1\nextends: pd-asgd   # two to four\nstages: 5\nstreams: {ratio: 1:2}\nin_flight: 3"
    assert changed(before, [("streams.ratio", "1:2"), ("in_flight", "3"), ("stages", "5")]) == after


def test_file_in_flow_style_stays_so() -> None:
    before = "{asyncpipe: 1, extends: async-lu}\n"
    after = "{asyncpipe: 1, extends: async-lu, streams: {backward: {count: 1}}, in_flight: 2}\n"
    assert changed(before, [("streams.backward.count", "1"), ("in_flight", "2")]) == after


def test_automatic_ratio_becomes_the_measured_one() -> None:
    before = "asyncpipe: 1\nextends: pd-asgd\nstreams:\n  ratio: auto  # whatever keeps up\nin_flight: 4\n"
    after = "asyncpipe: 1\nextends: pd-asgd\nstreams:\n  ratio: 1:1  # whatever keeps up\nin_flight: 4\n"
    assert changed(before, [("streams.ratio", "1:1")]) == after


def test_what_the_tuning_was_asked_with_is_part_of_the_change() -> None:
    before = "asyncpipe: 1\nextends: async-lu\nin_flight: 5\n"
    after = "asyncpipe: 1\nextends: async-lu\nstreams: {backward: {count: 1}}\nupdate: {every: 2}\n"
    asked = ["update.every=2", "job.optimizer.lr=0.1"]
    assert changed(before, [("streams.backward.count", "1")], asked) == after.replace("update", "in_flight: 5\nupdate")


def test_key_goes_with_the_lines_that_it_stood_on() -> None:
    text = "a: 1\nexpect:   # all of it\n  stages: 8\n  period: 8 # so it is\nb: 2\n"
    assert without_key(text, "expect") == "a: 1\nb: 2\n"
    assert without_key("a: 1\nexpect: {stages: 8}", "expect") == "a: 1\n"


def test_library_schedule_gives_a_file_that_extends_it() -> None:
    candidate = Candidate("async-lu", (("streams.backward.count", "1"), ("in_flight", "2")))
    patch = make_patch(load("async-lu"), candidate, (), "Tuned for digits.")
    assert patch.diff == (
        "--- /dev/null\n+++ b/async-lu-tuned.yaml\n@@ -0,0 +1,6 @@\n+# Tuned for digits.\n+asyncpipe: 1\n"
        "+name: async-lu-tuned\n+extends: async-lu\n+streams: {backward: {count: 1}}\n+in_flight: 2\n"
    )


def test_difference_is_one_that_patch_reads() -> None:
    Path("mine.yaml").write_text("asyncpipe: 1\nextends: async-lu\nin_flight: 5")
    patch = make_patch(load("mine.yaml"), Candidate("mine.yaml", (("in_flight", "2"),)), (), "")
    assert patch.diff == (
        "--- a/mine.yaml\n+++ b/mine.yaml\n@@ -1,3 +1,3 @@\n asyncpipe: 1\n extends: async-lu\n"
        "-in_flight: 5\n\\ No newline at end of file\n+in_flight: 2\n\\ No newline at end of file\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(library()))
def test_every_file_of_the_library_can_be_changed(name: str) -> None:
    """`make_patch` itself checks that the text means the setting; what the new file expects must hold, too."""
    text = library()[name].read_text()
    for settings in ([("stages", "5")], [("in_flight", "3")], [("stages", "6"), ("update.every", "2")]):
        after = changed(text, settings)
        report = Report()
        check_expect(load_text(after, "mine.yaml", Report()) or load(name), report)
        assert not report.has_errors


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("a: {}\n", "a.b", "a: {b: 1}\n"),
        ("a: { b: 2 }\n", "a.c", "a: { b: 2, c: 1 }\n"),
        ("a:\n  - 1\n  - 2 # two\nb: 2\n", "a", "a: 1\nb: 2\n"),
        ("a: text\n", "a.b.c", "a: {b: {c: 1}}\n"),
        ("a: 'quoted' # so\n", "a", "a: 1 # so\n"),
        ("a: 2\n# the end\n", "b", "a: 2\nb: 1\n# the end\n"),
        ("# ünï\na: {b: ü}  # ß\n", "a.b", "# ünï\na: {b: 1}  # ß\n"),
    ],
)
def test_key_is_set(before: str, path: str, after: str) -> None:
    assert with_key(before, path.split("."), "1") == after
