"""The rehearsal: what serves students best is found, kept with the teacher, and followed unless told otherwise."""

import contextlib
import dataclasses
import types

import numpy as np
import pytest

from neurostim import pipeline, rehearsal, students
from neurostim import teacher as teachers
from neurostim.committee import LEFT_OUT
from neurostim.config import default_config
from neurostim.excitation import produce
from neurostim.excitation.records import Stimuli

QUICK_COMPILE = True


@pytest.fixture(autouse=True)
def classical_students_alone(request, monkeypatch):
    """A network takes long to compile: none is asked but in tests whose names say so."""
    if 'network' not in request.node.name:
        monkeypatch.setattr(rehearsal, 'quick_students', lambda shape: rehearsal.STUDENTS)


class Reached(Exception):
    """What a test looks for was about to happen."""


def reach(*_):
    raise Reached


def test_ways_are_those_that_the_population_has():
    flows = ('flow/a', 'modulated/mean', 'mixture/mean')
    names = [[way['method'] for way in rehearsal.ways(dict.fromkeys(keys))]
             for keys in (('mixture/mean',), ('mixture/mean', 'modulated/mean'), flows, (*flows, 'matched/map'))]
    others = ['modulated'] * 3 + ['mixture'] * 3
    assert names == [['mixture'] * 3, others, ['flow'] * 2 + others, ['flow'] * 2 + ['matched'] * 2 + others]


def test_matched_draws_need_no_margin_over_the_flow_and_have_its_own_over_others(teacher):
    ways, preferred = {name: {'method': name} for name in ('flow', 'matched', 'modulated')}, rehearsal._preferred(teacher)
    gentle = {**ways['modulated'], 'learning_rate': 0.03}
    assert preferred((0.501, ways['matched'])) > preferred((0.5, ways['flow']))
    assert preferred((0.5, ways['matched'])) > preferred((0.529, gentle))
    assert preferred((0.5, ways['matched'])) < preferred((0.531, gentle))


@pytest.mark.parametrize('method', ['modulated', 'banded'])
@pytest.mark.parametrize('gain, clearly', [(0.005, False), (0.015, True)])
def test_large_steps_must_be_clearly_better(teacher, method, gain, clearly):
    large, small = (0.5 + gain, {'method': method}), (0.5, {'method': method, 'steps': 3, 'learning_rate': 0.03})
    assert (max(large, small, key=rehearsal._preferred(teacher)) is large) == clearly


@pytest.mark.parametrize(('windows', 'chosen'), [(1500, 'flow'), (1501, 'mixture')])
def test_of_many_vectors_the_flow_has_no_margin_over_a_mixture(teacher, windows, chosen):
    """Of few the mixture describes those that are asked about."""
    model = teachers.make_committee(('mlp',), (5,), 2)
    vectors = dataclasses.replace(teacher, model=model, windows=windows)
    gentle = {'method': 'mixture', 'learning_rate': 0.03}
    assert max([(0.5, {'method': 'flow'}), (0.501, gentle)], key=rehearsal._preferred(vectors))[1]['method'] == chosen
    series = dataclasses.replace(teacher, windows=windows)
    assert max([(0.5, {'method': 'flow'}), (0.501, gentle)], key=rehearsal._preferred(series))[1]['method'] == 'flow'


@pytest.mark.parametrize('best', ['modulated', 'mixture'])
def test_the_way_that_teaches_is_chosen(teacher, study, monkeypatch, best):
    """One method makes windows like the real ones, the other noise; the same beliefs belong to both."""
    def generate(teacher, settings, seed):
        rng, rows = np.random.default_rng(seed), np.arange(settings.count) % len(train.x)
        good = settings.method == best
        x = train.x[rows] if good else rng.normal(size=train.x[rows].shape).astype(np.float32)
        return Stimuli(x, np.eye(2, dtype=np.float32)[train.y[rows]], train.y[rows])

    train, lines = study.part(test=False), []
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(rehearsal, 'STIMULI', (200, 200, 1))
    found = rehearsal.rehearse(teacher, rehearsal.make_trial(train, teacher, 0, lines.append))
    marginals_tried = [line for line in lines if 'marginals as they come' in line]
    assert found['method'] == best and len(lines) == 9 and all('kappa' in line for line in lines)
    assert len(marginals_tried) == 1 and 'marginals' not in found  # no better, so left as it is


