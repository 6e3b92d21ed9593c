"""Waiting: from utilisation to means and percentiles."""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array

# Stirling's series for ln n! is exact to 1e-12 above this; below, factorials are summed.
_SMALL = 32
_MANY, _WIDTHS = 128, 12.0
_TERMS = np.arange(1.0, 33.0)
"""Terms of a tail that are summed in one array call."""
_LOG_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, _SMALL + 1)))])


def _log_factorial(n: Array) -> Array:
    small = _LOG_FACTORIALS[np.minimum(n, _SMALL).astype(int)]
    x = np.maximum(n, 1.0)
    series = 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)
    stirling = x * np.log(x) - x + 0.5 * np.log(2 * np.pi * x) + series
    return np.where(n <= _SMALL, small, stirling)


def erlang_c(servers: ArrayLike, offered: ArrayLike) -> Array:
    """Probability that an arrival waits in M/M/c, `offered` = λ·E[S] erlang on c servers.

    C = B / (1 − ρ(1 − B)), ρ = offered/c, with Erlang's blocking probability B.
    Returns 1 where ρ ≥ 1 (every arrival waits, for ever). Arguments broadcast.
    Source: Erlang 1917; checked against published tables in tests.

    >>> round(float(erlang_c(16, 12)), 6), round(float(erlang_c(64, 56)), 6)
    (0.204574, 0.215123)
    """
    c, a = np.broadcast_arrays(np.asarray(servers, dtype=float), np.asarray(offered, dtype=float))
    stable = (a < c) & (a > 0)
    load = np.where(stable, a, 0.5 * np.maximum(c, 1.0))
    many = c > _MANY
    blocked = _blocked_summed(np.where(many, 1.0, c), np.where(many, 0.5, load))
    if many.any():
        blocked = np.array(blocked)
        blocked[many] = _blocked_integrated(c[many], load[many])
    rho = load / np.maximum(c, 1e-300)
    waits = blocked / (1.0 - rho * (1.0 - blocked))
    return np.where(a <= 0, 0.0, np.where(stable, waits, 1.0))


