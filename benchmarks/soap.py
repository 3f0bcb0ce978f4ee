"""Train what SOAP needs on MNIST: a classifier together with the head of its auxiliary task.

    python benchmarks/soap.py

Starts from the classifier `mnist-cnn`, on the training images of `digits`. Writes, below
src/ridefense/weights, mnist-cnn-soap.safetensors and rivals/mnist-soap-rotation.safetensors. The
same seed gives the same weights on the same processor.
"""

from dataclasses import replace
from pathlib import Path

import torch

from ridefense import classifiers, datasets
from ridefense.classifiers import count_correct, save
from ridefense.rivals import save_head, train_rotation

WEIGHTS = Path(__file__).parents[1] / "src" / "ridefense" / "weights"
SEED, EPOCHS = 0, 6


def main() -> None:
    torch.set_num_threads(1)
    classifier = classifiers.load("mnist-cnn")
    learnt, test = datasets.load("digits", "train"), datasets.load("mnist", "test")
    classifier.requires_grad_(True)
    head = train_rotation(
        classifier, learnt.images, learnt.labels, seed=SEED, epochs=EPOCHS, progress=_told
    )
    for weight in classifier.parameters():
        weight.data = weight.data.half().float()  # as they are saved
    classifier.frozen().info = replace(
        classifier.info,
        name="mnist-cnn-soap",
        dataset=f"{classifier.info.dataset}, then {learnt.title}",
        training=f"started from mnist-cnn, {EPOCHS} epochs with the rotation task, seed {SEED}",
        correct=count_correct(classifier, test),
        n=len(test),
        tested_on=test.title,
    )
    save(classifier, WEIGHTS / "mnist-cnn-soap.safetensors")
    save_head(head, WEIGHTS / "rivals" / "mnist-soap-rotation.safetensors")
    print(f"{classifier.info.correct} of {classifier.info.n} right")


def _told(done: int, steps: int, loss: float) -> None:
    if done % 20 == 0:
        print(f"{done} of {steps}: {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
