"""SecML-Torch attacks a defended classifier.

pip install '.[secml,digits]'
"""

import torch
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch.utils.data import DataLoader, TensorDataset

from ridefense import RIDE, Defended, classifiers, datasets

digits = datasets.load("digits", limit=12)
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifiers.load("digits-cnn"), ride).eval()

attack = PGD(perturbation_model="linf", epsilon=0.3, num_steps=10, step_size=0.06, backend="native")
batches = DataLoader(TensorDataset(digits.images, digits.labels), batch_size=6)
attacked = attack(BasePyTorchClassifier(defended), batches)
adversarial = torch.cat([images for images, _ in attacked])


def right(images):
    return int((defended(images).argmax(1) == digits.labels).sum())


print(
    f"RIDE: {right(digits.images)} of {len(digits)} right, "
    f"{right(adversarial)} after PGD by SecML-Torch"
)
