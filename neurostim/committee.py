"""A committee: which windows each of its members learns from, how members are trained, which are kept, and how much each counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from neurostim import training
from neurostim.errors import UserError, choose
from neurostim.models import boosted
from neurostim.study import Study, divide, hold_out_groups
from neurostim.threads import side_by_side

VALIDATION_SHARE = 0.15
# In a window that members learn for longer where steps run out, at most, by whether they learn from draws too: of long windows they would
# learn these by heart (BUILD_NOTES).
LONGER_NUMBERS = {False: 2**14, True: 2048}
ANYWHERE = 0.5  # the shift with which a window may begin at any sample of it
LEAST_LOSS = 1e-3  # that a member's weight is counted by
POWERS = {True: 1.0, False: 3.0}  # of the loss that a member counts by, by whether luck decides losses (BUILD_NOTES)
LEAST_GROUPS = 3  # that validate a member: on a person or two a family that suits them best may suit others least
SLOW = (boosted.NAME, 'binned')  # may take longest, and begin first: at the end nobody is to wait for one
LEFT_OUT = ', left out'  # ends the name under which the curves of such a member are kept
TOGETHER = 'together'
DEALS = (TOGETHER, 'groups', 'people')  # all learn from all windows, or each from those of other groups or people


@dataclasses.dataclass(frozen=True)
class CommitteeOptions:
    """What members learn from, which are kept, and how much each counts.

    Attributes:
      dealt: one of `DEALS`: which windows each member learns from, see :func:`deal`.
      least_skill: a member whose :func:`skill` is less than this share of the best one's is left out, for not every family suits every kind
        of window; 0 keeps all. A disjoint committee keeps all: one member's windows would decide about another.
      weigh: whether members that know held-out windows better count for more (:func:`member_weights`); all count alike where each learnt
        from others' windows, or from draws, which are of all windows.
      draws: for each training window, that members learn from too, see :func:`neurostim.teacher.learn_from_draws`; by the population's
        usual method. A disjoint committee cannot: draws are of all windows.
      draws_later: for each training window, that :func:`neurostim.teacher.learn_from_draws` may be asked for later: members get room for
        them now, so that both trainings share their programs. It changes no member.
    """

    dealt: str = TOGETHER
    least_skill: float = 0.0
    weigh: bool = False
    draws: float = 0.0
    draws_later: float = 0.0


class Lessons(NamedTuple):
    """What members learn from.

    Attributes:
      train: training windows, scaled.
      part: int [n], which member learns from each of them (:func:`deal`).
      draws: (x, classes) that every member learns from too, or None; none of them validates.
      room: for so many draws, which members may learn from later.
    """

    train: Study
    part: np.ndarray
    draws: tuple[np.ndarray, np.ndarray] | None = None
    room: int = 0

    @property
    def together(self) -> bool:
        """Whether every member learns from all windows."""
        return bool((self.part < 0).all())


class Members(NamedTuple):
    """Trained members.

    Attributes:
      names: of those that are kept.
      params: theirs, a tuple.
      curves: {member: training and validation curves as lists}; the names of members that were left out end in `LEFT_OUT`.
      shift: of their training (:class:`neurostim.training.TrainingOptions`).
    """

    names: tuple[str, ...]
    params: tuple[Any, ...]
    curves: dict[str, dict[str, list]]
    shift: float


class Fitted(NamedTuple):
    """One member that was trained.

    Attributes:
      params: what it learnt.
      history: its curves.
      checked: int [m], the classes of the windows that validated it.
      held: bool [n], which of all that it may learn from these are.
    """

    params: Any
    history: training.History
    checked: np.ndarray
    held: np.ndarray


def validation_split(study: Study, seed: int) -> np.ndarray:
    """bool [n]: which training windows validate; whole groups, about 15 % of the windows.

    With fewer than four groups, blocks of neighbouring windows stand in: groups cannot be spared.
    """
    group = study.group
    if len(np.unique(group)) < 4:
        group = np.arange(len(study.y)) * 20 // len(study.y)
    return hold_out_groups(group, study.y, len(study.classes), VALIDATION_SHARE, seed)


def deal(study: Study, dealt: str, members: int, seed: int) -> np.ndarray:
    """int [n]: which member of a committee learns from each training window; all -1 where every member learns from all.

    Args:
      dealt: 'together', or 'groups' or 'people', which are dealt out to the members: one group or person moves one member (sub-sample
        and aggregate, as PATE does: Papernot et al. 2017, arXiv 1610.05755).

    Raises:
      UserError: fewer groups or people than members, or a member that would never see one of the classes.
    """
    choose(dealt, DEALS, 'teacher.committee')
    if dealt == TOGETHER:
        return np.full(len(study.y), -1)
    unit = study.group if dealt == 'groups' else study.subject
    there = len(np.unique(unit))
    if there < members:
        raise UserError(f"teacher.committee is {dealt!r}, but there are {there} {dealt} to train {members} members: name fewer in "
                        f"teacher.models, or let them learn {TOGETHER!r}")
    part = divide(unit, study.y, len(study.classes), members, seed)
    for i in range(members):
        absent = np.setdiff1d(np.arange(len(study.classes)), study.y[part == i])
        if len(absent):
            raise UserError(f"teacher.committee is {dealt!r}, but of the {dealt} dealt to member {i + 1} of {members} none "
                            f"has class {study.classes[absent[0]]!r}: name fewer members in teacher.models, or choose another committee")
    return part


def skill(losses: list[float], y: np.ndarray, n_classes: int, balance: float = 0.0) -> float:
    """How much of the uncertainty about held-out labels a member takes away: 1 for all of it, 0 for no more than the classes' shares do.

    One minus the ratio of cross-entropy and the shares' entropy: McFadden's pseudo R squared (McFadden 1974).

    Args:
      losses: a member's validation losses (cross-entropy); the least is that of the parameters kept.
      y: int [n], the labels that they are of.
      balance: of the training's class weights (:class:`neurostim.training.TrainingOptions`).
    """
    share = np.bincount(y, minlength=n_classes) / len(y)
    share = np.where(share > 0, np.maximum(share, 1e-9) ** (1 - balance), 0)
    share = share[share > 0] / share.sum()
    return 1 - min(losses) / max(-(share * np.log(share)).sum(), 1e-9)


def luck_decides(train: Study) -> bool:
    """Whether validation losses are much a matter of luck: where scaled training windows are few (:func:`neurostim.training.are_few`), or
    fewer than `LEAST_GROUPS` groups validate."""
    return training.are_few(train.x) or round(len(np.unique(train.group)) * VALIDATION_SHARE) < LEAST_GROUPS


def member_weights(curves: dict[str, dict[str, list]], by_luck: bool = False) -> tuple[float, ...]:
    """How much each member that is kept counts: in inverse proportion to a power of its validation loss (cross-entropy), a lower one where
    losses are less to be relied on.

    Args:
      by_luck: whether luck decides these losses (:func:`luck_decides`).
    """
    losses = [min(curve['validation_loss']) for name, curve in curves.items() if not name.endswith(LEFT_OUT)]
    weights = np.maximum(losses, LEAST_LOSS) ** -POWERS[by_luck]
    return tuple((weights / weights.sum()).tolist())


def fit_member(name: str, i: int, lessons: Lessons, options: training.TrainingOptions, seed: int, until: int = training.NEVER) -> Fitted:
    """Member i, trained on its windows but those that validate; with `until` on these too, for so many steps."""
    train, n_classes = lessons.train, len(lessons.train.classes)
    own = train if lessons.together else train.take(lessons.part == i)
    held = validation_split(own, seed * 1000 + i)
    checked = training.examples(own.x[held], own.y[held], n_classes)
    x, y, apart = own.x, own.y, held
    if lessons.draws:
        drawn, made_for = lessons.draws
        x, y, apart = np.concatenate([x, drawn]), np.concatenate([y, made_for]), np.append(held, np.zeros(len(made_for), bool))
    some = slice(None) if until < training.NEVER else ~apart
    # Of few windows room for all: one compilation for both times. And for draws that come later.
    rows = training.rounded((len(y) if training.are_few(train.x) else int((~apart).sum())) + lessons.room)
    learnt, key = training.examples(x[some], y[some], n_classes, rows), jax.random.fold_in(jax.random.key(seed), i)
    return Fitted(*training.fit((name, train.shape, n_classes, ()), options, key, learnt, checked, until), own.y[held], apart)


def _choose_shift(name: str, lessons: Lessons, options: training.TrainingOptions, seed: int) -> tuple[training.TrainingOptions, Fitted]:
    """How windows are to be shifted, and the first member so trained: of two trainings the better one on people it has not seen."""
    ways = [dataclasses.replace(options, shift=shift) for shift in (0.0, ANYWHERE)]
    tried = side_by_side(lambda way: fit_member(name, 0, lessons, way, seed), ways)
    better = int(np.nanmin(tried[1].history.validation_loss) < np.nanmin(tried[0].history.validation_loss))
    return ways[better], tried[better]


def train_members(names: tuple[str, ...], lessons: Lessons, options: training.TrainingOptions, seed: int, least_skill: float = 0.0,
                  report: Callable[[str], None] = lambda text: None) -> Members:
    """Trains members side by side, and leaves out those that are far behind.

    Of few windows (:func:`neurostim.training.are_few`) each learns anew from all of its own, for as many epochs as served it best when some
    were held out; its curves tell of the first time.

    Args:
      options: a shift of -1 lets the first member choose it.
      least_skill: see :class:`CommitteeOptions`.
      report: called with a line of text as members are done.
    """
    train = lessons.train
    options = training.affordable(options, train.x, LONGER_NUMBERS[bool(lessons.draws)])
    first = None
    if options.shift < 0:
        options, first = _choose_shift(names[0], lessons, options, seed)
        report(f'windows {"may begin anywhere" if options.shift else "are learnt as they begin"}')

    def train_member(i):
        """(i, what it learnt, its curves, its skill)."""
        member = first if first and i == 0 else fit_member(names[i], i, lessons, options, seed)
        params, curves = member.params, as_curves(member.history)
        if training.are_few(train.x):
            params = fit_member(names[i], i, lessons, options, seed, training.steps_anew(member.history, member.held)).params
        skilled = skill(curves['validation_loss'], member.checked, len(train.classes), options.balance)
        return i, jax.tree.map(np.asarray, params), curves, skilled

    def tell(_, trained):
        i, _, curves, _ = trained
        least, steps = min(curves['validation_loss']), curves['step'][-1]
        report(f'{i + 1}/{len(names)} {names[i]}: validation loss {least:.3f} after {steps:.0f} steps')

    order = sorted(range(len(names)), key=lambda i: (*SLOW, names[i]).index(names[i]))
    _, params, curves, skills = zip(*sorted(side_by_side(train_member, order, tell), key=lambda member: member[0]), strict=True)
    kept = range(len(names))
    if least_skill and lessons.together:
        kept = [i for i in kept if skills[i] >= least_skill * max(skills) or skills[i] == max(skills)]
    if len(kept) < len(names):
        report(f'left out, far behind the best: {", ".join(names[i] for i in range(len(names)) if i not in kept)}')
    curves = {f'{i}/{names[i]}{LEFT_OUT * (i not in kept)}': curve for i, curve in enumerate(curves)}
    return Members(tuple(names[i] for i in kept), tuple(params[i] for i in kept), curves, options.shift)


def as_curves(history: training.History) -> dict[str, list]:
    """{curve: list} of what a training told before it stopped."""
    kept = np.isfinite(np.asarray(history.step))
    return {name: np.asarray(column)[kept].astype(float).tolist() for name, column in history._asdict().items()}
