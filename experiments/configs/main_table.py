r"""The main table (docs/results.md, README's overview): stimuli and their control, as each study's own config makes them, for its students.

    python -m experiments.compare --config=experiments/configs/main_table.py --workdir=runs/main

writes the table to runs/main/main.md and its picture to runs/main/main.png. `--config.studies="('mnist',)"` makes a part of it; what was
made is kept, and a later command that names more studies adds only these. Attacks on people are those of `experiments.run`.
"""

from experiments.configs import compare


def get_config():
    """Five seeds; the control is the reference, so that what excitation adds is tested."""
    config = compare.get_config()
    config.studies = ('apnea_respiration', 'apnea_four_channels', 'apnea_strangers:subjects', 'apnea_heart_rate', 'sleep_features', 'mnist')
    config.methods, config.reference = ('stimuli', 'control'), 'control'
    config.students, config.count, config.student_steps = (), 0, 0  # each study's own
    config.seeds = 5
    config.privacy = False
    config.curves.counts, config.curves.count_methods = (), ()
    config.curves.steps, config.curves.steps_methods = (), ()
    return config
