"""Where a study comes from: one file a source, and the file's name is the source's name.

``load('apnea_respiration', path='FOLDER', channels=('Resp N', 'SpO2'))`` imports ``neurostim.data.apnea_respiration`` and calls
its ``load``, with those of these arguments that it takes. Sources are imported on use, because some need slow libraries.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pathlib

from neurostim.errors import UserError, choose
from neurostim.study import Study

SOURCES = ('breathing', 'apnea_respiration', 'apnea_heart_rate', 'sleep_features', 'mnist', 'digits', 'own_study')


def load(name: str, path: str | os.PathLike | None = None, seed: int = 0, **options) -> Study:
    """Loads a study.

    Args:
      name: one of `SOURCES`.
      path: the folder or file of the source's recordings, where it reads any; None or '' asks NEUROSTIM_DATA_DIR.
      seed: of whatever the source draws (a simulator's people, a random choice of held-out people).
      options: the source's own keyword arguments, described in its file.

    Raises:
      UserError: an unknown name or option, a path for a source that reads no files, or whatever the source finds wrong.
    """
    choose(name, SOURCES, 'study.name')
    source = importlib.import_module(f'neurostim.data.{name}').load
    takes = inspect.signature(source).parameters
    own_options = [option for option in takes if option not in ('path', 'seed')]
    for option in options:
        choose(option, own_options, f'option of the study {name}:')
    if path and 'path' not in takes:
        raise UserError(f'study.path is {str(path)!r}, but the study {name!r} reads no files: leave study.path empty')
    given = {'path': path or None, 'seed': seed}
    return source(**{key: value for key, value in given.items() if key in takes}, **options)


def find_data(path: str | os.PathLike | None, subfolder: str, probe: str) -> pathlib.Path:
    """The folder of a source's files: `path`, else NEUROSTIM_DATA_DIR; each may be the folder itself or hold it as `subfolder`.

    Args:
      path: what the user gave as study.path, or None.
      subfolder: the folder's usual name, e.g. 'apnea-ecg-1.0.0'.
      probe: a file that the folder must hold; wildcards allowed.

    Raises:
      UserError: no folder is named, or the one named does not hold `probe`.
    """
    named, given = ('study.path', path) if path else ('NEUROSTIM_DATA_DIR', os.environ.get('NEUROSTIM_DATA_DIR'))
    how = f'give the folder that holds {probe} (usually called {subfolder}) with --config.study.path=FOLDER or NEUROSTIM_DATA_DIR'
    if not given:
        raise UserError(f'no data folder is named: {how}')
    if not isinstance(given, str | os.PathLike):
        raise UserError(f'study.path is {given!r}: {how}')
    folder = pathlib.Path(given).expanduser()
    for candidate in (folder, folder / subfolder):
        if next(candidate.glob(probe), None) is not None:
            return candidate
    if not folder.is_dir():
        raise UserError(f'{named} is {str(folder)!r}, which is not a folder: {how}')
    raise UserError(f'{named} is {str(folder)!r}, and neither it nor its subfolder {subfolder} holds {probe}: {how}')
