r"""Prints finished runs as two Markdown tables, students and attackers: what README and BUILD_NOTES quote.

    python -m experiments.summary runs/apnea_respiration runs/sleep_features
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np


def rows(results: dict) -> list[str]:
    """Markdown rows of one results.json: a student a row."""
    study = results['study']['name']
    lines = []
    for student in results['students']:
        low, high = student['kappa_gap_ci95']
        kappas = [f"{student[source]['kappa']:.3f} ± {student[source]['kappa_sd']:.3f}" for source in ('real', 'stimuli', 'control')]
        cells = [study, student['name'], *kappas, f"{student['kappa_gap']:+.3f} [{low:+.3f}, {high:+.3f}]"]
        lines.append(f'| {" | ".join(cells)} |')
    gaps = [student['kappa_gap'] for student in results['students']]
    teacher, stimuli = results['teacher'], results['stimuli']
    lines.append(f'| {study} | *teacher {teacher["kappa"]:.3f}; {stimuli["count"]} stimuli by {stimuli["method"]}, '
                 f'{stimuli["per_second"] or 0:.0f} a second; {student["seeds"]} seeds* | | | | *mean {np.mean(gaps):+.3f}* |')
    return lines


def privacy_rows(results: dict) -> list[str]:
    """Markdown rows of one results.json: an attacker a row, and the neighbours; none where nothing was attacked."""
    privacy = results['privacy'] or {}
    study, lines = results['study']['name'], []
    for attacker in (privacy.get('association') or {}).get('attackers') or ():
        shares = [attacker['known_accuracy'], *(attacker[f'{what}_confident'] for what in ('known', 'stranger', 'control', 'stimuli'))]
        lines.append(f'| {study} | {attacker["name"]} | {" | ".join(f"{share:.3f}" for share in shares)} |')
    near = privacy.get('neighbours') or {}
    if near.get('ratio_ci95'):
        low, high = near['ratio_ci95']
        lines.append(f'| {study} | *nearest training window: stimuli {near["stimuli_to_train"]:.2f}, held-out windows '
                     f'{near["holdout_to_train"]:.2f}, ratio {near["ratio"]:.3f} [{low:.3f}, {high:.3f}]* | | | | | |')
    return lines


def main(folders: list[str]) -> None:
    """Prints both tables."""
    runs = [json.loads((pathlib.Path(folder) / 'results.json').read_text()) for folder in folders]
    print('| study | student | real windows | stimuli | unexcited control | gap [95 % interval] |')
    print('| --- | --- | --- | --- | --- | --- |')
    for run in runs:
        print('\n'.join(rows(run)))
    print('\n| study | attacker | names rightly, unseen windows | sure: people known | strangers | unexcited control | stimuli |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for run in runs:
        for line in privacy_rows(run):
            print(line)


if __name__ == '__main__':
    main(sys.argv[1:])
