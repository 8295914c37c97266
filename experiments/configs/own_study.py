r"""A user's own study: `.npz` with x, y and subject; everything else comes from the data.

    python -m experiments.run --config=experiments/configs/own_study.py --config.study.path=study.npz --workdir=runs/own

Chosen by the training windows alone: scaling, whether windows may begin anywhere, which members of the committee are of use and how much
each counts, how long the flow is trained, how many stimuli there are and whether novices sift them, in a rehearsal by which method, in
which steps and towards which targets they are made, whether the teacher learns from unexcited draws too, how long networks train, and
how neighbours and logistic regression learn from stimuli. What the command line names is not chosen; marginals are as
the method's rehearsal found them unless it names the method. `--config.study.scale=window` scales each window by itself, which
differential privacy needs.
"""

from neurostim.config import default_config


def get_config():
    """The defaults, on the user's file, and where they can be, chosen by it."""
    config = default_config()
    config.study.name = 'own_study'
    config.study.scale = 'none'
    # The linear one is the best of all on a few hundred feature vectors; elsewhere it is left out.
    config.teacher.models = ('cnn', 'gru', 'mlp', 'resnet', 'binned', 'linear', 'boosted')
    config.teacher.training.shift = -1.0
    config.teacher.training.longer = config.student_longer = 3
    # Half the steps, and a quarter of the flow's, for as much; where it overfits AdamW is asked too: BUILD_NOTES.
    config.teacher.training.optimiser = config.student_optimiser = config.teacher.flow.optimiser = 'muon'
    config.student_batch = 64  # half the time of the usual 128 for nearly as much: BUILD_NOTES
    config.teacher.least_skill = 0.35
    config.teacher.weigh = True
    config.teacher.flow.steps = -1
    config.teacher.rehearse = True
    config.teacher.draws = -1.0
    config.teacher.novices = ('linear', 'mlp')
    config.excite.count = -1
    config.excite.surplus = 0
    config.excite.target.classes = 'auto'
    config.excite.target.concentration = 0.0
    config.evaluate.advise = True
    return config
