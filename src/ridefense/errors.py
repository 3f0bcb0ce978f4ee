"""The errors that ridefense raises on purpose: one line that names the value and the remedy."""


class RideError(Exception):
    """Base of every error that ridefense raises on purpose."""


class InputError(RideError, ValueError):
    """An argument, a file or a setting that cannot be used as it was given."""
