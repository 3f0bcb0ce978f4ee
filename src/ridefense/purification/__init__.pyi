from .call import Purify, purify
from .folders import FileOutcome, FileSettings, FilesOutcome, purify_file, purify_files
from .layouts import Layout
from .outcome import ImageOutcome, Outcome
from .tasks import Task

__all__ = [
    "FileOutcome",
    "FileSettings",
    "FilesOutcome",
    "ImageOutcome",
    "Layout",
    "Outcome",
    "Purify",
    "Task",
    "purify",
    "purify_file",
    "purify_files",
]
