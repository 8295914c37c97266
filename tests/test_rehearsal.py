"""The rehearsal: what serves students best is found, kept with the teacher, and followed unless told otherwise."""

import dataclasses

import numpy as np
import pytest

from neurostim import rehearsal
from neurostim import teacher as teachers
from neurostim.excitation import produce
from neurostim.excitation.store import Stimuli

QUICK_COMPILE = True


def test_ways_are_those_that_the_population_has():
    names = [[way['method'] for way in rehearsal.ways(dict.fromkeys(keys))]
             for keys in (('mixture/mean',), ('mixture/mean', 'modulated/mean'), ('flow/a', 'modulated/mean', 'mixture/mean'))]
    assert names == [['mixture'] * 2, ['modulated'] * 2 + ['mixture'] * 2, ['flow'] + ['modulated'] * 2 + ['mixture'] * 2]


@pytest.mark.parametrize('best', ['modulated', 'mixture'])
def test_the_way_that_teaches_is_chosen(teacher, study, monkeypatch, best):
    """One method makes windows like the real ones, the other noise; the same beliefs belong to both."""
    def generate(teacher, settings, seed):
        rng, rows = np.random.default_rng(seed), np.arange(settings.count) % len(train.x)
        good = settings.method == best
        x = train.x[rows] if good else rng.normal(size=train.x[rows].shape).astype(np.float32)
        return Stimuli(x, np.eye(2, dtype=np.float32)[train.y[rows]], train.y[rows])

    train, lines = study.part(test=False), []
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(rehearsal, 'STIMULI', 200)
    found = rehearsal.rehearse(teacher, train.x, train.y, 0, lines.append)
    assert found['method'] == best and len(lines) == 4 and all('kappa' in line for line in lines)


def test_what_was_rehearsed_is_kept_and_followed(teacher, tmp_path):
    teachers.save(dataclasses.replace(teacher, rehearsed={'method': 'mixture', 'steps': 3, 'learning_rate': 0.03}), tmp_path / 'teacher')
    kept = teachers.load(tmp_path / 'teacher')
    found = produce.resolve(produce.Settings(), kept)
    assert (found.method, found.steps, found.learning_rate) == ('mixture', 3, 0.03)
    assert produce.resolve(found, kept) == found
    assert produce.resolve(produce.Settings(steps=7, learning_rate=0.2), kept).steps == 7
    assert produce.resolve(produce.Settings(steps=7, learning_rate=0.2), kept).learning_rate == 0.2
    asked = produce.resolve(produce.Settings(method='gaussian'), kept)
    assert (asked.method, asked.steps) == ('gaussian', 5)  # who asks for a method gets it, with its own steps
    assert produce.resolve(produce.Settings(), teacher).method == 'modulated'
