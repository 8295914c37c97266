r"""Apnea-ECG respiration with identity networks inhibited, and every attack.

    python -m experiments.run --config=experiments/configs/apnea_anonymous.py --config.study.path=FOLDER --workdir=runs/apnea_anonymous

`--config.study.name=apnea_heart_rate` needs a config of its own options; see `apnea_respiration` for those of this study.
"""

from neurostim.config import default_config


def get_config():
    """The nasal channel; networks of three architectures are inhibited, attackers are of others."""
    config = default_config()
    config.study.name = 'apnea_respiration'
    config.study.channels = ('Resp N',)
    config.study.split = 'blocks'
    config.teacher.models = ('cnn', 'transformer', 'gru', 'mlp', 'mlp')
    config.teacher.flow.steps = 0  # its draws are too much like somebody's windows
    config.teacher.identity.models = ('mlp', 'gru', 'transformer', 'mlp', 'gru')
    config.excite.method = 'mixture'
    config.excite.candidates = 12
    config.excite.weights.inhibit = 1.0
    config.excite.weights.inhibit_form = 'entropy'
    config.evaluate.shadows = 32
    return config
