r"""Sleep stages from 18 spectral features of 11 neighbouring epochs; subjects 2, 5 and 8 held out.

    python -m experiments.run --config=experiments/configs/sleep_features.py --config.study.path=FOLDER --workdir=runs/sleep_features

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """Five epochs of context on either side."""
    config = default_config()
    config.study.name = 'sleep_features'
    config.study.context = 5
    config.study.held_out = (2, 5, 8)
    config.teacher.models = ('cnn', 'gru', 'mlp', 'mlp')
    config.teacher.training.steps = 2500
    config.student_steps = 800  # README's figures are of these; twice as many change little: BUILD_NOTES
    config.excite.target.classes = 'natural'  # two of three epochs are W, three of a hundred N1: trees and neighbours need to know
    config.teacher.novices, config.excite.surplus = ('linear', 'mlp'), 4  # of twelve students ten gain and none loses: BUILD_NOTES
    return config
