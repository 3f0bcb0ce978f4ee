"""How much memory a process has used, and whether it was short."""

import re
import sys
from pathlib import Path

import torch

_ALLOCATOR = re.compile(
    "alloc_?cpu|CPUAllocator|not enough memory|allocate memory|out of memory", re.I
)
_STATUS = Path("/proc/self/status")  # Linux's


def is_exhausted(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory was short: of a GPU, PyTorch on the
    CPU, or anything else in Python."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and _ALLOCATOR.search(str(error)):
            return True
        error = error.__cause__
    return False


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
