"""RIDE in front of an image classifier of Hugging Face, which stays one of theirs.

pip install '.[huggingface,digits]'
"""

import tempfile

import torch
import transformers

from ridefense import RIDE, Defended, datasets
from ridefense.adapters import huggingface
from ridefense.attacks import PGD

# A small model of one's own, in a folder as the hub has them.
config = transformers.ResNetConfig(
    num_channels=1,
    embedding_size=16,
    hidden_sizes=[16, 32],
    depths=[1, 1],
    layer_type="basic",
    num_labels=10,
)
processor = transformers.ViTImageProcessor(
    size={"height": 28, "width": 28}, image_mean=[0.13], image_std=[0.31]
)
torch.manual_seed(0)
model = transformers.ResNetForImageClassification(config)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
train = datasets.load("digits", "train")
pixels = processor(images=list(train.bytes), return_tensors="pt")["pixel_values"]
for _ in range(4):
    for rows in torch.randperm(len(train)).split(50):
        optimiser.zero_grad()
        model(pixel_values=pixels[rows], labels=train.labels[rows]).loss.backward()
        optimiser.step()

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    # This line is all that a model of the hub needs: load("microsoft/resnet-50").
    classifier = huggingface.load(folder)

digits = datasets.load("digits", limit=12)
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifier, ride).eval()
adversarial = PGD(eps=0.3)(defended, digits.images, digits.labels)


def right(images):
    return int((defended(images).argmax(1) == digits.labels).sum())


print(f"RIDE: {right(digits.images)} of {len(digits)} right, {right(adversarial)} after PGD")

# And back: pixel_values in, logits out, behind the processor that it had.
as_theirs = huggingface.ForImageClassification(defended).eval()
inputs = processor(images=list(digits.bytes), return_tensors="pt")
with torch.no_grad():
    logits = as_theirs(**inputs).logits
agree = int((logits.argmax(1) == digits.labels).sum())
print(f"with pixel_values: {agree} of {len(digits)} right")
