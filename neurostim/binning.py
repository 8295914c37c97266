"""Numbers replaced by their quantile bins, as a scikit-learn transformer."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class QuantileBins(BaseEstimator, TransformerMixin):
    """Replaces each value by the number of its quantile bin [0, 254], as histogram boosting does inside.

    Done outside, because scikit-learn places its bins by weighted percentiles where there are sample weights, and that takes ten times
    as long as the rest of the fit.
    """

    def fit(self, x, y=None):
        """Places 254 edges a column; x is [n, columns]."""
        del y
        self.edges_ = np.quantile(x, np.linspace(0, 1, 256)[1:-1], axis=0).T
        return self

    def transform(self, x):
        """[n, columns] bin numbers, float32."""
        columns = [np.searchsorted(edges, column) for edges, column in zip(self.edges_, x.T, strict=True)]
        return np.stack(columns, 1).astype(np.float32)
