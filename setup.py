"""Installs neurostim; tested versions are pinned in requirements.txt."""

from setuptools import find_packages, setup

setup(
    name='neurostim',
    version='0.1.0',
    description='Shares what a network learnt from private recordings, without the recordings: excited, labelled stimuli',
    python_requires='>=3.11',
    packages=find_packages(include=['neurostim', 'neurostim.*']),
    install_requires=[
        'absl-py>=2.1', 'array-record>=0.8', 'dp-accounting>=0.6', 'flax>=0.10', 'jax>=0.8', 'jax-privacy>=2.0', 'jinja2>=3.1',
        'matplotlib>=3.9', 'ml-collections>=1.0', 'numpy>=2.0', 'optax>=0.2.7', 'orbax-checkpoint>=0.11', 'scikit-learn>=1.5',
        'scipy>=1.13', 'tensorflow-datasets>=4.9.8', 'threadpoolctl>=3.1', 'wfdb>=4.1',
    ],
    extras_require={
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'rdata>=1.0', 'ruff>=0.6'],
        'unseen': ['rdata>=1.0'],
        'attacks': ['adversarial-robustness-toolbox>=1.20'],
        'bench': ['torch>=2.4'],
    },
)
