r"""Apnea-ECG heart rate with identity networks inhibited, and every attack.

    python -m experiments.run --config=experiments/configs/apnea_heart_rate_anonymous.py --config.study.path=FOLDER \
        --workdir=runs/apnea_heart_rate_anonymous

Many more people than `apnea_anonymous` has, and some of them have test records only: strangers, and linkage, are there in earnest.
"""

from experiments.configs import apnea_heart_rate


def get_config():
    """`apnea_heart_rate` with inhibition; of its students all but the slowest."""
    config = apnea_heart_rate.get_config()
    config.teacher.identity.models = ('mlp', 'gru', 'transformer')
    config.excite.steps, config.excite.learning_rate, config.excite.candidates = 5, 0.1, 4  # fewer steps were not tried with inhibition
    config.excite.marginals = False  # nor were marginals put right
    config.excite.weights.inhibit = 1.0
    config.excite.weights.inhibit_form = 'entropy'
    config.students = tuple(name for name in config.students if name != 'transformer')
    config.evaluate.shadows = 16
    return config
