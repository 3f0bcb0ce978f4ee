from dataclasses import replace

import pytest

from ridefense import IMAGENET, InputError, Network, Settings

BASE = Settings(network=Network(channels=(1, 6, 18, 1)), steps=10, rounds=2)


def test_rate_of_each_step():
    constant = replace(BASE, learning_rate=0.1)
    assert {constant.rate(step) for step in range(20)} == {0.1}
    cosine = replace(constant, decay="cosine")
    assert cosine.rate(0) == 0.1
    assert cosine.rate(5) == pytest.approx(0.1 * 0.8535533905932737)
    assert cosine.rate(10) == pytest.approx(0.05)
    assert 0 < cosine.rate(19) < 0.001


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"rounds": 0}, "rounds is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 257}, "batch 257"),
        ({"samples": 0}, "samples is 0"),
        ({"refits": -1}, "refits is -1"),
        ({"crop": 2}, "crop is 2"),
        ({"crop": 4, "noisy_input": False}, "crop is 4; a fixed input"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": 10**400}, "alpha is 1000"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1"),
        ({"learning_rate": 10**400}, "learning_rate is 1000"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"sigma": -0.5}, "sigma is -0.5"),
        ({"sigma": (0.1, 0.2)}, "for 1 channels"),
        ({"suppression": "never"}, "use one of below, off"),
        ({"loss": "l1"}, "use one of mse, norm"),
        ({"carry": "some"}, "carry is 'some'"),
        ({"init": "orthogonal"}, "init is 'orthogonal'"),
        ({"decay": "step"}, "decay is 'step'"),
        ({"output": "mean"}, "output is 'mean'"),
        ({"engine": "warp"}, "engine is 'warp'"),
        ({"normalisation": IMAGENET}, "normalisation has 3 channels"),
        ({"normalisation": 3}, "normalisation is 3"),
        ({"noisy_input": "no"}, "noisy_input is 'no'"),
        ({"alpha": None}, "alpha is None"),
        ({"target_noise": "shared"}, "use one of independent, none, recorrupted"),
        ({"target_noise": "recorrupted", "noisy_input": False}, "set noisy_input=True"),
        ({"recorruption": 0.0}, "recorruption is 0"),
        ({"recorruption": float("nan")}, "recorruption is nan"),
        ({"learning_rate": "fast"}, "learning_rate is fast"),
        ({"sigma": "half"}, "sigma is half"),
        ({"network": "mnist"}, "network is 'mnist'; use a Network"),
    ],
)
def test_bad_settings(change, names):
    with pytest.raises(InputError, match=names) as caught:
        replace(BASE, **change)
    assert "\n" not in str(caught.value)
