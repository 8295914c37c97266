"""The pictures of a comparison (:mod:`experiments.compare`)."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from neurostim import report

DOTS = 150  # an inch
LIMITS = (-0.2, 0.4)  # of a gap that is drawn: a method that teaches nothing must not flatten all others; beyond it is an arrow


def write(results: dict, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws whatever the results hold for each study: gaps.png, counts.png, steps.png, privacy.png, their names after the study's."""
    written = []
    for name, study in results['studies'].items():
        drawn = {'gaps': gaps(study), 'counts': curve(study['curves']['count'], 'stimuli'),
                 'steps': curve(study['curves']['steps'], 'steps of excitation', log=False), 'privacy': privacy(study)}
        for what, figure in drawn.items():
            if figure is not None:
                written.append(folder / f'{name}-{what}.png')
                figure.savefig(written[-1], dpi=DOTS, facecolor='white')
    return written


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
            if gap['ci95'] is not None:
                axes.plot(gap['ci95'], [place, place], color=colour, lw=2.5, alpha=0.5, solid_capstyle='butt')
            shown = np.clip(gap['difference'], *LIMITS)
            axes.plot([shown], [place], 's' if shown == gap['difference'] else '>' if shown > 0 else '<', color=colour, ms=4)
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
