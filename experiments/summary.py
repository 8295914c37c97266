r"""Prints finished runs as four Markdown tables, students, attackers twice and membership: what docs/results.md quotes. A run is
named by its folder.

    python -m experiments.summary runs/apnea_respiration runs/sleep_features
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

from experiments.command_line import fail


def _interval(bounds: list[float] | None, sign: str = '') -> str:
    """[low, high], each with its sign where that is '+'; nothing where one group of test windows gives no interval."""
    return '' if bounds is None else f'[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]'


def rows(run_name: str, results: dict) -> list[str]:
    """Markdown rows of one results.json: a student a row."""
    lines = []
    for student in results['students']:
        kappas = [f"{student[source]['kappa']:.3f} ± {student[source]['kappa_sd']:.3f}" for source in ('real', 'stimuli', 'control')]
        cells = [run_name, student['name'], *kappas, f"{student['kappa_gap']:+.3f} {_interval(student['kappa_gap_ci95'], '+')}"]
        lines.append(f'| {" | ".join(cells)} |')
    gaps = [student['kappa_gap'] for student in results['students']]
    teacher, stimuli = results['teacher'], results['stimuli']
    lines.append(f'| {run_name} | *teacher {teacher["kappa"]:.3f}; {stimuli["count"]} stimuli by {stimuli["method"]}, '
                 f'{stimuli["per_second"] or 0:.0f} a second; {student["seeds"]} seeds* | | | | *mean {np.mean(gaps):+.3f}* |')
    return lines


def _attackers(results: dict) -> list[dict]:
    """Those of one results.json; none where nothing was attacked, or nobody can be told apart."""
    return ((results['privacy'] or {}).get('association') or {}).get('attackers') or []


def privacy_rows(run_name: str, results: dict) -> list[str]:
    """Markdown rows of one results.json: an attacker a row, and the neighbours; none where nothing was attacked."""
    privacy = results['privacy'] or {}
    lines = []
    for attacker in _attackers(results):
        shares = [attacker['known_accuracy'], *(attacker[f'{what}_confident'] for what in ('known', 'stranger', 'control', 'stimuli'))]
        name = f'{attacker["name"]} (inhibited)' if attacker['inhibited'] else attacker['name']
        lines.append(f'| {run_name} | {name} | {" | ".join("–" if share is None else f"{share:.3f}" for share in shares)} |')
    near = privacy.get('neighbours') or {}
    if near.get('ratio') is not None:
        lines.append(f'| {run_name} | *nearest training window: stimuli {near["stimuli_to_train"]:.2f}, held-out windows '
                     f'{near["holdout_to_train"]:.2f}, ratio {near["ratio"]:.3f} {_interval(near["ratio_ci95"])}* | | | | | |')
    return lines


def found_rows(run_name: str, results: dict) -> list[str]:
    """Markdown rows of one results.json: what each attacker finds at 1 % of false alarms; none where strangers are too few."""
    lines = []
    for attacker in _attackers(results):
        shares = [attacker.get(f'{what}_found_at_1pct') for what in ('known', 'stranger_draws', 'control', 'stimuli')]
        if shares[0] is not None:
            cells = [run_name, attacker['name'], *('–' if share is None else f'{share:.3f}' for share in shares)]
            lines.append(f'| {" | ".join(cells)} {_interval(attacker["stimuli_found_at_1pct_ci95"])} |')
    return lines


def membership_rows(run_name: str, results: dict) -> list[str]:
    """Markdown rows of one results.json: an attack on membership a row, canaries, and the promise of differential privacy."""
    privacy = results['privacy'] or {}
    membership, lines = privacy.get('membership') or {}, []

    def add(unit, name, source, figures):
        auc = f'{figures["auc"]:.3f} {_interval(figures["auc_ci95"])}'
        cells = [run_name, unit, name, source, auc, f'{figures["tpr_at_1pct_fpr"]:.3f}']
        lines.append(f'| {" | ".join(cells)} |')

    for unit in ('record', 'subject'):
        attack = membership.get(unit) or {}
        for figures in attack.get('attacks') or ():
            add(unit, figures['attack'], figures['against'], figures)
        if attack.get('real') and not attack.get('attacks'):
            for source in ('real', 'stimuli'):
                add(unit, attack['attack'], source, attack[source])
    for copies, found in (membership.get('canaries') or {}).items():
        for source in ('real', 'stimuli') if isinstance(found, dict) else ():
            add('canary', f'LiRA, {copies}', source, found[source])
    promise = privacy.get('differential_privacy')
    if promise:
        lines.append(f'| {run_name} | {promise["unit"]} | *differential privacy: epsilon {promise["epsilon"]:.2f} at delta '
                     f'{promise["delta"]:g}; audited at least {promise["audited_epsilon_lower_bound"]:.2f}* | | | |')
    return lines


def main(folders: list[str]) -> None:
    """Prints the tables."""
    try:
        runs = {pathlib.Path(folder).name: json.loads((pathlib.Path(folder) / 'results.json').read_text()) for folder in folders}
    except (OSError, ValueError) as error:
        fail(f'{error}: name folders of finished runs, with a results.json each')
    print('| study | student | real windows | stimuli | unexcited control | gap [95 % interval] |')
    print('| --- | --- | --- | --- | --- | --- |')
    for name, run in runs.items():
        print('\n'.join(rows(name, run)))
    print('\n| study | attacker | names rightly, unseen windows | sure: people known | strangers | unexcited control | stimuli |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for name, run in runs.items():
        for line in privacy_rows(name, run):
            print(line)
    print('\n| study | attacker | found at 1 % of false alarms: people known | draws of strangers | unexcited control | stimuli |')
    print('| --- | --- | --- | --- | --- | --- |')
    for name, run in runs.items():
        for line in found_rows(name, run):
            print(line)
    print('\n| study | of a | attack | on a student of | AUC [95 % interval] | found at 1 % false alarms |')
    print('| --- | --- | --- | --- | --- | --- |')
    for name, run in runs.items():
        for line in membership_rows(name, run):
            print(line)


if __name__ == '__main__':
    main(sys.argv[1:])
