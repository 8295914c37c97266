r"""Simulated respiration in sleep, the embedded default: no download.

    python -m experiments.run --config=experiments/configs/breathing.py --workdir=runs/breathing
"""

from neurostim.config import default_config


def get_config():
    """The defaults."""
    return default_config()
