"""Files: whole or not at all, what JSON can hold, and what differs."""

import concurrent.futures
import json

import numpy as np
import pytest

from neurostim import files


def test_a_file_is_what_somebody_wrote(tmp_path):
    """However many write it at once, and nothing else is left."""
    contents = [letter * 100_000 for letter in 'abcdefgh']
    path = tmp_path / 'new' / 'file.txt'
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: files.write_whole(path, content), contents))
    assert path.read_text() in contents and [p.name for p in path.parent.iterdir()] == ['file.txt']


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    files.write_whole(tmp_path / 'file', b'earlier')

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(files.os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        files.write_whole(tmp_path / 'file', 'later')
    assert (tmp_path / 'file').read_bytes() == b'earlier' and [p.name for p in tmp_path.iterdir()] == ['file']


def test_json_holds_what_numpy_says():
    made = files.as_json({1: np.float32(0.5), 'a': np.arange(2), 'b': (np.int64(3), float('inf'), None, True), 'c': np.array([np.nan, 1])})
    assert made == {'1': 0.5, 'a': [0, 1], 'b': [3, None, None, True], 'c': [None, 1.0]} and json.loads(json.dumps(made)) == made
    with pytest.raises(TypeError, match='object'):
        files.as_json(object())


def test_what_differs_is_named_by_its_place():
    old = {'seed': 0, 'study': {'name': 'a', 'people': [1, 2]}, 'gone': 1}
    new = {'seed': 0, 'study': {'name': 'b', 'people': [1, 2]}, 'long': 'x' * 100}
    assert files.changes(old, old) == []
    gone, long, name = files.changes(old, new)
    assert (gone, name) == ('gone: 1 -> null', 'study.name: "a" -> "b"') and long.startswith('long: null -> "xxx') and len(long) < 80
