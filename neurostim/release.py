"""What may be handed to others: the stimuli as a TFDS dataset, and a dataset card with what was measured. No real window, no checkpoint."""

from __future__ import annotations

import json
import pathlib
import shutil

from neurostim import report
from neurostim.evaluation.advice import in_words
from neurostim.report import ABSENT, at, count, interval, number, plain, with_found

KEPT_OF_ATTACKERS = ('name', 'inhibited', 'known_confident', 'stranger_confident', 'stranger_draws_confident', 'stimuli_confident',
                     'known_found_at_1pct', 'stranger_draws_found_at_1pct', 'stimuli_found_at_1pct')
DATASET_FILES = ('dataset_info.json', 'features.json', '*.array_record-*')  # not the manifest, which may name people


def write(workdir: pathlib.Path, results: dict, licence: str) -> pathlib.Path:
    """Writes DIR/release/, whole or not at all; an earlier one is replaced.

    Args:
      workdir: of a finished run; `stimuli/` is in it.
      results: as in results.json.
      licence: under which the stimuli are handed on, as the card names it.
    """
    release = workdir / 'release'
    fresh = workdir / 'release.new'
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / 'dataset').mkdir(parents=True)
    for pattern in DATASET_FILES:
        for path in sorted((workdir / 'stimuli').glob(pattern)):
            shutil.copyfile(path, fresh / 'dataset' / path.name)
    (fresh / 'README.md').write_text(card(results, licence), encoding='utf-8')
    shutil.rmtree(release, ignore_errors=True)
    fresh.rename(release)
    return release


def card(results: dict, licence: str) -> str:
    """The dataset card: YAML front matter for machines, then text for people."""
    study, teacher, stimuli, students = (at(results, key) for key in ('study', 'teacher', 'stimuli', 'students'))
    name, privacy = plain(at(study, 'name')), at(results, 'privacy')
    front = {
        'pretty_name': f'Stimuli of {name}', 'license': plain(licence), 'tags': ['synthetic', 'stimuli', 'neurostim'],
        'task_categories': ['other'], 'classes': [plain(c) for c in at(study, 'classes')], 'stimuli': at(stimuli, 'count'),
        'sha256': at(stimuli, 'sha256'), 'method': plain(at(stimuli, 'method')), 'teacher_kappa': at(teacher, 'kappa'),
        'utility': [{'student': plain(s['name']), 'kappa_real': at(s, 'real', 'kappa'), 'kappa_stimuli': at(s, 'stimuli', 'kappa'),
                     'kappa_gap': at(s, 'kappa_gap'), 'kappa_gap_ci95': at(s, 'kappa_gap_ci95'),
                     **({'advice': s['advice']} if 'advice' in s else {})} for s in students],
        'privacy': _privacy_figures(privacy)}
    lines = ['---', *(f'{key}: {json.dumps(value, ensure_ascii=False)}' for key, value in front.items()), '---', '']  # JSON is YAML
    lines += [
        f'# Stimuli of {name}', '',
        f'{count(at(stimuli, "count"))} inputs that were searched for so that a network trained on real recordings (the teacher) holds '
        'chosen beliefs about them, each with that belief. They are made to train classifiers with. They are no recordings of anybody and '
        'need not look like any.', '',
        '```python', 'import tensorflow_datasets as tfds',
        "data = tfds.builder_from_directory('dataset').as_data_source('train')",
        "data[0]  # 'x': the input, 'probabilities': the teacher's belief in each class, 'label': the likeliest class", '```', '',
        *_sifted_text(at(stimuli, 'surplus')), *_as_drawn_text(at(stimuli, 'as_drawn')),
        f'Classes, in the order of `probabilities`: {", ".join(plain(c) for c in at(study, "classes"))}.', '',
        '## How good students of these stimuli are', '',
        f'On {count(at(study, "test_windows"))} real windows that neither teacher nor stimuli come from; the teacher itself: kappa '
        f'{number(at(teacher, "kappa"))}.', '',
        '| student | kappa, trained on real windows | kappa, trained on stimuli | gap | 95 % interval |', '| --- | --- | --- | --- | --- |']
    lines += [f'| {plain(s["name"])} | {number(at(s, "real", "kappa"))} | {number(at(s, "stimuli", "kappa"))} | '
              f'{number(at(s, "kappa_gap"))} | {interval(at(s, "kappa_gap_ci95"))} |' for s in students]
    lines += _advice_text(students)
    lines += ['', '## Whom they betray', '', *_privacy_text(privacy), '', '## Limitations', '', *_limitations(results), '']
    return '\n'.join(lines)


