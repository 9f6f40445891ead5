"""Which first bytes can be the start of anything that `classify` names; the rest need no look.

This is a filter for many conversations at once, not a judgement: whatever it refuses, `classify`
does not recognise, and what it lets through is judged there. A protocol that is added to
`classify` must pass here (a property test compares the two).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# How many bytes of each payload are looked at; missing ones are zero.
WIDTH = 20

# Two first letters: SSH, HTTP's methods and answers, redis, memcached, AMQP.
_PAIRS = (
    b"SS HT GE HE PO PU DE CO OP TR PA PR MK MO LO UN RE SE LI SU NO M- "
    b"ge se ad re ap pr st ve fl AM *1 *2 *3 *4 *5 *6 *7 *8 *9"
)
_PAIR = np.zeros(65536, dtype=bool)
for _pair in _PAIRS.split():
    _PAIR[_pair[0] << 8 | _pair[1]] = True
_PAIR[[kind << 8 | 3 for kind in (20, 21, 22, 23)]] = True  # TLS
_PAIR[0x1000:0x1100] = True  # MQTT's CONNECT, whatever its length

_POSTGRESQL = 0x00030000


def promising(
    heads: npt.NDArray[np.uint8], *, datagrams: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """For each row of `heads` (n by WIDTH): whether a conversation may start like this.

    `datagrams` says which rows are UDP.
    """
    found = _PAIR[heads[:, 0].astype(np.int64) << 8 | heads[:, 1]]
    word = heads[:, 4:8].copy().view(">u4")[:, 0]
    found |= word == _POSTGRESQL
    found |= ~heads[:, 8:12].any(axis=1)  # MongoDB: a request answers nothing
    found |= (word & 0xFFFF) == 1  # DNS over TCP: one question
    domain: npt.NDArray[np.bool_] = (word >> 16) == 1  # DNS: one question
    return np.where(datagrams, domain, found)
