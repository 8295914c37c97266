"""The folder through which phases speak to each other: whether it can be written to, and whose it is."""

from __future__ import annotations

import json
import os
import pathlib

from neurostim.errors import UserError
from neurostim.files import as_json, changes
from neurostim.study import Study

LEDGER = 'privacy.json'  # beside a teacher with differential privacy


def check_writable(workdir: pathlib.Path) -> None:
    """Refuses a folder that cannot be written to before the work that would be lost."""
    place = workdir.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f'--workdir={workdir}: {place} is no folder that can be written to: choose another')


def holds_this(path: pathlib.Path, wanted: dict, what: str) -> bool:
    """Whether the file `path` holds just this config, as JSON can hold it; not where there is none, or a damaged one.

    Args:
      what: the config was for, in the message.

    Raises:
      UserError: it holds another one; says what changed.
    """
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError):
        return False
    changed = changes(found, wanted)
    if changed:
        raise UserError(f'{path.parent} holds {what} of another config ({"; ".join(changed)}): '
                        'give another --workdir or delete that folder')
    return True


def check_study(folder: pathlib.Path, study: Study) -> None:
    """Refuses a study other than the one that the teacher in `folder` learnt from: some of its test windows may have been learnt."""
    learnt = read_beside(folder / 'study.json')
    digest = learnt.pop('digest', None)  # absent from earlier runs
    if learnt != as_json(study.describe()):
        raise UserError(f"the teacher in {folder.parent} learnt study {learnt['name']!r} ({learnt['train_windows']} training windows), "
                        f'but the config names {study.name!r} ({int((~study.test).sum())}): evaluate with the same study.*')
    if digest not in (None, study.digest()):
        raise UserError(f'labels, people or split of {study.name!r} have changed since the teacher in {folder.parent} learnt from it: it '
                        'may have seen what is held out now, choose another --workdir')


def read_beside(path: pathlib.Path) -> dict:
    """What `train` left beside the teacher."""
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise UserError(f'{path} cannot be read ({error}): delete {path.parent} and run --phase=train again') from None
