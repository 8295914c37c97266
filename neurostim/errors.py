"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """Bad input: what is wrong (the value), where, and what to do about it.

    The entry points print the message on one line after ``error:`` and exit with status 2.
    """

    def __init__(self, message: str):
        super().__init__(' '.join(str(message).split()))


def choose(value, choices, what: str):
    """Returns ``value`` if it is one of ``choices``; raises a UserError that lists them otherwise."""
    if value not in choices:
        raise UserError(f'unknown {what} {value!r}: choose one of {", ".join(map(str, choices))}')
    return value
