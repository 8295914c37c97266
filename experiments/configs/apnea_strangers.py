r"""Apnea-ECG respiration as in `apnea_respiration`, for people whom the teacher has not seen.

    python -m experiments.run --config=experiments/configs/apnea_strangers.py --config.study.path=FOLDER --workdir=runs/apnea_strangers

The teacher learns from unexcited draws too and has a residual network, which knows strangers best of all; classes are excited alike, since
a stranger's shares are anybody's guess, and more steps are taken than from the flow's draws of people who are known.
`experiments.compare` leaves every person out in turn: `--config.studies="('apnea_strangers:subjects',)"`.
"""

from experiments.configs import apnea_respiration
from neurostim.students import STEPS


def get_config():
    """About half of what the committee learns from are the flow's draws."""
    config = apnea_respiration.get_config()
    config.teacher.models = ('cnn', 'transformer', 'gru', 'mlp', 'resnet')
    config.teacher.draws = 1.0
    config.teacher.novices, config.excite.surplus = (), 1  # sifting was not measured here
    config.student_steps = STEPS
    config.excite.target.classes = 'uniform'
    config.excite.steps, config.excite.learning_rate = 8, 0.05
    return config
