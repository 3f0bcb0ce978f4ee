"""How much memory a process has used."""

import re
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")  # Linux's


def peak_megabytes(device: str = "cpu") -> float | None:
    """The most that this process has used so far, in units of 1024² bytes.

    On a processor the resident memory of all that it holds, Python and PyTorch too; on a GPU
    PyTorch's tensors there. None where the system (Windows) does not tell.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # What `getrusage` says is there also what the parent had when it made this process.
    if _STATUS.exists() and (told := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())):
        return int(told[1]) / 2**10
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
