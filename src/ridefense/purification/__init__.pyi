from .call import Purify, purify
from .layouts import Layout
from .outcome import ImageOutcome, Outcome

__all__ = ["ImageOutcome", "Layout", "Outcome", "Purify", "purify"]