@pytest.mark.parametrize('margin, chosen', [(0.03, 'modulated'), (0.9, 'flow')])
def test_the_flow_is_left_only_for_what_is_clearly_better(teacher, study, monkeypatch, margin, chosen):
    """Of the flow's labels three in ten are turned around; another way's are right."""
    def generate(teacher, settings, seed):
        rows = np.arange(settings.count) % len(train.x)
        turned = np.random.default_rng(seed).random(len(rows)) < 0.3 * (settings.method == 'flow')
        label = np.where(turned, 1 - train.y[rows], train.y[rows])
        return Stimuli(train.x[rows], np.eye(2, dtype=np.float32)[label], label)

    train, ways = study.part(test=False), [{'method': 'flow'}, {'method': 'modulated'}]
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(produce, 'resolve', lambda settings, teacher: settings)
    monkeypatch.setattr(rehearsal, 'STIMULI', (400, 400, 1))
    monkeypatch.setattr(rehearsal, 'ways', lambda population: ways)
    monkeypatch.setattr(rehearsal, 'SHAPED_MARGIN', margin)
    assert rehearsal.rehearse(teacher, rehearsal.make_trial(train, teacher))['method'] == chosen


@pytest.mark.parametrize('turned, steps', [(0.15, 8), (0.0, -1)])
def test_more_steps_from_the_flow_are_taken_where_they_teach_more(teacher, study, monkeypatch, turned, steps):
    """Of the labels that few steps come to a share is turned around; where none is, many are not worth it."""
    def generate(teacher, settings, seed):
        rows = np.arange(settings.count) % len(train.x)
        few = settings.steps != rehearsal.FURTHER['steps']
        label = np.where(np.random.default_rng(seed).random(len(rows)) < turned * few, 1 - train.y[rows], train.y[rows])
        return Stimuli(train.x[rows], np.eye(2, dtype=np.float32)[label], label)

    train = study.part(test=False)
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(produce, 'resolve', lambda settings, teacher: settings)
    monkeypatch.setattr(rehearsal, 'STIMULI', (400, 400, 1))
    monkeypatch.setattr(rehearsal, 'ways', lambda population: [{'method': 'flow'}, {'method': 'flow', **rehearsal.FURTHER}])
    assert rehearsal.rehearse(teacher, rehearsal.make_trial(train, teacher)).get('steps', -1) == steps


@pytest.mark.parametrize('share, tried', [
    ((0.5, 0.5), [{'concentration': 2.0}]),
    ((0.8, 0.2), [{'classes': 'natural'}, {'concentration': 2.0}, {'classes': 'natural', 'concentration': 2.0}])])
def test_natural_shares_are_tried_where_classes_are_uneven(share, tried):
    assert rehearsal.other_targets({'class_share': np.array(share)}) == tried


@pytest.mark.slow
@pytest.mark.parametrize('good', [{'classes': 'natural'}, {'concentration': 2.0}, {'classes': 'natural', 'concentration': 2.0}, {}])
def test_targets_that_teach_are_chosen(teacher, study, monkeypatch, good):
    """Each target setting that differs from the good one turns a share of the labels around."""
    usual = {'classes': 'uniform', 'concentration': 0.2}

    def generate(teacher, settings, seed):
        rows = np.arange(settings.count) % len(train.x)
        wrong = sum(getattr(settings.target, name) != {**usual, **good}[name] for name in usual)
        label = np.where(np.random.default_rng(seed).random(len(rows)) < 0.2 * wrong, 1 - train.y[rows], train.y[rows])
        return Stimuli(train.x[rows], np.eye(2, dtype=np.float32)[label], label)

    train = study.part(test=False)
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(rehearsal, 'STIMULI', (400, 400, 1))
    monkeypatch.setattr(rehearsal, 'UNEVEN', 0.5)
    found = rehearsal.rehearse(teacher, rehearsal.make_trial(train, teacher))
    assert {name: found[name] for name in usual if name in found} == good


