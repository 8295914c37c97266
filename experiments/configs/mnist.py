r"""MNIST, the published method's proof of concept, by the best method.

    python -m experiments.run --config=experiments/configs/mnist.py --config.study.path=FOLDER --workdir=runs/mnist
"""

from neurostim.config import default_config


def get_config():
    """The official split."""
    config = default_config()
    config.study.name = 'mnist'
    config.teacher.models = ('cnn', 'resnet', 'mlp')
    config.teacher.training.steps = 2500
    return config
