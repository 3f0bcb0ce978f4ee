"""The CPU engine of ridefense: see `ridefense.engines.native`, which is what to call."""

from importlib.metadata import version

from ridefense_native._native import (
    INTERFACE,
    MOST_IMAGE_CHANNELS,
    STAGES,
    Keys,
    Plan,
    draw_normals,
    draw_words,
    expect,
    fit,
    isa,
    isas,
    plan,
)

__version__ = version("ridefense-native")
__all__ = [
    "INTERFACE",
    "MOST_IMAGE_CHANNELS",
    "STAGES",
    "Keys",
    "Plan",
    "draw_normals",
    "draw_words",
    "expect",
    "fit",
    "isa",
    "isas",
    "plan",
]
