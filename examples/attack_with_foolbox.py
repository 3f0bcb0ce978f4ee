"""foolbox attacks a defended classifier.

pip install '.[foolbox,digits]'
"""

import foolbox

from ridefense import RIDE, Defended, classifiers, datasets

digits = datasets.load("digits", limit=12)
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifiers.load("digits-cnn"), ride).eval()

# Without `device`, foolbox takes the first GPU that it finds, wherever the model is.
model = foolbox.PyTorchModel(defended, bounds=(0, 1), device=defended.device)
attack = foolbox.attacks.LinfPGD(abs_stepsize=0.06, steps=10, random_start=False)
_, adversarial, _ = attack(model, digits.images, digits.labels, epsilons=0.3)


def right(images):
    return int((defended(images).argmax(1) == digits.labels).sum())


print(
    f"RIDE: {right(digits.images)} of {len(digits)} right, "
    f"{right(adversarial)} after PGD by foolbox"
)
