"""The classifier behind a defence, as an ONNX file that another runtime runs.

What is exported is the classifier: the purifier fits a network while it runs, which no graph
holds. Purify first, with `defended.purified`, then give the other runtime the purified images.

pip install '.[onnx,digits]'
"""

import tempfile
from pathlib import Path

import onnxruntime
import torch

from ridefense import RIDE, Defended, classifiers, datasets

digits = datasets.load("digits", limit=12)
ride = RIDE.preset("fast", network="mnist")
defended = Defended(classifiers.load("digits-cnn"), ride).eval()

with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "digits-cnn.onnx")
    program = torch.onnx.export(
        defended.classifier,
        (digits.images,),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.save(path)
    session = onnxruntime.InferenceSession(path)

purified = defended.purified(digits.images)
(logits,) = session.run(["logits"], {"pixels": purified.numpy()})
difference = (torch.from_numpy(logits) - defended.classifier(purified)).abs().max()
right = int((torch.from_numpy(logits).argmax(1) == digits.labels).sum())
print(f"onnxruntime: {right} of {len(digits)} right, logits within {difference:.0e} of PyTorch's")
