"""What may be handed on: the dataset and its card, and nothing else."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from neurostim import release
from neurostim.excitation.store import Store

RESULTS = {
    'study': {'name': 'sleep | of\nmen', 'train_windows': 10, 'test_windows': 5, 'subjects': 4, 'classes': ['calm', 'apnea: "bad"']},
    'teacher': {'models': ['cnn'], 'accuracy': 0.9, 'kappa': 0.8},
    'stimuli': {'count': 6, 'method': 'flow', 'seconds': 1.0, 'per_second': 6.0, 'accepted_fraction': 1.0, 'class_counts': [3, 3],
                'sha256': 'ab' * 32},
    'students': [{'name': 'cnn', 'seeds': 3, 'real': {'kappa': 0.9}, 'stimuli': {'kappa': 0.8}, 'control': {'kappa': 0.7},
                  'kappa_gap': 0.1, 'kappa_gap_ci95': [0.0, 0.2]}],
    'privacy': None, 'notes': ['one record was damaged']}
PRIVACY = {
    'association': {'attackers': [{'name': 'resnet', 'inhibited': False, 'known_accuracy': 0.8, 'known_confident': 0.5,
                                   'stranger_confident': 0.1, 'stranger_draws_confident': 0.12, 'control_confident': 0.3,
                                   'stimuli_confident': 0.4}]},
    'membership': {'record': {'attack': 'LiRA', 'shadow_models': 8, 'real': {'auc': 0.7, 'auc_ci95': [0.6, 0.8], 'tpr_at_1pct_fpr': 0.1},
                              'stimuli': {'auc': 0.5, 'auc_ci95': [0.4, 0.6], 'tpr_at_1pct_fpr': 0.01}}, 'subject': None},
    'neighbours': {'stimuli_to_train': 2.0, 'holdout_to_train': 1.0, 'ratio': 2.0, 'ratio_ci95': [1.5, 2.5]}, 'differential_privacy': None}


def finished_run(folder):
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    soft = np.full((6, 2), 0.5, np.float32)
    with Store(folder / 'stimuli', {'people': 'Smith'}, 6, 4, (2,), 2, sifted=True) as store:
        for shard in store.missing():
            rows = slice(*store.bounds(shard))
            store.write(shard, x[rows], soft[rows], surprise=np.arange(6)[rows])
        store.finish()
    (folder / 'teacher').mkdir()
    (folder / 'teacher' / 'weights').write_text('secret')
    return x


def front_matter(text):
    _, head, body = text.split('---\n', 2)
    return {line.split(': ', 1)[0]: json.loads(line.split(': ', 1)[1]) for line in head.splitlines()}, body


def test_the_dataset_can_be_read_and_nothing_else_is_there(tmp_path):
    x = finished_run(tmp_path)
    folder = release.write(tmp_path, RESULTS, 'cc-by-4.0')
    data = tfds.builder_from_directory(str(folder / 'dataset')).as_data_source('train')
    np.testing.assert_array_equal(np.stack([data[i]['x'] for i in range(6)]), x)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    assert files == {'README.md', 'dataset/dataset_info.json', 'dataset/features.json', 'dataset/stimuli-train.array_record-00000-of-00002',
                     'dataset/stimuli-train.array_record-00001-of-00002'}
    assert not any(word in path.read_bytes() for path in folder.rglob('*') if path.is_file() for word in (b'secret', b'Smith'))


def test_an_earlier_release_is_replaced(tmp_path):
    finished_run(tmp_path)
    folder = release.write(tmp_path, RESULTS, 'other')
    (folder / 'dataset' / 'left over').write_text('')
    release.write(tmp_path, RESULTS, 'mit')
    assert not (folder / 'dataset' / 'left over').exists() and not (tmp_path / 'release.new').exists()
    assert front_matter((folder / 'README.md').read_text())[0]['license'] == 'mit'


def test_the_card_says_what_was_measured():
    front, body = front_matter(release.card({**RESULTS, 'privacy': PRIVACY}, 'other'))
    assert front['classes'] == ['calm', 'apnea: "bad"'] and front['pretty_name'] == 'Stimuli of sleep | of men'
    assert front['utility'][0]['kappa_gap'] == 0.1 and front['privacy']['association'][0]['stimuli_confident'] == 0.4
    assert front['privacy']['membership']['record']['auc'] == 0.5
    assert '| cnn | 0.900 | 0.800 | 0.100 | [0.000, 0.200] |' in body
    assert '| resnet | 50.0 % | 10.0 % | 12.0 % | 40.0 % | more sure about stimuli than about strangers' in body
    assert 'no better than chance through stimuli' in body and 'one record was damaged' in body
    assert 'lose more than 0.03 kappa: cnn' in body and 'No differential privacy' in body


def test_the_card_says_what_was_advised():
    told = {'parameters': {'logisticregression__C': 0.001}, 'likeliest': True, 'power': 0, 'class_weights': []}
    student = {**RESULTS['students'][0], 'name': 'logistic_regression', 'advice': told}
    front, body = front_matter(release.card({**RESULTS, 'students': [*RESULTS['students'], student]}, 'other'))
    assert [entry.get('advice') for entry in front['utility']] == [None, told]
    assert "- logistic_regression: C = 0.001, each stimulus' likeliest class alone as its label." in body
    assert 'advised' not in release.card(RESULTS, 'other')


@pytest.mark.parametrize('as_drawn', [False, True])
def test_the_card_says_which_stimuli_were_not_searched_for(as_drawn):
    body = release.card({**RESULTS, 'stimuli': {**RESULTS['stimuli'], 'as_drawn': as_drawn}}, 'other')
    assert ('odd positions were not searched for' in body) == as_drawn


@pytest.mark.parametrize('surplus', [None, 1, 4])
def test_the_card_says_which_stimuli_were_sifted(surplus):
    body = release.card({**RESULTS, 'stimuli': {**RESULTS['stimuli'], 'surplus': surplus}}, 'other')
    assert ('even positions' in body) == (surplus == 4)


def test_the_card_says_what_was_not_measured():
    front, body = front_matter(release.card(RESULTS, 'other'))
    assert front['privacy'] is None and '**Not measured.**' in body
