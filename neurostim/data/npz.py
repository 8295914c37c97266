"""Reads `.npz` files of unknown origin: nothing is unpickled, and nothing is unpacked before its size is known."""

from __future__ import annotations

import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from neurostim.errors import UserError

LARGEST_BYTES = 8 * 2**30  # of all arrays together, unpacked; a few megabytes of zip can announce terabytes of zeros
DAMAGE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: str | os.PathLike, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The `required` arrays of a `.npz` file and those of the `optional` ones that it has; others are left unread.

    Raises:
      UserError: no such file, a damaged one, a missing array, an array of Python objects, or one larger than `LARGEST_BYTES` or
        than its own header says.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file: give the .npz file')
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix('.npy') for name in archive.namelist()]
            missing = [name for name in required if name not in present]
            if missing:
                held = ', '.join(present) or 'none'
                raise UserError(f'{path}: the array {missing[0]!r} is missing (it has {held}): save {", ".join(required)}')
            wanted = [name for name in (*required, *optional) if name in present]
            total = sum(_announced_bytes(archive, name, path) for name in wanted)
        if total > LARGEST_BYTES:
            raise UserError(f'{path}: its arrays would take {total} bytes, more than {LARGEST_BYTES}: give fewer or shorter windows')
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in wanted}
    except DAMAGE as error:
        raise UserError(f'{path}: damaged or no .npz file ({error}): write it again with numpy.savez') from error


def _announced_bytes(archive: zipfile.ZipFile, name: str, path: pathlib.Path) -> int:
    """The bytes of one array by its header, which must agree with the archive's directory."""
    with archive.open(f'{name}.npy') as file:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if reader is None:
            raise ValueError(f'array {name} has format version {version}')
        shape, _, dtype = reader(file)
        if dtype.hasobject:
            raise UserError(f'{path}: {name!r} holds Python objects, which are never unpickled: save plain numbers or strings')
        size = math.prod(shape) * dtype.itemsize
        if size != archive.getinfo(f'{name}.npy').file_size - file.tell():
            raise ValueError(f'array {name} does not have the {size} bytes of its shape {shape}')
    return size
