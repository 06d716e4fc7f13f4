"""Which learning rates staleness and momentum leave stable: SGD with delayed gradients on a quadratic.

theta is one eigendirection of a stage, g = curvature * theta read `delay` updates ago, and per update

    v <- momentum * v + (1 - dampening) * g        theta <- theta - lr * (by_velocity * v + by_gradient * g)

Stable is a gain lr * curvature where every root of the characteristic polynomial lies inside the unit circle:

    (z - 1) (1 - momentum / z) + gain * (by_velocity * (1 - dampening) + by_gradient * (1 - momentum / z)) * D(1 / z)

D(x) = sum of w_d x^d over the delays d and their weights w_d: exact for one delay, for gradients accumulated over
several microbatches of one update, and for the mean of theta under independent random delays. For delays that recur in
a fixed pattern, as workers in step have, see `periodic_stability`.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = [
    "Delays",
    "StepRule",
    "characteristic",
    "heavy_ball",
    "is_stable",
    "largest_gain",
    "nesterov",
    "plain_limit",
    "share",
]

Delays = Mapping[int, float]
"""The weight of each delay, in updates; they sum to 1."""


@dataclass(frozen=True)
class StepRule:
    """What an update makes of a gradient, as above.

    With `owners` states that take turns, `momentum / z` is `momentum / z^owners`: a velocity gathers every `owners`-th
    gradient only. If each also has a `private` copy of theta, which it steps from and stores as theta, `z - 1` is
    `z - z^(1 - owners)`.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    by_velocity: float = 1.0
    by_gradient: float = 0.0
    owners: int = 1
    private: bool = False

    @property
    def period(self) -> int:
        """How many updates ago the theta was stored that an update steps from."""
        return self.owners if self.private else 1

    @property
    def total(self) -> float:
        """How much of a gradient is applied in the end: 1 / (1 - momentum), without dampening."""
        return self.by_velocity * (1 - self.dampening) / (1 - self.momentum) + self.by_gradient

    def forgets(self, z: complex) -> complex:
        return 1 - self.momentum / z**self.owners

    def applies(self, z: complex) -> complex:
        return self.by_velocity * (1 - self.dampening) + self.by_gradient * self.forgets(z)


def heavy_ball(momentum: float = 0.0, dampening: float = 0.0) -> StepRule:
    """SGD as torch.optim has it; with dampening = momentum = beta1 it is Adam on its preconditioned quadratic."""
    return StepRule(momentum, dampening)


def nesterov(momentum: float) -> StepRule:
    """A step along g + momentum * v."""
    return StepRule(momentum, by_velocity=momentum, by_gradient=1.0)


def plain_limit(delay: int) -> float:
    """The largest stable gain without momentum, in closed form: 2 sin(pi / (2 (2 delay + 1)))."""
    return 2 * math.sin(math.pi / (4 * delay + 2))


def largest_gain(delays: Delays, rule: StepRule) -> float:
    """The gain below which all are stable; 0 where none is.

    A root leaves the unit circle at some z = e^iw where the polynomial is 0, so at a gain P(z) / Q(z) that is real and
    positive. The least of these over 0 < w <= pi is the limit, if the roots are inside before; copies that drift apart
    never are.
    """
    if rule.momentum >= 1 or rule.total * sum(delays.values()) <= 0:
        return 0.0
    best = math.inf
    before, last = 0.0, 0.0
    for angle in _angles(delays, rule):
        if _least_gain(angle, delays, rule) >= best:
            return best
        now = _across(angle, delays, rule)
        if before < 0 <= now or before > 0 >= now:
            best = min(best, _gain_between(last, angle, delays, rule))
        before, last = now, angle
    best = min(best, _positive(_gain_at(-1, delays, rule)))
    inside = min(best / 2, 1.0)
    return best if not rule.private or is_stable(inside, delays, rule) else 0.0


