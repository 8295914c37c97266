r"""Apnea-ECG heart rate: five minutes at 1 Hz around each labelled minute of all 70 records, official split.

    python -m experiments.run --config=experiments/configs/apnea_heart_rate.py --config.study.path=FOLDER --workdir=runs/apnea_heart_rate

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """Official split; `--config.study.split=people` keeps people apart."""
    config = default_config()
    config.study.name = 'apnea_heart_rate'
    config.study.split = 'official'
    config.study.window_seconds = 300
    config.teacher.models = ('cnn', 'resnet', 'gru', 'mlp')
    config.teacher.training.steps = 2500
    config.teacher.training.shift = -1.0  # chosen; here windows may begin anywhere, which is worth most to networks of real ones
    config.teacher.flow.steps = 0
    config.excite.method = 'modulated'  # the flow's draws lie nearer to training windows than new windows do: BUILD_NOTES
    config.excite.count = 40_000
    config.excite.steps, config.excite.learning_rate, config.excite.candidates = 1, 0.03, 4  # serves students best: BUILD_NOTES
    config.excite.target.concentration = 2.0  # surer targets cost all students but the forest: BUILD_NOTES
    return config
