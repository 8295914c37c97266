"""The figures of a sweep as Markdown: all of them for compare.md; for main.md README's overview and the main table behind it."""

from __future__ import annotations

import numpy as np

LEVEL = 0.05  # of corrected p-values that are marked
NONE = '–'


def table(results: dict) -> str:
    """Markdown of compare.md, a section a study: every student's gap with a method a row, then each gap and what a method adds to the
    reference with intervals and tests."""
    lines = []
    for name, study in results['studies'].items():
        lines += [f'## {name}', '',
                  f'Teacher kappa {study["teacher"]["kappa"]:.3f}; {_seeds(study)}. Gap in kappa, real minus method; '
                  f'* differs from 0 (p < {LEVEL:g} after Holm, over methods and students).', '',
                  *_gaps(study), '', *_tested(study, results['sweep']['reference']), '',
                  *(f'- {note}' for note in study['notes']), '']
    return '\n'.join(lines)


def _gaps(study: dict) -> list[str]:
    """A method a row, a student a column: gaps."""
    students = [twin['student'] for twin in study['real']]
    gaps = {(row['method'], row['student']): row for row in study['rows']}
    their_draws = _most(person.get('stranger_draws_found_at_1pct') for person in (study['people'] or {}).values())
    headings = ['method', *students, 'mean gap [95 % interval]', 'a second', 'sure of somebody', 'found at 1 %', 'distance ratio']
    lines = [f'| {" | ".join(headings)} |', '| --- ' * len(headings) + '|',
             f'| *kappa on real windows* | {" | ".join(_number(twin["kappa"]) for twin in study["real"])} | | | '
             f'{_number(_strangers(study))} *strangers* | {_number(their_draws)} *their draws* | |']
    for method in study['methods']:
        cells = [_marked(gaps[method['name'], student]['gap']) for student in students]
        found = _most((method.get('found_at_1pct') or {}).values())  # sweeps of earlier versions, which may be joined, did not ask
        lines.append(f'| {method["name"]} | {" | ".join(cells)} | {_whole(method["gap"])} | {_rate(method["per_second"])} | '
                     f'{_number(method["confident_mean"])} | {_number(found)} | {_number((method["neighbours"] or {}).get("ratio"))} |')
    return lines


def _tested(study: dict, reference: str) -> list[str]:
    """A method and a student a row, and a method's mean: the gap, and the method minus the reference, each with its test."""
    adds = ' (in the row of stimuli: what excitation adds)' if reference == 'control' else ''
    lines = [f'| method | student | kappa ± sd | gap [95 % interval] | p, corrected | method minus {reference} [95 % interval]{adds} | '
             'p, corrected |', '| --- | --- | --- | --- | --- | --- | --- |']

    def line(name, student, kappa, figures):
        cells = [f'{_whole(figure, mark=False)} | {_number((figure or {}).get("p_holm"))}' for figure in figures]
        lines.append(f'| {name} | {student} | {kappa} | {" | ".join(cells)} |')

    for row in study['rows']:
        line(row['method'], row['student'], _spread(row), (row['gap'], row['against_reference']))
    for method in study['methods']:
        line(method['name'], '*mean*', _number(method['kappa']), (method['gap'], method['against_reference']))
    return lines


def _seeds(study: dict) -> str:
    """How many data sets each method made, in words."""
    number = len(study['methods'][0]['seconds']) if study['methods'] else 0
    return f'{number} {"seed" if number == 1 else "seeds"}'


def _method(study: dict, name: str) -> dict | None:
    """A method's means; None where the study does not have it."""
    return next((method for method in study['methods'] if method['name'] == name), None)


def main_page(results: dict) -> str:
    """Markdown of main.md: the overview, then the main table."""
    return f'{overview(results)}\n{main_table(results)}'


def overview(results: dict) -> str:
    """Markdown of README's table: a student a row, a study a column; kappa on stimuli and, in brackets, the gap (real minus stimuli). Last
    rows hold means, the teacher's kappa and how stimuli were made. A student that a study does not have is a dash."""
    studies = results['studies'].values()
    stimuli, control = ([_method(study, name) for study in studies] for name in ('stimuli', 'control'))
    learnt = [{row['student']: row for row in study['rows'] if row['method'] == 'stimuli'} for study in studies]
    students = list(dict.fromkeys(twin['student'] for study in studies for twin in study['real']))

    def cell(row):
        return NONE if row is None else f'{row["kappa"]:.3f} ({_marked(row["gap"])})'

    rows = {student: [cell(rows.get(student)) for rows in learnt] for student in students}
    rows |= {'*mean*': [cell(method) for method in stimuli],
             '*mean of the unexcited control*': [_number((method or {}).get('kappa')) for method in control],
             '*teacher*': [_number(study['teacher']['kappa']) for study in studies],
             '*stimuli in all, made a second*': [f'{m["count"]}, {m["per_second"]:.0f}' if m else NONE for m in stimuli],
             '*prior; seeds*': [f'{m["by"]}; {len(m["seconds"])}' if m else NONE for m in stimuli]}
    lines = [f'| student | {" | ".join(results["studies"])} |', '| --- ' * (len(stimuli) + 1) + '|']
    return '\n'.join([*lines, *(f'| {name} | {" | ".join(cells)} |' for name, cells in rows.items()), ''])


