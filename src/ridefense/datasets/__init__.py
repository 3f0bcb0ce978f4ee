"""Real labelled images: from the Hugging Face hub, a local folder, or inside Python packages.

`load` names the sources. Images stay encoded until they are asked for, so that ImageNet's 50,000
photographs can be walked through in batches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
