"""Association: whom would somebody who holds people's recordings recognise in the stimuli?

Attackers learn to name people from their real windows. They are shown windows of the same people that they have not seen (positive control:
they must name them), people they never saw (negative control: whoever knows few people takes strangers for one of them), draws of a
population of these strangers (negative control: who knows windows may take whatever is none for somebody), unexcited starting points, and
stimuli. An attacker who is less than `CONFIDENT` sure answers "unknown". Attackers are calibrated by a temperature on further windows of
the people they know.

Who is never so sure, of anybody, may still be surer of stimuli than of strangers. So it is asked too how often an attacker believes in
somebody more than in all but `FALSE_ALARMS` of strangers' windows: what is told at few false alarms counts (Carlini et al. 2022, arXiv
2112.03570).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from neurostim import models, students, training
from neurostim.identity import FEWEST_WINDOWS, held_back
from neurostim.sources import Source
from neurostim.study import Study
from neurostim.teacher import Teacher

# Filters, trees, neighbours; and dense layers, which know many people by where in a window something is, and at what level (BUILD_NOTES).
ATTACKERS = ('cnn', 'resnet', 'binned', 'random_forest', 'learned_features')
CONFIDENT = 0.9  # belief from which on an attacker names somebody
FALSE_ALARMS = 0.01  # share of strangers' windows that an attacker takes for somebody's
FEWEST_STRANGERS = 200  # windows of theirs: of fewer one in a hundred would be a single one
FEWEST_PEOPLE = 3  # to tell apart
MOST_PEOPLE = 40
STRANGER_SHARE = 0.25
NEIGHBOURS = 10
DOUBT = 0.05  # share of answers that calibration takes to be random
DRAWS = 1000  # of a bootstrap
TEMPERATURES = np.geomspace(0.05, 20, 60)


class People(NamedTuple):
    """Whose windows attackers get; each an index array into the study's windows.

    Attributes:
      train, calibrate, test: windows of the people whom attackers know, in the order of recording where all three come from one part.
      stranger: windows of people whom attackers never see.
      known: subject numbers of the people known; what an attacker answers counts along them.
    """

    train: np.ndarray
    calibrate: np.ndarray
    test: np.ndarray
    stranger: np.ndarray
    known: np.ndarray

    def number(self, subject: np.ndarray) -> np.ndarray:
        """Where subjects int [n], all known, stand in `known`."""
        return np.searchsorted(self.known, subject)


def choose_people(study: Study, seed: int = 0) -> People | None:
    """Known people have training windows, so that stimuli could betray them. A quarter of the people are strangers: those without
    training windows first, then some drawn at random. None where fewer than `FEWEST_PEOPLE` are left to be told apart.

    A person's unseen windows are their test windows where there are enough, else the last quarter of their training windows: never
    windows between those learnt from, which overlap with them or follow within minutes.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(study.subject[~study.test], minlength=len(study.subjects))
    able, outside = np.flatnonzero(counts >= FEWEST_WINDOWS), np.flatnonzero(counts == 0)
    wanted = max(1, round(STRANGER_SHARE * (len(able) + len(outside))))
    able = rng.permutation(able)
    inside = max(0, wanted - len(outside))
    strangers = np.concatenate([outside, able[:inside]])
    known = np.sort(able[inside:][:MOST_PEOPLE])
    if len(known) < FEWEST_PEOPLE:
        return None
    train, calibrate, test = [], [], []
    for person in known:
        seen, unseen = (np.flatnonzero((study.subject == person) & (study.test == part)) for part in (False, True))
        if len(unseen) < FEWEST_WINDOWS // 3:
            seen, unseen = np.split(seen, [round(0.75 * len(seen))])
        learnt, held = np.split(seen, [round(0.85 * len(seen))])
        train.append(learnt), calibrate.append(held), test.append(unseen)
    return People(*map(np.concatenate, (train, calibrate, test)), np.flatnonzero(np.isin(study.subject, strangers)), known)


