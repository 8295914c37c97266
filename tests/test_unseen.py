"""Studies that nobody tuned for: files that `own_study` takes, the same ones from the same seed, and a table of their runs."""

import json

import numpy as np
import pytest
from absl.testing import flagsaver
from scipy import stats

from experiments import simulation, unseen, unseen_hearts, unseen_studies
from neurostim.data import own_study
from neurostim.errors import UserError

FEW = {'digits': {}, 'breast_cancer': {}, 'iris': {}, 'wine': {},
       'accelerometer': {'people': 4, 'windows': 2}, 'rare_spikes': {'n': 400, 'people': 4},
       'sleep_eeg': {'n': 120, 'people': 4}, 'large': {'n': 300, 'people': 6}, 'small': {'n': 60},
       'beats': {'n': 400, 'people': 6}, 'features': {'n': 400, 'people': 6}, 'tissue': {'n': 200, 'people': 6},
       'twelve_leads': {'n': 120, 'people': 24}, 'rhythms': {'n': 60, 'people': 6}, 'imagined_movement': {'people': 4, 'windows': 6}}


def simulated(name):
    """The study of seed 3, of few windows where they can be."""
    if not FEW[name]:
        return unseen_studies.STUDIES[name](3)
    return getattr(unseen_studies if hasattr(unseen_studies, name) else unseen_hearts, name)(3, **FEW[name])


@pytest.mark.parametrize('name', FEW)
def test_a_seed_is_a_study(name, tmp_path, monkeypatch):
    """Loaded as a user's own, it is whole and finite; again from the same seed it is the same."""
    made, again = (simulated(name) for _ in range(2))
    assert made.keys() == again.keys() and all(np.array_equal(made[key], again[key]) for key in made)
    monkeypatch.setitem(unseen_studies.STUDIES, name, lambda seed: made)
    study = own_study.load(path=unseen.write_study(name, tmp_path))
    assert len(study.y) == len(made['x']) and np.isfinite(study.x).all() and len(study.subjects) >= 4


def test_people_tested_are_others(tmp_path, monkeypatch):
    """And as many as were asked for; the windows to learn from are those of the study without them."""
    made = unseen_studies.tested_on_others(unseen_hearts.small, 40, 5)(3)
    monkeypatch.setitem(unseen_studies.STUDIES, 'small', lambda seed: made)
    study = own_study.load(path=unseen.write_study('small', tmp_path))
    known, others = study.part(test=False), study.part(test=True)
    assert np.array_equal(known.x, unseen_hearts.small(3)['x'])
    assert len(others.y) == 40 and len(np.unique(others.subject)) == 5 and not set(others.subject) & set(known.subject)
    assert not np.isin(others.x[:, 0, 0], known.x[:, 0, 0]).any()


def test_limb_leads_follow_from_two():
    """III is II - I, and the augmented ones, each a limb against the mean of the others, add up to nothing."""
    leads = unseen_hearts.twelve_leads(0, n=20, people=10)
    of = dict(zip(leads['channels'].tolist(), np.moveaxis(leads['x'], -1, 0), strict=True))
    np.testing.assert_allclose(of['I'] + of['III'], of['II'], atol=1e-5)
    np.testing.assert_allclose(of['aVR'] + of['aVL'] + of['aVF'], 0, atol=1e-5)
    np.testing.assert_allclose(of['aVF'], (of['II'] + of['III']) / 2, atol=1e-5)


def test_a_dead_channel_is_dead():
    assert not unseen_studies.rare_spikes(0, 100, 4)['x'][..., 3].any()


def test_rates_of_coloured_noise():
    """The steeper its spectrum, the smoother the noise; its standard deviation is 1."""
    noises = [simulation.coloured_noise(np.random.default_rng(0), (50, 400), slope) for slope in (0.0, 1.0, 2.0)]
    steps = [np.diff(noise, axis=1).std() for noise in noises]
    assert np.allclose([noise.std() for noise in noises], 1, atol=1e-3) and steps == sorted(steps, reverse=True)


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / 'mine.npz').write_bytes(b'whatever')
    assert unseen.write_study('mine', tmp_path).read_bytes() == b'whatever'
    with pytest.raises(UserError, match='absent'):
        unseen.write_study('absent', tmp_path)


def test_runs_of_several_seeds_are_a_row_a_student(tmp_path):
    """The worst first; the interval is that of SciPy's paired t test."""
    real, made = np.random.default_rng(0).uniform(0.5, 1, (2, 4, 2))
    made[:, 1] = real[:, 1] - 0.4 - 0.01 * np.arange(4)
    for seed in range(4):
        students = [{'name': name, 'real': {'kappa': r}, 'stimuli': {'kappa': s}, 'kappa_gap': r - s}
                    for name, r, s in zip(('cnn', 'svm'), real[seed], made[seed], strict=True)]
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / 'results.json').write_text(json.dumps({'students': students}))
    rows = unseen.mean_rows('mine', [tmp_path / str(seed) for seed in range(4)])
    assert [row.split(' | ')[1] for row in rows] == ['svm', 'cnn', '*mean, 4 seeds*']
    low, high = stats.ttest_rel(real[:, 0], made[:, 0]).confidence_interval()
    gap = f'{(real - made)[:, 0].mean():+.3f} [{low:+.3f}, {high:+.3f}]'
    assert rows[1] == f'| mine | cnn | {real[:, 0].mean():.3f} ± {real[:, 0].std(ddof=1):.3f} | {made[:, 0].mean():.3f} ± ' \
                      f'{made[:, 0].std(ddof=1):.3f} | {gap} |'
    assert f' {(real - made).mean():+.3f} [' in rows[2]


def test_each_seed_of_a_study_has_a_file_of_its_own(tmp_path):
    first, second = (unseen.write_study('digits', tmp_path, seed) for seed in (0, 1))
    assert (first.name, second.name) == ('digits.npz', 'digits-1.npz')
    assert (np.load(first)['subject'] != np.load(second)['subject']).all()


def test_a_finished_run_is_a_row_and_not_redone(tmp_path):
    students = [{'name': name, 'kappa_gap': gap} for name, gap in (('cnn', -0.02), ('svm', 0.05))]
    files = {'cost.json': {'seconds': 12.3, 'processor_seconds': 20.6, 'peak_gib': 1.5},
             'results.json': {'study': {'name': 'mine', 'train_windows': 20, 'test_windows': 10, 'classes': ['a', 'b'], 'subjects': 3},
                              'teacher': {'kappa': 0.9}, 'stimuli': {'method': 'mixture'}, 'students': students},
             'teacher/teacher.json': {'shape': [8, 2], 'rehearsed': {'method': 'mixture', 'steps': 3}}}
    for name, content in files.items():
        path = tmp_path / 'mine' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    cells = [cell.strip() for cell in unseen.row(unseen.run_study(tmp_path / 'mine.npz', [])).strip('|').split('|')]
    assert cells == ['mine', '30 of 8 x 2', '2', '3', '0.900', 'mixture, steps 3', '+0.015', 'svm +0.050', '12', '21', '1.5']


@pytest.mark.parametrize('argument', ['--seeds=0', '--config.evaluate.seeds=1'])
def test_a_wrong_flag_is_an_error_of_one_line(argument, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        unseen.parse_flags(['unseen', argument])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.startswith('error: ') and argument[2:9] in told and told.count('\n') == 1
