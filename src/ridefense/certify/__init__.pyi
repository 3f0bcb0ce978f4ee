from . import attacked
from .attacked import AttackedResult
from .certification import CERTIFICATES, CertificateRow, Certification, certify
from .logs import CertificateLog, read_log
from .reporting import LOGS, page, read_certificates, report, write
from .results import CertificationResult
from .smoothing import ABSTAIN, Certificate, Smoothed

__all__ = [
    "ABSTAIN",
    "CERTIFICATES",
    "LOGS",
    "AttackedResult",
    "Certificate",
    "CertificateLog",
    "CertificateRow",
    "Certification",
    "CertificationResult",
    "Smoothed",
    "attacked",
    "certify",
    "page",
    "read_certificates",
    "read_log",
    "report",
    "write",
]