def _sifted_text(surplus) -> list[str]:
    if not surplus or surplus == 1:
        return []
    return ['Those at even positions came as they were made. Those at odd positions were drawn because they surprised small networks that '
            'had learnt little: most classifiers gain by them. Linear and Gaussian ones may do better with weights, 2 / (1 + s / m), where '
            "s is a stimulus's `surprise` and m its mean at even positions: by these all are about as frequent as they were made.", '']


def _as_drawn_text(as_drawn) -> list[str]:
    return ['Those at odd positions were not searched for: they stayed as they were drawn from statistics of the recordings, each with the '
            "teacher's belief as the others. Some classifiers learn more from these, others from those that were searched for.",
            ''] if as_drawn else []


def _advice_text(students) -> list[str]:
    told = [f'- {plain(s["name"])}: {plain(in_words(s["advice"]), 300)}.' for s in students if 'advice' in s]
    return ['', 'Some of these learnt from stimuli as real training windows advised, and so may yours:', '', *told] if told else []


def _privacy_figures(privacy) -> dict | None:
    if privacy is None:
        return None
    attackers = at(privacy, 'association', 'attackers') or ()
    figures = {
        'association': [{key: at(a, key) for key in KEPT_OF_ATTACKERS}
                        for a in attackers],
        'neighbours_ratio': at(privacy, 'neighbours', 'ratio'),
        'membership': {unit: at(privacy, 'membership', unit, 'stimuli') for unit in ('record', 'subject')},
        'membership_strongest': {unit: report.strongest(at(privacy, 'membership', unit)) for unit in ('record', 'subject')},
        'differential_privacy': at(privacy, 'differential_privacy')}
    return figures


def _privacy_text(privacy) -> list[str]:
    if privacy is None:
        return ['**Not measured.** Treat these stimuli as if they were recordings of the people behind them.']
    lines = []
    attackers = at(privacy, 'association', 'attackers') or ()
    if attackers:
        lines += ['Attackers learnt to name people from real windows. Shares of which they are at least 90 % sure of somebody, and in '
                  "brackets of which they are surer than of 99 % of strangers' windows:", '',
                  '| attacker | people it knows | strangers | draws of a population of strangers | stimuli | reading |',
                  '| --- | --- | --- | --- | --- | --- |']
        kinds = ('known', 'stranger', 'stranger_draws', 'stimuli')
        lines += [f'| {plain(a["name"])} | {" | ".join(with_found(a, kind) for kind in kinds)} | {report.association_verdict(a)} |'
                  for a in attackers]
        lines.append('')
    else:
        lines += ['Whether somebody who knows the people recognises them was not measured: '
                  f'{plain(at(privacy, "association", "note") or "no figures", 300)}.', '']
    for unit in ('record', 'subject'):
        attack = at(privacy, 'membership', unit)
        if attack is not None:
            lines += [f'Was one {unit} in the training data? {report.membership_verdict(attack)} '
                      f'({plain(at(attack, "attack") or ABSENT)}: AUC '
                      f'{number(at(attack, "stimuli", "auc"))} {interval(at(attack, "stimuli", "auc_ci95"))}.)', '']
    lines += [f'Median distance to the nearest training window over that of unseen real windows: '
              f'{number(at(privacy, "neighbours", "ratio"))} {interval(at(privacy, "neighbours", "ratio_ci95"))}.', '']
    dp = at(privacy, 'differential_privacy')
    lines.append('No differential privacy: the figures are measurements of particular attacks, no guarantee against others.' if dp is None
                 else f'Differential privacy of a {plain(at(dp, "unit"))}: epsilon {number(at(dp, "epsilon"), 2)} at delta '
                      f'{number(at(dp, "delta"), "g")}.')
    return lines


def _limitations(results) -> list[str]:
    lines = ['- Students were measured on held-out windows of the same study; other devices, rates and populations may differ.',
             '- Labels are the beliefs of a network, with its mistakes.',
             '- Attackers that were not tried may do better. Whether stimuli count as anonymous is a legal judgement.']
    poor = [plain(s['name']) for s in at(results, 'students') if (at(s, 'kappa_gap') or 0) > 0.03]
    if poor:
        lines.insert(1, f'- These students lose more than 0.03 kappa: {", ".join(poor)}.')
    return lines + [f'- {place}: {text}' for place, text in report.notes(results)]
