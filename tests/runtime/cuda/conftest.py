"""Fixtures of the recorded trainings."""

from tests.runtime.cuda.recorded import constant_rate, fused, traced_once, traced_once_each

__all__ = ["constant_rate", "fused", "traced_once", "traced_once_each"]
