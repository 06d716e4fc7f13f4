"""Invalid schedules and jobs: the whole text that `asyncpipe check` answers, as a newcomer reads it.

A case is tests/cases/invalid/NAME.yaml with NAME.txt; `python -m tests.update_cases` rewrites the texts.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from asyncpipe.schedule import library
from tests.command_line import Outcome, invoke
from tests.update_cases import INVALID, invalid_cases, invalid_text

ROOT = Path(__file__).parents[1]
CHECKED = ["schedule", "passes", "verify", "cli", "staging.py"]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
UTF8 = "  = help: save the file as UTF-8"
VALID = b"asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\n"


@pytest.mark.parametrize("name", invalid_cases())
def test_invalid_file_gets_its_text(name: str) -> None:
    assert invalid_text(name) == (3, (INVALID / f"{name}.txt").read_text("utf-8"))


def test_every_text_belongs_to_a_file() -> None:
    assert sorted(path.stem for path in INVALID.glob("*.txt")) == invalid_cases()
    assert len(invalid_cases()) > 100


@pytest.mark.parametrize("name", invalid_cases())
def test_text_names_the_place_and_no_internals(name: str) -> None:
    text = (INVALID / f"{name}.txt").read_text("utf-8")
    heads = re.findall(r"^\S.*", text, re.MULTILINE)
    file = rf"({re.escape(name)}\.yaml|base/[\w-]+\.\w+)"
    assert all(re.match(rf"{file}:\d+:\d+: error\[AP\d{{3}}\]: \S", head) for head in heads), heads
    assert not re.search(r"Traceback|a bug in|None|MISSING|Fraction\(|<class|Node|Scalar", text)


def test_findings_are_told_in_the_order_of_the_file() -> None:
    for name in ("many-errors", "many-errors-of-meaning", "many-meanings", "job-missing-parts"):
        text = (INVALID / f"{name}.txt").read_text("utf-8")
        places = [(int(line), int(column)) for line, column in re.findall(r"yaml:(\d+):(\d+): error", text)]
        assert places == sorted(places)
        assert len(places) > 3


def test_every_code_that_check_knows_has_a_case() -> None:
    sources = [path for part in CHECKED for path in (ROOT / "asyncpipe" / part).rglob("*.py")]
    sources += [ROOT / "asyncpipe" / part for part in CHECKED if part.endswith(".py")]
    known = {code for source in sources for code in re.findall(r'"(AP\d{3})"', source.read_text("utf-8"))}
    known -= {code for code in known if code.startswith("AP3")}  # of programs as text; `check` makes them itself
    known -= {"AP108", "AP140"}  # of `run` and `export`
    known -= {"AP401", "AP506", "AP507"}  # of the options --memory, --max-staleness and --curvature
    shown = {
        code for path in INVALID.glob("*.txt") for code in re.findall(r"error\[(AP\d{3})\]", path.read_text("utf-8"))
    }
    assert len(known) > 20
    assert known - shown == set()


def check(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    (folder / "mine.yaml").write_bytes(content)
    monkeypatch.chdir(folder)
    return invoke("check", "mine.yaml")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PNG, "1:1: error[AP100]: expected UTF-8 text, found the byte 0x89 at offset 0\n" + UTF8),
        (b"\x00" * 64, "1:1: error[AP100]: expected text, found the control character U+0000\n  = help: remove it"),
        (
            VALID + b"name: a\x1b[31m\n",
            "3:8: error[AP100]: expected text, found the control character U+001B\n"
            "    3 | name: a [31m\n      |        ^\n  = help: remove it",
        ),
        (
            VALID + "name: Müller\n".encode("latin-1"),
            "1:1: error[AP100]: expected UTF-8 text, found the byte 0xfc at offset 55\n" + UTF8,
        ),
        (
            VALID.decode().encode("utf-16"),
            "1:1: error[AP100]: expected UTF-8 text, found the byte 0xff at offset 0\n" + UTF8,
        ),
        (
            VALID + b"# " + b"x" * 10_000_000,
            "1:1: error[AP100]: expected a page of text, found more than 65,536 bytes\n  = help: is it the right file?",
        ),
        (
            b"[" * 60_000,
            "1:34: error[AP102]: nested deeper than 32 levels\n"
            f"    1 | {'[' * 110}\n      | {' ' * 33}^\n  = help: a schedule needs four",
        ),
        (
            b"\xef\xbb\xbf" + VALID + b"in_fligth: 3\r\n",
            "3:1: error[AP104]: unknown key 'in_fligth' in a schedule\n"
            "    3 | in_fligth: 3\n      | ^^^^^^^^^\n  = help: did you mean 'in_flight'?",
        ),
    ],
    ids=["png", "nul bytes", "escape", "latin-1", "utf-16", "10 MB", "60,000 brackets", "byte order mark"],
)
def test_what_is_no_page_of_text_is_refused(
    content: bytes, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = check(tmp_path, content, monkeypatch)
    assert outcome == Outcome(3, "mine.yaml: invalid, 1 error\n", f"mine.yaml:{text}\n")


def test_run_names_what_it_cannot_train_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["asyncpipe: 1", "in_flight: 3", "streams: {f: {runs: [F]}, r: {runs: [R]}, b: {runs: [B, U]}}"]
    text = "\n".join([*lines, "recompute: full", "weights: {backward: private}", ""])
    assert check(tmp_path, text.encode(), monkeypatch).code == 0
    outcome = invoke("run", "mine.yaml", "--steps", "1")
    assert outcome.code == 3
    assert "mine.yaml:5:1: error[AP108]: this version cannot train `weights.backward: private, with R" in outcome.stderr


WORDS = """
    F B I W U m g s S D last lo hi [ ] { } , : - + * // % 0 1 2 3 7 100 after when and or not ( ) == < 0..last ..
    runs count per stage device stages order body in_flight rules update every write racy weights same costs expect job
    place streams null true 0.5 1e3 & ~ # ' " é R SYNC ratio 1:2 auto table 1f1b assign dynamic priority sms extends sgd
    lag(2) predict ema(0.9) private atomic overwrite owner stream scope partition alternate commit gradient shrink spike
    aux local synthetic recompute full invert mode replicas sync allreduce grad average outer push random SEND devices
