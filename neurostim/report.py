"""Results as a table on the terminal and as one self-contained HTML file.

The figures come from `results.json` (a missing one is None, with a note beside it), the pictures from arrays of the run. The
file needs no network: charts are inline SVG that takes the page's text colour, so that it reads in light, dark and print.
Names of classes, channels and students come from users: they are escaped, and stripped of control characters.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import re
import warnings

import jinja2
import markupsafe
import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from neurostim.evaluation.membership import NEGATIVE_CONTROL, NEGATIVE_CONTROL_PEOPLE

ABSENT = '–'
SOURCES = ('real', 'stimuli', 'control')
SECONDARY = {'sensitivity': 'sensitivity', 'specificity': 'specificity', 'f1': 'F1', 'auroc': 'AUROC'}
PICTURES = (
    'stimuli_x', 'stimuli_probabilities', 'real_x', 'real_y', 'confusion', 'curves', 'study_kind', 'sampling_rate_hz', 'channels', 'config',
)
# Differences below these are called equal in the words of the report (and the words say so).
SAME_KAPPA = 0.01
SAME_SHARE = 0.05
# Below this kappa a student has learnt next to nothing, and its gap says nothing either.
USELESS_KAPPA = 0.2

# Readable on white and on black alike.
COLOURS = {'real': '#3b82c4', 'stimuli': '#e08214', 'control': '#8c8c8c'}
CYCLE = ('#3b82c4', '#e08214', '#2a9d6f', '#d1495b', '#9a6fc4', '#8c6d46', '#d87cb4', '#8c8c8c', '#a8a12c', '#38a9b8')
INK = '#010203'  # stands for the page's text colour until the SVG is written
STYLE = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'neurostim', 'text.parse_math': False, 'font.size': 9, 'font.family': ['DejaVu Sans'],
    'text.color': INK, 'axes.labelcolor': INK, 'axes.edgecolor': INK, 'xtick.color': INK, 'ytick.color': INK, 'axes.titlesize': 9,
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.linewidth': 0.6, 'legend.frameon': False, 'legend.fontsize': 8,
    'figure.facecolor': 'none', 'axes.facecolor': 'none', 'savefig.facecolor': 'none', 'xtick.labelsize': 8, 'ytick.labelsize': 8,
}
MAX_CLASSES, MAX_CHANNELS, MAX_MATRIX_TEXT = 10, 8, 6


# ---------------------------------------------------------------------------------------------------- figures as text


def at(tree, *path):
    """The value at a path of keys, or None where a step is missing or null, or the value is not finite."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def number(value, digits: int | str = 3) -> str:
    """With so many digits after the point, or 'g': as many as it takes."""
    form = 'g' if digits == 'g' else f'.{digits}f'
    return ABSENT if value is None or not math.isfinite(value) else format(value, form)


def percent(share) -> str:
    """A share of 1 in percent; a dash where it is absent."""
    return ABSENT if share is None or not math.isfinite(share) else f'{100 * share:.1f} %'


def count(value) -> str:
    """A whole number, its thousands apart; a dash where it is absent."""
    return ABSENT if value is None or not math.isfinite(value) else f'{value:,.0f}'.replace(',', ' ')


def interval(bounds, digits: int = 3) -> str:
    """[low, high]; a dash where either is absent."""
    if bounds is None or any(b is None for b in bounds):
        return ABSENT
    return f'[{number(bounds[0], digits)}, {number(bounds[1], digits)}]'


def plain(name, longest: int = 60) -> str:
    """A user's name without control characters, which could steer a terminal, and not too long."""
    name = ''.join(c if c.isprintable() else ' ' for c in str(name)).strip()
    return name if len(name) <= longest else name[:longest - 1] + '…'


def listing(names, most: int = 10) -> str:
    """Names with commas; of more than `most`, the first ones and how many there are."""
    names = [plain(n) for n in names or ()]
    return ', '.join(names) if len(names) <= most else f'{", ".join(names[:most])}, … ({len(names)} in all)'


def notes(results) -> list[tuple[str, str]]:
    """Every note in the results, with where it stands: [(place, text)]."""
    found = []

    def visit(tree, place):
        if isinstance(tree, dict):
            for key, value in tree.items():
                is_note = key in ('note', 'notes') or key.endswith('_note')
                if is_note and value:
                    here = place if key in ('note', 'notes') else (*place, key.removesuffix('_note'))
                    found.extend((' / '.join(here) or 'study', plain(v, 500)) for v in ([value] if isinstance(value, str) else value))
                elif not is_note:
                    visit(value, (*place, plain(key)))
        elif isinstance(tree, list | tuple):
            for index, value in enumerate(tree):
                visit(value, (*place, plain(at(value, 'name') or index)))

    visit(results, ())
    return found


# ---------------------------------------------------------------------------------------------------- terminal


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
    rows = [['attacker', 'inhibited', 'accuracy', 'known', 'strangers', 'control', 'stimuli']]
    for attacker in at(privacy, 'association', 'attackers') or ():
        shares = [percent(at(attacker, f'{kind}_confident')) for kind in ('known', 'stranger', 'control', 'stimuli')]
        inhibited = {True: 'yes', False: 'no'}.get(at(attacker, 'inhibited'), ABSENT)
        rows.append([plain(attacker['name'], 24), inhibited, percent(at(attacker, 'known_accuracy')), *shares])
    lines = ['privacy: association, share named with at least 90 % belief']
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


# ---------------------------------------------------------------------------------------------------- plain words


