"""Advice: how algorithms that are tuned learn best from stimuli, found out on real windows by whoever has them and handed on with these.

Held stimuli are drawn as all others are. They do not say which labels serve an algorithm on real windows, how strongly it must be held
back or how many neighbours to ask (BUILD_NOTES), as real windows tell twins. The owner of the recordings has real windows: students of each
choice are trained on stimuli, and asked about these. What is handed on is a choice among few and no window, but it rests on windows: so
there is none where differential privacy is promised.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib

import numpy as np

from neurostim import students
from neurostim.columns import columns
from neurostim.evaluation import utility
from neurostim.files import write_whole
from neurostim.sources import Source
from neurostim.study import Study
from neurostim.threads import side_by_side

NAMES = tuple(students.TUNED)  # who is advised
LABELS = {'logistic_regression': (False, True)}  # whether it learns the likeliest class alone: who learns weighted copies may do better so
BY_SHARES = ('knn',)  # to whom classes may count as frequent as they are among real windows: of stimuli they mostly are as many
STEPS_AN_OCTAVE = 2  # in which shares are told: from finer ones who knows all windows but one could tell this one
ASKED = (4000, 2**25)  # real windows that students are asked about, and numbers in them, at most
LEARNT = (20_000, 2**24)  # stimuli, and numbers in them, that they learn from at most
CLEARLY = 1.0  # standard errors, over groups, by which the gain in kappa must be above what held stimuli ask for
DRAWS = 200  # of the bootstrap that these come from


def choices(name: str, source: Source, windows: Study) -> list[students.Advice]:
    """What an algorithm of `NAMES` can be advised about stimuli `source`; `windows` are the real ones that say how frequent classes are."""
    parameter, values = students.TUNED[name]
    powers = (0, *students.POWERS.get(name, ())) if source.weights is not None else (0,)
    share = np.bincount(windows.y, minlength=len(windows.classes)) / len(windows.y)
    weights = ((), _told(share / np.maximum(source.targets.mean(0), 1e-9))) if name in BY_SHARES else ((),)
    return [students.Advice({parameter: value}, *how)
            for *how, value in itertools.product(LABELS.get(name, (False,)), powers, weights, values)]


def advise(name: str, source: Source, windows: Study) -> students.Advice | None:
    """The one of :func:`choices` by which an algorithm that learns from `source` knows real windows best, by kappa, where that is clearly
    better (`CLEARLY`) than as held stimuli tune it; else None. Of values that hold it back those after the first that is clearly worse
    than one before are not tried.

    Args:
      source: scaled stimuli.
      windows: real ones, scaled; the teacher may have learnt from them.
    """
    asked, source = windows.at_most(*ASKED), _at_most(source._replace(x=columns(source.x)), *LEARNT)
    flat = columns(asked.x)

    def said(advice):
        return students.fit_columns(name, source, 0, advice)(flat).argmax(1)[None]  # all seeds give these students alike

    def gain(advice):
        """(how much higher kappa is, its standard error over groups)."""
        found, draws = utility.gap_draws(asked.y, asked.group, said(advice), usual, len(asked.classes), DRAWS)
        return found, 0.0 if draws is None else float(np.std(draws))

    usual = said(None)
    found = []
    for _, path in itertools.groupby(choices(name, source, windows), lambda advice: advice[1:]):  # of one parameter's values
        gains = []
        for advice in path:
            gained, error = gain(advice)
            gains.append(gained)
            found.append((advice, gained, error))
            if name in students.HELD_BACK and gained < max(gains) - CLEARLY * error:  # what holds it back more is worse still
                break
    best, gained, error = max(found, key=lambda each: each[1])
    return best if gained > CLEARLY * error else None


def _told(ratio):
    """Ratios [classes] as they are handed on: the nearest of `STEPS_AN_OCTAVE` an octave."""
    steps = np.round(STEPS_AN_OCTAVE * np.log2(np.maximum(ratio, 1e-9)))
    return tuple(float(f'{value:.3g}') for value in np.exp2(steps / STEPS_AN_OCTAVE))


def _at_most(source, rows, numbers):
    """The first rows, as many as there may be."""
    most = min(rows, max(2, numbers // source.x.shape[1]))
    return Source(*(None if column is None else column[:most] for column in source[:4]), apart=source.apart)


def advise_all(names: tuple[str, ...], sources: dict[str, Source], windows: Study,
               folder: pathlib.Path | None = None) -> dict[tuple[str, str], students.Advice]:
    """{(student, source): advice} for those of students `names` who can be advised about stimuli, and whom it serves.

    Args:
      sources: {name: scaled stimuli}.
      windows: as :func:`advise` takes them.
      folder: in which what was found is kept, so that a killed evaluation goes on; None keeps nothing.
    """
    def find(name, source):
        if not folder:
            return advise(name, sources[source], windows)
        way = ASKED, LEARNT, CLEARLY, DRAWS, students.RECIPES.get(name, students.RECIPE), choices(name, sources[source], windows)
        path = folder / sources[source].digest(windows.x, windows.y, windows.group, 'advice', *way)[:16] / f'{name}.json'
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none there, or a damaged one: it is found anew
            kept = json.loads(path.read_text())
            return kept and students.Advice(**{**kept, 'class_weights': tuple(kept['class_weights'])})
        found = advise(name, sources[source], windows)
        write_whole(path, json.dumps(found and found._asdict()))
        return found

    pairs = [(name, source) for name in names if name in NAMES for source in sources]
    found = side_by_side(lambda pair: find(*pair), pairs)
    return {pair: advice for pair, advice in zip(pairs, found, strict=True) if advice}


def in_words(advice: dict) -> str:
    """An advice, as results.json holds it, for people."""
    told = [f'{name.split("__")[-1]} = {value:g}' for name, value in advice['parameters'].items()]
    told += ["each stimulus' likeliest class alone as its label"] * advice['likeliest']
    told += ['sifted stimuli by their weights'] * bool(advice['power'])
    told += ['classes as frequent as among real windows'] * bool(advice['class_weights'])
    return ', '.join(told)
