"""Random images, and Parquet files of them as the Hugging Face hub has them."""

from io import BytesIO

import datasets as hub
import numpy as np
from PIL import Image

DIGITS = tuple(map(str, range(10)))


def encoded(array, format="PNG"):
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, format=format)
    return {"bytes": buffer.getvalue(), "path": None}


def pixels(count, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_parquet(path, arrays, labels, classes, column="image", format="PNG"):
    """A file of one split, with its class names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {column: hub.Image(), "label": hub.ClassLabel(names=list(classes))}
    rows = {column: [encoded(a, format) for a in arrays], "label": list(labels)}
    hub.Dataset.from_dict(rows, features=hub.Features(features)).to_parquet(path)


def digits_in(path, first=0, count=4, names=DIGITS):
    """A file of some of the first 30 random digits."""
    write_parquet(path, pixels(30, (28, 28))[first : first + count], range(count), names)