def test_of_a_rare_class_as_many_are_asked_about_as_there_are():
    y = np.repeat([0, 1, 2], [9000, 100, 900])
    rows, weights = rehearsal.windows_asked(y, 4, 0)  # nobody has the fourth class
    assert len(set(rows)) == rehearsal.WINDOWS and np.bincount(y[rows]).tolist() == [1000, 100, 900]
    np.testing.assert_allclose(np.bincount(y[rows], weights), [9000, 100, 900])
    everything, counts = rehearsal.windows_asked(y[::100], 4, 0)
    assert sorted(everything) == list(range(100)) and (counts == 1).all()


def test_what_one_student_gains_does_not_hide_what_another_loses():
    twins = np.array([0.4, 0.5])
    as_twins, one_gains, both_gain = (rehearsal.credit(np.array(kappas), twins) for kappas in ([0.4, 0.5], [0.3, 0.8], [0.5, 0.6]))
    assert one_gains < as_twins < both_gain
    np.testing.assert_allclose(as_twins, twins.mean())


def test_twins_are_asked_about_windows_that_they_have_not_learnt_from(teacher, study, monkeypatch):
    """Under true labels and under the teacher's, and what each says stands in its windows' place."""
    train, seen = study.part(test=False), {False: [], True: []}
    windows = [window.tobytes() for window in teacher.scaling.forward(train.x)]
    place, labels = dict(zip(windows, range(len(windows)), strict=True)), (np.eye(2)[train.y], teacher.probabilities(train.x))

    def fit(name, source, seed, options):
        learnt = [place[window.tobytes()] for window in source.x]
        soft = not np.array_equal(source.targets, labels[0][learnt])
        np.testing.assert_allclose(source.targets, labels[soft][learnt], atol=1e-5)

        def predict(x):
            asked = [place[window.tobytes()] for window in x]
            seen[soft].append((set(learnt), set(asked)))
            return np.eye(2)[(np.array(asked) + soft) % 2]
        return students.Student(name, predict)

    monkeypatch.setattr(students, 'fit', fit)
    everything, count = set(range(len(windows))), len(rehearsal.quick_students(train.shape))
    said = rehearsal.answers_of_twins(train, teacher, np.arange(len(windows)), 0)
    assert said.tolist() == [[[(i + soft) % 2 for i in range(len(windows))]] * count for soft in (False, True)]
    for found in seen.values():
        assert len(found) == rehearsal.FOLDS * count
        assert all(learnt | asked == everything and not learnt & asked for learnt, asked in found)


def test_a_twin_counts_by_the_labels_that_serve_it_better(teacher, study, monkeypatch):
    """Of what stimuli teach nothing beyond a twin counts: so credits tell what the twins know."""
    train = study.part(test=False)

    def credited(known):
        monkeypatch.setattr(
            rehearsal, 'answers_of_twins', lambda train, teacher, rows, seed: [twins[name](train.y[rows]) for name in known])
        monkeypatch.setattr(rehearsal, 'answers', lambda lessons, shift, seed: [twins['everything'](asked_about)])
        monkeypatch.setattr(rehearsal, 'BEYOND', 0.0)
        asked_about = train.y[rehearsal.windows_asked(train.y, 2, 0)[0]]
        return rehearsal.make_trial(train, teacher)(teacher, {'method': 'mixture'}, {})

    count = len(rehearsal.quick_students(train.shape))
    twins = {'everything': lambda y: np.tile(y, (count, 1)), 'nothing': lambda y: np.zeros((count, len(y)), int)}
    monkeypatch.setattr(rehearsal, 'STIMULI', (8, 8, 1))
    assert credited(('nothing', 'nothing')) == 0
    assert credited(('everything', 'nothing')) == credited(('nothing', 'everything')) == 1


