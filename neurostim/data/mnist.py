"""`mnist`: handwritten digits, the published method's own proof of concept (LeCun, Cortes, Burges, "The MNIST database", 1998).

Read from the four idx files as published, gzipped or not. Format: two zero bytes, a type byte (8 = uint8), the number of
dimensions, each dimension as a big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import pathlib
import struct
import zlib

import numpy as np

from neurostim.data import find_data
from neurostim.data.digits import image_study
from neurostim.errors import UserError
from neurostim.study import Study

LARGEST_BYTES = 60_000 * 28 * 28 + 16  # of an unpacked file; a larger one is not MNIST and is not unpacked further
REMEDY = 'fetch the four files of MNIST again'


def load(*, path=None) -> Study:
    """Images [70000, 28, 28, 1] in [0, 1] with the official split of 60000 and 10000.

    Args:
      path: the folder of the four files, or one that holds it as `mnist`; None asks NEUROSTIM_DATA_DIR.

    Raises:
      UserError: a file is missing, truncated, or not what its name says.
    """
    folder = find_data(path, 'mnist', 'train-images-idx3-ubyte*')
    images, labels = [], []
    for part in ('train', 't10k'):
        images.append(read_idx(folder, f'{part}-images-idx3-ubyte', 3))
        labels.append(read_idx(folder, f'{part}-labels-idx1-ubyte', 1))
        if images[-1].shape[1:] != (28, 28) or len(images[-1]) != len(labels[-1]):
            raise UserError(f'{folder}: {part} has images {images[-1].shape} and {len(labels[-1])} labels, not [n, 28, 28] and n: {REMEDY}')
    x = np.concatenate(images)[..., None].astype(np.float32) / 255
    y = np.concatenate(labels)
    return image_study('mnist', x, y, np.arange(len(x)) >= len(images[0]), where=str(folder))


def read_idx(folder: pathlib.Path, stem: str, n_dimensions: int) -> np.ndarray:
    """The uint8 array in `folder/stem` or `folder/stem.gz`.

    Raises:
      UserError: no such file, or not an idx file of uint8 with `n_dimensions` and exactly the values it announces.
    """
    found = [folder / name for name in (stem, stem + '.gz') if (folder / name).is_file()]
    if not found:
        raise UserError(f'{folder}: {stem} (or {stem}.gz) is missing: {REMEDY}')
    try:
        with (gzip.open if found[0].suffix == '.gz' else open)(found[0], 'rb') as file:
            data = file.read(LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{found[0]} cannot be read ({error}): {REMEDY}') from error
    header = 4 + 4 * n_dimensions
    if len(data) < header or data[:4] != bytes((0, 0, 8, n_dimensions)):
        raise UserError(f'{found[0]} does not begin as an idx file of {n_dimensions} dimensions does: {REMEDY}')
    shape = struct.unpack(f'>{n_dimensions}I', data[4:header])
    expected = int(np.prod(shape, dtype=object))
    if len(data) - header != expected:
        raise UserError(f'{found[0]} announces {expected} values {shape} and has {len(data) - header}: {REMEDY}')
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