@dataclasses.dataclass(frozen=True)
class Attacker:
    """A trained attacker: `beliefs` takes scaled windows [n, *shape] and gives calibrated beliefs [n, people known]."""

    name: str
    beliefs: Callable[[np.ndarray], np.ndarray]

    def confident(self, x: np.ndarray) -> np.ndarray:
        """bool [n]: whether it names somebody."""
        return self.beliefs(x).max(1) >= CONFIDENT


def train_attacker(name: str, x: np.ndarray, person: np.ndarray, held_x: np.ndarray, held_person: np.ndarray, people: int, seed: int = 0,
                   steps: int = 1000, shift: float = 0.0) -> Attacker:
    """Trains and calibrates an attacker.

    Args:
      name: 'learned_features' (nearest neighbours among a network's last hidden activations, the network naming people), or a student's.
      x, person: scaled windows [n, *shape] and who they are of, int [n] below `people`.
      held_x, held_person: the same, of other windows: to stop networks early and to calibrate.
      shift: of networks' training (:class:`neurostim.training.TrainingOptions`): where windows may begin anywhere, an attacker knows it.
    """
    identity = np.eye(people, dtype=np.float32)
    whole, held = np.concatenate([x, held_x]), np.arange(len(x) + len(held_x)) >= len(x)
    targets = identity[np.concatenate([person, held_person])]
    options = training.TrainingOptions(steps=steps, balance=1.0, shift=shift)
    if name == 'learned_features':
        features = _learned_features(x, identity[person], held_x, identity[held_person], seed, options)
        model = KNeighborsClassifier(min(NEIGHBOURS, len(x)), weights='distance').fit(features(x), person)
        seen = model.classes_

        def predict(windows):
            beliefs = np.zeros((len(windows), people))
            beliefs[:, seen] = model.predict_proba(features(windows))
            return beliefs
    elif name in models.NAMES:
        predict = students.fit(name, Source(whole, targets, held), seed, options).predict
    else:  # a classical algorithm would learn from the held windows too, and could not be calibrated on them
        predict = students.fit(name, Source(x, identity[person], np.zeros(len(x), bool)), seed).predict
    temperature = fit_temperature(predict(held_x), held_person)
    return Attacker(name, lambda windows: soften(predict(windows), temperature))


