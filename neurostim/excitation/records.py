"""Stimuli as records of TFDS: `x` float32 [*shape], `probabilities` float32 [classes] and `label` int64, their argmax; of sifted stimuli
also `surprise` float32. The only file that knows the format. No TensorFlow is involved."""

from __future__ import annotations

import functools
import pathlib
import typing
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

# TFDS reads records at random and wants each in a chunk of its own; the stimuli are compressed already, where that helps.
WRITER_OPTIONS = 'group_size:1,uncompressed'


class Stimuli(typing.NamedTuple):
    """Stimuli of consecutive indices.

    Attributes:
      x: float32 [n, *shape], in the study's units.
      probabilities: float32 [n, classes], the teacher's softmax.
      label: int64 [n], their argmax.
      surprise: float32 [n], of sifted stimuli (:func:`neurostim.excitation.engine.sifted`) how much each surprised novices; None of others.
    """

    x: np.ndarray
    probabilities: np.ndarray
    label: np.ndarray
    surprise: np.ndarray | None = None

    def rows(self, chosen) -> Stimuli:
        """Those that an index or a mask chooses."""
        return Stimuli(*(None if column is None else column[chosen] for column in self))


def file(folder: pathlib.Path, shard: int, shards: int) -> pathlib.Path:
    """Where one shard of so many lies."""
    return folder / f'stimuli-train.array_record-{shard:05d}-of-{shards:05d}'


def write_metadata(staging: pathlib.Path, folder: pathlib.Path, what: tfds.features.FeaturesDict, lengths: list[int],
                   num_bytes: int) -> None:
    """Writes what makes shards in `folder` a dataset, dataset_info.json and features.json, to `staging`.

    Args:
      what: of :func:`features`.
      lengths: stimuli in each shard.
    """
    template = tfds.core.ShardedFileTemplate(folder, dataset_name='stimuli', split='train', filetype_suffix='array_record')
    identity = tfds.core.dataset_info.DatasetIdentity('stimuli', tfds.core.Version('1.0.0'), str(folder), '')
    info = tfds.core.DatasetInfo(builder=identity, features=what,
                                 description='Stimuli made by neurostim: no recordings, labelled by a teacher network.')
    info.set_file_format('array_record')
    split = tfds.core.SplitInfo(name='train', shard_lengths=lengths, num_bytes=num_bytes, filename_template=template)
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(staging)


def features(shape, classes: int, sifted: bool) -> tfds.features.FeaturesDict:
    """What TFDS is told of one stimulus."""
    return tfds.features.FeaturesDict({
        'x': tfds.features.Tensor(shape=shape, dtype=np.float32, encoding='zlib'),
        'probabilities': tfds.features.Tensor(shape=(classes,), dtype=np.float32),
        'label': tfds.features.Scalar(dtype=np.int64),
        **({'surprise': tfds.features.Scalar(dtype=np.float32)} if sifted else {}),
    })


def write(path: pathlib.Path, x: np.ndarray, probabilities: np.ndarray, surprise: np.ndarray | None = None) -> None:
    """Writes one file of stimuli x '<f4' [n, *shape] with their beliefs '<f4' [n, classes] and, of sifted ones, surprise '<f4' [n]."""
    writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
    for record in encode(x, probabilities, surprise):
        writer.write(record)
    writer.close()


def read(path: pathlib.Path, count: int, shape: tuple[int, ...], classes: int, sifted: bool) -> Stimuli:
    """The `count` stimuli of one file."""
    reader = ArrayRecordReader(str(path))
    records = reader.read_all()
    reader.close()
    layout = layout_of(shape, classes, sifted)
    if layout and (taken := layout.take(records)):
        return Stimuli(taken[0].reshape(count, *shape), *taken[1:])
    examples = [tf_example_pb2.Example.FromString(record).features.feature for record in records]
    x = bytearray().join(zlib.decompress(feature['x'].bytes_list.value[0]) for feature in examples)
    probabilities = [feature['probabilities'].float_list.value[:] for feature in examples]
    label = [feature['label'].int64_list.value[0] for feature in examples]
    surprise = [feature['surprise'].float_list.value[0] for feature in examples] if sifted else None
    return Stimuli(np.frombuffer(x, '<f4').reshape(count, *shape), np.array(probabilities, np.float32).reshape(count, classes),
                   np.array(label, np.int64), surprise and np.array(surprise, np.float32))


