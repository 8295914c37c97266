"""Results as a table on the terminal."""

from __future__ import annotations

from neurostim.report.text import ABSENT, SOURCES, at, count, interval, listing, notes, number, percent, plain, with_found
from neurostim.report.words import strongest


def table(results: dict) -> str:
    """The results as text of about 100 columns: study, teacher, stimuli, students, privacy, and notes on absent figures."""
    study, teacher, stimuli = at(results, 'study'), at(results, 'teacher'), at(results, 'stimuli')
    lines = [
        f'study    {plain(at(study, "name"))}: {count(at(study, "train_windows"))} training and {count(at(study, "test_windows"))} test'
        f' windows of {count(at(study, "subjects"))} subjects; classes {listing(at(study, "classes"))}',
        f'teacher  {" + ".join(plain(m) for m in at(teacher, "models") or ())}: accuracy {number(at(teacher, "accuracy"))},'
        f' kappa {number(at(teacher, "kappa"))}',
        f'stimuli  {count(at(stimuli, "count"))} by {plain(at(stimuli, "method"))} in {number(at(stimuli, "seconds"), 1)} s'
        f' ({count(at(stimuli, "per_second"))} a second), {percent(at(stimuli, "accepted_fraction"))} accepted', '',
    ]
    rows = [['', '', 'accuracy', '', '', 'kappa', '', '', '', ''], ['student', 'seeds', *SOURCES, *SOURCES, 'gap', '95 % interval']]
    for student in at(results, 'students') or ():
        figures = [number(at(student, source, metric)) for metric in ('accuracy', 'kappa') for source in SOURCES]
        rows.append([
            plain(student['name'], 24), count(at(student, 'seeds')), *figures,
            number(at(student, 'kappa_gap')), interval(at(student, 'kappa_gap_ci95')),
        ])
    lines += _aligned(rows) + ['gap: kappa on real training windows minus kappa on stimuli; control: unexcited starting points']
    if at(results, 'privacy') is not None:
        lines += ['', *_privacy_lines(results['privacy'])]
    remarks = notes(results)
    if remarks:
        lines += ['', f'notes ({ABSENT}: not available):'] + [f'  {place}: {text}' for place, text in remarks]
    return '\n'.join(line.rstrip() for line in lines)


def _aligned(rows) -> list[str]:
    """Rows of cells as lines: the first column flush left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ['  '.join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) for row in rows]


def _privacy_lines(privacy) -> list[str]:
    rows = [['attacker', 'inhibited', 'accuracy', 'known', 'strangers', 'their draws', 'control', 'stimuli']]
    for attacker in at(privacy, 'association', 'attackers') or ():
        shares = [with_found(attacker, kind) for kind in ('known', 'stranger', 'stranger_draws', 'control', 'stimuli')]
        inhibited = {True: 'yes', False: 'no'}.get(at(attacker, 'inhibited'), ABSENT)
        rows.append([plain(attacker['name'], 24), inhibited, percent(at(attacker, 'known_accuracy')), *shares])
    lines = ["privacy: association, share named with at least 90 % belief (with more belief than 99 % of strangers' windows)"]
    lines += _aligned(rows) if len(rows) > 1 else [f'  {ABSENT}']
    for unit in ('record', 'subject'):
        attack = at(privacy, 'membership', unit)
        if attack is None:
            lines.append(f'privacy: membership of a {unit} {ABSENT}')
            continue
        parts = [
            f'{source} AUC {number(at(attack, source, "auc"))} {interval(at(attack, source, "auc_ci95"))},'
            f' TPR at 1 % FPR {percent(at(attack, source, "tpr_at_1pct_fpr"))}' for source in ('real', 'stimuli')
        ]
        lines.append(f'privacy: membership of a {unit} ({plain(at(attack, "attack") or ABSENT)}): {"; ".join(parts)}')
        best = strongest(attack)
        if best:
            lines.append(
                f'privacy: membership of a {unit}, the strongest attack through stimuli: {plain(best["attack"])}, AUC'
                f' {number(at(best, "auc"))} {interval(at(best, "auc_ci95"))}, TPR at 1 % FPR {percent(at(best, "tpr_at_1pct_fpr"))}')
    linkage = at(privacy, 'association', 'linkage')
    if at(linkage, 'auc') is not None:
        lines.append(f'privacy: linkage, AUC of nearness to stimuli {number(linkage["auc"])} {interval(at(linkage, "auc_ci95"))}, to real '
                     f'windows {number(at(linkage, "control_auc"))}')
        if at(linkage, 'spectra') is not None:
            lines.append(f'privacy: linkage by spectra, AUC of nearness to stimuli {number(at(linkage, "spectra", "auc"))} '
                         f'{interval(at(linkage, "spectra", "auc_ci95"))}, to real windows {number(at(linkage, "spectra", "control_auc"))}')
    near = at(privacy, 'neighbours')
    lines.append(
        f'privacy: nearest training window, median distance {number(at(near, "stimuli_to_train"))} from stimuli,'
        f' {number(at(near, "holdout_to_train"))} from held-out windows, ratio {number(at(near, "ratio"))}'
        f' {interval(at(near, "ratio_ci95"))}'
    )
    dp = at(privacy, 'differential_privacy')
    lines.append('privacy: no differential privacy' if dp is None else (
        f'privacy: differential privacy of a {plain(at(dp, "unit"))}, epsilon {number(at(dp, "epsilon"), 2)} at delta'
        f' {number(at(dp, "delta"), "g")}, audited lower bound {number(at(dp, "audited_epsilon_lower_bound"), 2)}'
    ))
    return lines
