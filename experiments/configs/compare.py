r"""What `experiments.compare` sweeps: studies x methods x students x seeds.

    python -m experiments.compare --workdir=runs/compare --config.studies="('apnea_respiration',)" --config.seeds=2
"""

import dataclasses

import ml_collections

from neurostim.alternatives import NAMES, Options


def get_config():
    """All fields. Types are locked: a value must have its default's type."""
    return ml_collections.ConfigDict({
        'studies': ('breathing',),  # names of experiments/configs, or files like these: each with its study and its teacher
        'methods': NAMES,  # of neurostim.alternatives; those that a study does not suit are left out, with a note
        'students': ('cnn', 'mlp', 'random_forest', 'svm', 'knn', 'gradient_boosting'),
        'seeds': 3,  # each a data set of its own, and students of their own
        'count': 8000,  # windows of a data set
        'student_steps': 800,
        'reference': 'stimuli',  # the method that the others are tested against
        'privacy': True,  # attackers who know people look at the first seed's data sets
        'interval_draws': 20_000,  # of the bootstrap; a p-value is at least 2 / this
        'options': dataclasses.asdict(Options()),
        'curves': {
            'counts': (500, 1000, 2000, 4000),  # first rows of the same data sets; empty: no curve
            'count_methods': ('stimuli', 'control', 'diffusion_soft'),
            'steps': (0, 1, 3, 10, 30),  # of excitation; empty: no curve
            'steps_methods': ('mixture',),
            'seeds': 1,
        },
        'processes': 1,
    })
