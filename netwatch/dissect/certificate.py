"""The server's certificate, which TLS up to 1.2 shows in the clear."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256

from netwatch.model.flow import Certificate
from netwatch.model.times import SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def certificate(der: bytes) -> Certificate | None:
    """Read an X.509 certificate (RFC 5280); None if it can not be read.

    It is shown, never trusted: no chain is built and no signature is checked. A server shows the
    same one again and again, so the last ones are remembered.
    """
    # Imported on the first certificate: most conversations show none, and it takes 30 ms.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate

    try:
        # Certificates with a negative serial or the like are warned about, yet readable.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = load_der_x509_certificate(der)
            return Certificate(
                subject=read.subject.rfc4514_string(),
                issuer=read.issuer.rfc4514_string(),
                not_before=_nanoseconds(read.not_valid_before_utc),
                not_after=_nanoseconds(read.not_valid_after_utc),
                sha256=sha256(der).hexdigest(),
            )
    except (ValueError, TypeError, OverflowError, InvalidVersion, UnsupportedAlgorithm):
        return None


def _nanoseconds(moment: datetime) -> int:
    return int((moment - _EPOCH).total_seconds()) * SECOND
