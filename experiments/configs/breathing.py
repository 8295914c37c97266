r"""Simulated respiration in sleep, the embedded default: no download.

    python -m experiments.run --config=experiments/configs/breathing.py --workdir=runs/breathing

About 360 s on two shared cores. Teacher kappa 0.914; students of stimuli are at most 0.010 behind (the GRU).
"""

from neurostim.config import default_config


def get_config():
    """The defaults."""
    return default_config()
