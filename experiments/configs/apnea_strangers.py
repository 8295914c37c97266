r"""Apnea-ECG respiration as in `apnea_respiration`, for people whom the teacher has not seen.

    python -m experiments.run --config=experiments/configs/apnea_strangers.py --config.study.path=FOLDER --workdir=runs/apnea_strangers

The teacher learns from unexcited draws too, which serves students most where people are strangers to it. `experiments.compare` leaves every
person out in turn: `--config.studies="('apnea_strangers:subjects',)"`.
"""

from experiments.configs import apnea_respiration


def get_config():
    """About half of what the committee learns from are the flow's draws."""
    config = apnea_respiration.get_config()
    config.teacher.draws = 1.0
    return config
