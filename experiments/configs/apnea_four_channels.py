r"""Apnea-ECG respiration with all four channels: chest, abdomen, nasal airflow and oxygen saturation; else as `apnea_respiration`.

    python -m experiments.run --config=experiments/configs/apnea_four_channels.py --config.study.path=FOLDER --workdir=runs/apnea_four

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from experiments.configs import apnea_respiration
from neurostim.students import STEPS


def get_config():
    """Every third block of 30 minutes is held out."""
    config = apnea_respiration.get_config()
    config.study.channels = ('Resp C', 'Resp A', 'Resp N', 'SpO2')
    config.student_steps = STEPS
    config.excite.target.concentration = 2.0  # surer targets cost most students: BUILD_NOTES
    return config
