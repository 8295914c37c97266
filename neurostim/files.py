"""Files that appear whole or not at all, what JSON can hold, and what differs between two trees of it."""

from __future__ import annotations

import json
import math
import os
import pathlib
import threading

LONGEST = 60  # characters of a value in a line about what differs


def as_json(value):
    """`value` as JSON can hold it: NumPy scalars and arrays become numbers and lists, non-finite numbers None."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if hasattr(value, 'tolist'):
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f'{value!r} has no place in JSON')


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, whatever other processes and threads write there; its folder is created.

    Raises:
      OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.{threading.get_ident()}.tmp')
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def changes(old, new, key: str = '') -> list[str]:
    """'a.b: old -> new' for each value that differs between two trees as JSON can hold them."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for name in names for line in changes(old.get(name), new.get(name), f'{key}.{name}' if key else name)]
    return [] if old == new else [f'{key}: {_short(old)} -> {_short(new)}']


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else text[:LONGEST - 3] + '...'