def reading(results: dict) -> list[str]:
    """What the figures say, in sentences for a newcomer; nothing is claimed that the numbers do not carry."""
    said = []
    kappa, tests = at(results, 'teacher', 'kappa'), at(results, 'study', 'test_windows')
    if kappa is not None:
        said.append(
            f'The teacher reaches kappa {kappa:.3f} on {count(tests)} real windows that were held out. Kappa is agreement beyond chance:'
            ' 0 is guessing, 1 is perfect.' + (' This teacher is weak: a small gap to it is easily had.' if kappa < 0.4 else '')
        )
    students = [s for s in at(results, 'students') or () if at(s, 'kappa_gap') is not None]
    able = [s for s in students if (at(s, 'real', 'kappa') or 0) >= USELESS_KAPPA]
    if able:
        said += _gap_sentences(able)
    for student in students:
        if student not in able:
            said.append(
                f'{plain(student["name"])} learns next to nothing even from real windows (kappa {number(at(student, "real", "kappa"))}):'
                ' its gap says nothing about the stimuli.'
            )
    said += _control_sentences([s for s in able if at(s, 'control', 'kappa') is not None and at(s, 'stimuli', 'kappa') is not None])
    accepted = at(results, 'stimuli', 'accepted_fraction')
    if accepted is not None and accepted < 0.9:
        said.append(f'Only {percent(accepted)} of the stimuli were accepted; the others did not reach the belief asked for.')
    seeds = [at(s, 'seeds') for s in students if at(s, 'seeds') is not None]
    if seeds and min(seeds) < 3:
        fewest = f'{min(seeds)} seed{"s" * (min(seeds) > 1)}'
        said.append(f'Some students were trained with {fewest} only: differences of a few thousandths are luck.')
    return said


def _gap_sentences(students) -> list[str]:
    best, worst = (choose(students, key=lambda s: s['kappa_gap']) for choose in (min, max))
    said = []
    for student, size in ((best, 'the smallest'), (worst, 'the largest')) if worst is not best else ((best, 'a'),):
        bounds = interval(at(student, 'kappa_gap_ci95'))
        said.append(
            f'{plain(student["name"])} has {size} gap to its twin that saw the real windows: trained on stimuli alone it reaches kappa'
            f' {number(at(student, "stimuli", "kappa"))} instead of {number(at(student, "real", "kappa"))}, a gap of'
            f' {student["kappa_gap"]:.3f}' + (f' (95 % interval {bounds}).' if bounds != ABSENT else '.')
        )
    gap, real, stimuli = worst['kappa_gap'], at(worst, 'real', 'accuracy'), at(worst, 'stimuli', 'accuracy')
    if real is not None and stimuli is not None:
        mistakes = 1000 * (real - stimuli)
        said.append(
            f'A gap of {gap:.3f} means: of the agreement beyond chance that there is to have, this student has'
            f' {abs(100 * gap):.1f} percentage points {"less" if gap >= 0 else "more"}. Counted in windows, it makes about'
            f' {abs(mistakes):.0f} {"more" if mistakes >= 0 else "fewer"} mistakes in every 1000.'
        )
    known = [s for s in students if interval(at(s, 'kappa_gap_ci95')) != ABSENT]
    level = [s for s in known if s['kappa_gap_ci95'][0] <= 0 <= s['kappa_gap_ci95'][1]]
    if level:
        said.append(
            f'For {listing([s["name"] for s in level])} the interval includes zero: this test cannot tell a student of stimuli from one'
            ' of real windows. A wide interval may do so for want of test data.'
        )
    better = [s for s in known if s['kappa_gap_ci95'][1] < 0]
    if better:
        said.append(f'{listing([s["name"] for s in better])} did better on stimuli than on the real windows, by more than chance explains.')
    return said


def _control_sentences(students) -> list[str]:
    gain = {plain(s['name']): s['stimuli']['kappa'] - s['control']['kappa'] for s in students}
    helped = [n for n, g in gain.items() if g > SAME_KAPPA]
    same = [n for n, g in gain.items() if g <= SAME_KAPPA]
    said = []
    if helped:
        best = max(helped, key=gain.get)
        said.append(
            f'Excitation helps {listing(helped)}: kappa rises above that of the control, most for {best} (by {gain[best]:.3f}).'
            ' The control is the same starting points, labelled by the teacher but not excited.'
        )
    if same:
        said.append(
            f'For {listing(same)} the control is as good as the stimuli or better (within {SAME_KAPPA}): there the labels that the teacher'
            ' gives to unexcited starting points carry the task, and excitation adds nothing that this test can see.'
        )
    return said


def association_verdict(attacker) -> str:
    """What one identity attacker shows, given its two controls."""
    known, stranger, stimuli = (at(attacker, f'{kind}_confident') for kind in ('known', 'stranger', 'stimuli'))
    if known is None or stimuli is None:
        return 'not available'
    said = 'took part in the excitation: says nothing of other attackers; ' if at(attacker, 'inhibited') else ''
    if stranger is None:
        return said + 'no strangers to compare with: inconclusive'
    if known <= stranger + SAME_SHARE:
        return said + 'inconclusive: as sure about strangers as about people it knows, so it does not recognise anybody'
    if stimuli <= stranger + SAME_SHARE:
        return said + 'no more sure about stimuli than about strangers, whom it cannot know'
    return said + 'more sure about stimuli than about strangers: stimuli may betray people to it'


