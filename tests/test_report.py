"""The report: every figure of results.json shown as it is, nulls as dashes with their notes, untrusted names escaped, written whole."""

import copy
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from neurostim import files, report
from neurostim.evaluation.membership import NEGATIVE_CONTROL

STUDENTS = {  # kappa real, stimuli, control
    'cnn': (.932, .927, .862), 'gru': (.910, .904, .927), 'mlp': (.872, .874, .687), 'forest': (.819, .858, .437), 'knn': (.1, .05, .0),
}
ATTACKERS = {  # inhibited, accuracy, known, stranger, control, stimuli
    'cnn': (True, .81, .82, .65, .69, .0), 'mlp': (False, .74, .71, .54, .60, .53), 'gru': (False, .79, .54, .20, .35, .42),
    'forest': (False, .40, .12, .10, .0, .0),
}


def some_results(students=STUDENTS, classes=('normal', 'apnea'), privacy=True):
    """Made-up results with everything that results.json can hold."""
    def figures(kappa):
        return {'accuracy': (1 + kappa) / 2, 'kappa': kappa, 'sensitivity': .9, 'specificity': .95, 'f1': .91, 'auroc': .97}

    return {
        'study': {'name': 'apnea_respiration', 'train_windows': 2724, 'test_windows': 1227, 'subjects': 8, 'classes': list(classes)},
        'teacher': {'models': ['cnn', 'gru', 'mlp'], 'accuracy': .9657, 'kappa': .9288},
        'stimuli': {'count': 20000, 'method': 'modulated', 'seconds': 41.5, 'per_second': 481.9, 'accepted_fraction': .9731,
                    'class_counts': [20000 // len(classes)] * len(classes), 'sha256': 'ab' * 32},
        'students': [
            {'name': name, 'seeds': 5, 'real': figures(real), 'stimuli': figures(stimuli), 'control': figures(control),
             'kappa_gap': real - stimuli, 'kappa_gap_ci95': [real - stimuli - .011, real - stimuli + .013]}
            for name, (real, stimuli, control) in students.items()],
        'privacy': some_privacy() if privacy else None,
    }


def some_privacy():
    names = ('inhibited', 'known_accuracy', 'known_confident', 'stranger_confident', 'control_confident', 'stimuli_confident')
    attack = {'attack': 'LiRA', 'shadow_models': 64,
              'real': {'auc': .588, 'auc_ci95': [.571, .604], 'tpr_at_1pct_fpr': .062},
              'stimuli': {'auc': .525, 'auc_ci95': [.508, .541], 'tpr_at_1pct_fpr': .022}}
    return {
        'association': {'attackers': [{'name': n, **dict(zip(names, values, strict=True))} for n, values in ATTACKERS.items()]},
        'membership': {'record': attack, 'subject': None, 'subject_note': 'eight people are too few for shadow models of people'},
        'neighbours': {'stimuli_to_train': 4.21, 'holdout_to_train': 3.98, 'ratio': 1.058, 'ratio_ci95': [1.04, 1.08]},
        'differential_privacy': {'unit': 'record', 'epsilon': 7.93, 'delta': 1e-5, 'components': ['teacher', 'prior'],
                                 'audited_epsilon_lower_bound': .81},
    }


def some_pictures(classes=2, kind='windows', shape=(60, 1), students=('cnn', 'gru')):
    rng = np.random.default_rng(0)
    y = np.arange(12 * classes) % classes
    probabilities = rng.dirichlet(np.ones(classes) * .2, 200)
    steps = list(range(0, 2000, 100))
    fall = np.exp(-np.array(steps) / 400)
    curve = {'step': steps, 'train_loss': fall + .02, 'validation_loss': fall + .1, 'validation_kappa': .93 - fall}
    return {
        'stimuli_x': rng.normal(size=(200, *shape)).astype(np.float32), 'stimuli_probabilities': probabilities,
        'real_x': rng.normal(size=(len(y), *shape)).astype(np.float32), 'real_y': y,
        'confusion': {s: {source: rng.integers(0, 50, (classes, classes)) + 300 * np.eye(classes, dtype=int) for source in report.SOURCES}
                      for s in students},
        'curves': {'cnn': curve, 'gru': curve}, 'study_kind': kind, 'sampling_rate_hz': 1.0 if kind == 'windows' else None,
        'channels': [f'channel {i}' for i in range(shape[-1])], 'config': 'seed: 0\nexcite:\n  method: modulated\n',
    }


class Checker(HTMLParser):
    """Fails on unbalanced tags; keeps text, tags and attributes."""

    void = {'meta', 'br', 'img', 'link', 'hr', 'input'}

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ''
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope='module')
def page():
    return report.html(some_results(), some_pictures())


def nulled(tree):
    """The same tree with every number null."""
    if isinstance(tree, dict):
        return {key: nulled(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [nulled(value) for value in tree]
    return tree if isinstance(tree, str | bool) else None


# ------------------------------------------------------------------------------------------------ the table


def test_the_table_shows_the_figures_of_the_results():
    results = some_results()
    text = report.table(results)
    for name, (real, stimuli, control) in STUDENTS.items():
        row = next(line for line in text.splitlines() if line.startswith(name)).split()
        kappas = [real, stimuli, control]
        assert row[2:8] == [f'{v:.3f}' for v in [(1 + k) / 2 for k in kappas] + kappas]
        assert row[8] == f'{real - stimuli:.3f}' and f'[{real - stimuli - .011:.3f}, {real - stimuli + .013:.3f}]' in ' '.join(row)
    for shown in (
        'apnea_respiration', '2 724', '1 227', 'cnn + gru + mlp', '0.966', '0.929', '20 000', 'modulated', '97.3 %', '482 a second',
    ):
        assert shown in text
    for shown in ('82.0 %', '65.0 %', '0.588 [0.571, 0.604]', '6.2 %', '1.058', 'epsilon 7.93', '1e-05', '0.81', 'too few for shadow'):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 160


def test_the_table_without_privacy_says_nothing_of_it():
    assert 'privacy' not in report.table(some_results(privacy=False))


def test_notes_are_found_with_their_places():
    results = some_results()
    results['students'][0] |= {'kappa_gap_ci95': None, 'note': 'two test people only'}
    assert report.notes(results) == [
        ('students / cnn', 'two test people only'),
        ('privacy / membership / subject', 'eight people are too few for shadow models of people')]
    assert 'students / cnn: two test people only' in report.table(results) and 'two test people only' in report.html(results, {})


@pytest.mark.parametrize('privacy', [True, False])
def test_nulls_everywhere_are_dashes(privacy):
    results = nulled(some_results(privacy=privacy))
    assert report.ABSENT in report.table(results)
    checked = Checker(report.html(results, {}))
    assert 'None' not in checked.text and 'nan' not in re.findall(r'\w+', checked.text)


def test_not_a_number_counts_as_null():
    results = some_results()
    results['teacher']['kappa'] = float('nan')
    results['students'][0]['kappa_gap'] = float('inf')
    for text in (report.table(results), Checker(report.html(results, {})).text):
        assert 'nan' not in re.findall(r'\w+', text) and 'inf' not in re.findall(r'\w+', text)


def test_an_early_phase_has_neither_stimuli_nor_students():
    results = some_results() | {'stimuli': None, 'students': [], 'privacy': None}
    assert 'teacher' in report.table(results)
    assert 'No student was evaluated' not in report.html(results, {}) or 'nothing to compare' in report.html(results, {})


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_is_well_formed_and_complete(page):
    checked = Checker(page)
    assert checked.tags.count('svg') == 4 + 2
    for shown in ('0.932', '0.927', '0.862', '0.929', '20\u00a0000', 'epsilon 7.93', '0.588', 'AUROC', 'ab' * 32, 'method: modulated'):
        assert shown in checked.text
    for text in report.reading(some_results()):
        assert text in checked.text


def test_the_page_refers_to_nothing_outside(page):
    assert not re.search(r'(https?|ftp|file):|//[a-z]|@import|url\((?!#)', page.replace('application/', ''), re.I)
    for name, value in Checker(page).attributes:
        if name in ('src', 'href', 'xlink:href', 'srcset', 'action'):
            assert value.startswith(('#', 'data:'))
    assert 'script' not in Checker(page).tags and "default-src 'none'" in page


def test_equal_runs_give_equal_pages(page):
    assert report.html(some_results(), some_pictures()) == page


def test_untrusted_names_are_escaped():
    evil = '<script>alert(1)</script>&"$x_{$\x1b[31m'
    results = some_results(students={evil: (.9, .8, .7)}, classes=(evil, 'b'))
    results['study']['name'] = results['teacher']['models'][0] = results['stimuli']['method'] = evil
    results['privacy']['association']['attackers'][0]['name'] = evil
    results['privacy']['membership']['record']['attack'] = evil
    results['students'][0]['note'] = evil
    pictures = some_pictures(students=[evil], shape=(60, 2)) | {'channels': [evil, 'b']}
    pictures['curves'] = {evil: pictures['curves']['cnn']}
    page, text = report.html(results, pictures), report.table(results)
    assert 'script' not in Checker(page).tags and '<script' not in page
    assert '\x1b' not in text and '\x1b' not in page


@pytest.mark.parametrize(('classes', 'kind', 'shape'), [
    (11, 'images', (28, 28, 1)), (3, 'images', (8, 8, 3)), (5, 'features', (18,)), (4, 'windows', (11, 18)), (40, 'windows', (20, 1)),
])
def test_many_classes_and_every_kind_of_study(classes, kind, shape):
    results = some_results(students={'mlp': (.9, .8, .7)}, classes=[f'c{i}' for i in range(classes)])
    page = report.html(results, some_pictures(classes, kind, shape, students=['mlp']))
    assert Checker(page).tags.count('svg') == 5


@pytest.mark.parametrize('missing', [
    ('stimuli_x',), ('stimuli_probabilities', 'confusion'), ('real_x', 'curves'),
    ('real_y', 'config', 'channels', 'sampling_rate_hz', 'study_kind'),
])
def test_every_picture_is_optional(missing):
    pictures = {name: value for name, value in some_pictures(students=['cnn']).items() if name not in missing}
    Checker(report.html(some_results(), pictures))


def test_a_page_with_real_windows_says_that_it_is_not_for_release(page):
    assert 'not for release' in page and 'not for release' not in report.html(some_results(), {})


def test_classes_without_examples_and_curves_with_gaps():
    pictures = some_pictures(3, students=['cnn'])
    pictures['stimuli_probabilities'] = np.tile([.1, .1, .8], (200, 1))
    pictures['real_x'], pictures['real_y'] = pictures['real_x'][:2], np.array([0, 0])
    pictures['curves']['cnn'] = {'step': [0, 1], 'train_loss': [None, .5], 'validation_loss': [], 'validation_kappa': None}
    Checker(report.html(some_results(classes='abc'), pictures))


# ------------------------------------------------------------------------------------------------ the words


def test_the_words_say_when_the_control_is_as_good():
    said = ' '.join(report.reading(some_results()))
    assert 'For gru the control is as good' in said and 'Excitation helps cnn, mlp, forest' in said
    assert 'knn learns next to nothing' in said


def test_the_words_name_intervals_that_include_zero_and_students_that_do_better():
    said = ' '.join(report.reading(some_results()))
    assert 'For cnn, gru, mlp the interval includes zero' in said and 'forest did better on stimuli' in said


def test_the_words_count_mistakes():
    said = ' '.join(report.reading(some_results(students={'svm': (.8, .7, .6)})))
    assert 'a gap of 0.100' in said and '10.0 percentage points less' in said and 'about 50 more mistakes' in said


def test_association_verdicts_need_their_controls():
    attackers = {a['name']: report.association_verdict(a) for a in some_privacy()['association']['attackers']}
    assert attackers['cnn'].startswith('took part in the excitation')
    assert attackers['mlp'].startswith('no more sure about stimuli')
    assert attackers['gru'].startswith('more sure about stimuli')
    assert attackers['forest'].startswith('inconclusive')


@pytest.mark.parametrize(('known', 'stimuli', 'says'), [
    (None, None, 'inconclusive'), (0.02, 0.2, 'inconclusive'), (0.2, 0.02, 'no more sure about stimuli'),
    (0.2, 0.2, 'more sure about stimuli than about strangers: stimuli may betray')])
def test_an_attacker_who_is_sure_of_nobody_may_find_somebody(known, stimuli, says):
    unsure = {'inhibited': False, 'known_confident': 0.0, 'stranger_confident': 0.0, 'stimuli_confident': 0.0}
    attacker = {**unsure, 'known_found_at_1pct': known, 'stimuli_found_at_1pct': stimuli}
    assert report.association_verdict(attacker).startswith(says)
    assert report.with_found(attacker, 'stimuli') == ('0.0 %' if stimuli is None else f'0.0 % ({100 * stimuli:.1f} %)')
    assert report.with_found(attacker, 'stranger') == '0.0 %'


@pytest.mark.parametrize(('draws', 'found', 'says'), [
    (0.0, 0.0, 'more sure about stimuli'), (0.28, 0.0, 'more sure about stimuli'), (0.0, 0.15, 'more sure about stimuli'),
    (0.28, 0.15, "inconclusive: as sure about draws of strangers' own population"), (None, None, 'more sure about stimuli')])
def test_who_takes_draws_of_strangers_for_somebody_shows_nothing(draws, found, says):
    attacker = {'inhibited': False, 'known_confident': 0.6, 'stranger_confident': 0.05, 'stranger_draws_confident': draws,
                'stimuli_confident': 0.3, 'known_found_at_1pct': 0.5, 'stranger_draws_found_at_1pct': found, 'stimuli_found_at_1pct': 0.16}
    assert report.association_verdict(attacker).startswith(says)


@pytest.mark.parametrize(('real', 'stimuli', 'says'), [
    ([.48, .55], [.47, .53], 'Inconclusive'), ([.6, .7], [.48, .53], 'no better than chance'), ([.6, .7], [.52, .58], 'though less'),
    ([.6, .7], [.58, .66], 'about as much'), (None, [.5, .6], 'no conclusion'),
])
def test_membership_verdicts_need_their_control(real, stimuli, says):
    assert says in report.membership_verdict({'real': {'auc_ci95': real}, 'stimuli': {'auc_ci95': stimuli}})


def test_the_verdict_on_membership_tells_of_the_strongest_attack():
    """What the first attack does not find another may: nobody may read that nothing leaks."""
    attack = {'real': {'auc': .65, 'auc_ci95': [.6, .7]}, 'stimuli': {'auc': .5, 'auc_ci95': [.48, .53]}}
    found = {'attack': 'LiRA on the density of stimuli', 'against': 'stimuli', 'auc': .9, 'auc_ci95': [.88, .92]}
    said = report.membership_verdict({**attack, 'attacks': [found]})
    assert 'no better than chance' in said and 'finds membership through stimuli: LiRA on the density of stimuli, AUC 0.900' in said
    for nothing in ({**found, 'auc_ci95': [.45, .95]}, {**found, 'attack': NEGATIVE_CONTROL}):
        assert 'strongest' not in report.membership_verdict({**attack, 'attacks': [nothing]})


def test_the_page_says_what_was_attacked():
    results = some_results()
    results['privacy']['membership'] |= {'pipelines': 'small ones of one cnn', 'priors': 'banded, fitted to random halves'}
    page = report.html(results, {})
    assert 'shadow pipelines, small ones of one cnn.' in page and 'start from, too: banded, fitted to random halves.' in page


def test_a_broken_guarantee_is_called_one():
    results = some_results()
    results['privacy']['differential_privacy']['audited_epsilon_lower_bound'] = 9.0
    assert 'This contradicts the guarantee' in report.html(results, {})


# ------------------------------------------------------------------------------------------------ the file


def test_the_file_is_written_whole(tmp_path, page):
    report.write(tmp_path / 'report.html', some_results(), some_pictures())
    assert (tmp_path / 'report.html').read_text() == page and [p.name for p in tmp_path.iterdir()] == ['report.html']


@pytest.mark.parametrize('stage', ['render', 'replace'])
def test_a_failure_leaves_the_earlier_report(tmp_path, monkeypatch, stage):
    def fail(*_):
        raise OSError('disk full')

    (tmp_path / 'report.html').write_text('earlier')
    monkeypatch.setattr(*((report.page, 'html', fail) if stage == 'render' else (files.os, 'replace', fail)))
    with pytest.raises(OSError, match='disk full'):
        report.write(tmp_path / 'report.html', some_results(), {})
    assert (tmp_path / 'report.html').read_text() == 'earlier' and [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_a_misspelt_picture_is_named(tmp_path):
    with pytest.raises(ValueError, match='stimulus_x'):
        report.write(tmp_path / 'report.html', some_results(), {'stimulus_x': np.zeros((1, 2))})
    assert not list(tmp_path.iterdir())


def test_results_are_not_changed_and_may_come_from_json():
    results = some_results()
    before = copy.deepcopy(results)
    report.html(results, {})
    assert results == before and report.table(json.loads(json.dumps(results))) == report.table(results)


def test_a_note_on_every_student_is_told_once():
    results = some_results()
    names = [student['name'] for student in results['students']]
    for student in results['students']:
        student['note'] = 'four test people only'
    results['teacher']['note'] = 'four test people only'
    assert len(names) > 1
    told = [place for place, text in report.notes(results) if text == 'four test people only']
    assert told == ['teacher', f'students / {", ".join(names)}']
