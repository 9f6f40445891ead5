"""What `classify` answers, for those who must know the answer but may never have to ask."""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.model.flow import Encryption

# What is kept of each direction. A conversation that said this much and was not recognised will
# not be: every signature lies at the start.
LIMIT = 8192

_UNKNOWN = Encryption()


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer. `finished`: more bytes can not change it. `initiator`: "client" or "server" if
    the bytes prove which of the two given sides opened the conversation, else None.
    """

    encryption: Encryption = _UNKNOWN
    application: str | None = None
    finished: bool = False
    initiator: str | None = None