def _learned_features(x, targets, held_x, held_targets, seed, options):
    """What a network that names people sees: its last hidden layer."""
    people = targets.shape[1]
    spec = ('mlp' if x.ndim == 2 else 'cnn', x.shape[1:], people, ())
    params, _ = training.fit(spec, options, jax.random.fold_in(jax.random.key(seed), 99),
                             training.examples(x, targets, people), training.examples(held_x, held_targets, people))
    model = models.create(spec[0], spec[1], people)
    return functools.partial(training.by_blocks(lambda params, windows: list(model.apply(params, windows)[1].values())[-1]), params)


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Beliefs [n, people] at a temperature: their logarithms divided by it (Guo et al. 2017, arXiv 1706.04599)."""
    logs = np.log(np.maximum(probabilities, 1e-4)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, person: np.ndarray) -> float:
    """The temperature of the highest likelihood, as if one answer in twenty were drawn at random: an attacker who is always right on
    few windows would otherwise be made as sure as can be, of anybody."""
    wanted = (1 - DOUBT) * np.eye(probabilities.shape[1])[person] + DOUBT / probabilities.shape[1]
    return float(min(TEMPERATURES, key=lambda t: -(wanted * np.log(soften(probabilities, t))).sum(1).mean()))


def train_attackers(study: Study, scaled: np.ndarray, people: People, names: tuple[str, ...] = ATTACKERS, seed: int = 0,
                    shift: float = 0.0) -> list[Attacker]:
    """Attackers who have learnt the windows of the people known.

    Args:
      scaled: the study's windows, scaled.
      shift: of networks' training.
    """
    def of(rows):
        return scaled[rows], people.number(study.subject[rows])

    return [train_attacker(name, *of(people.train), *of(people.calibrate), len(people.known), seed, shift=shift) for name in names]


def attack(study: Study, scaled: np.ndarray, stimuli: np.ndarray, stimuli_label: np.ndarray, control: np.ndarray,
           draw: Callable[[np.ndarray], tuple[np.ndarray, str]], names: tuple[str, ...] = ATTACKERS, seed: int = 0,
           shift: float = 0.0) -> dict:
    """The `association` entry of results.json; `attackers` is None, with a note, where too few people can be told apart.

    Args:
      scaled: the study's windows, scaled.
      stimuli, control: scaled stimuli and unexcited starting points [m, *shape].
      stimuli_label: int [m], the stimuli's classes: the share is given for each class, too.
      draw: ``draw(rows)`` gives scaled unexcited draws [k, *shape] of a population of the study's windows at these rows, which will be
        strangers', and what they are draws of.
      shift: of networks' training, the teacher's.
    """
    people = choose_people(study, seed)
    if people is None:
        return {'attackers': None, 'note': f'fewer than {FEWEST_PEOPLE} people with {FEWEST_WINDOWS} training windows besides strangers'}
    stranger_draws, method = draw(people.stranger)
    synthetic = {'stranger_draws': stranger_draws, 'control': control, 'stimuli': stimuli}
    rows = []
    for attacker in train_attackers(study, scaled, people, names, seed, shift):
        name = attacker.name
        x, person = scaled[people.test], people.number(study.subject[people.test])
        beliefs, of_strangers = attacker.beliefs(x), attacker.beliefs(scaled[people.stranger]).max(1)
        strongest = {'known': beliefs.max(1), **{what: attacker.beliefs(made).max(1) for what, made in synthetic.items()}}
        named = {what: belief >= CONFIDENT for what, belief in {**strongest, 'stranger': of_strangers}.items()}
        right = beliefs.argmax(1) == person
        rows.append({
            'name': name, 'inhibited': False,
            'known_accuracy': float(right.mean()), 'chance': 1 / len(people.known),
            **shares(strongest, of_strangers),
            'stimuli_found_at_1pct_ci95': found_interval(strongest['stimuli'], of_strangers, study.subject[people.stranger], seed),
            'known_confident_ci95': interval(named['known'], person, seed),
            'stranger_confident_ci95': interval(named['stranger'], study.subject[people.stranger], seed),
            'control_confident_ci95': interval(named['control'], None, seed),
            'stimuli_confident_ci95': interval(named['stimuli'], None, seed),
            'known_confident_right': float(right[named['known']].mean()) if named['known'].any() else None,
            'stimuli_confident_by_class': [float(named['stimuli'][stimuli_label == c].mean()) if (stimuli_label == c).any() else None
                                           for c in range(len(study.classes))]})
    there = len(people.stranger)
    few = {'found_note': f'what is found at 1 % of false alarms is not told: of {there} windows of strangers, where {FEWEST_STRANGERS} are '
                         'needed'} if there < FEWEST_STRANGERS else {}
    return {'attackers': rows, 'people_known': len(people.known), 'strangers': len(np.unique(study.subject[people.stranger])),
            'stranger_windows': there,
            'stranger_draws': f'{len(stranger_draws)} unexcited draws of {method}, fitted to strangers\' windows', **few}


def inhibited(study: Study, teacher: Teacher, scaled: np.ndarray, stimuli: np.ndarray, control: np.ndarray) -> list[dict]:
    """Rows for the networks that excitation inhibited: what it did to them says nothing of others.

    They know everybody with training windows, so strangers are people without; they are calibrated like attackers, on the
    windows that stopped their training.
    """
    identity = teacher.identity
    number = {study.subjects.index(person): i for i, person in enumerate(identity.people)}
    rows = np.flatnonzero(np.isin(study.subject, list(number)))
    person = np.array([number[s] for s in study.subject[rows]])
    unseen = study.test[rows]
    train = np.flatnonzero(~unseen)
    held = train[held_back(person[train])]
    stranger = np.flatnonzero(~np.isin(study.subject, study.subject[~study.test]))
    entries = []
    for name, network, params in zip(identity.names, identity.networks(teacher.shape), identity.params, strict=True):
        predict = functools.partial(training.predictor(network), params)
        temperature = fit_temperature(predict(scaled[rows[held]]), person[held])
        attacker = Attacker(name, lambda x, predict=predict, temperature=temperature: soften(predict(x), temperature))
        entry = {'name': name, 'inhibited': True, 'known_accuracy': None, 'known_confident': None, 'stranger_confident': None,
                 'control_confident': float(attacker.confident(control).mean()),
                 'stimuli_confident': float(attacker.confident(stimuli).mean()), 'chance': 1 / len(number)}
        if unseen.any():
            beliefs = attacker.beliefs(scaled[rows[unseen]])
            entry['known_accuracy'] = float((beliefs.argmax(1) == person[unseen]).mean())
            entry['known_confident'] = float((beliefs.max(1) >= CONFIDENT).mean())
        if len(stranger):
            entry['stranger_confident'] = float(attacker.confident(scaled[stranger]).mean())
        missing = [what for what, absent in (('unseen windows of people whom it knows', not unseen.any()), ('strangers', not len(stranger)))
                   if absent]
        if missing:
            entry['note'] = f'this study has no {" and no ".join(missing)}'
        entries.append(entry)
    return entries


def shares(strongest: dict[str, np.ndarray], of_strangers: np.ndarray) -> dict[str, float | None]:
    """{'WHAT_confident', 'WHAT_found_at_1pct'}: of how many windows of each kind an attacker is sure of somebody, and in how many it finds
    somebody (:func:`found`); 'stranger_confident' besides.

    Args:
      strongest: {what: float [n], the highest of each window's beliefs in somebody}.
      of_strangers: float [m], the same of strangers' windows.
    """
    everybody = {**strongest, 'stranger': of_strangers}
    return {**{f'{what}_confident': float((belief >= CONFIDENT).mean()) for what, belief in everybody.items()},
            **{f'{what}_found_at_1pct': found(belief, of_strangers) for what, belief in strongest.items()}}


def found(belief: np.ndarray, of_strangers: np.ndarray) -> float | None:
    """Share of windows in which an attacker believes more than in all but `FALSE_ALARMS` of strangers'; None where these are too few.

    Args:
      belief: float [n], the highest of each window's beliefs in somebody.
      of_strangers: float [m], the same of strangers' windows.
    """
    if len(of_strangers) < FEWEST_STRANGERS:
        return None
    return float((belief > _exceeded_by_few(of_strangers)).mean())


def _exceeded_by_few(of_strangers):
    return np.quantile(of_strangers, 1 - FALSE_ALARMS, method='higher')


def found_interval(belief: np.ndarray, of_strangers: np.ndarray, stranger: np.ndarray, seed: int = 0) -> list[float] | None:
    """95 % bootstrap interval of :func:`found`, over strangers and over single windows; None where strangers are too few, or one.

    Args:
      belief, of_strangers: see :func:`found`.
      stranger: int [m], who each of strangers' windows is of.
    """
    people = np.unique(stranger)
    if len(of_strangers) < FEWEST_STRANGERS or len(people) < 2:
        return None
    rng, own, ordered = np.random.default_rng(seed), [of_strangers[stranger == person] for person in people], np.sort(belief)
    bounds = np.array([_exceeded_by_few(np.concatenate([own[i] for i in rng.integers(0, len(own), len(own))])) for _ in range(DRAWS)])
    shares = 1 - np.searchsorted(ordered, bounds, side='right') / len(ordered)
    return np.percentile(rng.binomial(len(ordered), shares) / len(ordered), [2.5, 97.5]).tolist()


def interval(values: np.ndarray, group: np.ndarray | None, seed: int = 0) -> list[float] | None:
    """95 % bootstrap interval of the share of True among values [n], over groups [n] (people) or, where there are none, over single values;
    None for one group."""
    rng = np.random.default_rng(seed)
    if group is None:  # what is drawn anew of so many yes and no is binomial: a million stimuli need no million draws
        return np.percentile(rng.binomial(len(values), values.mean(), DRAWS) / len(values), [2.5, 97.5]).tolist()
    groups = np.unique(group, return_inverse=True)[1]
    sums, sizes = np.bincount(groups, values), np.bincount(groups)
    if len(sums) < 2:
        return None
    drawn = rng.integers(0, len(sums), (DRAWS, len(sums)))
    return np.percentile(sums[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5]).tolist()
