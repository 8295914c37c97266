"""Datasets of recordings that are read once, kept as TFDS datasets in a cache folder, and loaded fast afterwards.

The cache is `~/.cache/neurostim`, or NEUROSTIM_CACHE_DIR. A dataset's folder is named by a digest of everything it depends on, so a
changed source file, option or reader gives another folder; a folder appears when it is complete, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from neurostim.errors import UserError

SPLIT = 'records'


class Records(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS dataset with one example a record, which holds all of the record's windows.

    (An example a window would cost 34 000 reads, seconds instead of tenths of a second.) Nothing is held out here: how to split
    is decided when a study is made, so all splits share one dataset.

    Features of an example:
      record, person: names.
      windows: float32 [n, *window_shape].
      minute: int32 [n], the labelled minute of the record, from 0.
      label: int32 [n], the class.

    A subclass sets `DESCRIPTION`, `CITATION`, `LICENSE` and `READERS`, the modules beside its own that decide what examples hold,
    and defines `examples` and `source_files`.
    """

    VERSION = tfds.core.Version('1.0.0')
    DESCRIPTION = CITATION = LICENSE = ''
    READERS = ()
    url_infos = {}  # nothing is downloaded; TFDS would look for checksums through a package it does not install

    def __init__(self, folder: str | os.PathLike, window_shape: tuple[int, int], **builder_options):
        """Reads from `folder`; `builder_options` (`data_dir`, ...) are those of every TFDS builder."""
        self.folder = pathlib.Path(folder)
        self.window_shape = window_shape
        super().__init__(**{'file_format': 'array_record', **builder_options})

    def source_files(self) -> list[pathlib.Path]:
        """All files that the examples are read from."""
        raise NotImplementedError

    def examples(self) -> Iterator[dict]:
        """One example a record; see the class."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        def packed(shape, dtype):
            return tfds.features.Tensor(shape=shape, dtype=dtype, encoding='zlib')

        features = tfds.features.FeaturesDict({
            'record': tfds.features.Text(), 'person': tfds.features.Text(), 'windows': packed((None, *self.window_shape), np.float32),
            'minute': packed((None,), np.int32), 'label': packed((None,), np.int32),
        })
        return tfds.core.DatasetInfo(
            builder=self, features=features, description=self.DESCRIPTION, citation=self.CITATION, license=self.LICENSE)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self):
        for example in self.examples():
            yield example['record'], example


def cache_folder() -> pathlib.Path:
    """Where prepared datasets are kept."""
    return pathlib.Path(os.environ.get('NEUROSTIM_CACHE_DIR') or '~/.cache/neurostim').expanduser()


def load_records(builder_class: type[Records], *args) -> list[dict]:
    """The examples of `builder_class(*args)` in the order of their records, prepared on first use.

    Raises:
      UserError: a source file is missing or malformed, or the cache cannot be written.
    """
    folder = cache_folder() / builder_class.name / _digest(builder_class(*args, data_dir=cache_folder()), args)
    try:
        return _read(folder)
    except Exception:  # absent, or damaged in any way: what is in a cache can be made again
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.preparing-', dir=folder.parent) as temporary:
            builder = builder_class(*args, data_dir=temporary)
            # TFDS prints greetings and progress bars; standard error belongs to errors.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                builder.download_and_prepare()
            try:
                pathlib.Path(builder.data_dir).rename(folder)
            except OSError:
                if not folder.is_dir():  # another process was not faster
                    raise
        return _read(folder)
    except OSError as error:
        raise UserError(f'{folder}: the cache cannot be written ({error}): give a writable folder in NEUROSTIM_CACHE_DIR') from error


def _digest(builder: Records, args: tuple) -> str:
    """16 hexadecimal digits that change with the arguments, the source files' sizes and times, and the code that reads them."""
    digest = hashlib.sha256(repr(args[1:]).encode())
    for file in builder.source_files():
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(f'{file} is missing: fetch the complete database, or give another folder in study.path') from error
        digest.update(f'{file.name} {status.st_size} {status.st_mtime_ns};'.encode())
    for code in (sys.modules[__name__], inspect.getmodule(type(builder)), *builder.READERS):
        digest.update(inspect.getsource(code).encode())
    return digest.hexdigest()[:16]


def _read(folder: pathlib.Path) -> list[dict]:
    examples = list(tfds.builder_from_directory(folder).as_data_source(SPLIT))
    for example in examples:
        example.update(record=example['record'].decode(), person=example['person'].decode())
    return sorted(examples, key=lambda example: example['record'])
