"""ART attacks a defended classifier: RIDE as its preprocessor, and the whole as its model.

pip install '.[art,digits]'
"""

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier

from ridefense import RIDE, Defended, classifiers, datasets
from ridefense.adapters.art import Preprocessor

digits = datasets.load("digits", limit=12)
classifier = classifiers.load("digits-cnn")
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifier, ride).eval()


def right(images):
    return int((defended(images).argmax(1) == digits.labels).sum())


# The preprocessor is for gradients that pass through one purified image. Given the whole Defended
# as its model, ART attacks with any of `ridefense.gradients`.
setups = {
    "RIDE as a preprocessor": {
        "model": classifier,
        "preprocessing_defences": Preprocessor(ride, device_type="cpu"),
    },
    "Defended as the model": {"model": defended},
}
for name, setup in setups.items():
    estimator = PyTorchClassifier(
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(1, 28, 28),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
        **setup,
    )
    attack = ProjectedGradientDescent(
        estimator, norm=np.inf, eps=0.3, eps_step=0.06, max_iter=10, verbose=False
    )
    adversarial = attack.generate(digits.images.numpy(), digits.labels.numpy())
    print(
        f"{name}: {right(digits.images)} of {len(digits)} right, "
        f"{right(torch.from_numpy(adversarial))} after PGD by ART"
    )
