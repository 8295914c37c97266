"""Tables of finished runs: figures as they stand in results.json, and nothing where there are none."""

import json

import pytest

from experiments import summary

STUDENT = {'name': 'cnn', 'seeds': 3, **{source: {'kappa': kappa, 'kappa_sd': 0.01} for source, kappa in (
    ('real', 0.9), ('stimuli', 0.8), ('control', 0.7))}, 'kappa_gap': 0.1, 'kappa_gap_ci95': [-0.05, 0.25]}
FIGURES = {'auc': 0.6, 'auc_ci95': [0.55, 0.65], 'tpr_at_1pct_fpr': 0.02}
ATTACKER = {'name': 'mlp', 'inhibited': True, 'known_accuracy': 0.7, 'known_confident': 0.5, 'stranger_confident': 0.1,
            'control_confident': None, 'stimuli_confident': 0.2}
RESULTS = {
    'teacher': {'kappa': 0.95}, 'stimuli': {'count': 2000, 'method': 'flow', 'per_second': 12.4}, 'students': [STUDENT],
    'privacy': {
        'association': {'attackers': [ATTACKER]},
        'neighbours': {'stimuli_to_train': 1.5, 'holdout_to_train': 1.0, 'ratio': 1.5, 'ratio_ci95': [1.2, 1.8]},
        'membership': {'record': {'attack': 'LiRA, online', 'real': FIGURES, 'stimuli': FIGURES,
                                  'attacks': [{'attack': 'RMIA', 'against': 'stimuli', **FIGURES}]}, 'subject': None},
        'differential_privacy': {'unit': 'record', 'epsilon': 8.0, 'delta': 1e-5, 'audited_epsilon_lower_bound': 0.5}}}


def test_figures_are_those_of_the_run():
    assert summary.rows('mine', RESULTS) == [
        '| mine | cnn | 0.900 ± 0.010 | 0.800 ± 0.010 | 0.700 ± 0.010 | +0.100 [-0.050, +0.250] |',
        '| mine | *teacher 0.950; 2000 stimuli by flow, 12 a second; 3 seeds* | | | | *mean +0.100* |']
    assert summary.privacy_rows('mine', RESULTS) == [
        '| mine | mlp (inhibited) | 0.700 | 0.500 | 0.100 | – | 0.200 |',
        '| mine | *nearest training window: stimuli 1.50, held-out windows 1.00, ratio 1.500 [1.200, 1.800]* | | | | | |']
    assert summary.membership_rows('mine', RESULTS) == [
        '| mine | record | RMIA | stimuli | 0.600 [0.550, 0.650] | 0.020 |',
        '| mine | record | *differential privacy: epsilon 8.00 at delta 1e-05; audited at least 0.50* | | | |']


def test_what_attackers_find_is_told_where_strangers_are_enough():
    found = {**ATTACKER, 'known_found_at_1pct': 0.2, 'stranger_draws_found_at_1pct': 0.01, 'control_found_at_1pct': 0.03,
             'stimuli_found_at_1pct': 0.04, 'stimuli_found_at_1pct_ci95': [0.03, 0.1]}
    results = {'privacy': {'association': {'attackers': [found, {**found, 'known_found_at_1pct': None}, ATTACKER]}}}
    assert summary.found_rows('mine', results) == ['| mine | mlp | 0.200 | 0.010 | 0.030 | 0.040 [0.030, 0.100] |']
    del found['stranger_draws_found_at_1pct']  # as a run of an earlier version
    assert summary.found_rows('mine', results)[0].startswith('| mine | mlp | 0.200 | – | 0.030')
    assert summary.found_rows('mine', {'privacy': None}) == []


def test_what_was_not_measured_is_left_out():
    """One group of test windows gives no interval; an evaluation may not attack."""
    alone = {**RESULTS, 'students': [{**STUDENT, 'kappa_gap_ci95': None}], 'privacy': None}
    assert summary.rows('mine', alone)[0].endswith('| +0.100  |')
    assert summary.privacy_rows('mine', alone) == summary.membership_rows('mine', alone) == []


def test_a_run_is_named_by_its_folder(tmp_path, capsys):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'results.json').write_text(json.dumps(RESULTS))
    summary.main([str(tmp_path / 'mine')])
    assert capsys.readouterr().out.count('| mine |') == 6


def test_a_folder_without_a_run_is_an_error_of_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        summary.main([str(tmp_path / 'absent')])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.startswith('error: ') and 'absent' in told and told.count('\n') == 1
