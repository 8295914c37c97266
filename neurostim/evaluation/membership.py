"""Membership: was this window, or this person, among those that stimuli were made from?

Attacks on scores of shadow pipelines (:mod:`neurostim.evaluation.shadows`), each of which in turn is the one attacked while the others
serve the attacker. LiRA: Carlini et al. 2022 (arXiv 2112.03570). RMIA: Zarifzadeh et al. 2024 (arXiv 2312.03262).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import numpy as np
from scipy import special, stats

from neurostim.evaluation import shadow_priors, shadows
from neurostim.evaluation.utility import weighted_auc
from neurostim.study import Study

FEWEST_SUBJECTS = 4
DRAWS = 200  # of the bootstrap
GAMMA = 1.0  # of RMIA
PRIOR = 4  # residuals that stand in for the few that a window has
FPR = 0.01
CONFIDENCE = 0.95
TELLINGS = 20  # of people at random
CANARIES = 40  # windows with a wrong label
COPIES = (1, 8)  # of every other canary each
NEGATIVE_CONTROL = 'LiRA, online, on windows nobody learnt from'
NEGATIVE_CONTROL_PEOPLE = 'LiRA, online, told of people at random'
BY_PERSON = 'mean over a person’s windows'


def lira(scores: np.ndarray, member: np.ndarray, online: bool = True) -> np.ndarray:
    """The likelihood-ratio attack: float [models, n], higher where a member is suspected.

    For each window, the scores of the other models that learnt from it and of those that did not are taken to be normal, with one standard
    deviation about their two means; since models are few, it is drawn towards that of all windows together.

    Args:
      scores: [models, n], of one window's label, log(p / (1 - p)) or any other score that is higher for members.
      member: bool [models, n].
      online: whether the attacker has models that learnt from the window; offline, how unusual the score is without it.
    """
    result = np.zeros(scores.shape)
    for target in range(len(scores)):
        others = attackers(member, target)
        inside, outside = (_mean(scores[others], mask) for mask in (member[others], ~member[others]))
        centres = np.where(member[others], inside, outside) if online else outside
        counted = np.ones_like(member[others]) if online else ~member[others]
        spread = _spread((scores[others] - centres) * counted, counted.sum(0) - (2 if online else 1))
        if online:
            result[target] = stats.norm.logpdf(scores[target], inside, spread) - stats.norm.logpdf(scores[target], outside, spread)
        else:
            result[target] = special.log_ndtr((scores[target] - outside) / spread)  # of one tail
    return result


def attackers(member: np.ndarray, target: int) -> np.ndarray:
    """bool [models]: which models of `member` [models, n] serve the attacker of one of them.

    Not the one attacked, and not one that learnt from just what that one did not: the two are good and bad at opposite windows, so that
    their scores together would say who is in though no window had left a trace.
    """
    opposite = (member == ~member[target]).all(1)
    others = ~opposite
    others[target] = False
    return others


def _mean(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Means [n] over the models in `mask` [models, n]; the mean over all windows for one that no model is in the mask for."""
    count = mask.sum(0)
    overall = scores[mask].mean() if mask.any() else 0.0
    return np.where(count > 0, (scores * mask).sum(0) / np.maximum(count, 1), overall)