def _blocked_summed(c: Array, a: Array) -> Array:
    """Erlang's B = pmf(c; a) / cdf(c; a) of a Poisson variable with mean a < c, its upper tail summed."""
    pmf = np.exp(c * np.log(a) - a - _log_factorial(c))
    tail, term, k = np.zeros_like(a), pmf, c
    for _ in range(100_000 // len(_TERMS)):
        terms = term[..., None] * np.cumprod(a[..., None] / (k[..., None] + _TERMS), axis=-1)
        term, k = terms[..., -1], k + len(_TERMS)
        tail = tail + terms.sum(axis=-1)
        if np.all(term <= 1e-13 * np.maximum(tail, 1e-300)):
            break
    return np.asarray(pmf / np.maximum(1.0 - tail, 1e-300))


@functools.cache
def _gauss_legendre(count: int = 64) -> tuple[Array, Array]:
    """Nodes and weights on [-1, 1], by the eigenvalues of Legendre's recurrence (Golub & Welsch 1969).

    As numpy.polynomial has them, whose import takes longer than all that they are needed for.
    """
    k = np.arange(1.0, count)
    off = k / np.sqrt(4.0 * k * k - 1.0)
    nodes, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    return nodes, 2.0 * vectors[0] ** 2


def _blocked_integrated(c: Array, a: Array) -> Array:
    """Erlang's B for many servers, a < c: 1/B = ∫₀^∞ exp(−t + c·ln(1 + t/a)) dt.

    The integrand peaks at t = c − a with a width of √c: Gauss–Legendre over ten widths, at
    the same cost for a hundred servers and a million; relative error below 1e-11.
    Source: Jagerman, Bell System Technical Journal 53(3), 1974.
    """
    peak, width = c - a, np.sqrt(c)
    low, high = np.maximum(peak - _WIDTHS * width, 0.0), peak + _WIDTHS * width
    half = (high - low) / 2.0
    nodes, weights = _gauss_legendre()
    t = (low + half)[:, None] + half[:, None] * nodes
    top = -peak + c * np.log1p(peak / a)
    scaled = np.exp(-t + c[:, None] * np.log1p(t / a[:, None]) - top[:, None])
    return np.asarray(np.exp(-top) / (half * (scaled @ weights)))


def service_spread_factor(
    servers: ArrayLike, utilisation: ArrayLike, arrival_cv: float | Array = 1.0, service_cv: float = 0.0
) -> Array:
    """Mean wait over that of M/M/c at the same load.

    v = (c_a² − 1)/2 + c_s² + (1 − c_s²)·g/2 for c_s ≤ 1, (c_a² + c_s²)/2 above, with
    g = 1 + (1 − ρ)(c − 1)(√(4 + 5c) − 2)/(16ρc), at most 2: M/D/c over half of M/M/c.
    One server, or a full load: g = 1, and v is Allen–Cunneen's (c_a² + c_s²)/2.
    Sources: Cosmetatos, Oper. Res. Q. 26, 1975; Kimura, Queueing Systems 17, 1994.

    >>> float(service_spread_factor(1, 0.5))
    0.5
    """
    c = np.asarray(servers, dtype=float)
    rho = np.maximum(np.asarray(utilisation, dtype=float), 1e-9)
    if service_cv > 1:
        return np.broadcast_to((arrival_cv**2 + service_cv**2) / 2.0, np.broadcast_shapes(c.shape, rho.shape))
    fixed = 1.0 + (1.0 - rho) * (c - 1.0) * (np.sqrt(4.0 + 5.0 * c) - 2.0) / (16.0 * rho * c)
    fixed = np.clip(fixed, 1.0, 2.0)
    spread = service_cv**2
    return np.asarray((arrival_cv**2 - 1.0) / 2.0 + spread + (1.0 - spread) * fixed / 2.0)


def mean_wait_s(
    servers: ArrayLike,
    rate_per_s: ArrayLike,
    service_s: ArrayLike,
    arrival_cv: float | Array = 1.0,
    service_cv: float = 0.0,
    waits: Array | None = None,
) -> Array:
    """Mean wait in a G/G/c queue [s], infinite where the load exceeds the servers.

    W = C(c, λS)/(c/S − λ) · v, v from `service_spread_factor`.
    `waits`: C, the share that waits, where it is known.
    Exact for M/M/c and M/G/1; within a few per cent of a simulated M/D/c.
    Source: Allen, Probability, Statistics and Queueing Theory, 1990 (Allen–Cunneen).

    >>> round(float(mean_wait_s(1, 0.5, 1.0, 1.0, 1.0)), 9)  # M/M/1: rho/(mu - lambda)
    1.0
    """
    c, rate, service = (np.asarray(x, dtype=float) for x in (servers, rate_per_s, service_s))
    offered = rate * service
    slack = c / np.maximum(service, 1e-300) - rate
    v = service_spread_factor(c, np.minimum(offered / c, 1.0), arrival_cv, service_cv)
    share = erlang_c(c, offered) if waits is None else waits
    wait = share / np.where(slack > 0, slack, 1.0) * v
    return np.where(slack > 0, wait, np.inf)


def spread_nodes(cv: float, count: int = 16) -> Array:
    """Equally likely factors around mean 1 that stand for a lognormal with this cv.

    >>> spread_nodes(0.0)
    array([1.])
    """
    if cv <= 0:
        return np.ones(1)
    sigma = np.sqrt(np.log1p(cv * cv))
    normal = NormalDist()
    nodes = np.exp([sigma * normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    return np.asarray(nodes / nodes.mean())


def normal_quantile(probability: ArrayLike) -> Array:
    """Standard normal quantiles.

    >>> normal_quantile([0.5, 0.975]).round(3).tolist()
    [0.0, 1.96]
    """
    p, normal = np.asarray(probability, dtype=float), NormalDist()
    return np.array([normal.inv_cdf(float(each)) for each in p.ravel()]).reshape(p.shape)


def response_quantile_s(
    probability: ArrayLike,
    waits: ArrayLike,
    mean_wait: ArrayLike,
    service_s: ArrayLike,
    service_cv: float = 0.0,
    phase_s: ArrayLike = 0.0,
) -> Array:
    """The time that wait plus service stays below with `probability` [s]; all arguments but cv broadcast.

    The wait is 0 with probability 1 − C and exponential otherwise (exact for M/M/c):
    P(W > t) = C·exp(−t·C/W̄). Service is `service_s` times a lognormal spread. Besides, every request waits
    U, uniform between 0 and `phase_s`: what is left of a step that it meets at random.
    Solves mean_j P(W + U > t − S_j) = 1 − p. For fixed service and no phase in closed form:
    t = S + (W̄/C)·ln(C/(1 − p)), or S where C ≤ 1 − p.

    >>> float(response_quantile_s(0.9, 0.05, 1.0, 2.0))
    2.0
    >>> round(float(response_quantile_s(0.9, 0.0, 0.0, 2.0, phase_s=0.5)), 9)
    2.45
    """
    given = (waits, mean_wait, service_s, probability, phase_s)
    c, w, s, p, u = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in given))
    infinite = ~np.isfinite(w)
    w = np.where(infinite, 1.0, w)
    scale = w / np.maximum(c, 1e-12)
    miss = 1.0 - p
    longest = _wait_quantile_s(miss, c, scale, u)
    nodes = spread_nodes(service_cv)
    if len(nodes) == 1:
        return np.where(infinite, np.inf, s + longest)
    service = s[..., None] * nodes
    low, high = service.min(-1), service.max(-1) + longest + 1e-12
    for _ in range(50):
        middle = (low + high) / 2
        late = _late(middle[..., None] - service, c[..., None], scale[..., None], u[..., None])
        above = late.mean(-1) > miss
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(infinite, np.inf, high)


def _late(t: Array, c: Array, scale: Array, u: Array) -> Array:
    """P(W + U > t): W is 0 with probability 1 − C, else exponential with mean `scale`; U uniform below u."""
    if not np.any(u):
        return np.where(t < 0, 1.0, c * np.exp(-np.maximum(t, 0) / np.maximum(scale, 1e-300)))
    scale = np.maximum(scale, 1e-300)
    inside = np.clip(t, 0.0, u)  # beyond u the exponential goes on
    share = inside / np.where(u > 0, u, 1.0)
    within = 1.0 - share - c * scale / np.where(u > 0, u, 1.0) * np.expm1(-inside / scale)
    return np.where(t < 0, 1.0, np.where(u > 0, within, c) * np.exp(-np.maximum(t - u, 0.0) / scale))


def _wait_quantile_s(miss: Array, c: Array, scale: Array, u: Array) -> Array:
    """Where P(W + U > t) = `miss`: beyond u in closed form, below it by Newton's steps.

    Below u the probability is a falling concave function, on which steps from above close in from there.
    """
    at_u = _late(u, c, scale, u)
    beyond = u + scale * np.log(np.maximum(at_u / miss, 1.0))
    if not np.any(u):
        return beyond
    rate = 1.0 / np.maximum(scale, 1e-300)
    t = np.array(np.minimum(u, u * (1.0 - miss) + c * scale))
    for _ in range(40):
        slope = (1.0 - c * np.exp(-t * rate)) / np.where(u > 0, u, 1.0)
        step = (miss - _late(t, c, scale, u)) / np.maximum(slope, 1e-300)
        step = np.minimum(np.where(at_u < miss, np.maximum(step, 0.0), 0.0), t)
        t = t - step
        if np.all(step <= 1e-12 * t):
            break
    return np.where(at_u < miss, t, beyond)


def peak_count(mean: ArrayLike, z: ArrayLike) -> Array:
    """How many are in service at the percentile z, when `mean` are on average: N + z·sqrt(N).

    Infinite-server queues are Poisson whatever the service distribution (M/G/∞).

    >>> float(peak_count(100.0, 2.0))
    120.0
    """
    n = np.asarray(mean, dtype=float)
    return n + np.asarray(z) * np.sqrt(np.maximum(n, 0.0))


def mean_for_peak(peak: ArrayLike, z: ArrayLike) -> Array:
    """Inverse of `peak_count`: the mean whose percentile is `peak`.

    N = ((−z + sqrt(z² + 4·peak))/2)²

    >>> float(mean_for_peak(120.0, 2.0))
    100.0
    """
    root = (-np.asarray(z) + np.sqrt(np.asarray(z) ** 2 + 4.0 * np.asarray(peak, dtype=float))) / 2.0
    return np.maximum(root, 0.0) ** 2
