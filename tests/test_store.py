"""The store: what TFDS reads back, and that nothing is lost or half-written, whatever happens.

As a script, `python tests/test_store.py ACTION FOLDER ...` does what a test needs a process of its own for.
"""

import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import records
from neurostim.excitation import store as stores
from neurostim.excitation.store import Store

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE, CLASSES = (6, 2), 3
MANIFEST = {'config': {'excite': {'count': 50, 'method': 'direct'}, 'students': ('cnn', 'gru')}, 'seed': 1}


def values(shard, n, shape=SHAPE):
    """A shard's stimuli, a pure function of its number, as the engine's are."""
    rng = np.random.default_rng(shard)
    return rng.normal(size=(n, *shape)).astype(np.float32), rng.dirichlet(np.ones(CLASSES), n).astype(np.float32)


def surprises(shard, n):
    """What a shard's stimuli surprised novices by."""
    return np.random.default_rng([shard, 1]).random(n, np.float32)


def fill(folder, count=50, shard_size=8, process=(0, 1), only=None, finish=True, shape=SHAPE, manifest=MANIFEST, sifted=False):
    """Writes what is missing (or the shards in `only`); returns (shards written, summary)."""
    with Store(folder, manifest, count, shard_size, shape, CLASSES, sifted, process) as store:
        missing = store.missing()
        for shard in missing if only is None else only:
            start, stop = store.bounds(shard)
            store.write(shard, *values(shard, stop - start, shape), {'seconds': time.time() % 1, 'attempts': np.int64(2)},
                        surprises(shard, stop - start) if sifted else None)
        return missing, store.finish() if finish else None


def data(folder):
    """The bytes of all files but those of progress/."""
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir()) if path.is_file()}


def shard_files(folder):
    return sorted(pathlib.Path(folder).glob('stimuli-train*'))


def script(*arguments):
    """Runs this file; returns what it printed."""
    command = [sys.executable, __file__, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A dataset that nothing interrupted."""
    folder = tmp_path_factory.mktemp('whole') / 'stimuli'
    fill(folder)
    return folder


@pytest.mark.parametrize('sifted', [False, True])
def test_tfds_reads_the_stimuli_back(sifted, tmp_path):
    import tensorflow_datasets as tfds

    fill(tmp_path, sifted=sifted)
    source = tfds.builder_from_directory(str(tmp_path)).as_data_source('train')
    x, probabilities = (np.concatenate(part) for part in zip(*(values(s, 2 if s == 6 else 8) for s in range(7)), strict=True))
    surprise = np.concatenate([surprises(s, 2 if s == 6 else 8) for s in range(7)]) if sifted else None
    assert len(source) == 50 and set(source[0]) == {'x', 'probabilities', 'label', *(['surprise'] if sifted else [])}
    assert not sifted or [record['surprise'] for record in source] == surprise.tolist()
    for record, stimulus, belief in zip(source, x, probabilities, strict=True):
        assert record['x'].dtype == record['probabilities'].dtype == np.float32
        np.testing.assert_array_equal(record['x'], stimulus)
        np.testing.assert_array_equal(record['probabilities'], belief)
        assert record['label'] == belief.argmax() and isinstance(record['label'], int)
    ours = stores.read(tmp_path)
    for array, expected in zip(ours, (x, probabilities, probabilities.argmax(1), surprise), strict=True):
        assert (array is expected is None) or array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_what_surprised_comes_with_sifted_stimuli_alone(whole, tmp_path):
    for sifted in (False, True):
        with Store(tmp_path / str(sifted), MANIFEST, 8, 8, SHAPE, CLASSES, sifted) as store, pytest.raises(ValueError, match='surprised'):
            store.write(0, *values(0, 8), surprise=None if sifted else surprises(0, 8))
    with pytest.raises(UserError, match='made otherwise.*sifted'), Store(whole, MANIFEST, 50, 8, SHAPE, CLASSES, sifted=True):
        pass


@pytest.mark.parametrize('shape', [(5,), (60, 1), (8, 8, 1), (200, 100)])
@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('sifted', [False, True])
def test_records_equal_those_of_tfds(shape, sparse, sifted):
    from tensorflow_datasets.proto import tf_example_pb2

    x, probabilities = values(0, 4, shape)
    if sparse:  # Compresses well, so takes the other branch.
        x[:] = 0.5
    features, surprise = records.features(shape, CLASSES, sifted), surprises(0, 4)
    written = records.encode(x, probabilities, surprise if sifted else None)
    for record, stimulus, belief, surprised in zip(written, x, probabilities, surprise, strict=True):
        theirs = features.serialize_example(
            {'x': stimulus, 'probabilities': belief, 'label': belief.argmax(), **({'surprise': surprised} if sifted else {})})
        assert (len(record) < stimulus.nbytes / 2) == (sparse and len(x[0]) > 5)
        feature, other = (tf_example_pb2.Example.FromString(example).features.feature for example in (record, theirs))
        assert set(feature) == set(other) and all(feature[name] == other[name] for name in feature if name != 'x')
        np.testing.assert_array_equal(features.deserialize_example_np(record)['x'], stimulus)


@pytest.mark.parametrize(('shape', 'classes', 'at_once'), [
    ((5,), 2, True), ((60, 4), 5, True), ((8, 8, 1), 128, True), ((200, 100), 3, False), ((7,), 129, False)])
@pytest.mark.parametrize('sifted', [False, True])
def test_records_laid_out_at_once_equal_one_after_another(shape, classes, at_once, sifted):
    """Byte by byte. Several pieces of x and labels of two bytes are left to the protocol buffers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * classes, *shape)).astype('<f4')
    probabilities = (0.9 * np.eye(classes)[rng.permutation(2 * classes) % classes] + 0.1 / classes).astype('<f4')
    surprise = surprises(0, len(x)) if sifted else None
    written = [records.record_bytes(stimulus.tobytes(), belief.tolist(), int(belief.argmax()), float(surprise[i]) if sifted else None, 0)
               for i, (stimulus, belief) in enumerate(zip(x, probabilities, strict=True))]
    assert list(records.encode(x, probabilities, surprise)) == written
    layout = records.layout_of(shape, classes, sifted)
    assert (layout is not None) == at_once
    if at_once:
        values_read, beliefs_read, labels, surprises_read = layout.take(written)
        np.testing.assert_array_equal(surprises_read, surprise)
        np.testing.assert_array_equal(values_read.reshape(x.shape), x)
        np.testing.assert_array_equal(beliefs_read, probabilities)
        np.testing.assert_array_equal(labels, probabilities.argmax(1))
        assert labels.dtype == np.int64 and len(np.unique(labels)) == classes
        for other in (written[0][:-1], bytes([written[0][0] ^ 1]) + written[0][1:]):
            assert layout.take([written[1], other]) is None