def _spread(residuals: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Standard deviations [n] of residuals [models, n], each as if `PRIOR` more residuals were like those of all windows together."""
    squares, freedom = (residuals**2).sum(0), np.maximum(freedom, 0)
    overall = squares.sum() / max(freedom.sum(), 1)
    return np.sqrt((squares + PRIOR * overall) / (freedom + PRIOR)) + 1e-6


def rmia(scores: np.ndarray, member: np.ndarray, population: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """The relative attack: of the windows that nobody learnt from, the share whose ratio, times `gamma`, is at most a window's own.

    A window's ratio is its probability under the model attacked over its mean probability under the others, those that learnt from it and
    those that did not alike (the online form).

    Args:
      scores: [models, n], log(p / (1 - p)).
      member: bool [models, n].
      population: [models, m], scores of windows that no model has learnt from.
    """
    def ratios(values, masks):
        p = np.maximum(special.expit(values), 1e-9)
        result = np.zeros(p.shape)
        for target in range(len(p)):
            others = attackers(member, target)
            if masks is None:
                average = p[others].mean(0)
            else:
                inside, outside = masks[others], ~masks[others]
                means = [(p[others] * mask).sum(0) / np.maximum(mask.sum(0), 1) for mask in (inside, outside)]
                known = [mask.any(0) for mask in (inside, outside)]
                average = (means[0] * known[0] + means[1] * known[1]) / np.maximum(known[0].astype(int) + known[1], 1)
            result[target] = p[target] / average
        return result

    own, others = ratios(scores, member), ratios(population, None)
    return np.stack([np.searchsorted(np.sort(gamma * row), mine, side='right') / len(row) for row, mine in zip(others, own, strict=True)])


def figures(scores: np.ndarray, member: np.ndarray, group: np.ndarray, seed: int = 0) -> dict:
    """Figures of an attack's scores [models, n]: AUC with a 95 % interval over groups of windows (people, records or
    blocks), and the true positive rate at 1 % false positives; and a lower bound of epsilon that the attack proves with 95 %
    confidence, were models and windows independent (Clopper and Pearson; jax_privacy.auditing).

    Args:
      member: bool [models, n].
      group: int [n], windows that are drawn together.
    """
    from jax_privacy.auditing import CanaryScoreAuditor
    auditor = CanaryScoreAuditor(scores[member], scores[~member])
    groups = np.unique(group, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    ranks = stats.rankdata(scores).reshape(scores.shape)
    draws = []
    for _ in range(DRAWS):
        weight = np.bincount(rng.integers(0, groups.max() + 1, groups.max() + 1), minlength=groups.max() + 1)[groups]
        draws.append(weighted_auc(ranks, member, np.broadcast_to(weight, scores.shape)))
    draws = np.array(draws)[np.isfinite(draws)]
    return {'auc': weighted_auc(scores, member, np.ones(scores.shape)),
            'auc_ci95': np.percentile(draws, [2.5, 97.5]).tolist() if groups.max() > 0 else None,
            'tpr_at_1pct_fpr': float(auditor.tpr_at_given_fpr(FPR)),
            'epsilon_lower_bound': float(auditor.epsilon_clopper_pearson(1 - CONFIDENCE, one_sided=False))}


def halves(units: np.ndarray, models: int, seed: int) -> np.ndarray:
    """bool [models, n]: random halves of the units (int [n]; each window its own, or a person's windows together). Every unit takes
    part in half of the models, or in one more or less."""
    unit = np.unique(units, return_inverse=True)[1]
    count = unit.max() + 1
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(0, models, 2):  # a half and the other half
        inside = rng.permutation(count) < count / 2
        rows += [inside, ~inside]
    return np.stack(rows)[:models][:, unit]


def attack(study: Study, scaled: np.ndarray, models: int, options: shadows.ShadowOptions | None = None, seed: int = 0,
           progress: Callable[[int], None] = lambda done: None, prior: shadow_priors.Prior | None = None) -> dict:
    """The `membership` entry of results.json.

    Args:
      scaled: the study's windows, scaled.
      models: shadow pipelines for windows; half as many again for people. 0 attacks nothing.
      progress: called with how many shadows are done, of :func:`count`.
      prior: what stimuli start from: shadow priors, as many but at most `shadow_priors.MOST_PRIORS`, are attacked besides, and of windows
        too large for pipelines they alone. None attacks none, nor does one that does not suit (:func:`shadow_priors.suits`).
    """
    if not models:
        return {'record': None, 'subject': None, 'note': 'not attacked: evaluate.shadows is 0'}
    if not (_pipelines_suit(study) or shadow_priors.suits(study, prior)):
        return {'record': None, 'subject': None, 'note': f'windows of more than {shadows.LARGEST} numbers are too large for shadow '
                                                         f'pipelines, and the prior {prior and prior.method!r} is not fitted anew'}
    entry, done = {'record': None, 'subject': None}, 0
    if _pipelines_suit(study):
        options = options or shadows.ShadowOptions()
        pipeline = shadows.make_pipeline(study.shape, len(study.classes), options)
        key = jax.random.key(seed)
        record, canaries = _attack_records(study, scaled, models, pipeline, key, seed, options.shift > 0, progress)
        subject = _attack_subjects(study, scaled, models // 2, pipeline, jax.random.fold_in(key, 1), seed,
                                   lambda several: progress(models + several))
        entry = {'record': record, 'subject': subject, 'canaries': canaries,
                 'pipelines': f'smaller ones than the release: one {options.teacher} as teacher, {options.components} Gaussians '
                              f'for {"each class" if options.by_class else "all classes"}'
                              f'{" of windows that begin anywhere" if options.stationary else ""}, {options.stimuli} stimuli, '
                              'no inhibition'}
        done = models + models // 2
    if shadow_priors.suits(study, prior):
        for unit, several in zip(('record', 'subject'), _priors(models), strict=True):
            found = _attack_priors(study, scaled, unit, several, prior, seed, lambda i, done=done: progress(done + i))
            if entry[unit] is None:
                entry[unit] = found
            elif entry[unit].get('attacks'):
                entry[unit]['attacks'] += found['attacks']
            if found['attacks']:
                entry['priors'] = f'{prior.method}, fitted to random halves: {shadow_priors.draws(study)} unexcited draws of each'
            elif entry[unit] is not found:
                entry[f'priors_{unit}_note'] = found['note']
            done += several
    return entry


def count(study: Study, models: int, prior: shadow_priors.Prior | None = None) -> int:
    """How many shadows :func:`attack` makes."""
    return (models + models // 2) * _pipelines_suit(study) + sum(_priors(models)) * shadow_priors.suits(study, prior)


def _priors(models: int) -> tuple[int, int]:
    """How many shadow priors are made beside so many pipelines, for windows and for people."""
    return min(models, shadow_priors.MOST_PRIORS), min(models // 2, shadow_priors.MOST_PRIORS)


def _pipelines_suit(study: Study) -> bool:
    return np.prod(study.shape) <= shadows.LARGEST


def _attack_priors(study, scaled, unit, models, prior, seed, progress):
    """One unit's entry, by what unexcited draws of shadow priors give away; windows of the test part, of which no prior knows, are the
    negative control of windows, people told at random that of people."""
    train, test = np.flatnonzero(~study.test), np.flatnonzero(study.test)
    by_person, first = unit == 'subject', f'LiRA on the density of draws of {prior.method}'
    nothing = {'attack': first, 'shadow_models': models, 'attacks': [], 'real': None, 'stimuli': None}
    if by_person and (few := _too_few(study.subject[train], models)):
        return {**nothing, 'note': few}
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.permutation(train)[:shadow_priors.MOST])
    others = np.sort(rng.permutation(test)[:shadow_priors.MOST])
    units = study.subject[train] if by_person else train
    inside = halves(units, models, seed)
    member = np.zeros((models, len(study.y)), bool)
    member[:, train] = inside
    views = shadow_priors.run(study, scaled, member, np.concatenate([asked, others]), prior, seed, progress)
    if not views:
        return {**nothing, 'note': f'half of the windows have no prior {prior.method!r}'}
    who, people, known = member[:, asked], study.subject[asked], slice(len(asked))
    attacks = []
    for source, prefix in (('real', 'own_'), ('stimuli', '')):
        for view, name in itertools.product(views, ('density', 'distance')):
            score = getattr(views[view], prefix + name)[:, known]
            found = _of_people([(score, who)], people, seed) if by_person else figures(lira(score, who), who, study.group[asked], seed)
            title = f'LiRA on the {name} of draws of {prior.method}{view}{f", {BY_PERSON}" if by_person else ""}'
            attacks.append({'attack': title, 'against': source, **found})
    mine, theirs = views[''].density[:, known], views[''].density[:, len(asked):]
    if by_person:
        control = {'attack': NEGATIVE_CONTROL_PEOPLE, **_of_nobody(mine, people, seed)}
    else:
        nobody = halves(np.arange(len(others)), models, seed)
        control = {'attack': NEGATIVE_CONTROL, **figures(lira(theirs, nobody), nobody, np.arange(len(others)), seed)}
    attacks.append({'against': 'stimuli', **control})
    return {'attack': attacks[0]['attack'], 'shadow_models': models, 'attacks': attacks, **_main_figures(attacks)}


def _attack_records(study, scaled, models, pipeline, key, seed, copies_differ, progress):
    """Windows and canaries at once."""
    train, test = np.flatnonzero(~study.test), np.flatnonzero(study.test)
    planted, wrong = shadows.plant(study, min(CANARIES, len(test) // 4), np.random.default_rng(seed))
    copies = np.resize(COPIES, len(planted))
    repeated = np.repeat(np.arange(len(planted)), copies)
    others = np.setdiff1d(test, planted)
    rows = np.concatenate([train, planted[repeated], others])
    y = np.concatenate([study.y[train], wrong[repeated], study.y[others]])
    units = np.concatenate([np.arange(len(train)), len(train) + repeated])
    member = np.concatenate([halves(units, models, seed), np.zeros((models, len(others)), bool)], 1)
    scores = shadows.run(pipeline, key, member, scaled[rows], y, progress)
    n = len(train)
    outside = slice(len(rows) - len(others), None)
    entry = _entry(scores, member, np.arange(n), study.group[train], outside, seed, copies_differ)
    first = n + np.unique(repeated, return_index=True)[1]  # one of each canary's copies
    found = {}
    for times in COPIES:
        chosen = first[copies == times]
        found[f'{times} in the training set'] = {
            source: figures(lira(getattr(scores, source)[:, chosen], member[:, chosen]), member[:, chosen], np.arange(len(chosen)), seed)
            for source in ('real', 'stimuli')}
    return entry, {'planted': len(planted), 'attack': 'LiRA, online', **found}


def _entry(scores: shadows.Scores, member, chosen, group, outside, seed, copies_differ):
    """The entry's figures by online LiRA, and every other attack beside them."""
    who = member[:, chosen]
    attacks = []
    for source in ('real', 'stimuli'):
        mine, population = getattr(scores, source)[:, chosen], getattr(scores, source)[:, outside]
        for name, result in (('LiRA, online', lira(mine, who)), ('LiRA, offline', lira(mine, who, online=False)),
                             ('RMIA', rmia(mine, who, population))):
            attacks.append({'attack': name, 'against': source, **figures(result, who, group, seed)})
    # The same attack, told of halves that never were: whatever it finds is the attack's own making.
    nobody = halves(np.arange(scores.real[:, outside].shape[1]), len(member), seed)
    for source in ('real', 'stimuli'):
        found = figures(lira(getattr(scores, source)[:, outside], nobody), nobody, np.arange(nobody.shape[1]), seed)
        attacks.append({'attack': NEGATIVE_CONTROL, 'against': source, **found})
    if copies_differ:
        mine, population = scores.copies[:, chosen], scores.copies[:, outside]
        for name, result in (('LiRA, online', lira(mine, who)), ('RMIA', rmia(mine, who, population))):
            attacks.append({'attack': f'{name}, over shifted copies', 'against': 'stimuli', **figures(result, who, group, seed)})
    for name in ('distance', 'density'):
        attacks.append({'attack': f'LiRA on the {name} of stimuli', 'against': 'stimuli',
                        **figures(lira(getattr(scores, name)[:, chosen], who), who, group, seed)})
    return {'attack': 'LiRA, online', 'shadow_models': len(member), 'attacks': attacks, **_main_figures(attacks)}


def _attack_subjects(study, scaled, models, pipeline, key, seed, progress):
    """A person's score is the mean over their windows. The negative control is told of halves that have nothing to do with who took part:
    whatever it finds is the attack's own making."""
    train = np.flatnonzero(~study.test)
    people = study.subject[train]
    if few := _too_few(people, models):
        return {'attack': 'LiRA, online', 'shadow_models': models, 'real': None, 'stimuli': None, 'note': few}
    member = halves(people, models, seed)
    scores = shadows.run(pipeline, key, member, scaled[train], study.y[train], progress)
    attacks = [{'attack': f'LiRA, online, {BY_PERSON}', 'against': source, **_of_people([(getattr(scores, source), member)], people, seed)}
               for source in ('real', 'stimuli')]
    attacks += [{'attack': NEGATIVE_CONTROL_PEOPLE, 'against': source, **_of_nobody(getattr(scores, source), people, seed)}
                for source in ('real', 'stimuli')]
    density = _of_people([(scores.density, member)], people, seed)
    attacks.append({'attack': f'LiRA on the density of stimuli, {BY_PERSON}', 'against': 'stimuli', **density})
    return {'attack': f'LiRA, online, {BY_PERSON}', 'shadow_models': models, 'attacks': attacks, **_main_figures(attacks)}


def _too_few(people: np.ndarray, models: int) -> str | None:
    """Why people (int [n], whose each training window is) cannot be attacked by so many shadows; None where they can."""
    there = len(np.unique(people))
    if there < FEWEST_SUBJECTS or models < shadows.FEWEST:
        return (f'{there} people with training windows and {models} shadow models: give at least {FEWEST_SUBJECTS} and '
                f'{shadows.FEWEST}')
    return None


def _of_people(told: list[tuple[np.ndarray, np.ndarray]], people: np.ndarray, seed: int) -> dict:
    """Figures of online LiRA's mean over each person's windows, of all pairs (scores, members) together, [models, n] each; `people` int
    [n]."""
    names = np.unique(people)
    results, members = zip(*((lira(scores, member), member) for scores, member in told), strict=True)
    by_person = [np.stack([result[:, people == name].mean(1) for name in names], 1) for result in results]
    who = [np.stack([member[:, people == name][:, 0] for name in names], 1) for member in members]
    return figures(np.concatenate(by_person), np.concatenate(who), np.arange(len(names)), seed)


def _of_nobody(scores: np.ndarray, people: np.ndarray, seed: int) -> dict:
    """The same where the attacker is told of people at random; several times, for of few people and shadows once is a matter of luck."""
    return _of_people([(scores, halves(people, len(scores), seed + 1 + i)) for i in range(TELLINGS)], people, seed)


def _main_figures(attacks: list[dict]) -> dict:
    """{source: figures} of the first attack on each."""
    first = {entry['against']: entry for entry in reversed(attacks)}
    return {source: {k: v for k, v in first[source].items() if k not in ('attack', 'against')} for source in ('real', 'stimuli')}
