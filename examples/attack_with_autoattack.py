"""AutoAttack, in its version for randomised defences, attacks a defended classifier.

pip install '.[autoattack,digits]'
"""

from pyautoattack import AutoAttack

from ridefense import RIDE, Defended, classifiers, datasets

digits = datasets.load("digits", limit=8)
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifiers.load("digits-cnn"), ride).eval()

# AutoAttack warns of a defence that it finds to be randomised or dynamic. Defended says so itself.
print(f"randomised: {defended.is_randomised}, dynamic: {defended.is_dynamic}")
version = "rand" if defended.is_randomised else "standard"
attack = AutoAttack(defended, eps=0.3, version=version, device=defended.device, seed=0)
# Cut from 100 steps of 20 draws to what takes seconds. A figure to report needs the whole.
attack.apgd.n_iter, attack.apgd.eot_iter = 6, 2
adversarial, _ = attack.run_standard_evaluation(digits.images, digits.labels)


def right(images):
    return int((defended(images).argmax(1) == digits.labels).sum())


# Of a randomised defence, AutoAttack takes one wrong answer for success: look at fresh ones.
print(f"RIDE: {right(digits.images)} of {len(digits)} right, {right(adversarial)} after AutoAttack")
