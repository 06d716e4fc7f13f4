"""AP507: when it is an error, when a warning, and when there is nothing to say."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asyncpipe.errors import Diagnostic, Report
from asyncpipe.verify.job_rate import LEAST_SHARE, JobRate, check_rate
from asyncpipe.verify.stable_rate import StableRate

STALE = StableRate(Fraction(11), 0.0105, 3.8, 0.0525)
FRESH = StableRate(Fraction(0), 3.8, 3.8, 19.0)


def found(job: JobRate, *rates: StableRate) -> list[Diagnostic]:
    report = Report()
    check_rate(rates, job, report)
    return report.diagnostics


def test_few_stable_rates_are_a_warning_that_names_stage_limit_and_reference() -> None:
    (diagnostic,) = found(JobRate(0.1, 0.9, False, None), FRESH, STALE)
    assert (diagnostic.code, diagnostic.severity) == ("AP507", "warning")
    assert diagnostic.message == (
        "stage 1, with a staleness of 11 and a momentum of 0.9, is stable for lr * curvature below 0.0105, 19 times"
        " less than plain SGD without staleness at the same lr / (1 - momentum), 0.2"
    )
    assert diagnostic.hint.startswith("write `lr: {auto: 0.1}`")


@pytest.mark.parametrize("share", [LEAST_SHARE, 0.5, 19.0])
def test_a_tenth_and_more_is_nothing_to_warn_of(share: float) -> None:
    assert found(JobRate(0.1, 0.9, False, None), StableRate(Fraction(2), 0.1, 3.8, share)) == []


def test_a_rate_that_is_scaled_is_not_warned_of() -> None:
    assert found(JobRate(0.1, 0.9, True, None), FRESH, STALE) == []


def test_a_rate_beyond_the_known_curvature_is_an_error() -> None:
    (diagnostic,) = found(JobRate(0.1, 0.0, False, None, 1.0), STALE, FRESH)
    assert (diagnostic.severity, diagnostic.message) == (
        "error",
        "stage 0, with a staleness of 11, is stable for lr below 0.0105 at a curvature of 1, found 0.1",
    )
    assert "auto" in diagnostic.hint


def test_a_known_curvature_within_the_limit_says_nothing_even_where_little_is_left() -> None:
    assert found(JobRate(0.01, 0.9, False, None, 1.0), STALE) == []


def test_a_known_curvature_is_held_against_the_scaled_rate() -> None:
    assert found(JobRate(0.19, 0.9, True, None, 1.0), STALE, FRESH) == []
    (diagnostic,) = found(JobRate(0.21, 0.9, True, None, 1.0), STALE, FRESH)
    assert diagnostic.message.endswith("found 0.011")
    assert diagnostic.hint == "lower lr, momentum or the staleness"


@pytest.mark.parametrize(("curvature", "severity"), [(None, "warning"), (3.0, "error")])
def test_a_stage_that_no_rate_makes_stable_is_told(curvature: float | None, severity: str) -> None:
    (diagnostic,) = found(JobRate(0.1, 0.0, True, None, curvature), FRESH, StableRate(Fraction(2), 0.0, 2.0, 0.0))
    assert diagnostic.severity == severity
    assert "is stable at no lr as planned" in diagnostic.message


def test_a_rate_that_is_too_large_without_staleness_is_not_helped_by_scaling() -> None:
    (diagnostic,) = found(JobRate(0.4, 0.9, False, None, 10.0), FRESH)
    assert diagnostic.hint == "lower lr, momentum or the staleness"
