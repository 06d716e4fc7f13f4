"""benchmarks/theory runs from start to JSON and picture on a few small cases."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks.scripts import run_script


def test_small_cases_agree_with_the_theory_and_are_drawn(tmp_path: Path) -> None:
    out = tmp_path / "theory.json"
    done = run_script("theory", "--smoke", "--out", str(out))
    assert done.code == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert len(found["stable_rates"]) == 6
    assert all(abs(value) < 0.0051 for row in found["stable_rates"] for value in row["deviation"])
    fresh, stale = found["stationary"]
    assert fresh["sigma_stale"] == 0 < stale["sigma_stale_over_sgd"] < 0.2
    assert fresh["well_variance"] < stale["well_variance"]
    assert [row["factors"][0] == 1 for row in found["automatic"]] == [True, False, False]
    picture = ElementTree.parse(tmp_path / "theory.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}g")) == 3
