r"""Apnea-ECG respiration with differential privacy for one window: epsilon 8 at delta 1e-5 for all stimuli together.

    python -m experiments.run --config=experiments/configs/apnea_private.py --config.study.path=FOLDER --workdir=runs/apnea_private

`--config.teacher.privacy.epsilon=3` promises more. Each window is scaled by itself, so that none depends on another.

Networks that are unlike the teacher, and classical algorithms, pay most for it. Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """The nasal channel, one convolutional teacher."""
    config = default_config()
    config.study.name = 'apnea_respiration'
    config.study.channels = ('Resp N',)
    config.study.split = 'blocks'
    config.study.scale = 'window'
    config.teacher.models = ('cnn',)
    config.teacher.flow.steps = 0
    config.teacher.privacy.epsilon = 8.0
    config.excite.method = 'mixture'
    config.excite.target.concentration = 2.0  # every belief as often as any other; surer targets were not tried here
    config.excite.steps = 10
    return config