def test_summary(whole, tmp_path):
    x, _, label, _ = stores.read(whole)
    summary = stores.summary(whole)
    assert summary['sha256'] == hashlib.sha256(x.astype('<f4').tobytes()).hexdigest()
    assert summary['class_counts'] == np.bincount(label, minlength=CLASSES).tolist()
    assert summary['count'] == 50 and summary['totals']['attempts'] == 14
    assert fill(tmp_path, shard_size=50)[1]['count'] == 50
    assert [len(part.label) for part in stores.iterate(whole)] == [8] * 6 + [2]
    assert stores.manifest(whole)['config']['students'] == ['cnn', 'gru']


def test_no_tensorflow(tmp_path):
    assert 'tensorflow: False' in script('read', tmp_path / 'stimuli')


def test_a_finished_dataset_is_not_redone(whole):
    before = data(whole)
    missing, summary = fill(whole)
    assert missing == [] and data(whole) == before and summary == stores.summary(whole)


def test_resumes_to_the_same_bytes(whole, tmp_path):
    fill(tmp_path, only=[5, 2], finish=False)
    with pytest.raises(UserError, match='not finished.*excite'):
        stores.read(tmp_path)
    assert fill(tmp_path)[0] == [0, 1, 3, 4, 6]
    assert data(tmp_path) == data(whole)


