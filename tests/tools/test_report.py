"""`tools report`: the page read back whole, its numbers against the runs, and its pictures."""

from __future__ import annotations

import base64
import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.pictures.svg import svg as timeline_svg
from asyncpipe.pictures.timeline import planned
from asyncpipe.schedule import load
from asyncpipe.tools.report.groups import Spread, spread
from tests.command_line import invoke
from tests.pictures.pages import Page
from tests.tools.run_folders import write_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three seeds of sgd, two of async-lu, and one more that was killed in its second evaluation."""
    monkeypatch.chdir(tmp_path)
    for seed, last in enumerate((0.9, 0.92, 0.97)):
        write_run(Path("runs") / f"sgd-{seed}", "sgd", seed, (0.5, 0.8, last))
    for seed, last in enumerate((0.91, 0.93)):
        write_run(Path("runs") / f"lu-{seed}", "async-lu", seed, (0.4, 0.7, last), (12.0, 24.0, 36.0))
    killed = write_run(Path("runs") / "lu-2", "async-lu", 2, (0.43,), (12.0,), finished=False)
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "micro')
    return tmp_path


def report(*arguments: str) -> tuple[Page, dict[str, Any]]:
    outcome = invoke("tools", "report", *arguments, "--json")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    return Page(Path(document["files"][0]).read_text("utf-8")), document


def cells(page: str, table: str) -> list[list[str]]:
    body = page.partition(f'<table id="{table}">')[2].partition("</table>")[0]
    rows = ElementTree.fromstring(f"<table>{body}</table>").iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def test_table_has_means_and_deviations_over_seeds(runs: Path) -> None:
    report("runs", "--target", "0.92")
    head, lu, sgd = cells(Path("report/report.html").read_text("utf-8"), "groups")
    assert head[:7] == ["schedule", "runs", "test accuracy", "best", "test loss", "samples to 92 %", "time to 92 %"]
    assert head[7:] == ["σ stale / σ SGD", "bias, from divergence"]
    assert lu[:3] == ["async-lu", "2", "92 ± 1.4 %"]
    assert lu[3:] == [lu[2], "0.3333 ± 0", "300 (1 of 2)", "12 (1 of 2) T", "0.25 ± 0", "0.5 ± 0"]
    assert sgd[:4] == ["sgd", "3", "93 ± 3.6 %", "93 ± 3.6 %"]
    assert sgd[4:] == ["0.3333 ± 0", "300 ± 0 (2 of 3)", "30 ± 0 (2 of 3) T", "0.25 ± 0", "0.5 ± 0"]


def test_every_run_has_a_row(runs: Path) -> None:
    report("runs")
    rows = cells(Path("report/report.html").read_text("utf-8"), "runs")[1:]
    assert [row[0] for row in rows] == [f"runs/{name}" for name in ("lu-0", "lu-1", "sgd-0", "sgd-1", "sgd-2")]
    assert rows[2][1:] == ["sgd", "digits", "serial", "0", "3", "30", "300", "90.00 %", "1.8 0.9 0"]


def test_stages_have_staleness_and_divergence(runs: Path) -> None:
    report("runs")
    head, *rows = cells(Path("report/report.html").read_text("utf-8"), "stages")
    assert head == ["schedule", "stage", "staleness", "most", "‖θ_B − θ_F‖", "most", "‖θ_U − θ_F‖", "‖θ_F‖", "‖g‖"]
    assert len(rows) == 6
    assert rows[0] == ["async-lu", "0", "1.8 ± 0", "2 ± 0", "1 ± 0.71", "–", "–", "10 ± 0", "–"]
    assert rows[3][:5] == ["sgd", "0", "1.8 ± 0", "2 ± 0", "1.5 ± 1"]


def test_runs_with_other_numbers_of_stages_are_other_groups(runs: Path) -> None:
    other = write_run(Path("other"), "sgd", 5)
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps({**summary, "stages": 2}))
    _, document = report("runs/sgd-0", "other")
    assert [group["name"] for group in document["groups"]] == ["sgd, 3 stages", "sgd, 2 stages"]


def test_runs_with_other_intra_op_threads_are_other_groups(runs: Path) -> None:
    for name, threads in (("one", 1), ("two", 2)):
        path = write_run(Path(name), "sgd", 7) / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "intra_op_threads": threads}))
    _, document = report("one", "two")
    assert [group["name"] for group in document["groups"]] == ["sgd, 1 intra-op thread", "sgd, 2 intra-op threads"]


def test_a_seed_that_a_group_has_twice_is_told(runs: Path) -> None:
    write_run(Path("again"), "sgd", 1)
    _, document = report("runs/sgd-0", "runs/sgd-1", "again")
    (note,) = document["notes"]
    assert note.startswith("sgd: 2 runs with seed 1 (runs/sgd-1, again)")
    assert note in Path("report/report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("summary.json", "{oops", "runs/lu-0/summary.json: Expecting property name"),
        ("summary.json", "[1]", "runs/lu-0/summary.json: expected an object, found [1]"),
        ("summary.json", '{"schema": "asyncpipe.run/1"}', "runs/lu-0/summary.json: has no job, backend, stages"),
        ("metrics.jsonl", "{\n{}\n", "runs/lu-0/metrics.jsonl:1: expected a row of metrics"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_drawn(runs: Path, file: str, text: str, message: str) -> None:
    (Path("runs/lu-0") / file).write_text(text)
    outcome = invoke("tools", "report", "runs")
    assert (outcome.code, outcome.stdout.splitlines()[0]) == (0, "4 runs of async-lu, sgd")
    assert f"warning: left out, since it cannot be read: {message}" in outcome.stderr
    assert file == "metrics.jsonl" or "help: the file is damaged: run it again" in outcome.stderr


def test_runs_that_have_not_ended_are_drawn_where_no_other_is_there(runs: Path) -> None:
    _, document = report("runs/lu-2")
    assert [(group["runs"], group["unfinished"]) for group in document["groups"]] == [(1, 1)]
    assert document["notes"][0].endswith("was stopped or still runs: shown as far as it came")
    row = cells(Path("report/report.html").read_text("utf-8"), "runs")[1]
    assert row == ["runs/lu-2", "async-lu", "job", "serial", "2", "unfinished", "10", "100", "43.00 %", "–"]


def test_curves_are_means_with_one_deviation_on_either_side(runs: Path) -> None:
    page, _ = report("runs", "--target", "0.9")
    charts = {chart["name"]: chart for chart in page.data["charts"]}
    assert list(charts) == [
        "train-loss-samples",
        "train-loss-virtual-time",
        "test-accuracy-samples",
        "test-accuracy-virtual-time",
        "test-loss-samples",
        "test-loss-virtual-time",
        "divergence-samples",
    ]
    lu, sgd = charts["test-accuracy-virtual-time"]["curves"]
    assert (sgd["name"], sgd["x"], sgd["style"]) == ("sgd", [10.0, 20.0, 30.0], 1)
    assert sgd["mean"] == pytest.approx([0.5, 0.8, 0.93])
    assert sgd["high"] == pytest.approx([0.5, 0.8, 0.93 + 0.036055513])
    assert lu["x"] == [4.0, 8.0, 12.0]
    assert lu["mean"] == pytest.approx([0.4, 0.7, 0.92])
    # The norm over stages of 3 and 4.
    assert charts["divergence-samples"]["curves"][0]["mean"] == [5.0, 5.0, 5.0]
    assert len(charts["train-loss-samples"]["curves"][1]["x"]) == 30
    assert page.data["accuracy"] == 0.9


def test_page_loads_nothing_and_runs_nothing(runs: Path) -> None:
    page, _ = report("runs")
    policy = next(a["content"] for a in page.attributes("meta") if a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert [a.get("type") for a in page.attributes("script")] == ["application/json"]
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "a"} == set()
    sources = [value for _, a in page.elements for key, value in a.items() if key in ("src", "href")]
    assert sources
    assert all((source or "").startswith("data:image/svg+xml;base64,") for source in sources)
    names = [a["id"] for a in page.attributes("figure")]
    assert names[7:] == ["staleness-1", "staleness-2", "schedule-1", "schedule-2"]


def test_schedules_are_those_that_show_draws(runs: Path) -> None:
    from asyncpipe.compiler import compile_schedule

    page, _ = report("runs")
    images = [a["src"] or "" for a in page.attributes("img")]
    drawn = base64.b64decode(images[0].partition(",")[2]).decode()
    compiled = compile_schedule(load("async-lu"), 3)
    program = compiled.program()
    finite = compiled.program(program.start + 4 * program.step)
    assert drawn == timeline_svg(planned(finite), "async-lu: 3 stages, as planned")
    ElementTree.fromstring(drawn)


def test_staleness_shows_shares(runs: Path) -> None:
    report("runs")
    text = Path("report/report.html").read_text("utf-8")
    figure = ElementTree.fromstring(text.partition('<figure id="staleness-2">')[2].partition("</figure>")[0])
    titles = [title.text for title in figure.iter("{http://www.w3.org/2000/svg}title")][1:]
    assert titles[:3] == [
        f"stage 0: staleness {n} in {s}.0% of the microbatches" for n, s in ((0, 0), (1, 20), (2, 80))
    ]
    assert len(titles) == 9


def test_groups_that_share_a_schedule_say_what_differs(runs: Path) -> None:
    write_run(Path("real"), "sgd", 0, virtual=False)
    write_run(Path("lr"), "sgd", 7, lr=0.5)
    _, document = report("runs/sgd-0", "runs/sgd-1", "real", "lr")
    assert [group["name"] for group in document["groups"]] == [
        "sgd, serial, sgd lr=0.1",
        "sgd, threads",
        "sgd, serial, sgd lr=0.5",
    ]
    assert [group["time_unit"] for group in document["groups"]] == ["T", "s", "T"]
    assert document["groups"][1]["samples_per_s"] == {"mean": 50.0, "deviation": None, "runs": 1}


def test_pngs_are_the_pictures_of_the_page(runs: Path) -> None:
    from PIL import Image

    _, document = report("runs/sgd-0", "runs/lu-0", "--png", "--out", "deep/out")
    files = [Path(file) for file in document["files"]]
    assert [file.name for file in files[1:3]] == ["train-loss-samples.png", "train-loss-virtual-time.png"]
    assert len(files) == 1 + 7 + 2 + 2
    with Image.open(files[3]) as image:
        assert image.size == (1120, 636)
        colours = {colour for _, colour in image.getcolors(1 << 20)}  # type: ignore[union-attr]
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (255, 255, 255)} <= colours


def test_pngs_without_pillow_are_refused_before_anything_is_written(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    outcome = invoke("tools", "report", "runs", "--png")
    assert outcome.code == 4
    assert "--png needs pillow 10.1 or later" in outcome.stderr
    assert "pip install 'asyncpipe[report]'" in outcome.stderr
    assert not Path("report").exists()


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        ("folder", 2, "nowhere: no such folder"),
        ("empty", 2, "empty: holds no run"),
        ("row", 2, "run/metrics.jsonl:1: expected a row of metrics, found '{"),
        ("older", 2, "run/metrics.jsonl:1: a row `microbatch` without samples, train_s, virtual_time"),
        ("summary", 2, "run/summary.json: Expecting value"),
        ("schema", 2, "expected the schema asyncpipe.run/1, found 'other/1'"),
        ("resolved", 2, "run: has no resolved.yaml"),
        ("schedule", 3, "unknown key 'x'"),
        ("out", 2, "--out run/summary.json: cannot be made"),
    ],
)
def test_what_cannot_be_read_is_told(
    damage: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"))
    Path("empty").mkdir()
    writes = {
        "row": ("metrics.jsonl", '{\n{"kind": "microbatch"}\n'),
        "older": ("metrics.jsonl", '{"kind": "microbatch", "step": 0, "microbatch": 0, "loss": 1.0}\n'),
        "summary": ("summary.json", "oops"),
        "schema": ("summary.json", '{"schema": "other/1"}'),
        "schedule": ("resolved.yaml", "asyncpipe: 1\nx: 2\n"),
    }
    if damage in writes:
        (Path("run") / writes[damage][0]).write_text(writes[damage][1])
    if damage == "resolved":
        Path("run/resolved.yaml").unlink()
    place = {"folder": "nowhere", "empty": "empty"}.get(damage, "run")
    outcome = invoke("tools", "report", place, *(["--out", "run/summary.json"] if damage == "out" else []))
    assert (outcome.code, outcome.stdout) == (code, "")
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_deviation_needs_two_runs() -> None:
    assert spread([1.0, None, 3.0]) == Spread(2.0, math.sqrt(2), 2)
    assert spread([4.0]) == Spread(4.0, None, 1)
    assert spread([None]) is None
