r"""What `experiments.compare` sweeps: studies x methods x students x seeds.

    python -m experiments.compare --workdir=runs/compare --config.studies="('apnea_respiration',)" --config.seeds=2
"""

import ml_collections

from neurostim.alternatives import NAMES, Options
from neurostim.students import STEPS


def get_config():
    """All fields. Types are locked: a value must have its default's type."""
    return ml_collections.ConfigDict({
        # Names of experiments/configs, or files like these: each with its study, its teacher and how it excites. One that ends in
        # ':subjects' is divided anew: every person in turn is held out.
        'studies': ('breathing',),
        'methods': NAMES,  # of neurostim.alternatives; those that a study does not suit are left out, with a note
        'students': ('cnn', 'mlp', 'random_forest', 'svm', 'knn', 'gradient_boosting'),  # empty: each study's own
        'more_students': (),  # besides these, such as 'lstm', which no study's config names
        'seeds': 3,  # each a data set of its own, and students of their own
        'count': 8000,  # windows of a data set; 0: as many stimuli as each study's config asks for
        'student_steps': STEPS,  # 0: each study's own
        'reference': 'stimuli',  # the method that the others are tested against
        'privacy': True,  # attackers who know people look at the first seed's data sets
        'interval_draws': 20_000,  # of the bootstrap; a p-value is at least 2 / this
        'options': {name: getattr(Options(), name) for name in ('steps', 'training_steps', 'epsilon')},
        'curves': {
            'counts': (500, 1000, 2000, 4000),  # first rows of the same data sets, where there are more; empty: no curve
            'count_methods': ('stimuli', 'control', 'diffusion_soft'),
            'steps': (0, 1, 3, 10, 30),  # of excitation; empty: no curve
            'steps_methods': ('mixture',),
            'seeds': 1,
        },
        'processes': 1,
    })
