"""Where a command works: the device and the processes that it was given."""

from typing import TYPE_CHECKING

from ridefense.errors import InputError

if TYPE_CHECKING:
    from ridefense.evaluate import Workers


def device(name: str | None) -> str:
    """The device that was named; without a name the GPU if there is one.

    Raises:
        InputError: for another name than cpu, cuda or cuda:NUMBER, and a GPU that is not here.
    """
    kind, colon, number = (name or "").partition(":")
    if name == "cpu":
        return name
    if name is not None and (kind != "cuda" or (colon and not number.isdecimal())):
        raise InputError(f"device is {name!r}; use cpu or cuda")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        return "cuda" if count else "cpu"
    if not count:
        raise InputError(f"device is {name!r}, and there is no GPU here; use cpu")
    if int(number or 0) >= count:
        raise InputError(f"device is {name!r}, and the last GPU here is cuda:{count - 1}; use that")
    return name


def processes(count: int | None, device: str) -> int:
    """How many processes of this machine compute: by default one a core, and on a GPU one."""
    from ridefense import threads

    return count or (threads.cores() if device == "cpu" else 1)


def workers(count: int | None, address: str | None, device: str) -> "Workers":
    """So many processes of this machine, or actors of the Ray cluster at an address.

    Args:
        count: see `processes`. The default number starts only once the work takes long.
        device: where they compute.
    """
    from ridefense.evaluate import Automatic, Cluster, Here, Processes

    if address is not None:
        return Cluster(address, count)
    number = processes(count, device)
    if number == 1:
        return Here()
    return Automatic(number) if count is None else Processes(number)
