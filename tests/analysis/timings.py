"""Short ways to timing models, and random ones for a program."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from asyncpipe.analysis.distribution import parse_value
from asyncpipe.analysis.selector import parse_selector
from asyncpipe.analysis.timing import Delay, Straggler, Timing
from asyncpipe.ir import Program

__all__ = ["disturbances", "late", "slow"]


def late(**delays: str) -> Timing:
    """`late(worker="2")`; `__` stands for brackets: `late(worker__0="exponential(1)")`."""
    return Timing(delays=tuple(Delay(parse_selector(_name(n)), parse_value(v)) for n, v in delays.items()))


def slow(**factors: str) -> Timing:
    return Timing(stragglers=tuple(Straggler(parse_selector(_name(n)), Fraction(f)) for n, f in factors.items()))


def _name(text: str) -> str:
    name, brackets, number = text.partition("__")
    return f"{name}[{number}]" if brackets else name


@st.composite
def disturbances(draw: st.DrawFn, program: Program) -> Timing:
    """Some streams, devices or replicas late or slow."""
    names = [s.name for s in program.streams]
    names += [f"device[{s.device}]" for s in program.streams] + [f"replica[{r}]" for r in range(program.replicas)]
    names += [f"replica[{program.replicas - 1}].{names[0]}", "*"]
    selector = st.sampled_from(sorted(set(names))).map(parse_selector)
    time = st.sampled_from(["0", "1", "1/2", "3", "10"]).map(Fraction)
    factor = st.sampled_from(["1/2", "3/2", "2"]).map(Fraction)
    delays = draw(st.lists(st.builds(Delay, selector, time), max_size=2))
    stragglers = draw(st.lists(st.builds(Straggler, selector, factor), max_size=2))
    return Timing(delays=tuple(delays), stragglers=tuple(stragglers))
