"""The pictures of a comparison (:mod:`experiments.compare`): one of all studies for README, and some of each study."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from neurostim import report

DOTS = 150  # an inch
LIMITS = (-0.2, 0.4)  # of a gap that is drawn: a method that teaches nothing must not flatten all others; beyond it is an arrow


def write(results: dict, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws whatever the results hold: main.png, and for each study gaps.png, counts.png, steps.png, privacy.png, their names after the
    study's."""
    written = []
    whole = main(results)
    if whole is not None:
        written.append(folder / 'main.png')
        whole.savefig(written[-1], dpi=DOTS, facecolor='white')
    for name, study in results['studies'].items():
        drawn = {'gaps': gaps(study), 'counts': curve(study['curves']['count'], 'stimuli'),
                 'steps': curve(study['curves']['steps'], 'steps of excitation', log=False), 'privacy': privacy(study)}
        for what, figure in drawn.items():
            if figure is not None:
                written.append(folder / f'{name}-{what}.png')
                figure.savefig(written[-1], dpi=DOTS, facecolor='white')
    return written


def main(results: dict) -> Figure | None:
    """README's picture: a panel a study, a student a row: the gap in kappa of stimuli, and lighter that of the control, each with its 95 %
    interval; the last row is the mean. None where no study has stimuli."""
    studies = {name: study for name, study in results['studies'].items() if any(m['name'] == 'stimuli' for m in study['methods'])}
    if not studies:
        return None
    students = list(dict.fromkeys(twin['student'] for study in studies.values() for twin in study['real']))
    across = min(3, len(studies))
    down = -(-len(studies) // across)
    figure = Figure(figsize=(2.6 + 2.6 * across, 0.9 + down * (0.6 + 0.2 * (len(students) + 1))), layout='constrained')
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, study) in zip(panels, studies.items(), strict=False):
        for method, alpha, shift in (('control', 0.35, 0.17), ('stimuli', 1.0, -0.17)):
            found = [(students.index(row['student']), row['gap']) for row in study['rows'] if row['method'] == method]
            found += [(len(students), entry['gap']) for entry in study['methods'] if entry['name'] == method]
            for place, gap in found:
                _dot(axes, place + shift, gap, report.COLOURS[method], alpha)
            axes.plot([], [], 's', color=report.COLOURS[method], alpha=alpha, label={'control': 'unexcited control'}.get(method, method))
        axes.axvline(0, color='black', lw=0.8)
        axes.axhline(len(students) - 0.5, color='grey', lw=0.5)
        axes.set_title(report.plain(name, 32), fontsize=9)
        axes.grid(alpha=0.2, axis='x')
        axes.tick_params(labelsize=8)
    for axes in panels[len(studies):]:
        axes.set_axis_off()
    panels[0].set_yticks(range(len(students) + 1), [*(report.plain(student, 24) for student in students), 'mean'])
    ends = [end for study in studies.values() for row in study['rows'] if row['method'] in ('stimuli', 'control')
            for end in (row['gap']['difference'], *(row['gap']['ci95'] or ()), 0)]
    low, high = np.clip([min(ends), max(ends)], *LIMITS)
    panels[0].set(ylim=(len(students) + 0.5, -0.5), xlim=(low - 0.02, high + 0.02))
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, ncols=2, loc='outside upper right')
    figure.supxlabel('gap in kappa, real windows minus stimuli (or control)\n95 % interval; arrows: beyond the axis', fontsize=9)
    return figure


def _dot(axes, place: float, gap: dict, colour: str, alpha: float) -> None:
    """A gap with its interval, drawn within `LIMITS`; an arrow where the gap is beyond."""
    shown = np.clip(gap['difference'], *LIMITS)
    if gap['ci95'] is not None:
        axes.plot(np.clip(gap['ci95'], *LIMITS), [place, place], color=colour, lw=2, alpha=0.5 * alpha, solid_capstyle='butt')
    axes.plot([shown], [place], 's' if shown == gap['difference'] else '>' if shown > 0 else '<', color=colour, alpha=alpha, ms=4,
              markeredgewidth=0)


def gaps(study: dict) -> Figure:
    """A panel a student: every method's gap in kappa with its 95 % interval, and a last one for the mean over students."""
    students = [twin['student'] for twin in study['real']]
    methods = study['methods']
    figure = Figure(figsize=(1.6 + 1.5 * (len(students) + 1), 1.2 + 0.24 * len(methods)), layout='constrained')
    panels = figure.subplots(1, len(students) + 1, sharey=True, squeeze=False)[0]
    of = {(row['method'], row['student']): row['gap'] for row in study['rows']}
    places = np.arange(len(methods))
    for axes, student in zip(panels, [*students, None], strict=True):
        for place, method in zip(places, methods, strict=True):
            gap = method['gap'] if student is None else of[method['name'], student]
            colour = report.COLOURS['stimuli' if method['name'] == 'stimuli' else 'control' if method['name'] == 'control' else 'real']
            _dot(axes, place, gap, colour, 1.0)
        axes.axvline(0, color='black', lw=0.8, ls=':')
        axes.set_title(report.plain(student, 24) if student else 'mean', fontsize=9)
        axes.grid(alpha=0.15)
        axes.tick_params(labelsize=7)
        axes.set_xlim(LIMITS[0] - 0.02, LIMITS[1] + 0.02)
    panels[0].set_yticks(places, [method['name'] for method in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.supxlabel('gap in kappa, real minus method, 95 % interval', fontsize=9)
    return figure


def curve(points: list[dict], what: str, log: bool = True) -> Figure | None:
    """A panel a method, a line a student: kappa against what was varied, with the standard deviation over seeds; None without points."""
    if not points:
        return None
    methods, students = (list(dict.fromkeys(point[key] for point in points)) for key in ('method', 'student'))
    figure = Figure(figsize=(1 + 3 * len(methods), 3.2), layout='constrained')
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, methods, strict=True):
        for student, colour in zip(students, np.resize(report.CYCLE, len(students)), strict=True):
            own = [point for point in points if (point['method'], point['student']) == (method, student)]
            axes.errorbar([p['at'] for p in own], [p['kappa'] for p in own], [p['kappa_sd'] for p in own], marker='o', ms=3, capsize=2,
                          color=colour, label=report.plain(student, 24))
        axes.set_xscale('log' if log else 'symlog')
        axes.set(xlabel=what, title=method)
        axes.set_xticks(sorted({point['at'] for point in points}), labels=sorted({point['at'] for point in points}), rotation=45)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.15)
    panels[0].set_ylabel('kappa on real test windows')
    panels[-1].legend(fontsize=7)
    return figure


def privacy(study: dict) -> Figure | None:
    """Mean kappa over students against how often attackers are sure of somebody; the line is strangers. None where nobody was attacked."""
    methods = [method for method in study['methods'] if method['confident_mean'] is not None]
    if not methods:
        return None
    figure = Figure(figsize=(7.5, 4.2), layout='constrained')
    axes = figure.subplots()
    for number, method in enumerate(methods):
        colour, marker = report.CYCLE[number % len(report.CYCLE)], 'os^D'[number // len(report.CYCLE) % 4]
        axes.plot([method['confident_mean']], [method['kappa']], marker, color=colour, alpha=0.8, label=method['name'], ls='none')
    axes.axvline(np.mean([person['stranger_confident'] for person in study['people'].values()]), color='grey', ls=':', label='strangers')
    axes.set(xlabel='share of which attackers are sure of somebody', ylabel='kappa, a mean over students')
    axes.grid(alpha=0.15)
    figure.legend(fontsize=7, loc='outside right upper')
    return figure
