from . import attacked
from .attacked import AttackedResult
from .certification import CERTIFICATES, CertificateRow, Certification, certify
from .reporting import page, read_certificates, report, write
from .results import CertificationResult
from .smoothing import ABSTAIN, Certificate, Smoothed

__all__ = [
    "ABSTAIN",
    "CERTIFICATES",
    "AttackedResult",
    "Certificate",
    "CertificateRow",
    "Certification",
    "CertificationResult",
    "Smoothed",
    "attacked",
    "certify",
    "page",
    "read_certificates",
    "report",
    "write",
]