def main_table(results: dict) -> str:
    """Markdown of the table behind the overview: a student of a study a row; kappa on real windows, stimuli and control, the gap (real
    minus stimuli) and what excitation adds (stimuli minus control); a study's last row holds means and how its stimuli were made.

    What the sweep does not hold, a method or a difference from the reference, is a dash.
    """
    reference = results['sweep']['reference']
    lines = ['| study | student | real windows | stimuli | unexcited control | gap: real minus stimuli [95 % interval] | '
             'stimuli minus control [95 % interval] |', '| --- | --- | --- | --- | --- | --- | --- |']
    for name, study in results['studies'].items():
        of = {(row['method'], row['student']): row for row in study['rows']}
        for twin in study['real']:
            stimuli, control = (of.get((method, twin['student'])) for method in ('stimuli', 'control'))
            cells = [_spread(twin), _spread(stimuli), _spread(control), _whole((stimuli or {}).get('gap')),
                     _whole(added(stimuli, control, reference))]
            lines.append(f'| {name} | {twin["student"]} | {" | ".join(cells)} |')
        stimuli, control = (_method(study, method) for method in ('stimuli', 'control'))
        how = (f'; {stimuli["count"]} stimuli by {stimuli["by"]}, {stimuli["per_second"]:.0f} a second; '
               f'{_seeds(study)}' if stimuli else '')
        real = np.mean([twin['kappa'] for twin in study['real']])
        cells = [_number(real), *(_number((m or {}).get('kappa')) for m in (stimuli, control)),
                 _whole((stimuli or {}).get('gap')), _whole(added(stimuli, control, reference))]
        lines.append(f'| {name} | *mean; teacher {study["teacher"]["kappa"]:.3f}{how}* | {" | ".join(cells)} |')
    notes = [f'- {name}: {note}' for name, study in results['studies'].items() for note in study['notes']]
    explained = ("Cohen's kappa on real test windows, mean ± standard deviation over seeds. "
                 f"* differs from 0 (p < {LEVEL:g} after Holm's correction within the study, for means among means).")
    return '\n'.join([*lines, '', explained, *([''] * bool(notes)), *notes, ''])


def added(stimuli: dict | None, control: dict | None, reference: str) -> dict | None:
    """Stimuli minus control with its interval and test, of two rows or means of which one is the reference; else None."""
    if not stimuli or not control:
        return None
    if reference == 'control':
        return stimuli['against_reference']
    if reference != 'stimuli' or not control['against_reference']:
        return None
    turned = control['against_reference']
    return {**turned, 'difference': -turned['difference'], 'ci95': turned['ci95'] and [-turned['ci95'][1], -turned['ci95'][0]]}


def _strangers(study: dict) -> float | None:
    """How often attackers are sure of strangers, a mean over them."""
    shares = [attacker['stranger_confident'] for attacker in (study['people'] or {}).values()]
    return float(np.mean(shares)) if shares else None


def _most(shares) -> float | None:
    """The highest share, that of the attacker who finds most; None where none is told."""
    return max((share for share in shares if share is not None), default=None)


def _number(value) -> str:
    return NONE if value is None else f'{value:.3f}'


def _rate(value) -> str:
    return NONE if value is None else f'{value:.0f}'


def _spread(row: dict | None) -> str:
    """Mean ± standard deviation of kappa."""
    return NONE if row is None else f'{row["kappa"]:.3f} ± {row["kappa_sd"]:.3f}'


def _marked(figure: dict) -> str:
    return f'{figure["difference"]:+.3f}' + ('*' if (figure.get('p_holm') or 1) < LEVEL else '')


def _whole(figure: dict | None, mark: bool = True) -> str:
    """A difference, marked, with its interval where there is one."""
    if figure is None:
        return NONE
    shown = _marked(figure) if mark else f'{figure["difference"]:+.3f}'
    return shown if figure['ci95'] is None else f'{shown} [{figure["ci95"][0]:+.3f}, {figure["ci95"][1]:+.3f}]'
