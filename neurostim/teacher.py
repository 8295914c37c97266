"""The teacher: a committee of zoo members with its scaling and the population's statistics, trained once, saved, loaded anywhere."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from neurostim import identity as identities
from neurostim import models, novices, training
from neurostim.committee import (
    LEFT_OUT,
    TOGETHER,
    CommitteeOptions,
    Lessons,
    deal,
    luck_decides,
    member_weights,
    train_members,
    validation_split,
)
from neurostim.errors import UserError
from neurostim.excitation import flow as flows
from neurostim.excitation import marginals, moments, parameterisation
from neurostim.excitation.population import fit_population
from neurostim.novices import Novices
from neurostim.scaling import Scaling, fit_scaling
from neurostim.study import LOCKED, Study, time_locked_share
from neurostim.threads import side_by_side

MOST_DRAWS, DRAWN_NUMBERS = 20_000, 2**27  # that members learn from, and the numbers in them
MANY_WINDOWS = 40_000  # beside more than so many, draws are too few to matter (BUILD_NOTES, of one study)


@dataclasses.dataclass(frozen=True, eq=False)  # each is itself alone, so that what is compiled for one can be kept
class Teacher:
    """A trained committee and everything that excitation needs; no recording is in it.

    Attributes:
      names: zoo names of the members.
      model: the committee (:func:`neurostim.models.committee`).
      params: a tuple, one entry a member.
      scaling: study's units -> the networks'.
      population: aggregate statistics (:func:`neurostim.excitation.population.fit_population`).
      classes, channels: names.
      kind: 'features', 'windows' or 'images'.
      curves: {member: training and validation curves as lists}; the names of members that were left out end in `LEFT_OUT`.
      identity: networks that name people, to be inhibited; None where there are none.
      shift: of its training (:class:`neurostim.training.TrainingOptions`).
      rehearsed: fields of :class:`neurostim.excitation.produce.Settings` and of its target that served students best
        (:mod:`neurostim.rehearsal`); empty where that was not tried.
      windows: how many it learnt from, so that there can be as many stimuli; 0 where that is not told.
      weights: how much each member counts (:func:`member_weights`); none where all count alike.
      novices: networks that stimuli are to surprise; None where there are none.
    """

    names: tuple[str, ...]
    model: models.Model
    params: Any
    scaling: Scaling
    population: dict[str, np.ndarray]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    kind: str
    curves: dict[str, dict[str, list]]
    identity: identities.Identity | None = None
    shift: float = 0.0
    rehearsed: dict[str, Any] = dataclasses.field(default_factory=dict)
    windows: int = 0
    novices: Novices | None = None
    weights: tuple[float, ...] = ()

    @functools.cached_property
    def networks(self) -> tuple:
        """All parameters that excitation takes: (the committee's, the identity networks' and the share of people in each class, the
        novices'). One and the same object each time, so that it is put on a device once."""
        identity = (self.identity.params, self.identity.share) if self.identity else ()
        return self.params, identity, self.novices.params if self.novices else ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one window."""
        return self.model.shape

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """The whole softmax [n, classes] for windows in the study's units."""
        return self.predict_scaled(self.scaling.forward(x))

    def predict_scaled(self, x: np.ndarray) -> np.ndarray:
        """The whole softmax [n, classes] for windows in scaled units."""
        return training.predictor(self.model)(self.params, x)

    def validation_loss(self) -> float:
        """Geometric mean over members of the least cross-entropy on held-out training windows: what each gains or loses counts alike,
        however well it does."""
        least = [min(curve['validation_loss']) for name, curve in self.curves.items() if not name.endswith(LEFT_OUT)]
        return float(np.exp(np.mean(np.log(np.maximum(least, 1e-9)))))

    def digest(self) -> str:
        """SHA-256 over parameters, statistics and scaling: what a stimulus depends on."""
        state = hashlib.sha256()
        parts = (self.params, self.population, tuple(self.scaling), *self.networks[1:], *[self.weights] * bool(self.weights))
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
            state.update(jax.tree_util.keystr(path).encode())
            state.update(np.ascontiguousarray(leaf).tobytes())
        return state.hexdigest()


def make_committee(names: tuple[str, ...], shape: tuple[int, ...], classes: int, weights: tuple[float, ...] = ()) -> models.Model:
    """The committee of `names` for windows of `shape`; `weights` as :func:`neurostim.models.committee` takes them."""
    if not names:
        raise UserError('teacher.models is empty: name at least one model')
    return models.committee(tuple(models.create(name, shape, classes) for name in names), weights)


def _count_draws(train: Study, share: float) -> int:
    """How many draws there are for a `share`, see :func:`learn_from_draws`."""
    return int(np.clip(share * len(train.y), 1, min(MOST_DRAWS, DRAWN_NUMBERS // train.x[0].size)))


def _draw(train: Study, population: dict, method: str, put_right: bool, share: float, seed: int,
          report: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    """Unexcited draws that members learn from beside the scaled training windows, and their classes; see :func:`learn_from_draws`."""
    count = _count_draws(train, share)
    report(f'{count} draws by {method!r} are learnt from beside {len(train.y)} windows')
    return parameterisation.unexcited(method, train.shape, population, count, seed, put_right=put_right)


def learn_from_draws(teacher: Teacher, study: Study, method: str, seed: int = 0, options: training.TrainingOptions | None = None,
                     put_right: bool = True, share: float = 1.0, report: Callable[[str], None] = lambda text: None) -> Teacher:
    """The teacher with its members trained anew, on the training windows and on unexcited draws of its population, each under the class
    that it was drawn for.

    Networks that have seen real windows only judge draws, which are never quite like these, worse than they could; and students learn
    from no more than what the teacher says of draws. Validation is of real windows alone, but the population that draws come from has
    been taken of these windows too: so members count as they did before, when none had learnt anything of those that it was judged by.

    Args:
      method: whose draws (:data:`neurostim.excitation.parameterisation.NAMES`).
      options: how members are trained; windows are shifted as the teacher's were.
      put_right: whether draws have their marginals put right.
      share: draws for each training window; there are at most `MOST_DRAWS` in all, and of long windows fewer.
    """
    train = study.part(test=False)
    train = dataclasses.replace(train, x=teacher.scaling.forward(train.x))
    draws = _draw(train, teacher.population, method, put_right, share, seed, report)
    options = dataclasses.replace(options or training.TrainingOptions(), shift=teacher.shift)
    lessons = Lessons(train, deal(train, TOGETHER, len(teacher.names), seed), draws)
    members = train_members(teacher.names, lessons, options, seed, report=report)
    return dataclasses.replace(teacher, model=make_committee(members.names, train.shape, len(train.classes), teacher.weights),
                               params=members.params, curves=members.curves)


def train_teacher(study: Study, names: tuple[str, ...] = ('cnn', 'gru', 'mlp', 'cnn', 'mlp'), seed: int = 0,
                  options: training.TrainingOptions | None = None, flow: flows.FlowOptions | None = None,
                  identity: identities.IdentityOptions | None = None, committee: CommitteeOptions | None = None,
                  report: Callable[[str], None] = lambda text: None,
                  meanwhile: Callable[[Teacher], None] = lambda committee: None) -> Teacher:
    """Trains a committee on a study's training windows and takes the population's statistics.

    Members hold out other groups for validation, so that together they have learnt from every window; but up to some 16 groups are so few
    that all may hold out the same ones, whose classes are most like those of all (:func:`neurostim.study.hold_out_groups`). Scaling, the
    population and identity networks are of all training windows, whatever the members share.

    Args:
      study: the whole study; its test windows are not touched.
      names: zoo members; a name may come more than once.
      options: how members are trained.
      flow: how the population's flow is trained; None, or 0 steps, leaves it out, and so do
        windows that none suits (:func:`neurostim.excitation.flow.suits`).
      identity: which networks learn to name people; None trains none.
      committee: what members learn from, which are kept, and how much each counts.
      report: called with a line of text as members are done.
      meanwhile: called with the committee as soon as it has learnt, while the flow may still be trained: it has no population yet, nor
        networks that name people. Not where members learn from draws, which a population has to be there for.
    """
    options, committee = options or training.TrainingOptions(), committee or CommitteeOptions()
    if options.shift > 0 and study.kind != 'windows':
        raise UserError(f'teacher.training.shift is {options.shift}: only time series can be shifted, this study has {study.kind}: '
                        'leave it 0')
    train, n_classes = study.part(test=False), len(study.classes)
    scaling = fit_scaling(train.x, study.kind)
    train = dataclasses.replace(train, x=scaling.forward(train.x))
    if options.shift < 0 and not _may_begin_anywhere(train, report):
        options = dataclasses.replace(options, shift=0.0)
    make_committee(tuple(names), study.shape, n_classes)  # refuses what there is not, before anything is trained
    lessons = Lessons(train, deal(train, committee.dealt, len(names), seed))
    if committee.draws and not lessons.together:
        raise UserError(f"draws are of all training windows, of which a member of the committee {committee.dealt!r} may see its own "
                        f"only: leave draws 0, or let members learn {TOGETHER!r}")
    if committee.draws_later and lessons.together:
        lessons = lessons._replace(room=_count_draws(train, committee.draws_later))

    take_statistics = functools.partial(_take_statistics, train, flow, seed, report)

    def learn(lessons):
        members = train_members(tuple(names), lessons, options, seed, committee.least_skill, report)
        even = not committee.weigh or not lessons.together or lessons.draws
        weights = () if even else member_weights(members.curves, luck_decides(train))
        return Teacher(members.names, make_committee(members.names, study.shape, n_classes, weights), members.params, scaling, {},
                       classes=study.classes, channels=study.channels, kind=study.kind, curves=members.curves, shift=members.shift,
                       windows=len(train.y), weights=weights)

    def learn_first():
        learnt = learn(lessons)
        meanwhile(learnt)
        return learnt

    if committee.draws:
        population = take_statistics()
        drawn = _draw(train, population, parameterisation.usual(population), True, committee.draws, seed, report)
        learnt = learn(lessons._replace(draws=drawn))
    else:
        population, learnt = side_by_side(lambda work: work(), (take_statistics, learn_first))
    named = identities.train_identity(train.x, train.subject, study.subjects, train.y, n_classes, identity, seed,
                                      lambda line: report(f'identity {line}')) if identity else None
    return dataclasses.replace(learnt, population=population, identity=named)


def _take_statistics(train: Study, flow: flows.FlowOptions | None, seed: int, report: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The population of scaled training windows, with its flow if there is to be one."""
    population = fit_population(train.x, train.kind, train.y, len(train.classes), seed)
    if flow and flow.steps and flows.suits(train.shape):
        held = validation_split(train, seed * 1000)
        population.update(flows.fit(train.x, train.y, held, len(train.classes), flow, seed, lambda line: report(f'flow: {line}')))
        population.update(moments.fit(population, train.shape, train.x, train.y, seed))
    population.update(marginals.fit(population, train.shape, train.x, train.y, seed))
    return population


def _may_begin_anywhere(train: Study, report: Callable[[str], None]) -> bool:
    """Whether it is to be tried what windows teach that begin anywhere: scaled training windows are time series whose beginnings say
    nothing."""
    if train.kind != 'windows':
        return False
    share = time_locked_share(train.x, train.y)
    if share > LOCKED:
        report(f'windows are learnt as they begin: {share:.0%} of their variance is the same in all of a class')
    return share <= LOCKED


def with_novices(teacher: Teacher, names: tuple[str, ...], seed: int = 0, report: Callable[[str], None] = lambda text: None) -> Teacher:
    """The teacher with novices (:mod:`neurostim.novices`) that learnt from draws of its population, by the method rehearsed or else the
    usual one; the teacher as it is where none are named."""
    if not names:
        return teacher
    method = teacher.rehearsed.get('method') or parameterisation.usual(teacher.population)
    x, _ = parameterisation.unexcited(method, teacher.shape, teacher.population, novices.count_draws(teacher.shape), seed,
                                      put_right=teacher.rehearsed.get('marginals', True))
    trained = novices.train_novices(names, x, teacher.predict_scaled(x), seed, lambda line: report(f'novice {line}'))
    return dataclasses.replace(teacher, novices=trained)


def save(teacher: Teacher, folder: pathlib.Path, beside: dict[str, Any] | None = None) -> None:
    """Writes a teacher: an orbax checkpoint of its arrays, and `teacher.json` with what rebuilds the models; whole or not at all.

    Args:
      beside: {file name: what to write there as JSON}, part of the same step.
    """
    import orbax.checkpoint as ocp
    fresh = folder.with_name(folder.name + '.new')
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    kept = {name: array for name, array in teacher.population.items() if array.size}  # orbax refuses arrays of no numbers
    arrays = {'params': list(teacher.params), 'population': kept, 'scaling': teacher.scaling._asdict()}
    if teacher.identity:
        arrays['identity'] = {'params': list(teacher.identity.params), 'share': teacher.identity.share}
    if teacher.novices:
        arrays['novices'] = list(teacher.novices.params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((fresh / 'checkpoint').absolute(), jax.tree.map(np.asarray, arrays))
    description = {
        'models': teacher.names, 'shape': teacher.shape, 'classes': teacher.classes, 'channels': teacher.channels,
        'kind': teacher.kind, 'shift': teacher.shift, 'rehearsed': teacher.rehearsed, 'windows': teacher.windows,
        'weights': teacher.weights, 'population': {k: v.shape for k, v in teacher.population.items()},
        'identity': teacher.identity and {'models': teacher.identity.names, 'people': teacher.identity.people},
        'novices': teacher.novices and teacher.novices.names, 'novices_agreement': teacher.novices and teacher.novices.agreement,
        'knots': teacher.scaling.knots.shape, 'curves': teacher.curves, 'digest': teacher.digest(),
        'files': _file_digests(fresh / 'checkpoint')}
    for name, content in {'teacher.json': description, **(beside or {})}.items():
        (fresh / name).write_text(json.dumps(content, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _file_digests(folder: pathlib.Path) -> dict[str, str]:
    """{path inside the folder: SHA-256} of every file."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def load(folder: pathlib.Path) -> Teacher:
    """Reads what :func:`save` wrote.

    Raises:
      UserError: no teacher there, or a damaged one.
    """
    import orbax.checkpoint as ocp
    description_file = folder / 'teacher.json'
    if not description_file.exists():
        raise UserError(f'no teacher in {folder}: run --phase=train with this --workdir first')
    try:
        description = json.loads(description_file.read_text())
        # Before orbax reads: of a damaged file, its threads print tracebacks of their own.
        if _file_digests(folder / 'checkpoint') != description['files']:
            raise ValueError('its checkpoint is not as it was saved')
        shape, classes = tuple(description['shape']), tuple(description['classes'])
        weights = tuple(description.get('weights', ()))
        model = make_committee(tuple(description['models']), shape, len(classes), weights)
        blank = jax.eval_shape(model.init, jax.random.key(0))
        knots = jax.ShapeDtypeStruct(tuple(description['knots']), np.float64)
        population = {name: np.zeros(size, np.float32) for name, size in description['population'].items()}
        target = {
            'params': list(blank),
            'population': {name: array for name, array in population.items() if array.size},
            'scaling': {'knots': np.zeros(knots.shape), 'values': np.zeros(knots.shape)}}
        of_people = description.get('identity')
        if of_people:
            names, people = tuple(of_people['models']), tuple(of_people['people'])
            blank_identity = models.blank(names, shape, len(people))
            target['identity'] = {'params': list(blank_identity), 'share': np.zeros((len(classes), len(people)), np.float32)}
        named = tuple(description.get('novices') or ())
        if named:
            blank_novices = models.blank(named, shape, len(classes))
            target['novices'] = list(blank_novices)
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), target)
        with ocp.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore((folder / 'checkpoint').absolute(), target)
        arrays = jax.tree.map(np.asarray, arrays)
        teacher = Teacher(
            tuple(description['models']), model, tuple(arrays['params']), Scaling(**arrays['scaling']), population | arrays['population'],
            classes=classes, channels=tuple(description['channels']), kind=description['kind'], curves=description['curves'],
            identity=identities.Identity(
                names, people, tuple(arrays['identity']['params']), arrays['identity']['share']) if of_people else None,
            shift=description.get('shift', 0.0), rehearsed=description.get('rehearsed', {}), windows=description.get('windows', 0),
            weights=weights,
            novices=novices.Novices(  # earlier versions did not tell, and sifted
                named, tuple(arrays['novices']), description.get('novices_agreement', 1.0)) if named else None)
        shapes = functools.partial(jax.tree.map, np.shape)
        fits = shapes(teacher.params) == shapes(blank)  # orbax restores whatever shape was saved
        fits &= not of_people or shapes(teacher.identity.params) == shapes(blank_identity)
        fits &= not named or shapes(teacher.novices.params) == shapes(blank_novices)
        sound = fits and teacher.digest() == description['digest']
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f'the teacher in {folder} cannot be read ({error}): run --phase=train again') from None
    if not sound:
        raise UserError(f'the teacher in {folder} is damaged (its digest or shapes differ): run --phase=train again')
    return teacher
