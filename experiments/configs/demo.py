r"""`make demo`: every phase on the embedded study, small enough for three minutes on two cores.

    python -m experiments.run --config=experiments/configs/demo.py --workdir=runs/demo

100 s, compilation included. Teacher kappa 0.892; the worst of six students, nearest neighbours, 0.034 behind.
"""

from neurostim.config import default_config


def get_config():
    """The default study with fewer students and seeds."""
    config = default_config()
    config.teacher.models = ('cnn', 'gru', 'mlp')
    config.teacher.training.steps = 800
    config.teacher.flow.steps = 1000
    config.teacher.flow.width = 48
    config.excite.count = 6000
    config.students = ('cnn', 'mlp', 'random_forest', 'gradient_boosting', 'svm', 'knn')
    config.student_steps = 600
    config.evaluate.seeds = 2
    return config
