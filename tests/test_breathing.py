"""The embedded simulator: deterministic, individual, and true to the rules it states."""

import dataclasses

import numpy as np
import pytest

from neurostim.data import breathing
from neurostim.errors import UserError


@pytest.fixture(scope='module')
def study():
    return breathing.load()


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_people(study):
    again, other = breathing.load(seed=0), breathing.load(seed=1)
    assert study.x.tobytes() == again.x.tobytes() and study.y.tobytes() == again.y.tobytes()
    assert not np.array_equal(study.x, other.x) and not np.array_equal(study.y, other.y)


def test_counts_names_and_shape(study):
    assert study.x.shape == (24 * 120, 60, 1) and study.x.dtype == np.float32 and study.sampling_rate_hz == 1
    assert study.classes == ('normal', 'apnea') and study.kind == 'windows' and len(study.subjects) == 24
    assert np.array_equal(study.group, study.subject)
    small = breathing.load(seed=3, subjects=4, minutes_per_subject=30)
    assert len(small.x) == 120 and len(small.subjects) == 4


def test_a_third_of_the_people_is_held_out(study):
    held = np.unique(study.subject[study.test])
    assert len(held) == 8 and not np.isin(study.subject[~study.test], held).any()


@pytest.mark.parametrize('seed', range(4))
def test_classes_are_balanced_overall_and_severity_differs(seed):
    study = breathing.load(seed)
    share = np.array([study.y[study.subject == s].mean() for s in range(24)])
    assert 0.3 < study.y.mean() < 0.7 and 0.3 < study.y[study.test].mean() < 0.7
    assert share.min() < 0.15 and share.max() > 0.6


def test_windows_are_scaled_per_person_without_outliers(study):
    assert np.isfinite(study.x).all() and np.abs(study.x).max() <= 6
    for s in range(24):
        low, middle, high = np.percentile(study.x[study.subject == s], [5, 50, 95])
        assert abs(middle) < 1e-5 and high - low == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize('rate', [12.0, 15.0, 18.0])
def test_the_spectrum_peaks_at_the_breathing_rate(rate):
    healthy = breathing.Sleeper(breaths_per_minute=rate, disturbed_share=0.0, movements_per_hour=0.0)
    windows, labels = breathing.night(healthy, 120, np.random.default_rng(0))
    power = (np.abs(np.fft.rfft(windows[..., 0] - windows.mean((1, 2))[:, None])) ** 2).mean(0)
    assert not labels.any()
    assert abs(power.argmax() - rate) <= 1  # bins of a minute are breaths a minute


def test_flow_falls_in_apnea_as_the_rule_says_and_recovers_deeper():
    calm = dict(noise=0.0, drift=0.0, movements_per_hour=0.0, depth_variation=0.0, hypopnea_share=0.0, second_harmonic=0.0)
    flow, scored = breathing.simulate(breathing.Sleeper(disturbed_share=0.8, recovery=1.0, **calm), 3600, np.random.default_rng(0))
    per_second = breathing.OVERSAMPLING
    inside = np.array([scored[max(0, i - 2 * per_second):i + 2 * per_second].all() for i in range(len(scored))])
    ends = np.flatnonzero(scored[:-1] & ~scored[1:])
    after = np.concatenate([flow[end + 2 * per_second:end + 6 * per_second] for end in ends])
    normal = breathing.breaths(breathing.Sleeper(**calm), np.arange(8000) / per_second, np.random.default_rng(0))
    assert inside.mean() > 0.2
    assert flow[inside].std() < 0.15 * normal.std()
    assert after.std() > 1.2 * normal.std()


def test_only_long_and_deep_events_are_scored():
    time = np.arange(0, 100, 0.125)
    start, residual = np.array([10.0, 40.0, 70.0]), np.array([0.05, 0.05, 0.8])
    effect, scored = breathing.event_effect(time, start, start + [15.0, 8.0, 15.0], residual, recovery=0.5)
    assert scored[time < 40].sum() == 15 * 8 and not scored[time >= 40].any()
    assert (effect[(time >= 40) & (time < 48)] == 0.05).all() and (effect[time < 10] == 1).all()
    assert effect[time == 25] == pytest.approx(1.475)  # recovery breaths


def test_labels_follow_the_ten_second_rule():
    sleeper, minutes = breathing.Sleeper(disturbed_share=0.5), 60
    _, labels = breathing.night(sleeper, minutes, np.random.default_rng(5))
    _, scored = breathing.simulate(sleeper, minutes * 60, np.random.default_rng(5))
    assert np.array_equal(labels, scored.reshape(minutes, -1).sum(1) / breathing.OVERSAMPLING >= 10)


def test_people_differ():
    people = breathing.draw_sleepers(24, np.random.default_rng(0))
    assert len({p.breaths_per_minute for p in people}) == len({p.disturbed_share for p in people}) == 24
    for name, (low, high) in breathing.POPULATION.items():
        values = [getattr(p, name) for p in people]
        assert low <= min(values) < max(values) <= high and max(values) - min(values) > 0.4 * (high - low)


def test_chosen_people():
    ill, mild = breathing.Sleeper(disturbed_share=0.8), breathing.Sleeper(disturbed_share=0.2)
    study = breathing.load(seed=2, sleepers=[ill, mild, ill, mild], minutes_per_subject=120)
    share = [study.y[study.subject == s].mean() for s in range(4)]
    assert len(study.subjects) == 4 and min(share[0], share[2]) > max(share[1], share[3])


def test_a_night_disturbed_throughout_is_labelled_throughout():
    assert breathing.night(breathing.Sleeper(disturbed_share=1.0, hypopnea_share=0.0), 120, np.random.default_rng(0))[1].mean() > 0.9


@pytest.mark.parametrize(('options', 'named'), [
    ({'subjects': 1}, "'subjects' is 1"),
    ({'subjects': 2.5}, "'subjects' is 2.5"),
    ({'subjects': True}, "'subjects' is True"),
    ({'minutes_per_subject': 0}, "'minutes_per_subject' is 0"),
    ({'seed': -1}, "'seed' is -1"),
    ({'seed': '0'}, "'seed' is '0'"),
    ({'sleepers': [breathing.Sleeper()]}, 'one subject only'),
])
def test_bad_counts_are_user_errors(options, named):
    with pytest.raises(UserError, match=named):
        breathing.load(**options)


@pytest.mark.parametrize('field', [f.name for f in dataclasses.fields(breathing.Sleeper)])
@pytest.mark.parametrize('value', [-100.0, float('nan'), 'deep', None])
def test_bad_parameters_are_user_errors(field, value):
    with pytest.raises(UserError, match=field):
        breathing.Sleeper(**{field: value})
