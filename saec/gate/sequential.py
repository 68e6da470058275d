"""Computes bounds that are valid at every look, for a test that is evaluated each hour without inflating its error.

A fixed-sample bound is valid for one look. If a 95% bound is checked every hour until it gives the desired answer, it
is wrong far more often than in 5% of cases. The half-width here is that of the one-sided normal mixture of Howard,
Ramdas, McAuliffe & Sekhon, *Time-uniform, nonparametric, nonasymptotic confidence sequences* (arXiv 1810.08240, eq.
14), with the estimated standard error as in Waudby-Smith et al., *Time-uniform central limit theory and asymptotic
confidence sequences* (arXiv 2103.06476): the chance that the truth is ever outside, however often one looks, is at most
`error` as counts grow. Decisions:

- The mixture's one parameter is where the bound is tightest. It is set where decisions fall: its scale is the margin,
  so that with s = (margin / standard error)^2 the half-width is

      standard error * sqrt(2 (s + 1) / s * log(1 + sqrt(s + 1) / (2 error)))

  At 5% an equal model passes, in the median, once its standard error is the margin over 2.8; one look would need 1.6.
- No row count enters: where the difference has no scatter at all, as between identical scores, the bound has no width.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_MOST = 1e6
"""Most margins per standard error; beyond this the half-width would only grow by a logarithm."""


def reach(standard_error: float, scale: float, error: float) -> float:
    """Half-width of the one-sided bound around a mean.

    Args:
        standard_error: of the mean, in its unit; nan where there is none.
        scale: difference that is to be told from none, in the same unit: the margin.
        error: chance that the truth is ever beyond the bound.

    Returns:
        In the same unit: nan for a standard error of nan, infinite for a scale of 0, 0 for a standard error of 0.

    >>> round(reach(0.001, 0.0028, 0.05), 4)
    0.0028
    """
    if math.isnan(standard_error) or standard_error == 0.0:
        return standard_error
    s = min(scale / standard_error, _MOST) ** 2
    return standard_error * _width(s, error) if s > 0.0 else math.inf


def rows_needed(standard_error: float, rows: int, margin: float, error: float, power: float) -> int:
    """Rows at which the test of an equal model has passed with this power, if standard errors fall as 1 / sqrt(rows).

    Args:
        standard_error: seen on `rows` rows.
        rows: rows on which it was seen.
        margin: largest loss that still counts as none, above 0.
        error: of the test.
        power: probability of having passed by then.

    >>> rows_needed(0.002, 10_000, 0.005, 0.05, 0.95)
    32223
    """
    beyond, margins = NormalDist().inv_cdf(power), 4.0
    for _ in range(15):  # iterate to a fixed point: the number of standard errors that must fit into the margin
        margins = _width(margins**2, error) + beyond
    return max(1, math.ceil(rows * (standard_error * margins / margin) ** 2))


def _width(s: float, error: float) -> float:
    """The half-width in standard errors."""
    return math.sqrt(2.0 * (s + 1.0) / s * math.log1p(math.sqrt(s + 1.0) / (2.0 * error)))