def strongest(attack) -> dict | None:
    """Of all attacks through stimuli the one with the highest AUC; negative controls are none."""
    through = [a for a in at(attack, 'attacks') or () if at(a, 'against') == 'stimuli' and at(a, 'auc') is not None
               and at(a, 'attack') not in (NEGATIVE_CONTROL, NEGATIVE_CONTROL_PEOPLE)]
    return max(through, key=lambda a: a['auc'], default=None)


def membership_verdict(attack) -> str:
    """What one membership attack shows, given its positive control."""
    real, stimuli = at(attack, 'real', 'auc_ci95'), at(attack, 'stimuli', 'auc_ci95')
    if interval(real) == ABSENT or interval(stimuli) == ABSENT:
        return 'Not available or without an interval: no conclusion.'
    if real[0] <= 0.5:
        return 'Inconclusive: the attack does not work on the student of real windows either, so its failure on stimuli shows nothing.'
    if stimuli[0] <= 0.5:
        return 'The attack works on the student of real windows and does no better than chance on the student of stimuli.'
    weaker = stimuli[1] < real[0]
    return 'Membership leaks through the stimuli' + (
        ', though less than from the student of real windows.' if weaker else ', about as much as from the student of real windows.')


def linkage_verdict(linkage) -> str:
    """Whether nearness to stimuli tells who is in, given the positive control."""
    bounds, control = at(linkage, 'auc_ci95'), at(linkage, 'control_auc')
    if interval(bounds) == ABSENT:
        return 'Not available.'
    if control is None or control < 0.6:
        return 'Inconclusive: real windows in place of stimuli would not tell either.'
    if bounds[0] <= 0.5:
        return 'Nearness to stimuli does not tell people whom they were made from from strangers.'
    return 'Nearness to stimuli tells people whom they were made from from strangers: they are linked.'


def neighbours_verdict(near) -> str:
    """The contract's `neighbours` entry in a sentence."""
    stimuli, held = at(near, 'stimuli_to_train'), at(near, 'holdout_to_train')
    if stimuli is None or held is None:
        return 'Not available.'
    if stimuli >= held:
        return 'By the median, stimuli lie no nearer to training windows than held-out real windows do. Single copies would not show here.'
    return 'By the median, stimuli lie nearer to training windows than held-out real windows do: look for copies.'


# ---------------------------------------------------------------------------------------------------- charts


def svg(figure: Figure, label: str) -> markupsafe.Markup:
    """A figure as inline SVG without references to anything outside, its ink the colour of the page's text."""
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # glyphs that matplotlib's font lacks: the reader's browser has them
        FigureCanvasSVG(figure).print_svg(out, metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None})
    text = out.getvalue()
    text = text[text.index('<svg'):].replace(INK, 'currentColor')
    text = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', '', text, count=3)
    return markupsafe.Markup(text.replace('<svg', f'<svg role="img" aria-label="{markupsafe.escape(label)}"', 1))


def gap_chart(students) -> Figure:
    """Left: each student's kappa trained on real windows, stimuli and control. Right: its gap with the 95 % interval."""
    figure = Figure(figsize=(8.6, 1.1 + 0.33 * len(students)), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = np.arange(len(students))
    for source, marker in zip(SOURCES, 'osD', strict=True):
        values = [at(s, source, 'kappa') for s in students]
        fill = 'none' if source == 'control' else COLOURS[source]
        left.plot([np.nan if v is None else v for v in values], rows, marker, color=COLOURS[source], mfc=fill, ms=6, label=source)
    for row, student in enumerate(students):
        ends = [at(student, source, 'kappa') for source in ('real', 'stimuli')]
        if None not in ends:
            left.plot(ends, [row, row], color=COLOURS['stimuli'], lw=1.2, zorder=0)
        gap, ci = at(student, 'kappa_gap'), at(student, 'kappa_gap_ci95')
        if interval(ci) != ABSENT:
            right.plot(ci, [row, row], color=COLOURS['stimuli'], lw=2.5, alpha=0.5, solid_capstyle='butt')
        if gap is not None:
            right.plot([gap], [row], 's', color=COLOURS['stimuli'])
    left.set_yticks(rows, [plain(s['name'], 24) for s in students])
    left.set_ylim(len(students) - 0.5, -0.5)
    left.set_xlabel('kappa on the real test windows')
    left.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3)
    right.axvline(0, color=INK, lw=0.8, ls=':')
    right.set_xlabel('kappa gap (real minus stimuli), 95 % interval')
    for axes in (left, right):
        axes.grid(axis='both', color=INK, alpha=0.12, lw=0.6)
    return figure


