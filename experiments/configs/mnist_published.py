r"""MNIST by the published loop (arXiv 2009.10007): the weights of a generator are searched, a stimulus is accepted at its threshold.

    python -m experiments.run --config=experiments/configs/mnist_published.py --config.study.path=FOLDER --workdir=runs/mnist_published

The released code made 0.9 accepted stimuli a second on two shared cores, and a student on 1 000 of them reached accuracy 0.897.
Figures of this config are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """The published classifier as teacher, 1 000 stimuli, at most 50 Adam steps each."""
    config = default_config()
    config.study.name = 'mnist'
    config.teacher.models = ('published',)
    config.teacher.training.steps = 600
    config.teacher.training.learning_rate = 1e-3
    config.excite.method = 'generator'
    config.excite.count = 1000
    config.excite.accept = True
    config.excite.chain = 125
    config.excite.batch = 500  # four chains
    config.excite.target.name = 'threshold'
    config.students = ('published', 'cnn', 'mlp', 'random_forest')
    config.student_steps = 800
    config.evaluate.seeds = 1  # a published student takes minutes
    config.evaluate.privacy = False  # nobody is known to have written an image
    return config
