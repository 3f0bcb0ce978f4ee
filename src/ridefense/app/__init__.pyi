from .choices import ATTACKS, PURIFIERS, Aim, Subject, subject, subjects
from .comparing import Comparison, Fate, Fates, Row, compare, every_attack
from .fitting import Fit, watch
from .limits import Clock, Limits, OutOfTime
from .running import run
from .sources import drawing, examples, uploaded

__all__ = [
    "ATTACKS",
    "PURIFIERS",
    "Aim",
    "Clock",
    "Comparison",
    "Fate",
    "Fates",
    "Fit",
    "Limits",
    "OutOfTime",
    "Row",
    "Subject",
    "compare",
    "drawing",
    "every_attack",
    "examples",
    "run",
    "subject",
    "subjects",
    "uploaded",
    "watch",
]