def test_damage_is_found_and_redone(whole, tmp_path):
    fill(tmp_path)
    files = shard_files(tmp_path)
    flipped = bytearray(files[1].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    files[1].write_bytes(flipped)
    os.truncate(files[3], files[3].stat().st_size // 2)
    files[4].unlink()
    (tmp_path / 'progress' / '00006.json').unlink()
    (tmp_path / 'progress' / '00000.tmp').write_bytes(b'half')
    with pytest.raises(UserError, match='00001-of-00007 is damaged: run'):
        stores.read(tmp_path)
    with pytest.raises(UserError, match='damaged'), Store(tmp_path, MANIFEST, 50, 8, SHAPE, CLASSES) as store:
        store.finish()
    assert fill(tmp_path)[0] == [1, 3, 4, 6]
    assert data(tmp_path) == data(whole)
    assert not list((tmp_path / 'progress').glob('*tmp*'))


def test_a_second_run_refuses(tmp_path):
    with Store(tmp_path, MANIFEST, 50, 8, SHAPE, CLASSES), pytest.raises(UserError, match='another run is writing .*workdir'):
        fill(tmp_path)
    with Store(tmp_path, MANIFEST, 50, 8, SHAPE, CLASSES, process=(1, 2)):
        for process in ((0, 1), (1, 2), (0, 3)):
            with pytest.raises(UserError, match='another run is writing'):
                fill(tmp_path, process=process)
        fill(tmp_path, process=(0, 2), finish=False)
    fill(tmp_path)


def test_a_changed_manifest_refuses_and_says_what_changed(whole):
    before = data(whole)
    changed = {**MANIFEST, 'seed': 2, 'config': {**MANIFEST['config'], 'excite': {'count': 50, 'method': 'gaussian'}}}
    with pytest.raises(UserError) as error:
        fill(whole, manifest=changed)
    assert 'config.excite.method: "direct" -> "gaussian"; seed: 1 -> 2)' in str(error.value)
    assert '--workdir, or delete' in str(error.value)
    with pytest.raises(UserError, match='count: 50 -> 60'):
        fill(whole, count=60)
    assert data(whole) == before


def test_a_folder_of_something_else_stays_untouched(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(UserError, match='thesis.txt'):
        fill(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']
    with pytest.raises(UserError, match='no stimuli in .*: run'):
        stores.read(tmp_path)


def test_bad_values_refuse(tmp_path):
    with Store(tmp_path, MANIFEST, 50, 8, SHAPE, CLASSES) as store:
        x, probabilities = values(0, 8)
        with pytest.raises(ValueError, match='shard 6 needs 2 stimuli'):
            store.write(6, x, probabilities)
        x[3, 0, 0] = np.nan
        with pytest.raises(UserError, match='non-finite .* 0 to 7'):
            store.write(0, x, probabilities)
        assert store.missing() == list(range(7))


def test_a_full_disk_keeps_what_is_verified(whole, tmp_path):
    message = script('full', tmp_path)
    assert message.startswith(f'cannot write stimuli to {tmp_path} (') and 'File too large' in message and '--workdir' in message
    assert not list((tmp_path / 'progress').glob('*.tmp'))
    assert fill(tmp_path)[0] == [2, 3, 4, 5, 6]
    assert data(tmp_path) == data(whole)


def test_several_processes_fill_one_folder(whole, tmp_path):
    with pytest.raises(UserError, match='missing'):
        fill(tmp_path, process=(0, 3))
    for index in (2, 1):
        assert fill(tmp_path, process=(index, 3), finish=False)[0] == list(range(index, 7, 3))
    assert fill(tmp_path, process=(0, 3))[0] == []
    assert data(tmp_path) == data(whole)


def test_a_kill_at_any_step_loses_nothing(whole, tmp_path):
    steps = int(script('steps', tmp_path / 'stimuli', tmp_path / 'reference'))
    assert steps > 30
    assert len(data(tmp_path / 'reference')) == 5  # Two shards and three documents.


@pytest.mark.parametrize('kills', [3, pytest.param(40, marks=pytest.mark.slow)])
def test_random_kills_lose_nothing(tmp_path, kills):
    fill(tmp_path / 'whole', count=1600, shard_size=16)
    assert int(script('kills', tmp_path / 'killed', tmp_path / 'whole', kills)) == kills
    assert data(tmp_path / 'killed') == data(tmp_path / 'whole')


@pytest.mark.slow
def test_memory_is_constant_in_the_count(tmp_path):
    few, many = (int(script('memory', tmp_path / str(count), count)) for count in (10_000, 200_000))
    assert many - few < 50 * 2 ** 10, f'{few} and {many} KiB'


def act_read(folder):
    fill(folder)
    stores.read(folder)
    import tensorflow_datasets as tfds

    assert len(list(tfds.builder_from_directory(folder).as_data_source('train'))) == 50
    print('tensorflow:', 'tensorflow' in sys.modules)


def act_full(folder):
    fill(folder, only=[0, 1], finish=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    try:
        fill(folder)
    except UserError as error:
        print(error)


def act_memory(folder, count):
    fill(folder, int(count), 1000, shape=(60, 1))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def killed(kill_self, *arguments, **options):
    """Fills in a fork that `kill_self` prepares; returns whether a signal ended it. Forks spare the imports of a new process."""
    child = os.fork()
    if not child:
        kill_self()
        fill(*arguments, **options)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def act_steps(folder, reference):
    """Kills a run before its first step that touches the disk, a new run before its second, ...; each is resumed and compared."""
    options = {'count': 5, 'shard_size': 3}
    assert not killed(lambda: None, reference, **options)
    expected, kill_at = data(reference), 0

    def kill_self():
        left = iter(range(kill_at))
        for module, name in ((os, 'replace'), (os, 'fsync'), (os, 'mkdir'), (pathlib.Path, 'write_text'),
                             (records, 'ArrayRecordWriter'), (records.zlib, 'compress'), (stores, '_digest'), (stores.fcntl, 'flock')):
            setattr(module, name, last_step(getattr(module, name), left))

    def last_step(function, left):
        def step(*arguments, **options):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return step

    while killed(kill_self, folder, **options):
        assert not killed(lambda: None, folder, **options)
        assert data(folder) == expected, kill_at
        shutil.rmtree(folder)
        kill_at += 1
    print(kill_at)


def act_kills(folder, reference, kills):
    """SIGKILLs runs at random moments, each going on from the one before, until so many died unfinished; then lets one end."""
    generator, died = random.Random(0), 0
    while died < int(kills):
        child = os.fork()
        if not child:
            fill(folder, count=1600, shard_size=16)
            os._exit(0)
        time.sleep(generator.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        manifest = pathlib.Path(folder, 'manifest.json')
        if manifest.exists() and json.loads(manifest.read_text())['finished']:
            assert data(folder) == data(reference)
            shutil.rmtree(folder)
        else:
            died += 1
    assert not killed(lambda: None, folder, count=1600, shard_size=16)
    print(died)


if __name__ == '__main__':
    globals()[f'act_{sys.argv[1]}'](*sys.argv[2:])
