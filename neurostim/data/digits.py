"""`digits`: the 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn; nothing to download.

Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, its test part of 13 writers.
"""

from __future__ import annotations

import numpy as np

from neurostim.study import Study, make_study

BLOCK = 100  # consecutive images that count as one unit


def load() -> Study:
    """Images [1797, 8, 8, 1] in [0, 1]; the last third is held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = data.images[..., None].astype(np.float32) / 16
    return image_study('digits', x, data.target, np.arange(len(x)) // BLOCK >= round(2 * len(x) / (3 * BLOCK)))


def image_study(name: str, x: np.ndarray, y: np.ndarray, test: np.ndarray, where: str | None = None) -> Study:
    """A study of digit images whose writers are not known: `subject` and `group` are blocks of 100 consecutive images.

    Args:
      x: float [n, height, width, 1] in [0, 1].
      y: int [n], the digits.
      test: bool [n]; a block is never divided.
    """
    block = np.array([f'images {i // BLOCK * BLOCK}-{i // BLOCK * BLOCK + BLOCK - 1}' for i in range(len(x))])
    return make_study(
        name, x, y, block, test=test, classes=[str(digit) for digit in range(10)], channels=('intensity',), where=where or name,
        notes=('the writers are not known: a "subject" is a block of 100 consecutive images, so figures about people mean nothing here',))
