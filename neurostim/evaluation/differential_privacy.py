"""Differential privacy, audited: how much does a training like the teacher's betray at least?"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from neurostim import models, private
from neurostim.evaluation.shadows import logit_of_label, plant
from neurostim.study import Study

CANARIES = 200
CONFIDENCE = 0.95


def audit(study: Study, name: str, options: private.PrivacyOptions, ledger: private.Ledger, seed: int = 0) -> float:
    """A lower bound of epsilon by one training run (Steinke et al. 2023, arXiv 2305.08846), with 95 % confidence.

    Canaries take part in a training of the same kind, or not, by the toss of a coin; how much the trained network believes in their wrong
    label says which. An audit above epsilon would disprove the promise. Each canary is a unit of its own, a person of one window where the
    promise is for people, and there are no more canaries than units.

    Args:
      name: the teacher's in the zoo.
      ledger: of the release; only its noise multiplier is used.
      seed: of canaries, coins and noise.
    """
    from jax_privacy.auditing import CanaryScoreAuditor
    rng = np.random.default_rng([seed, 99])
    unit = private.units(study.part(test=False), options)
    planted, wrong = plant(study, min(CANARIES, len(np.unique(unit))), rng)
    classes = len(study.classes)
    inside = rng.random(len(planted)) < 0.5
    rows = np.concatenate([np.flatnonzero(~study.test), planted[inside]])
    y = np.concatenate([study.y[~study.test], wrong[inside]])
    x = np.clip(study.x, -private.LARGEST, private.LARGEST)
    model = models.create(name, study.shape, classes)
    params = private.train(model, x[rows], np.eye(classes, dtype=np.float32)[y], options, ledger.noise_multiplier, seed + 1,
                           unit=np.concatenate([unit, unit.max() + 1 + np.arange(inside.sum())]))
    score = np.asarray(logit_of_label(model.apply(params, jnp.asarray(x[planted]))[0], jnp.asarray(wrong)))
    if inside.all() or not inside.any():
        return 0.0
    return float(CanaryScoreAuditor(score[inside], score[~inside]).epsilon_one_run(1 - CONFIDENCE, options.delta))
