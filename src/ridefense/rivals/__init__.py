"""Defences by others, in this package's contracts: those that Table 2 of the paper cites, and later
ones at test time; docs/rivals.md.

Adversarial training (Madry et al. 2018) is an option of `ridefense.classifiers.train`, and the
thermometer's classifiers are architectures of that.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