def test_a_network_is_asked_where_windows_have_a_shape_and_learns_as_others_of_the_study_do(monkeypatch):
    asked = []

    def fit(name, source, seed, options):
        asked.append((name, options.shift, bool(source.held.any())))
        return students.Student(name, lambda x: np.eye(2)[np.zeros(len(x), int)])

    monkeypatch.setattr(students, 'fit', fit)
    targets = np.eye(2, dtype=np.float32)[np.arange(40) % 2]
    for shape in ((8,), (8, 1), (4, 4, 1)):
        lesson = rehearsal.Lesson(np.zeros((40, *shape), np.float32), targets, np.zeros((3, *shape), np.float32))
        assert [said.shape for said in rehearsal.answers([lesson], 0.5, 0)] == [(5 + (len(shape) > 1), 3)]
    classical = [(name, 0.5, False) for name in rehearsal.STUDENTS]
    network = ('cnn', 0.5, True)  # some are held, by which it stops
    assert sorted(asked) == sorted([*classical, *classical, network, *classical, network])


def test_a_way_that_no_network_learns_from_is_not_taken(teacher, study, monkeypatch):
    """Two ways make the same windows, by one of which classical students learn somewhat more and the network nothing."""
    train = study.part(test=False)

    def generate(teacher, settings, seed):
        rows = np.arange(settings.count) % len(train.x)
        fails = settings.method == 'modulated'
        label = np.where(np.random.default_rng(seed).random(len(rows)) < 0.15 * (not fails), 1 - train.y[rows], train.y[rows])
        return Stimuli(train.x[rows] + 1e-6 * fails, np.eye(2, dtype=np.float32)[label], label)

    def fit(name, source, seed, options):
        if name == 'cnn' and np.array_equal(source.x, first.forward(generate(teacher, modulated, seed).x)):
            return students.Student(name, lambda x: np.eye(2)[np.zeros(len(x), int)])
        return learn(name, source, seed, options)

    learn, first, modulated = students.fit, teacher.scaling, produce.Settings(count=400, method='modulated')
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(produce, 'resolve', lambda settings, teacher: settings)
    monkeypatch.setattr(rehearsal, 'STIMULI', (400, 400, 1))
    monkeypatch.setattr(rehearsal, 'NETWORK_STEPS', 150)
    monkeypatch.setattr(rehearsal, 'ways', lambda population: [{'method': 'modulated'}, {'method': 'banded'}])
    chosen = []
    for network in (None, 'cnn'):
        monkeypatch.setattr(rehearsal, 'quick_students', lambda shape, network=network: (*rehearsal.STUDENTS, *[network] * bool(network)))
        monkeypatch.setattr(students, 'fit', fit)
        chosen.append(rehearsal.rehearse(teacher, rehearsal.make_trial(train, teacher))['method'])
    assert chosen == ['modulated', 'banded']


def test_what_was_rehearsed_is_kept_and_followed(teacher, tmp_path):
    teachers.save(dataclasses.replace(teacher, rehearsed={'method': 'mixture', 'steps': 3, 'learning_rate': 0.03}), tmp_path / 'teacher')
    kept = teachers.load(tmp_path / 'teacher')
    found = produce.resolve(produce.Settings(), kept)
    assert (found.method, found.steps, found.learning_rate) == ('mixture', 3, 0.03)
    assert produce.resolve(found, kept) == found
    assert produce.resolve(produce.Settings(steps=7, learning_rate=0.2), kept).steps == 7
    assert produce.resolve(produce.Settings(steps=7, learning_rate=0.2), kept).learning_rate == 0.2
    asked = produce.resolve(produce.Settings(method='gaussian'), kept)
    assert (asked.method, asked.steps) == ('gaussian', 5)  # who asks for a method gets it, with its own steps
    assert produce.resolve(produce.Settings(), teacher).method == 'modulated'


