r"""Draws the README's picture from a finished run of a simulated study (a real study's windows are not for publication).

    python -m experiments.picture runs/demo docs/demo.png
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

from neurostim import data, report
from neurostim.excitation import store


def main(workdir: str, output: str) -> None:
    """Real windows beside stimuli, a class a row, drawn by the report's own chart."""
    study = data.load('breathing')
    stimuli = store.read(pathlib.Path(workdir) / 'stimuli')
    some = np.random.default_rng(0).permutation(len(study.x))[:2000]
    pictures = {'stimuli_x': stimuli.x[:2000], 'stimuli_probabilities': stimuli.probabilities[:2000], 'real_x': study.x[some],
                'real_y': study.y[some], 'study_kind': study.kind, 'sampling_rate_hz': study.sampling_rate_hz, 'channels': study.channels}
    figure = report.examples_chart(pictures, study.classes)
    pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110, facecolor='white')


if __name__ == '__main__':
    main(*sys.argv[1:])
