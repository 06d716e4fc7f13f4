"""What staleness does to a gradient: its bias, its noise, and the law that noisy, stale updates settle into.

One stage is updated by theta <- theta - lr * g(theta read `staleness` updates ago). In the theory of arXiv 2410.05985
g is the true gradient with two noises: sigma_sgd from the choice of the microbatch, and sigma_stale from having read
old weights. Nothing here asks for torch: norms and means of gradients come in as numbers, in units of the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = [
    "drift",
    "gradient_bias",
    "gradient_bias_bound",
    "quadratic_covariance",
    "quadratic_sigma_stale",
    "sigma",
    "stationary_density",
]


def sigma(mean_squared_norm: float, squared_norm_of_mean: float, samples: int) -> float:
    """The standard deviation of `samples` gradients, from the mean of ||g||^2 and from ||mean of g||^2.

    sigma_sgd: g of different microbatches, all at the same weights. sigma_stale: g = the gradient of one microbatch at
    the weights that were read, minus its gradient at the weights that are updated, over many updates. Both are norms
    over all parameters of a stage (their ratio needs no other scale) and free of bias: divided by samples - 1.
    ValueError for fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"a standard deviation needs at least two samples, found {samples}")
    # Rounding may leave a tiny negative difference where all gradients are equal.
    return math.sqrt(max(0.0, mean_squared_norm - squared_norm_of_mean) * samples / (samples - 1))


def drift(steps: Sequence[float], staleness: Sequence[float]) -> float:
    """A bound of ||theta_B - theta_F|| over all stages: sqrt(sum_s (staleness_s * ||step_s||)^2).

    `steps`: per stage the largest norm of one update as measured, so that momentum and Adam count. `staleness`: per
    stage the updates between the two reads. Where the drift itself was measured, that is to be preferred.
    """
    return math.sqrt(sum((lag * step) ** 2 for lag, step in zip(staleness, steps, strict=True)))


def gradient_bias(lipschitz: float, moved: float) -> float:
    """A bound of ||b||, the bias of a stale gradient: the gradient is `lipschitz`-Lipschitz, the weights `moved`.

    `moved` is ||theta_B - theta_F||, measured or from `drift`. Holds for every optimizer.
    """
    return lipschitz * moved


def gradient_bias_bound(gradient: float, lipschitz: float, lr: float, staleness: float) -> float:
    """||b|| <= G a lr tau / (1 - a lr tau) for plain SGD (arXiv 2410.05985): infinite where a lr tau >= 1.

    G = `gradient` bounds the norm of the true gradient, a = `lipschitz` that of its change, tau = `staleness` the
    updates between the reads of forward and backward at most. From ||b|| <= a lr tau (G + ||b||).
    """
    growth = lipschitz * lr * staleness
    return gradient * growth / (1 - growth) if growth < 1 else math.inf


def stationary_density(
    points: Sequence[float], gradient: Callable[[float], float], noise: Callable[[float], float], lr: float
) -> list[float]:
    """The density at evenly spaced, ascending `points` that one parameter settles into: p* = exp(h) / Z.

    h = the integral of mu / D, minus log D, with the drift mu = -lr * gradient and the diffusion D = (lr * noise)^2 / 2
    of one update per unit of time: the only law of the Ito equation d theta = mu dt + sqrt(2 D) dW without a
    current, which in one dimension is what p* ~ exp(sum_k h_k) of arXiv 2410.05985 comes to. `noise` is sigma_sgd
    (without staleness) or sqrt(sigma_sgd^2 + sigma_stale^2). Trapezoids; the densities times the spacing sum to 1.
    """
    slopes = [-2 * gradient(x) / (lr * noise(x) ** 2) for x in points]
    step = points[1] - points[0]
    integral, heights = 0.0, []
    for number, x in enumerate(points):
        if number:
            integral += (slopes[number - 1] + slopes[number]) / 2 * step
        heights.append(integral - 2 * math.log(noise(x)))
    top = max(heights)
    weights = [math.exp(height - top) for height in heights]
    total = sum(weights) * step
    return [weight / total for weight in weights]


def quadratic_covariance(curvature: float, lr: float, noise: float, staleness: int, apart: int = 0) -> float:
    """E[theta_t theta_(t+apart)] of theta <- theta - lr (curvature * theta_(t-staleness) + noise * xi), settled.

    Exact, for 0 <= apart <= staleness + 1: with 2 sin(w/2) = curvature * lr, the autocovariances are a cosine of
    frequency w whose phase the symmetry of the lags fixes. Infinite from the limit of stability on. In continuous time
    this is Kuechler and Mensch (Stochastics 40, 1992).
    """
    if not 0 <= apart <= staleness + 1:
        raise ValueError(f"apart must be from 0 to staleness + 1 = {staleness + 1}, found {apart}")
    gain = curvature * lr
    if gain >= 2 * math.sin(math.pi / (4 * staleness + 2)):
        return math.inf
    frequency = 2 * math.asin(gain / 2)
    phase = math.pi / 4 - frequency * (2 * staleness + 1) / 4
    scale = (lr * noise) ** 2 / (2 * gain * math.sin(phase) * math.cos(frequency / 2))
    return scale * math.cos(frequency * apart + phase)


def quadratic_sigma_stale(curvature: float, lr: float, noise: float, staleness: int) -> float:
    """sigma_stale on a quadratic: the deviation of curvature * (theta_(t-staleness) - theta_t), settled.

    About curvature * lr * sqrt(staleness) * noise while that is small beside `noise`; infinite from the limit on.
    """
    here = quadratic_covariance(curvature, lr, noise, staleness)
    if here == math.inf:
        return math.inf
    return curvature * math.sqrt(2 * (here - quadratic_covariance(curvature, lr, noise, staleness, staleness)))