def test_the_best_of_some_draws_is_taken_where_that_was_rehearsed(teacher):
    chosen = dataclasses.replace(teacher, rehearsed={'method': 'mixture', **rehearsal.BEST_OF_FOUR})

    def found(**settings):
        resolved = produce.resolve(produce.Settings(**settings), chosen)
        return resolved.steps, resolved.candidates

    assert found() == (1, 4)
    assert found(steps=3, candidates=2) == (3, 2)
    assert found(accept=True) == (1, 1)  # which draws anew by itself
    assert found(method='gaussian') == (5, 1)


def test_every_other_stimulus_stays_as_drawn_where_that_was_rehearsed(teacher):
    """Naming the method excites every one, as acceptance does; sifting has every other one of its own."""
    chosen = dataclasses.replace(teacher, rehearsed={'method': 'mixture', 'as_drawn': True})
    assert produce.resolve(produce.Settings(), chosen).as_drawn
    assert not produce.resolve(produce.Settings('mixture'), chosen).as_drawn
    assert not produce.resolve(produce.Settings(accept=True), chosen).as_drawn
    accompanied = dataclasses.replace(chosen, novices=types.SimpleNamespace(know_something=True))
    assert not produce.resolve(produce.Settings(surplus=4), accompanied).as_drawn


def test_rehearsed_targets_are_followed_where_none_are_asked_for(teacher):
    rehearsed = dataclasses.replace(teacher, rehearsed={'method': 'mixture', 'classes': 'natural', 'concentration': 2.0})

    def found(whose, **target):
        resolved = produce.resolve(produce.Settings(target=produce.TargetSettings(**target)), whose)
        assert produce.resolve(resolved, whose) == resolved
        return resolved.target.classes, resolved.target.concentration

    left = {'classes': 'auto', 'concentration': 0.0}
    assert found(rehearsed, **left) == ('natural', 2.0)
    assert found(teacher, **left) == ('uniform', 0.2)
    assert found(rehearsed, classes='uniform', concentration=0.5) == ('uniform', 0.5)
    assert found(rehearsed) == ('uniform', 0.2)


@pytest.mark.parametrize(('others', 'taken'), [(0.3, False), (0.0, True)])
def test_of_two_teachers_the_one_whose_stimuli_teach_more_is_kept(teacher, study, monkeypatch, others, taken):
    """The first teacher turns a seventh of the labels around, the other one too unless it is excited by gentle steps."""
    def generate(asked, settings, seed):
        assert (settings.method, settings.target.classes, settings.marginals) == ('mixture', 'natural', False)
        rows = np.arange(settings.count) % len(train.x)
        gentle = asked is other and settings.steps == 3
        turned = np.random.default_rng(seed).random(len(rows)) < (others if gentle else 0.15)
        label = np.where(turned, 1 - train.y[rows], train.y[rows])
        return Stimuli(train.x[rows], np.eye(2, dtype=np.float32)[label], label)

    train, lines = study.part(test=False), []
    rehearsed = {'method': 'mixture', 'classes': 'natural', 'marginals': False}
    first, other = (dataclasses.replace(teacher, rehearsed=rehearsed) for _ in range(2))
    monkeypatch.setattr(produce, 'generate', generate)
    monkeypatch.setattr(rehearsal, 'STIMULI', (400, 400, 1))
    kept = rehearsal.better(first, other, rehearsal.make_trial(train, teacher, 0, lines.append))
    assert len(lines) == 5
    if taken:
        assert kept.params is other.params and kept.rehearsed == {**rehearsed, 'steps': 3, 'learning_rate': 0.03}
    else:
        assert kept is first