def share(gain: float, rule: StepRule) -> float:
    """A largest stable gain as that of a whole gradient, lr / (1 - momentum) * curvature, over plain SGD's, which is 2.

    Below 1, staleness takes stable learning rates away: one that plain SGD bears at lr / (1 - momentum) needs this
    factor. Above 1 momentum gives more than staleness takes. Without momentum: sin(pi / (2 (2 delay + 1))).
    """
    return gain * rule.total / 2 if rule.momentum < 1 else 0.0


def characteristic(gain: float, delays: Delays, rule: StepRule) -> list[float]:
    """The coefficients of the polynomial in z, the highest power first; whole powers only."""
    period, turn = rule.period, rule.owners
    coefficients = [0.0] * (max(max(delays) + 1, period) + turn + 1)
    for power, value in ((0, 1.0), (period, -1.0), (turn, -rule.momentum), (period + turn, rule.momentum)):
        coefficients[power] += value
    for delay, weight in delays.items():
        coefficients[delay + 1] += gain * weight * (rule.by_velocity * (1 - rule.dampening) + rule.by_gradient)
        coefficients[delay + 1 + turn] -= gain * weight * rule.by_gradient * rule.momentum
    return coefficients


def is_stable(gain: float, delays: Delays, rule: StepRule) -> bool:
    """Whether every root lies inside the unit circle, by the recursion of Schur and Cohn."""
    rest = characteristic(gain, delays, rule)
    while len(rest) > 1:
        ratio = rest[-1] / rest[0]
        if abs(ratio) >= 1:
            return False
        rest = [a - ratio * b for a, b in zip(rest[:-1], rest[:0:-1], strict=True)]
    return True


def _angles(delays: Delays, rule: StepRule) -> Iterator[float]:
    """From 0 to pi, denser at 0 where a momentum near 1 turns fast, with some 30 points to each turn of D.

    Of a heavy ball and one delay the phase of P / Q only rises, and is past 0 where it would be without momentum.
    """
    delay = max(delays)
    if len(delays) == 1 and delay and not rule.by_gradient and rule.owners == 1:
        yield 1e-9 / delay
        yield math.pi / (2 * delay + 1) + 1e-9 / delay
        return
    count = 64 * (delay + rule.owners + 1)
    yield from (math.pi * (k / count) ** 2 for k in range(1, count))
    yield math.pi * (1 - 1e-9)


def _parts(z: complex, delays: Delays, rule: StepRule) -> tuple[complex, complex]:
    """P and Q: the gain at which z is a root is P / Q."""
    spread = sum(weight * z**-delay for delay, weight in delays.items())
    return (z ** (1 - rule.period) - z) * rule.forgets(z), rule.applies(z) * spread


def _across(angle: float, delays: Delays, rule: StepRule) -> float:
    """The imaginary part of P / Q times a positive number, so that it is finite where Q is 0."""
    p, q = _parts(cmath.exp(1j * angle), delays, rule)
    return (p * q.conjugate()).imag


def _gain_at(z: complex, delays: Delays, rule: StepRule) -> float:
    p, q = _parts(z, delays, rule)
    return (p / q).real if q else math.inf


def _gain_between(low: float, high: float, delays: Delays, rule: StepRule) -> float:
    """The gain where P / Q becomes real between two angles; infinite where it is negative there."""
    rising = _across(high, delays, rule) > _across(low, delays, rule)
    for _ in range(60):
        middle = (low + high) / 2
        if (_across(middle, delays, rule) > 0) is rising:
            high = middle
        else:
            low = middle
    return _positive(_gain_at(cmath.exp(1j * low), delays, rule))


def _positive(gain: float) -> float:
    return gain if gain > 0 else math.inf


def _least_gain(angle: float, delays: Delays, rule: StepRule) -> float:
    """What |P / Q| is at least from this angle on: |1 - z| and, for one owner, |1 - momentum / z| grow with it."""
    if rule.private:
        return 0.0
    z = cmath.exp(1j * angle)
    forgets = abs(rule.forgets(z)) if rule.owners == 1 else 1 - rule.momentum
    applies = abs(rule.by_velocity * (1 - rule.dampening)) + abs(rule.by_gradient) * (1 + rule.momentum)
    return abs(1 - z) * forgets / (applies * sum(map(abs, delays.values())))
