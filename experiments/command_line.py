"""What every command has in common: --config, errors of one line, and how JAX is prepared."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable

from absl import flags, logging
from ml_collections import config_flags

from neurostim.errors import UserError

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: a file of experiments/configs.', lock_config=True)


def parse_flags(arguments: list[str], check: Callable[[], None], default_config: pathlib.Path | None = None) -> list[str]:
    """Parses the command line; whatever is wrong with it or with the config file is the user's to mend.

    Args:
      check: raises a UserError where a flag is missing.
      default_config: the file taken where --config names none.
    """
    if default_config and not any(argument.split('=')[0].lstrip('-') == 'config' for argument in arguments[1:]):
        arguments = [*arguments[:1], f'--config={default_config}', *arguments[1:]]
    try:
        rest = flags.FLAGS(arguments)
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.WARNING)  # absl shows INFO otherwise, and orbax has much to tell
        if rest[1:]:
            raise UserError(f'unexpected argument {rest[1]!r}: options are written --name=value')
        check()
        return rest
    except (AttributeError, LookupError) as error:
        text = error
        while isinstance(text, BaseException) and text.args:  # a LookupError's own text is the repr of what it has to say
            text = text.args[0]
        fail(f'--config, no such field or attribute: {text}: see the fields in the config file and in neurostim/config.py')
    except (UserError, flags.Error, ArithmeticError, ImportError, OSError, SyntaxError, TypeError, ValueError) as error:
        fail(error)


def fail(error: BaseException | str) -> None:
    """Prints one `error:` line and ends with status 2."""
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)


def prepare_jax() -> None:
    """Makes every core a device and every program repeatable, and keeps compiled programs on disk between runs."""
    import jax

    from neurostim import devices
    devices.use_all_cores()
    devices.make_repeatable()
    cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or pathlib.Path.home() / '.cache' / 'neurostim' / 'jax'
    jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
