"""The settings of the loop that came with `Recorrupted`, for the tests of every engine."""

from dataclasses import replace


def recorrupted_variants(grey, colour):
    """Settings by name, on networks of one and of three channels."""
    return {
        "recorrupted": {"target_noise": "recorrupted", "recorruption": 0.8, "batch": 2},
        "noiseless": {"output": "noiseless"},
        "noiseless fixed input": {
            "noisy_input": False,
            "target_noise": "none",
            "output": "noiseless",
        },
        "leaky": {"network": replace(grey, slope=0.2)},
        "residual": {"network": replace(grey, sigmoid=False, residual=True)},
        "last 1×1": {"network": replace(grey, last_kernel=1)},
        "all of Recorrupted": {
            "network": replace(colour, sigmoid=False, slope=0.2, residual=True, last_kernel=1),
            "target_noise": "recorrupted",
            "recorruption": 0.7,
            "sigma": (0.1, 0.2, 0.3),
            "output": "noiseless",
            "decay": "cosine",
            "mask_ratio": 0.0,
        },
        "recorrupted crop": {"target_noise": "recorrupted", "crop": 4, "output": "last"},
    }
