r"""Apnea-ECG respiration with identity networks inhibited, and every attack.

    python -m experiments.run --config=experiments/configs/apnea_anonymous.py --config.study.path=FOLDER --workdir=runs/apnea_anonymous

Each window is scaled by itself, and stimuli start from one Gaussian of all people together, which is the same wherever a window begins. Of
four draws the one is taken that networks of three architectures recognise least; they are inhibited while it is excited. The teacher learns
from windows that begin anywhere, too: single windows leave hardly a trace.

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """The nasal channel; attackers are of other architectures than the networks that are inhibited."""
    config = default_config()
    config.study.name = 'apnea_respiration'
    config.study.channels = ('Resp N',)
    config.study.split = 'blocks'
    config.study.scale = 'window'  # how strong a person's signal is among others would betray them
    config.teacher.models = ('cnn', 'transformer', 'gru', 'mlp', 'mlp')
    config.teacher.training.shift = 0.5  # hardly any window is learnt by heart: membership
    config.teacher.flow.steps = 0  # its draws are too much like somebody's windows
    config.teacher.identity.models = ('mlp', 'gru', 'transformer', 'mlp', 'gru')
    config.excite.method = 'stationary'  # in a Gaussian of windows as they begin every window leaves a trace
    config.excite.steps = 10
    config.excite.candidates = 4
    config.excite.target.concentration = 2.0  # every belief as often as any other; surer targets were not tried here
    config.excite.weights.inhibit = 1.0
    config.excite.weights.inhibit_form = 'entropy'
    config.evaluate.shadows = 64
    return config
