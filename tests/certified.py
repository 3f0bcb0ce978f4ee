"""A small certification for tests."""

from ridefense.certify import Certification
from ridefense.denoisers import OrientedLines


def declare(**changes):
    """Of six held-out digits behind oriented lines, with some settings changed."""
    settings = {
        "dataset": "digits",
        "classifier": "digits-cnn",
        "purifier": OrientedLines(),
        "sigma": 0.5,
        "n": 200,
        "limit": 6,
        "batch": 2,
    }
    return Certification(**(settings | changes))
