"""The notebook's ten lines, as README shows them."""

import pathlib
import re

import neurostim as ns
from neurostim.excitation import moments

QUICK_COMPILE = True
README = pathlib.Path(__file__).parents[1] / 'README.md'


def test_readme_example(capsys, monkeypatch):
    """Word for word, but on fewer people, with a smaller committee, shorter training and fewer draws to match."""
    example = re.search(r'```python\n(.*?)```', README.read_text(), re.S)[1]
    for name, options in {'load_study': {'subjects': 6, 'minutes_per_subject': 30},
                          'train_teacher': {'models': ('cnn', 'mlp'), 'flow_steps': 30, 'steps': 30},
                          'evaluate': {'seeds': 1, 'steps': 20}}.items():
        function = getattr(ns, name)
        monkeypatch.setattr(ns, name, lambda *a, function=function, options=options, **k: function(*a, **{**options, **k}))
    monkeypatch.setattr(moments, 'DRAWS', 1)
    monkeypatch.setattr(moments, 'LEAST_DRAWS', 100)
    scope = {}
    exec(example.replace('10_000', '300'), scope)
    assert [row['name'] for row in scope['results']['students']] == ['cnn', 'random_forest']
    printed = capsys.readouterr().out
    assert 'random_forest' in printed and scope['results']['study']['name'] == 'breathing'
    study = scope['study']
    answers = scope['student'].predict(study.x[:5])
    assert answers.shape == (5, 2) and abs(answers.sum(1) - 1).max() < 1e-5
