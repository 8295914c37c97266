"""Linkage: copies link people, noise does not."""

import numpy as np
import pytest

from neurostim.evaluation import linkage
from neurostim.study import make_study


def people(identity, n=16, windows=60, seed=0):
    """Windows of noise on each person's own wave; the last half of the people are held out."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), windows)
    x = identity * rng.normal(size=(n, 16))[subject] + rng.normal(size=(n * windows, 16))
    return make_study('people', x[..., None], np.arange(n * windows) % 2, subject, test=subject >= n // 2)


def test_copies_link_and_noise_does_not():
    study = people(2.0)
    copies = study.x[~study.test][::2]
    found = linkage.attack(study, study.x, copies)
    assert found['auc'] > 0.95 and found['control_auc'] > 0.95 and found['auc_ci95'][0] > 0.8
    noise = 2 * np.random.default_rng(1).normal(size=copies.shape).astype(np.float32)
    found = linkage.attack(study, study.x, noise)
    assert found['control_auc'] > 0.95 and found['auc_ci95'][0] < 0.5 < found['auc_ci95'][1]


def test_without_identity_nobody_is_linked():
    study = people(0.0)
    found = linkage.attack(study, study.x, study.x[~study.test][::2])
    assert found['auc_ci95'][0] < 0.5 < found['auc_ci95'][1] and 0.2 < found['control_auc'] < 0.8


def test_strangers_must_be_strangers_to_the_stimuli():
    study = people(1.0)
    study.test[:] = np.arange(len(study.test)) % 3 == 0  # everybody is in both parts
    found = linkage.attack(study, study.x, study.x[:50])
    assert found['auc'] is None and '0 people without training windows' in found['note']


def test_people_may_come_in_any_order():
    """Interleaved, each person's windows are released by halves all the same; who has a single window cannot be linked and is left out."""
    study = people(2.0)
    order = np.argsort(np.arange(len(study.y)) % 60, kind='stable')
    study = study.take(order)
    found = linkage.attack(study, study.x, study.x[~study.test][: len(order) // 4])
    assert found['auc'] > 0.95 and found['control_auc'] > 0.95 and found['people'] == 8
    lonely = np.flatnonzero(~study.test & (study.subject == 0))[1:]
    study = study.take(np.setdiff1d(np.arange(len(order)), lonely))
    assert linkage.attack(study, study.x, study.x[:100])['people'] == 7
    one_each = study.take(np.unique(study.subject, return_index=True)[1])
    assert 'two or more' in linkage.attack(one_each, one_each.x, one_each.x)['note']


@pytest.mark.parametrize('seed', [0, 1])
def test_a_seed_gives_the_same(seed):
    study = people(1.0)
    assert linkage.attack(study, study.x, study.x[:100], seed) == linkage.attack(study, study.x, study.x[:100], seed)


def test_spectra_link_people_whose_rhythms_begin_anywhere():
    """Each person has rhythms of their own, at phases that are free: samples link nobody, spectra do, and stimuli of no one's are clean."""
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(16), 40)

    def windows(strength):
        spectrum = strength * np.exp(2j * np.pi * rng.random(strength.shape))
        return np.fft.irfft(spectrum, 32, axis=1)[..., None].astype(np.float32)

    own = np.exp(rng.normal(size=(16, 17)))
    study = make_study('rhythms', windows(own[subject]), np.arange(640) % 2, subject, test=subject >= 8)
    found = linkage.attack(study, study.x, study.x[~study.test][::2])
    assert found['spectra']['auc'] > 0.95 and found['spectra']['control_auc'] > 0.95 and found['control_auc'] < 0.9
    strangers = linkage.attack(study, study.x, windows(np.exp(rng.normal(size=(320, 17)))))['spectra']
    assert strangers['control_auc'] > 0.95 and strangers['auc_ci95'][0] < 0.5 < strangers['auc_ci95'][1]
