"""What a user would try instead of stimuli, each behind one interface; one family a file.

    made = alternatives.make('gan_soft')(study, teacher, count=8000, seed=0, options=Options())

gives :class:`neurostim.excitation.records.Stimuli`. A name that ends in '_soft' is the same windows under the teacher's labels. 'real' and
'real_soft' are the training windows themselves, for reference: they may not be shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from neurostim.alternatives import deep_inversion, diffusion, excited, gan, private, real, vae, zskd
from neurostim.alternatives.base import Method, Options, relabel
from neurostim.errors import choose
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher

SOFT = '_soft'
DEFAULT = Options()
METHODS: dict[str, Method] = {
    **real.METHODS, **excited.METHODS, **zskd.METHODS, **deep_inversion.METHODS, **gan.METHODS, **vae.METHODS, **diffusion.METHODS,
    **private.METHODS}
CERTAIN = ('real', 'gan', 'vae', 'diffusion')  # labelled by their class, and so worth the teacher's labels too
NAMES = (*METHODS, *(name + SOFT for name in CERTAIN))


def origin(name: str) -> str | None:
    """For a name that ends in '_soft' the method whose windows get the teacher's labels, else None."""
    choose(name, NAMES, 'method')
    return name.removesuffix(SOFT) if name.endswith(SOFT) else None


def make(name: str) -> Callable[..., Stimuli]:
    """The method of this name: ``(study, teacher, count, seed=0, options=Options()) -> Stimuli``, x in the study's units.

    Raises:
      UserError: an unknown name; when called, a study or a teacher that the method does not suit.
    """
    run = timed(name)
    return lambda study, teacher, count, seed=0, options=DEFAULT: run(study, teacher, count, seed, options)[0]


def timed(name: str) -> Callable[..., tuple[Stimuli, float]]:
    """As :func:`make`, but its functions give (Stimuli, seconds): of what is excited without compilation, of others with it.

    Raises:
      UserError: as :func:`make`.
    """
    unlabelled = origin(name)
    method = METHODS[unlabelled or name]

    def run(study: Study, teacher: Teacher, count: int, seed: int = 0, options: Options = DEFAULT) -> tuple[Stimuli, float]:
        method.check(study, teacher, count, options)
        started = time.perf_counter()
        if method.timed:
            return method.timed(study, teacher, count, seed, options)
        made = method.make(study, teacher, count, seed, options)
        return relabel(teacher, made) if unlabelled else made, time.perf_counter() - started

    return run


def depends(name: str, teacher: Teacher, count: int, options: Options = DEFAULT) -> dict:
    """What a data set depends on beside study, teacher, count and seed, as JSON can hold it; of what is excited the resolved settings.

    Raises:
      UserError: an unknown name, or a teacher that the method does not suit.
    """
    return METHODS[origin(name) or name].depends(teacher, count, options)


def check(name: str, study: Study, teacher: Teacher, count: int, options: Options = DEFAULT) -> None:
    """Refuses, before any work, what :func:`make` would refuse.

    Raises:
      UserError: an unknown name, or a study or a teacher that the method does not suit.
    """
    METHODS[origin(name) or name].check(study, teacher, count, options)
