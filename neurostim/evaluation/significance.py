"""Paired tests of many differences at once."""

from __future__ import annotations

import numpy as np


def two_sided(draws: np.ndarray) -> float:
    """P-value of a bootstrapped difference: twice the share of draws on the rarer side of 0, where one draw more is counted.

    The level at which a percentile interval of these draws would begin to hold 0 (Efron & Tibshirani 1993, chapter 13). It is at least
    2 / (draws + 1): a smaller one takes more draws.

    Args:
      draws: [draws], of :func:`neurostim.evaluation.utility.gap_draws`.
    """
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1)))


def holm(p_values) -> np.ndarray:
    """P-values corrected for their number: the chance of even one false alarm among all is kept (Holm 1979, Scand J Stat 6:65).

    The k-th smallest of n is multiplied by n - k + 1, is at least as large as the one before, and at most 1.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind='stable')
    n = len(p_values)
    corrected = np.minimum(np.maximum.accumulate(p_values[order] * (n - np.arange(n))), 1)
    out = np.empty(n)
    out[order] = corrected
    return out