"""


def mutated(text: str) -> str:
    """One to three words replaced by others of the language."""
    for _ in range(random.choice([1, 1, 2, 3])):
        word = random.choice(list(re.finditer(r"\w+|\S", text)))
        text = text[: word.start()] + random.choice(WORDS.split()) + text[word.end() :]
    return text


@pytest.mark.parametrize("name", [*library(), "cycle-five-rules", "body-order", "many-errors-of-meaning"])
def test_random_mutation_is_accepted_or_explained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = library().get(name, INVALID / f"{name}.yaml").read_text("utf-8")
    for _ in range(25):
        text = mutated(source)
        outcome = check(tmp_path, text.encode(), monkeypatch)
        if outcome.code == 0:
            assert outcome.stdout.startswith("mine.yaml: ok\n"), text
        else:
            assert outcome.code == 3, text + outcome.stderr
            assert re.match(r"mine\.yaml:\d+:\d+: error\[AP\d{3}\]: \S", outcome.stderr), text


def test_missing_file_and_directory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    outcome = invoke("check", "none.yaml", "folder.yaml", "./sub/none.yaml", "x" * 300 + ".yaml")
    assert outcome.code == 3
    assert outcome.stderr == (
        "none.yaml:1:1: error[AP100]: no such file\n  = help: `asyncpipe schedules` lists the built-in ones\n"
        "folder.yaml:1:1: error[AP100]: expected a file, found a directory\n  = help: name a .yaml file\n"
        "sub/none.yaml:1:1: error[AP100]: no such file\n  = help: `asyncpipe schedules` lists the built-in ones\n"
        f"{'x' * 300}.yaml:1:1: error[AP100]: cannot be read: File name too long\n"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("asink-lu", "did you mean 'async-lu'?"),
        ("hogwld", "did you mean 'hogwild'?"),
        ("x" * 300, f"expected one of: {', '.join(library())}"),
    ],
)
def test_unknown_library_name_gets_a_suggestion(name: str, hint: str) -> None:
    text = f"error: no schedule named {name!r} in the library, and no such file\n  help: {hint}\n"
    assert invoke("check", name) == Outcome(2, "", text)


@pytest.mark.parametrize("part", ["model", "data", "optimizer", "train"])
def test_job_file_is_told_by_its_own_name(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = {"model": "mlp", "data": "digits", "optimizer": "{use: sgd, lr: 0.1}", "train": "{batch: 8}"}
    (tmp_path / "job.yaml").write_text("".join(f"{key}: {value}\n" for key, value in {**job, part: "3"}.items()))
    outcome = invoke("check", "sgd", "--job", "job.yaml")
    line = list(job).index(part) + 1
    assert outcome.code == 3
    assert outcome.stderr.startswith(f"job.yaml:{line}:{len(part) + 3}: error[AP105]: expected ")
    assert "found the number 3\n" in outcome.stderr


def test_job_of_a_schedule_is_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_bytes(VALID + b"job: job.yaml\n")
    (tmp_path / "sub" / "job.yaml").write_text("model: mlp\ndata: digits\noptimizer: {use: sgd, lr: 1}\n")
    assert invoke("check", "sub/mine.yaml").code == 0
    (tmp_path / "sub" / "job.yaml").write_text("model: mpl\ndata: digits\noptimizer: {use: sgd, lr: 1}\n")
    assert invoke("check", "sub/mine.yaml").stderr.startswith("sub/job.yaml:1:8: error[AP107]: ")