@pytest.mark.parametrize(('more', 'taken'), [(0.009, False), (0.011, True)])
def test_a_teacher_of_draws_is_taken_for_what_is_clearly_better(teacher, more, taken):
    """A little more credit may be chance."""
    first, other = (dataclasses.replace(teacher, rehearsed={'method': 'mixture'}) for _ in range(2))
    kept = rehearsal.better(first, other, lambda asked, way, target: 0.6 + more * (asked is other))
    assert (kept is first) == (not taken)


@pytest.mark.parametrize(('times', 'asked'), [(1.11, False), (1.09, True)])
def test_a_teacher_that_knows_windows_less_is_not_taken(teacher, times, asked):
    """Whatever its stimuli may teach, which is then not asked, but for a little; members that were left out have no say."""
    lines = []
    worse = {member: {'validation_loss': [times * loss for loss in curve['validation_loss']]} for member, curve in teacher.curves.items()}
    left_out = {f'9/linear{LEFT_OUT}': {'validation_loss': [100.0]}}
    first = dataclasses.replace(teacher, rehearsed={'method': 'mixture'}, curves={**teacher.curves, **left_out})
    with pytest.raises(Reached) if asked else contextlib.nullcontext():
        assert rehearsal.better(first, dataclasses.replace(first, curves=worse), reach, lines.append) is first
    assert asked or len(lines) == 1 and 'validation loss' in lines[0]


@pytest.mark.parametrize(('times', 'tried'), [(0.95, True), (1.05, False)])
def test_among_many_windows_draws_are_not_tried(teacher, study, monkeypatch, times, tried):
    """Where it is left to choose; who asks for draws gets them."""
    monkeypatch.setattr(rehearsal, 'rehearse', lambda *_: {'method': 'mixture'})
    monkeypatch.setattr(teachers, 'learn_from_draws', reach)
    monkeypatch.setattr(teachers, 'MANY_WINDOWS', int((~study.test).sum() / times))
    config = default_config()
    config.teacher.rehearse = True
    for share, expected in ((-1.0, tried), (1.0, True)):
        config.teacher.draws = share
        with pytest.raises(Reached) if expected else contextlib.nullcontext():
            assert pipeline.prepare(teacher, lambda *_: 0.0, study, config, print).rehearsed == {'method': 'mixture'}


@pytest.mark.parametrize('method,spared', [('banded', True), ('pulsed', True), ('mixture', False)])
@pytest.mark.parametrize('share', [0.0, -1.0])
def test_of_long_windows_every_other_stimulus_stays_as_drawn_once_all_is_rehearsed(teacher, study, monkeypatch, method, spared, share):
    """Trials are of stimuli that are all excited: windows that the teacher knows do not tell what draws are worth."""
    def all_excited(first, other, *_):
        assert 'as_drawn' not in first.rehearsed
        return other

    monkeypatch.setattr(rehearsal, 'rehearse', lambda *_: {'method': method})
    monkeypatch.setattr(rehearsal, 'better', all_excited)
    monkeypatch.setattr(pipeline.produce, 'resolve', lambda settings, teacher: dataclasses.replace(settings, method=method))
    monkeypatch.setattr(teachers, 'learn_from_draws', lambda teacher, *_: teacher)
    config = default_config()
    config.teacher.rehearse, config.teacher.draws = True, share
    assert pipeline.prepare(teacher, lambda *_: 0.0, study, config, print).rehearsed.get('as_drawn', False) == spared


def test_of_long_windows_bands_alone_are_tried_and_pulses():
    there = dict.fromkeys(('mixture/mean', 'modulated/mean', 'banded/mean'))
    assert [way['method'] for way in rehearsal.ways(there)] == ['banded'] * 3
    assert [way['method'] for way in rehearsal.ways({**there, 'pulsed/mean': None})] == ['pulsed'] * 3 + ['banded'] * 3
    assert [way['method'] for way in rehearsal.ways(dict.fromkeys(('mixture/mean', 'slanted/mean')))] == ['slanted'] * 3 + ['mixture'] * 3
