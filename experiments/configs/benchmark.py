r"""What `experiments.benchmark` measures.

    python -m experiments.benchmark --output=runs/benchmark.json --config.cases="('cnn',)" --config.repeats=3
"""

import ml_collections


def get_config():
    """All fields; an empty tuple lets the case or the device choose."""
    return ml_collections.ConfigDict({
        'seed': 0,
        'cases': ('cnn', 'committee', 'published'),
        'methods': (),  # names of parameterisations
        'batches': (),  # stimuli a device and call; 0: what the engine chooses
        'dtypes': (),  # 'float32', 'bfloat16'; empty: float32, and bfloat16 off CPU
        'steps': -1,  # gradient steps a stimulus; -1: each method's own, fewer for images
        'generator': False,  # adds the published generator's weights as a method for images: slow
        'devices': (1, 2, 8),  # numbers of devices to compare; empty: none
        'repeats': 5,
        'seconds': 1.0,  # least length of a repeat
        'peak_sizes': (),  # sides of the square matrices whose product is the yardstick
        'versus': {'models': ('cnn', 'published'), 'batches': (256, 128), 'steps': (100, 20), 'threads': (1, 2), 'repeats': 7},
    })
