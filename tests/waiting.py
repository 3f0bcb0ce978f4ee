"""A purifier that waits for a file, for tests of what happens meanwhile: "waiting:Waiting"."""

import os
import time
from pathlib import Path

from ridefense import Median


class Waiting:
    """The median filter, once the file that WAITS_FOR names is there; at once without the name.

    Images of the warm-up do not wait.
    """

    is_randomised = is_dynamic = differentiable = takes_raw = False

    def __call__(self, images, ids=None, seed=0):
        named = os.environ.get("WAITS_FOR")
        while ids is not None and named and not Path(named).exists():
            time.sleep(0.01)
        return Median(3)(images)