def examples_chart(pictures, classes) -> Figure | None:
    """Real windows (left half) beside stimuli (right half), a class a row; how they are drawn depends on the study's kind."""
    sides = {'real': (pictures.get('real_x'), pictures.get('real_y')),
             'stimuli': (pictures.get('stimuli_x'), pictures.get('stimuli_probabilities'))}
    sides = {name: (np.asarray(x), np.asarray(y)) for name, (x, y) in sides.items() if x is not None and y is not None and len(x)}
    if 'stimuli' not in sides:
        return None
    labels = {name: y.argmax(1) if y.ndim == 2 else y for name, (_, y) in sides.items()}
    shown = [c for c in range(len(classes)) if any((label == c).any() for label in labels.values())][:MAX_CLASSES]
    channels = min(sides['stimuli'][0].shape[-1], MAX_CHANNELS)
    draw, columns, inches = {'images': (_draw_image, 5, 0.75), 'features': (_draw_features, 1, 1.3)}.get(
        pictures.get('study_kind'), (_draw_window, 3, 0.8 + 0.15 * channels))
    limits = np.percentile(np.concatenate([x.ravel() for x, _ in sides.values()]), [1, 99])

    height = 0.9 + inches * len(shown)
    figure = Figure(figsize=(8.6, height))
    edges = np.linspace(0.16, 1, len(sides) + 1)  # the room at the left is for names of classes and channels
    for (name, (x, y)), left, right in zip(sides.items(), edges[:-1], edges[1:], strict=True):
        grid = figure.add_gridspec(len(shown), columns, left=left + 0.005, right=right - 0.015, bottom=0.4 / height, top=1 - 0.5 / height,
                                   wspace=0.06, hspace=0.25).subplots(squeeze=False)
        title = {'real': 'real windows', 'stimuli': 'stimuli, with the belief of the teacher'}[name]
        figure.text((left + right) / 2, 1 - 0.2 / height, title, color=COLOURS[name], fontsize=10.5, ha='center', va='center')
        for row, c in enumerate(shown):
            of_class = np.flatnonzero(labels[name] == c)
            for column, axes in enumerate(grid[row]):
                axes.set(xticks=[], yticks=[])
                if column >= len(of_class):
                    axes.axis('off')
                    continue
                which = of_class if columns == 1 else of_class[column]
                draw(axes, x[which], limits, pictures, first=left == edges[0] and column == 0, last=row == len(shown) - 1)
                if name == 'stimuli' and columns > 1:
                    axes.set_title(f'{y[which].max():.2f}', fontsize=6.5, pad=1.5)
            if left == edges[0]:
                box = grid[row, 0].get_position()
                figure.text(0.005, (box.y0 + box.y1) / 2, plain(classes[c], 14), fontsize=9, fontweight='bold', va='center')
    return figure


def _draw_window(axes, window, limits, pictures, first, last):
    """One window [time, channels] as lines, channels stacked; the time axis in seconds where the rate is known."""
    window = window[:, :MAX_CHANNELS]
    rate, step = pictures.get('sampling_rate_hz'), max(float(limits[1] - limits[0]), 1e-6)
    time = np.arange(len(window)) / (rate or 1)
    offsets = -step * np.arange(window.shape[1])
    for channel, offset in enumerate(offsets):
        line = np.clip(window[:, channel], limits[0] - step / 2, limits[1] + step / 2) + offset
        axes.plot(time, line, lw=0.9, color=CYCLE[channel % len(CYCLE)])
    axes.set_ylim(limits[0] + offsets[-1] - step * 0.3, limits[1] + step * 0.3)
    names = pictures.get('channels')
    if first and len(offsets) > 1 and names is not None and len(names) >= len(offsets):
        axes.set_yticks(offsets + np.mean(limits), [plain(n, 10) for n in names[:len(offsets)]], fontsize=6)
    if last:
        end = len(window) / (rate or 1)
        ticks = axes.set_xticks([0, end / 2, end], [f'{t:.3g}' for t in (0, end / 2, end)], fontsize=7)
        ticks[0].label1.set_ha('left')
        ticks[-1].label1.set_ha('right')
        axes.set_xlabel('seconds' if rate else 'time step', fontsize=7, labelpad=1)


def _draw_image(axes, image, limits, pictures, first, last):
    """One image [height, width, channels]: colour where it has three channels, else the first channel in grey."""
    span = max(float(limits[1] - limits[0]), 1e-6)
    shown = np.clip((image - limits[0]) / span, 0, 1)
    axes.imshow(shown if image.shape[-1] == 3 else shown[..., 0], cmap='gray', vmin=0, vmax=1, interpolation='nearest')


def _draw_features(axes, vectors, limits, pictures, first, last):
    """Up to 24 vectors [k, features] as rows of a heat map."""
    axes.imshow(vectors[:24], aspect='auto', cmap='viridis', vmin=limits[0], vmax=limits[1], interpolation='nearest')
    if last:
        axes.set_xlabel(f'{vectors.shape[1]} features; a row is an example', fontsize=7)


def confusion_chart(matrices, classes) -> Figure:
    """One student's confusion matrices [true, predicted] after training on real windows, stimuli and control; rows sum to 100 %."""
    present = [source for source in SOURCES if matrices.get(source) is not None]
    size = min(2.8, 0.9 + 0.3 * len(classes))
    below = 0.5 if len(classes) <= 3 else 0.8  # inches for the names of classes, upright where there are many
    width, height = 1.0 + (size + 0.12) * len(present), size + 0.25 + below
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0.95 / width, right=1 - 0.05 / width, bottom=below / height, top=1 - 0.25 / height, wspace=0.12 / size)
    short = [plain(c, 10) for c in classes]
    for axes, source in zip(figure.subplots(1, len(present), squeeze=False)[0], present, strict=True):
        counts = np.asarray(matrices[source])
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        cells = np.zeros((*counts.shape, 4))
        cells[..., :3], cells[..., 3] = matplotlib.colors.to_rgb(COLOURS[source]), 0.7 * share
        axes.imshow(cells, interpolation='nearest')
        if len(classes) <= MAX_MATRIX_TEXT:
            for (i, j), n in np.ndenumerate(counts):
                axes.text(j, i, f'{100 * share[i, j]:.0f} %\n{n}', ha='center', va='center', fontsize=6.5 if len(classes) > 3 else 8)
        axes.set_title(source, color=COLOURS[source])
        axes.spines[:].set_visible(True)
        ticks = np.arange(len(classes)) if len(classes) <= 20 else []
        names = short if len(ticks) else []
        axes.set_xticks(ticks, names, rotation=90 if len(classes) > 3 else 0, fontsize=7)
        axes.set_yticks(ticks, names if source == present[0] else [''] * len(names), fontsize=7)
        axes.set_xlabel('predicted', fontsize=8)
        if source == present[0]:
            axes.set_ylabel('true', fontsize=8)
    return figure


