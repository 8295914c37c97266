"""What a user would try instead of stimuli, each behind one interface; one family a file.

    made = alternatives.make('gan_soft')(study, teacher, count=8000, seed=0, options=Options())

gives :class:`neurostim.excitation.store.Stimuli`. A name that ends in '_soft' is the same windows under the teacher's labels. 'real' and
'real_soft' are the training windows themselves, for reference: they may not be shared.
"""

from __future__ import annotations

from collections.abc import Callable

from neurostim.alternatives import deep_inversion, diffusion, excited, gan, private, real, vae, zskd
from neurostim.alternatives.base import Method, Options, relabel
from neurostim.errors import choose
from neurostim.excitation.store import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher

SOFT = '_soft'
DEFAULT = Options()
METHODS: dict[str, Method] = {
    **real.METHODS, **excited.METHODS, **zskd.METHODS, **deep_inversion.METHODS, **gan.METHODS, **vae.METHODS, **diffusion.METHODS,
    **private.METHODS}
CERTAIN = ('real', 'gan', 'vae', 'diffusion')  # labelled by their class, and so worth the teacher's labels too
NAMES = (*METHODS, *(name + SOFT for name in CERTAIN))
SHAREABLE = tuple(name for name in NAMES if not name.startswith('real'))


def origin(name: str) -> str | None:
    """For a name that ends in '_soft' the method whose windows get the teacher's labels, else None."""
    choose(name, NAMES, 'method')
    return name.removesuffix(SOFT) if name.endswith(SOFT) else None


def make(name: str) -> Callable[..., Stimuli]:
    """The method of this name: ``(study, teacher, count, seed=0, options=Options()) -> Stimuli``, x in the study's units.

    Raises:
      UserError: an unknown name; when called, a study or a teacher that the method does not suit.
    """
    unlabelled = origin(name)
    method = METHODS[unlabelled or name]

    def run(study: Study, teacher: Teacher, count: int, seed: int = 0, options: Options = DEFAULT) -> Stimuli:
        method.check(study, teacher, count, options)
        made = method.make(study, teacher, count, seed, options)
        return relabel(teacher, made) if unlabelled else made

    return run


def check(name: str, study: Study, teacher: Teacher, count: int, options: Options = DEFAULT) -> None:
    """Refuses, before any work, what :func:`make` would refuse.

    Raises:
      UserError: an unknown name, or a study or a teacher that the method does not suit.
    """
    METHODS[origin(name) or name].check(study, teacher, count, options)