def encode(x: np.ndarray, probabilities: np.ndarray, surprise: np.ndarray | None) -> Iterator[bytes]:
    """Yields the records that TFDS decodes; TFDS's own serialiser is several times slower and orders the fields at random."""
    # Float32 noise shrinks by some 5 % at ten times the cost: compress only where the first stimuli say that it pays.
    sample = x[:16].tobytes()
    level = 1 if len(zlib.compress(sample, 1)) < 0.75 * len(sample) else 0
    layout = None if level else layout_of(x.shape[1:], probabilities.shape[1], surprise is not None)
    if layout:
        yield from layout.fill(x, probabilities, surprise)
        return
    surprises = [None] * len(x) if surprise is None else surprise.tolist()
    for stimulus, belief, label, surprised in zip(x, probabilities.tolist(), probabilities.argmax(1).tolist(), surprises, strict=True):
        yield record_bytes(stimulus.tobytes(), belief, label, surprised, level)


def record_bytes(x: bytes, belief: list[float], label: int, surprise: float | None, level: int) -> bytes:
    """One record, by a protocol buffer."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature['x'].bytes_list.value.append(zlib.compress(x, level))
    feature['probabilities'].float_list.value.extend(belief)
    feature['label'].int64_list.value.append(label)
    if surprise is not None:
        feature['surprise'].float_list.value.append(surprise)
    return example.SerializeToString(deterministic=True)


class Layout(typing.NamedTuple):
    """Where the fields lie in records of one length: many such records are laid out and taken apart at once, in a quarter of the time
    that one protocol buffer after another takes.

    Attributes:
      template: uint8 [length], a record.
      fixed: bool [length], what is the same in all records.
      x, checksum, probabilities, label: the rest. The checksum is zlib's, Adler-32 of x, big-endian.
      surprise: of sifted stimuli, too; None of others.
    """

    template: np.ndarray
    fixed: np.ndarray
    x: slice
    checksum: slice
    probabilities: slice
    label: slice
    surprise: slice | None

    def fill(self, x: np.ndarray, probabilities: np.ndarray, surprise: np.ndarray | None) -> Iterator[bytes]:
        """The records of stimuli x '<f4' [n, *shape] with their beliefs '<f4' [n, classes] and, sifted, how they surprised '<f4' [n]."""
        values = x.reshape(len(x), -1).view(np.uint8)
        rows = np.tile(self.template, (len(x), 1))
        rows[:, self.x], rows[:, self.probabilities] = values, probabilities.view(np.uint8)
        rows[:, self.checksum] = np.array([zlib.adler32(row) for row in values], '>u4')[:, None].view(np.uint8)
        rows[:, self.label] = probabilities.argmax(1)[:, None]
        if self.surprise:
            rows[:, self.surprise] = surprise[:, None].view(np.uint8)
        return (row.tobytes() for row in rows)

    def take(self, records: list[bytes]) -> tuple | None:
        """(x, probabilities, label, surprise or None) of records, x flat; None where one is of another layout."""
        if any(len(record) != len(self.template) for record in records):
            return None
        rows = np.frombuffer(b''.join(records), np.uint8).reshape(len(records), -1)
        if (rows[:, self.fixed] != self.template[self.fixed]).any():
            return None
        x, probabilities, surprise = (
            part and np.ascontiguousarray(rows[:, part]).view('<f4') for part in (self.x, self.probabilities, self.surprise))
        return x, probabilities, rows[:, self.label][:, 0].astype(np.int64), None if surprise is None else surprise[:, 0]


@functools.cache
def layout_of(shape: tuple[int, ...], classes: int, sifted: bool) -> Layout | None:
    """The layout of uncompressed stimuli's records; None where x does not lie in one piece, or a label may take two bytes."""
    if classes > 128:
        return None
    random = np.random.default_rng(0)
    x, (*belief, surprise) = random.bytes(4 * int(np.prod(shape))), random.random(classes + 1, np.float32)
    zero, one = (np.frombuffer(record_bytes(x, belief, label, surprise if sifted else None, 0), np.uint8) for label in (0, 1))
    first, [label] = zero.tobytes().find(x), np.flatnonzero(zero != one)
    if first < 0:
        return None
    end, at = first + len(x), zero.tobytes().index(np.array(belief, '<f4').tobytes())
    last = zero.tobytes().index(np.array(surprise, '<f4').tobytes()) if sifted else None
    parts = (slice(first, end), slice(end, end + 4), slice(at, at + 4 * classes), slice(label, label + 1),
             slice(last, last + 4) if sifted else None)
    fixed = np.ones(len(zero), bool)
    for part in filter(None, parts):
        fixed[part] = False
    return Layout(zero, fixed, *parts)
