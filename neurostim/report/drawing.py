"""The charts, as inline SVG that takes the page's text colour, so that it reads in light, dark and print."""

from __future__ import annotations

import io
import re
import warnings

import markupsafe
import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from neurostim.report.text import ABSENT, SOURCES, at, interval, plain

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
