r"""MNIST, the published method's proof of concept, by the best method.

    python -m experiments.run --config=experiments/configs/mnist.py --config.study.path=FOLDER --workdir=runs/mnist

Figures are in docs/results.md, seconds in BUILD_NOTES.
"""

from neurostim.config import default_config


def get_config():
    """The official split."""
    config = default_config()
    config.study.name = 'mnist'
    config.teacher.models = ('cnn', 'mlp', 'cnn')
    config.teacher.novices = ('linear', 'mlp')
    config.excite.count, config.excite.surplus = 10_000, 4  # sifted: BUILD_NOTES
    config.excite.steps, config.excite.learning_rate, config.excite.candidates = 1, 0.03, 2  # more blur what marginals put right
    config.excite.target.concentration = 1.0  # digits between two classes teach most students more
    config.students = ('cnn', 'gru', 'transformer', 'mlp', 'random_forest', 'svm', 'knn', 'logistic_regression', 'naive_bayes')
    config.student_steps = 1500
    config.evaluate.privacy = False  # nobody is known to have written an image
    return config
