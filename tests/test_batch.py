"""The measured batch: the fastest is taken, once."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import batch, produce
from neurostim.excitation.produce import Settings

QUICK_COMPILE = True
SETTINGS = Settings('mixture', count=64, steps=1, batch=-1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'neurostim' / 'batches.json'


@pytest.fixture
def lanes(monkeypatch):
    """Sets how many lanes of the tiny study fit, on whatever device this is."""
    def fit(number):
        for name in ('CPU_LANES', 'ACCELERATOR_LANES'):
            monkeypatch.setattr(produce, name, (40 * number, 512))
    return fit


@pytest.fixture
def measured(monkeypatch):
    """Replaces the stopwatch by a machine that likes batches of 32; returns the batches that were tried."""
    tried = []

    def rate(teacher, settings, make_call):
        tried.append(settings.batch)
        return 1 / abs(settings.batch - 33)

    monkeypatch.setattr(batch, '_rate', rate)
    return tried


def test_the_fastest_is_taken_and_remembered(teacher, measured, cache, lanes):
    lanes(64)
    found = produce.resolve(SETTINGS, teacher)
    assert measured == [16, 32, 64, 128, 256] and found.batch == found.lanes == 32
    assert produce.resolve(SETTINGS, teacher) == found and len(measured) == 5
    assert [entry['batch'] for entry in json.loads(cache.read_text()).values()] == [32]
    produce.resolve(dataclasses.replace(SETTINGS, steps=2), teacher)  # other work, measured anew
    assert len(measured) == 10
    produce.resolve(dataclasses.replace(SETTINGS, count=7), teacher)  # more or fewer of the same
    assert len(measured) == 10


@pytest.mark.parametrize('content', ['', '{', '[]', '{"a": 1}', '{"a": {"batch": -3}}'])
def test_a_damaged_memory_is_measured_anew(teacher, measured, cache, content):
    cache.parent.mkdir()
    cache.write_text(content)
    produce.resolve(SETTINGS, teacher)
    assert measured and len(json.loads(cache.read_text())) == 1


def test_a_real_machine_is_measured(teacher, lanes, monkeypatch):
    """And what is made does not depend on the batch, but for rounding."""
    monkeypatch.setattr(batch, 'SECONDS', 0.0)
    monkeypatch.setattr(batch, 'FACTORS', (0.5, 1))
    lanes(32)
    found = produce.resolve(SETTINGS, teacher)
    assert found.batch in (16, 32)
    one, other = (produce.generate(teacher, dataclasses.replace(found, batch=n, lanes=n)).x for n in (16, 32))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
    assert jax.local_device_count() == 1


def test_what_cannot_be_measured_or_kept_is_refused(teacher, measured, cache):
    with pytest.raises(UserError, match='excite.batch -1 measures batches of fixed steps'):
        produce.resolve(dataclasses.replace(SETTINGS, accept=True), teacher)
    cache.parent.write_text('no folder')
    with pytest.raises(UserError, match=r'batches.json, which cannot be written \(.*XDG_CACHE_HOME'):
        produce.resolve(SETTINGS, teacher)
