r"""Apnea-ECG respiration: 60-s windows of nasal airflow at 1 Hz, blocks of 30 minutes, every third held out.

    python -m experiments.run --config=experiments/configs/apnea_respiration.py --config.study.path=FOLDER --workdir=runs/apnea_respiration

`--config.study.channels="('Resp C', 'Resp A', 'Resp N', 'SpO2')"` takes all four channels, `--config.study.split=subject:a03` leaves
one person out.

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """The nasal channel."""
    config = default_config()
    config.study.name = 'apnea_respiration'
    config.study.channels = ('Resp N',)
    config.study.split = 'blocks'
    config.study.scale = 'record'
    config.teacher.models = ('cnn', 'transformer', 'gru', 'mlp', 'mlp')
    config.teacher.training.shift = -1.0  # chosen; here windows may begin anywhere
    config.teacher.novices = ('linear', 'mlp')
    config.excite.surplus = 4  # teaches trees, kernels and networks more: BUILD_NOTES
    config.excite.target.classes = 'natural'  # even ones serve logistic regression better, and the forest less: BUILD_NOTES
    config.student_steps = 800  # README's figures are of these; twice as many teach no more: BUILD_NOTES
    config.evaluate.seeds = 5
    return config
