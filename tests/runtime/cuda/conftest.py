"""Fixtures of the recorded trainings."""

from tests.runtime.cuda.recorded import constant_rate, fused, traced_once

__all__ = ["constant_rate", "fused", "traced_once"]