def curves_chart(curves) -> Figure:
    """Losses and validation kappa over training steps, a model a colour."""
    figure = Figure(figsize=(8.6, 3.1), layout='constrained')
    loss, kappa = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(curves.items()):
        for axes, key, style in ((loss, 'train_loss', ':'), (loss, 'validation_loss', '-'), (kappa, 'validation_kappa', '-')):
            steps, values = (np.array([] if curve.get(k) is None else curve[k], float) for k in ('step', key))
            shared = min(len(steps), len(values))
            label = plain(name, 24) if axes is kappa else None
            axes.plot(steps[:shared], values[:shared], style, color=CYCLE[index % len(CYCLE)], lw=1.3, label=label)
    loss.set(xlabel='step', ylabel='loss (dotted: training, line: validation)', yscale='log')
    loss.yaxis.set_major_formatter('{x:g}')
    loss.yaxis.set_minor_formatter(NullFormatter())
    kappa.set(xlabel='step', ylabel='validation kappa')
    if 0 < len(curves) <= 12:
        kappa.legend(loc='lower right')
    for axes in (loss, kappa):
        axes.grid(color=INK, alpha=0.12, lw=0.6)
    return figure


def beliefs_chart(probabilities, classes) -> Figure:
    """How sure the teacher is of its stimuli: the histogram of its largest belief, coloured by the class it believes in."""
    probabilities = np.asarray(probabilities)
    label, belief = probabilities.argmax(1), probabilities.max(1)
    figure = Figure(figsize=(8.6, 2.6), layout='constrained')
    axes = figure.subplots()
    shown = range(min(len(classes), MAX_CLASSES))
    axes.hist([belief[label == c] for c in shown], bins=np.linspace(1 / probabilities.shape[1], 1, 31), stacked=True,
              color=[CYCLE[c] for c in shown], label=[plain(classes[c], 24) for c in shown])
    axes.set(xlabel="teacher's belief in the stimulus's class", ylabel='stimuli')
    axes.legend(loc='upper left', ncols=1 + len(shown) // 6)
    return figure


def charts(results: dict, pictures: dict) -> dict:
    """The charts: {name: SVG, or None where arrays are missing}, and 'confusion': [(student, SVG)]."""
    classes = at(results, 'study', 'classes') or ()
    students = at(results, 'students') or ()
    probabilities, confusion = pictures.get('stimuli_probabilities'), pictures.get('confusion') or {}
    with matplotlib.rc_context(STYLE):
        drawn = {
            'gap': gap_chart(students) if students else None,
            'examples': examples_chart(pictures, classes),
            'beliefs': beliefs_chart(probabilities, classes) if probabilities is not None and len(probabilities) else None,
            'curves': curves_chart(pictures['curves']) if pictures.get('curves') else None,
        }
        made = {name: figure and svg(figure, f'chart: {name}') for name, figure in drawn.items()}
        made['confusion'] = [
            (plain(name), svg(confusion_chart(matrices, classes), f'confusion matrices of {plain(name)}'))
            for name, matrices in confusion.items() if any(matrices.get(s) is not None for s in SOURCES)
        ]
    return made


# ---------------------------------------------------------------------------------------------------- HTML


def write(path, results: dict, pictures: dict) -> None:
    """Writes the report, whole or not at all: a failure leaves an earlier report as it was.

    Args:
      path: of the HTML file; its folder exists.
      results: as in results.json.
      pictures: any of `PICTURES`: stimuli_x [k, ...], stimuli_probabilities [k, classes], real_x [m, ...], real_y [m], confusion
        {student: {'real' | 'stimuli' | 'control': int [classes, classes]}}, curves {model: {'step' | 'train_loss' |
        'validation_loss' | 'validation_kappa': [points]}}, study_kind ('windows', 'features' or 'images'), sampling_rate_hz,
        channels [names], config (text).
    """
    unknown = set(pictures) - set(PICTURES)
    if unknown:
        raise ValueError(f'unknown pictures {sorted(unknown)}: know {", ".join(PICTURES)}')
    page = html(results, pictures)
    path = pathlib.Path(path)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        partial.write_text(page, encoding='utf-8')
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def html(results: dict, pictures: dict) -> str:
    """The report as text."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals.update(at=at, SOURCES=SOURCES, SAME_SHARE=SAME_SHARE)
    environment.filters.update(
        number=number, percent=percent, count=lambda n: count(n).replace(' ', '\u00a0'), interval=interval, plain=plain, listing=listing,
        association_verdict=association_verdict, membership_verdict=membership_verdict, neighbours_verdict=neighbours_verdict,
        linkage_verdict=linkage_verdict,
    )
    students = at(results, 'students') or ()
    given = {key for s in students for source in SOURCES for key in SECONDARY if at(s, source, key) is not None}
    secondary = {key: name for key, name in SECONDARY.items() if key in given}
    return environment.from_string(TEMPLATE).render(
        study=at(results, 'study'), teacher=at(results, 'teacher'), stimuli=at(results, 'stimuli'), students=students,
        privacy=at(results, 'privacy'), secondary=secondary, reading=reading(results), notes=notes(results),
        charts=charts(results, pictures), shows_real=pictures.get('real_x') is not None,
        config=pictures.get('config'), css=markupsafe.Markup(CSS),
    )


CSS = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5b6475; --paper: #fff; --card: #f4f6f9; --line: #d9dee7; --accent: #b8650a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --soft: #9aa5b8; --paper: #14181f; --card: #1d232d; --line: #343d4b; --accent: #f0a04b; } }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb; --accent: #8a4a00; }
  section, figure, tr, .card { break-inside: avoid; } h2 { break-after: avoid; } body { font-size: 10pt; } main { padding: 0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; } h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); } h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, li { max-width: 48rem; } li { margin: .3rem 0; } .soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.5rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.25; font-variant-numeric: tabular-nums; } .card span { color: var(--soft);
  font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0;
  width: 100%; }
caption { text-align: left; caption-side: bottom; padding-top: .4rem; } th, td { padding: .35rem .6rem; text-align: right; border-bottom:
1px solid var(--line); }
th[colspan] { text-align: center; }
th:first-child, td:first-child, td.text, th.text { text-align: left; } thead th { color: var(--soft); font-weight: 600; vertical-align:
bottom; }
td.key { font-weight: 650; } td.text { font-size: .85rem; min-width: 15rem; } tr.inhibited td { color: var(--soft); }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; display: block; } svg text { font-family: system-ui, sans-serif
!important; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: .5rem 2rem; }
.grid.large { grid-template-columns: minmax(0, 48rem); }
.box { border-left: 4px solid var(--accent); background: var(--card); padding: .6rem 1rem; margin: 1rem 0; } .box p { margin: .3rem 0; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; overflow-x: auto; font-size: .8rem;
white-space: pre-wrap; }
code { overflow-wrap: anywhere; } summary { cursor: pointer; }
"""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>neurostim: {{ at(study, 'name')|plain }}</title>
<style>{{ css }}</style>
</head>
<body><main>
<p class="soft">neurostim report</p>
<h1>{{ at(study, 'name')|plain }}</h1>
<p>{{ at(study, 'train_windows')|count }} training and {{ at(study, 'test_windows')|count }} held-out test windows of
{{ at(study, 'subjects')|count }} subjects; classes: {{ at(study, 'classes')|listing }}. A <em>teacher</em>
({{ (at(teacher, 'models') or ())|map('plain')|join(' + ') }})
learnt from the training windows. <em>Stimuli</em> are synthetic inputs found by exciting
its outputs. <em>Students</em> learnt from the stimuli alone and are tested here on the real held-out windows.</p>
<div class="cards">
<div class="card"><b>{{ at(teacher, 'kappa')|number }}</b><span>teacher's kappa (accuracy {{ at(teacher, 'accuracy')|number }})</span></div>
{% set ranked = students|selectattr('kappa_gap', 'defined')|rejectattr('kappa_gap', 'none')|sort(attribute='kappa_gap')|list %}
{% if ranked %}
<div class="card"><b>{{ ranked[0].kappa_gap|number }}</b><span>smallest kappa gap: {{ ranked[0].name|plain }}</span></div>
<div class="card"><b>{{ ranked[-1].kappa_gap|number }}</b><span>largest kappa gap: {{ ranked[-1].name|plain }}</span></div>
{% endif %}
<div class="card"><b>{{ at(stimuli, 'count')|count }}</b><span>stimuli by {{ at(stimuli, 'method')|plain }},
{{ at(stimuli, 'per_second')|count }} a second</span></div>
<div class="card"><b>{{ at(stimuli, 'accepted_fraction')|percent }}</b><span>of the stimuli accepted</span></div>
</div>

<section><h2>In plain words</h2>
{% if reading %}<ul>{% for sentence in reading %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% else %}<p>No student was evaluated: there is nothing to compare yet.</p>{% endif %}
</section>

{% if students %}
<h2>Students: real windows, stimuli, control</h2>
{% if charts.gap %}<figure>{{ charts.gap }}<figcaption>Dots: kappa of the same student trained on real windows, on stimuli, and on the
control. Right: the difference real minus stimuli; left of zero, stimuli teach better.</figcaption></figure>{% endif %}
<div class="wide"><table>
<thead><tr><th rowspan="2">student</th><th rowspan="2">seeds</th><th colspan="3">accuracy</th><th colspan="3">kappa</th>
<th rowspan="2">kappa gap</th><th rowspan="2">95&nbsp;% interval</th></tr>
<tr>{% for _ in range(2) %}{% for source in SOURCES %}<th style="text-align:right">{{ source }}</th>{% endfor %}{% endfor %}</tr></thead>
<tbody>{% for s in students %}<tr><td>{{ s.name|plain }}</td><td>{{ at(s, 'seeds')|count }}</td>
{% for metric in ('accuracy', 'kappa') %}{% for source in SOURCES %}<td>{{ at(s, source, metric)|number }}</td>{% endfor %}{% endfor %}
<td class="key">{{ at(s, 'kappa_gap')|number }}</td><td>{{ at(s, 'kappa_gap_ci95')|interval }}</td></tr>
{% endfor %}</tbody>
<caption>Means over seeds, all on the same real held-out windows. <b>Real</b>: trained on the real training windows. <b>Stimuli</b>: on
stimuli alone. <b>Control</b>: on unexcited starting points with the teacher's labels. <b>Gap</b>: kappa real minus kappa
stimuli.</caption>
</table></div>
{% endif %}

{% if secondary %}
<details><summary>More figures of each student: {{ secondary.values()|join(', ') }}</summary>
<div class="wide"><table><thead><tr><th rowspan="2">student</th>{% for name in secondary.values() %}<th colspan="3">{{ name }}</th>
{% endfor %}</tr>
<tr>{% for _ in secondary %}{% for source in SOURCES %}<th style="text-align:right">{{ source }}</th>{% endfor %}{% endfor %}</tr></thead>
<tbody>{% for s in students %}<tr><td>{{ s.name|plain }}</td>
{% for key in secondary %}{% for source in SOURCES %}<td>{{ at(s, source, key)|number }}</td>{% endfor %}{% endfor %}</tr>
{% endfor %}</tbody></table></div></details>
{% endif %}

{% if charts.examples %}
<h2>Stimuli beside real windows</h2>
<figure>{{ charts.examples }}<figcaption>Examples, a class a row. Stimuli need not look real: they hold what the teacher's decision rests
on. At most ten classes and eight channels are drawn.</figcaption></figure>
{% if shows_real %}<p class="soft"><b>This page shows real windows: it is not for release.</b></p>{% endif %}
{% endif %}
{% if charts.beliefs %}
<h3>How sure the teacher is of its stimuli</h3>
<figure>{{ charts.beliefs }}<figcaption>A stimulus's label is the teacher's whole softmax; this is its largest entry.</figcaption></figure>
{% endif %}
{% set counts = at(stimuli, 'class_counts') %}
{% if counts %}<p class="soft">Stimuli by class:
{% for n in counts %}{{ (at(study, 'classes') or [])[loop.index0]|default('class ' ~ loop.index0)|plain }}:
{{ n|count }}{{ '; ' if not loop.last else '.' }}{% endfor %}</p>{% endif %}

{% if charts.confusion %}
<h2>Who is mistaken for whom</h2>
<p class="soft">Rows are the true class and sum to 100&nbsp;%; below each share the number of windows.</p>
<div class="grid{{ ' large' if (at(study, 'classes') or ())|length > 3 }}">
{% for name, chart in charts.confusion %}<figure><figcaption><b>{{ name }}</b></figcaption>{{ chart }}</figure>
{% endfor %}</div>
{% endif %}
{% if charts.curves %}
<h2>Training</h2>
<figure>{{ charts.curves }}<figcaption>Validation uses a part of the training windows, never the test windows.</figcaption></figure>
{% endif %}

{% if privacy is not none %}
<h2>Privacy: whom do the stimuli betray?</h2>
<p>The attacks below were tried against the stimuli. Each stands beside controls: a <em>positive control</em>, on which the attack must
succeed if it is worth anything, and a <em>negative control</em>, on which it cannot. An attack that fails its positive control shows
nothing.</p>
<h3>Association: does an attacker recognise a person?</h3>
{% set attackers = at(privacy, 'association', 'attackers') %}
{% if attackers %}
<div class="wide"><table><thead><tr><th>attacker</th><th>accuracy</th><th>known people</th><th>strangers</th><th>control</th>
<th>stimuli</th>
<th class="text">reading</th></tr></thead><tbody>
{% for a in attackers %}<tr{% if at(a, 'inhibited') %} class="inhibited"{% endif %}>
<td>{{ a.name|plain }}{{ ' (inhibited)' if at(a, 'inhibited') }}</td>
<td>{{ at(a, 'known_accuracy')|percent }}</td><td>{{ at(a, 'known_confident')|percent }}</td>
<td>{{ at(a, 'stranger_confident')|percent }}</td><td>{{ at(a, 'control_confident')|percent }}</td>
<td class="key">{{ at(a, 'stimuli_confident')|percent }}</td><td class="text">{{ a|association_verdict }}</td></tr>{% endfor %}</tbody>
<caption>An attacker is a classifier trained to name the person a window comes from. <b>Accuracy</b>: on new windows of people it knows. The
other columns: the share of windows for which it names somebody with at least 90&nbsp;% belief. <b>Known people</b> is the positive control.
<b>Strangers</b> (people it never saw) is the negative control: what it says of them is false confidence. <b>Control</b>: unexcited starting
points. <b>Inhibited</b>: excitation was steered away from this very network, so it says nothing of others. Shares that differ by less than
{{ (100 * SAME_SHARE)|number(0) }} percentage points are read as equal.</caption></table></div>
{% else %}<p>Not available; see the notes.</p>{% endif %}
{% set linkage = at(privacy, 'association', 'linkage') %}
{% if at(linkage, 'auc') is not none %}
<h3>Linkage: do somebody's recordings lie nearer to stimuli than a stranger's do?</h3>
<p>By nearness to stimuli, a person whom they were made from ranks before a stranger with probability {{ linkage.auc|number }}
{{ at(linkage, 'auc_ci95')|interval }} (0.5 is a coin toss); were real windows released instead, with probability
{{ at(linkage, 'control_auc')|number }}. {{ linkage|linkage_verdict }}</p>
{% endif %}

<h3>Membership: was this person, or this recording, in the training data?</h3>
{% set units = [] %}
{% for unit in ('record', 'subject') %}{% if at(privacy, 'membership', unit) is not none %}{{ units.append(unit) or '' }}{% endif %}
{% endfor %}
{% if units %}
<div class="wide"><table><thead><tr><th>asked of a</th><th class="text">attack</th><th>shadow models</th><th>trained on</th><th>AUC</th>
<th>95&nbsp;% interval</th><th>TPR at 1&nbsp;% FPR</th></tr></thead><tbody>
{% for unit in units %}{% set attack = at(privacy, 'membership', unit) %}{% for source in ('real', 'stimuli') %}
<tr><td>{{ unit }}</td><td class="text" style="min-width:6rem">{{ (at(attack, 'attack') or '–')|plain }}</td>
<td>{{ at(attack, 'shadow_models')|count }}</td>
<td>{{ 'real windows' if source == 'real' else 'stimuli' }}</td><td class="key">{{ at(attack, source, 'auc')|number }}</td>
<td>{{ at(attack, source, 'auc_ci95')|interval }}</td><td>{{ at(attack, source, 'tpr_at_1pct_fpr')|percent }}</td></tr>
{% endfor %}{% endfor %}</tbody>
<caption>AUC 0.5 is a coin toss, 1 a sure answer. The last column: of true members, how many are found when one non-member in a hundred is
wrongly accused (chance: 1&nbsp;%). The student of real windows is the positive control.</caption></table></div>
<ul>{% for unit in units %}<li>For one {{ unit }}: {{ at(privacy, 'membership', unit)|membership_verdict }}</li>{% endfor %}</ul>
{% for unit in units %}{% if at(privacy, 'membership', unit, 'attacks') %}
<details><summary>Every attack on one {{ unit }}</summary>
<div class="wide"><table><thead><tr><th class="text">attack</th><th>on</th><th>AUC</th>
<th>95&nbsp;% interval</th><th>TPR at 1&nbsp;% FPR</th><th>epsilon at least</th></tr></thead><tbody>
{% for a in privacy.membership[unit].attacks %}<tr><td class="text">{{ a.attack|plain }}</td><td>{{ a.against|plain }}</td>
<td>{{ at(a, 'auc')|number }}</td><td>{{ at(a, 'auc_ci95')|interval }}</td><td>{{ at(a, 'tpr_at_1pct_fpr')|percent }}</td>
<td>{{ at(a, 'epsilon_lower_bound')|number(2) }}</td></tr>{% endfor %}</tbody></table></div></details>
{% endif %}{% endfor %}
{% set canaries = at(privacy, 'membership', 'canaries') %}
{% if canaries is not none %}
<p>Canaries: {{ canaries.planted|count }} windows with a wrong label were planted.
{% for copies, found in canaries.items() if found is mapping %}
With {{ copies|plain }}, the attack tells a planted one with AUC {{ at(found, 'stimuli', 'auc')|number }} through stimuli
({{ at(found, 'real', 'auc')|number }} through a student of real windows).{% endfor %}</p>
{% endif %}
{% if at(privacy, 'membership', 'pipelines') is not none %}
<p class="soft">Attacked are shadow pipelines, {{ privacy.membership.pipelines|plain(200) }}.</p>
{% endif %}
{% else %}<p>Not available; see the notes.</p>{% endif %}

<h3>Neighbours: are stimuli copies of training windows?</h3>
{% set near = at(privacy, 'neighbours') %}
<p>Median distance to the nearest training window: {{ at(near, 'stimuli_to_train')|number }} from stimuli,
{{ at(near, 'holdout_to_train')|number }} from held-out real windows; ratio {{ at(near, 'ratio')|number }}
{{ at(near, 'ratio_ci95')|interval }}. {{ near|neighbours_verdict }}</p>

<h3>Differential privacy</h3>
{% set dp = at(privacy, 'differential_privacy') %}
{% if dp is none %}
<p>None was used. The figures above are measurements of particular attacks, not guarantees against others.</p>
{% else %}
<p>For one {{ at(dp, 'unit')|plain }}: epsilon {{ at(dp, 'epsilon')|number(2) }} at delta
{{ at(dp, 'delta')|number('g') }},
covering {{ at(dp, 'components')|listing }}. Whether a {{ at(dp, 'unit')|plain }} took part can change the odds of anything anybody
concludes from the covered parts by a factor of at most e<sup>epsilon</sup>, except with probability about delta. Smaller is safer; above
10 the bound means little.</p>
{% set audit = at(dp, 'audited_epsilon_lower_bound') %}
<p>An audit by attack found a lower bound of {{ audit|number(2) }}.
{% if none in (audit, at(dp, 'epsilon')) %}{% elif audit > dp.epsilon %}<b>This contradicts the guarantee: do not rely on it.</b>
{% else %}It does not contradict the guarantee.{% endif %}</p>
{% endif %}
<div class="box"><p><b>What this does not show.</b> Attackers that were not tried may do better, and so may anyone with further recordings
of the same people, or knowledge from elsewhere. Figures hold for the people of this study and this one release; several releases of one
cohort add up. Rare people may be at greater risk than the averages here. The chapter is evidence for an assessment of data protection
and does not replace it; whether stimuli count as anonymous is a legal judgement.</p></div>
{% endif %}

{% if notes %}
<h2>Notes</h2>
<p class="soft">A dash (–) marks a figure that this study or run does not support.</p>
<ul>{% for place, text in notes %}<li><b>{{ place }}</b>: {{ text }}</li>{% endfor %}</ul>
{% endif %}
<h2>How it was made</h2>
<p>{{ at(stimuli, 'count')|count }} stimuli in {{ at(stimuli, 'seconds')|number(1) }} s. SHA-256 of their values:
<code>{{ at(stimuli, 'sha256')|plain(80) }}</code></p>
{% if config %}<details><summary>Full configuration</summary><pre>{{ config }}</pre></details>{% endif %}
</main></body></html>
"""
