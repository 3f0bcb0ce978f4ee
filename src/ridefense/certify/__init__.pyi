from .certification import CERTIFICATES, CertificateRow, Certification, certify
from .reporting import page, read_certificates, write
from .results import CertificationResult
from .smoothing import ABSTAIN, Certificate, Smoothed

__all__ = [
    "ABSTAIN",
    "CERTIFICATES",
    "Certificate",
    "CertificateRow",
    "Certification",
    "CertificationResult",
    "Smoothed",
    "certify",
    "page",
    "read_certificates",
    "write",
]
