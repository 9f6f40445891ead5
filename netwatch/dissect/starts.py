"""Which first bytes can be the start of anything that `classify` names; the rest need no look.

This is a filter for many conversations at once, not a judgement: whatever it refuses, `classify`
does not recognise, and what it lets through is judged there. A protocol that is added to
`classify` must pass here (a property test compares the two).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwatch.dissect.quic_keys import VERSIONS

# How many bytes of each payload are looked at; missing ones are zero.
WIDTH = 24

# Two first bytes: SSH, HTTP's methods and answers, redis, memcached, AMQP.
_PAIRS = (
    b"SS HT GE HE PO PU DE CO OP TR PA PR MK MO LO UN RE SE LI SU NO M- "
    b"ge se ad re ap pr st ve fl AM *1 *2 *3 *4 *5 *6 *7 *8 *9 "
    # What servers of mail, files and news say first, and clients whose server was not heard.
    b"10 11 12 20 21 22 23 24 25 40 41 42 43 44 45 50 51 52 53 54 55 +O +o -E -e "
    b"EH eh Eh he He LH lh US us Us AU au Au AP ap Ap <? <s"
)
_PAIR = np.zeros(65536, dtype=bool)
for _pair in [*_PAIRS.split(), b"* "]:
    _PAIR[_pair[0] << 8 | _pair[1]] = True
_PAIR[[kind << 8 | 3 for kind in (20, 21, 22, 23)]] = True  # TLS
_PAIR[0x1000:0x1100] = True  # MQTT's CONNECT, whatever its length
_PAIR[0x3005:0x3085] = True  # LDAP: a sequence

# PostgreSQL's start, and its requests for TLS and GSS, which end in 2f and 30.
_POSTGRESQL = 0x000300
_REQUEST = 0x04D21620
_STUN = 0x2112A442
_QUIC = np.array([int.from_bytes(version, "big") for version in VERSIONS], dtype=np.uint32)
_Q0 = 0x5130
# By the second and third byte of a datagram: 1 a version of QUIC or one to be refused, 2 of DTLS,
# 4 of Google's QUIC.
_VERSION = np.zeros(65536, dtype=np.uint8)
_VERSION[[number >> 16 for number in _QUIC.tolist()]] |= 1
_VERSION[[high << 12 | 0xA0A | low << 4 for high in range(16) for low in range(16)]] |= 1
_VERSION[[0xFEFF, 0xFEFD, 0x0100]] |= 2
_VERSION[_Q0] |= 4
# Which of those count, by the first byte.
_FIRST = np.full(256, 4, dtype=np.uint8)
_FIRST[0x80:] |= 1
_FIRST[[20, 21, 22, 23, 25]] |= 2
_IKE = np.zeros(65536, dtype=bool)  # version and exchange
_IKE[[0x2022, 0x2023, 0x2024, 0x2025, 0x1002, 0x1004, 0x1005, 0x1006, 0x1020]] = True

_Found = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint32]


def promising(heads: npt.NDArray[np.uint8], *, datagrams: _Found) -> _Found:
    """For each row of `heads` (n by WIDTH): whether a conversation may start like this.

    `datagrams` says which rows are UDP.
    """
    # One column behind the other: each is looked at as a whole.
    words = np.ascontiguousarray(np.ascontiguousarray(heads).view(">u4").T, dtype=np.uint32)
    found = np.empty(len(heads), dtype=bool)
    for rows, judge in (
        (np.flatnonzero(~datagrams), _stream),
        (np.flatnonzero(datagrams), _datagram),
    ):
        if len(rows):
            found[rows] = judge(words if len(rows) == len(heads) else words.take(rows, axis=1))
    return found


def _stream(words: _Words) -> _Found:
    first, word, third, fourth = words[0], words[1], words[2], words[3]
    found: _Found = _PAIR[first >> 16]
    found |= third == 0  # MongoDB: a request answers nothing
    found |= (word & 0xFFFF) == 1  # DNS over TCP: one question
    found |= (word >> 8 == _POSTGRESQL) | (word & 0xFFFFFFE0 == _REQUEST)
    found |= (word & 0xFF80FFE0 == 0) & (fourth >> 24 == 0)  # Kafka
    last, odd = first & 0xFF, first >> 8
    found |= (last == 0) & (word >> 24 == 10)  # MySQL's greeting; its request for TLS; RDP
    found |= (last == 0xFF) & (first >= 0xFFFB0000)  # Telnet
    found |= (first == 0x20000001) | ((odd == 0x030000) & (word & 0xFF0000 == 0xE00000))
    found |= (odd & 0x8000FF == 0x800001) & (last <= 3)  # SSLv2's hello
    return found


def _datagram(words: _Words) -> _Found:
    first, word, third = words[0], words[1], words[2]
    found: _Found = (word >> 16) == 1  # DNS: one question
    found |= word == _STUN  # which DTLS may follow
    found |= (first & 0xF8FFFFFF == 0) & (first != 0)  # WireGuard
    found |= _IKE[words[4] >> 8 & 0xFFFF]
    found |= (first == 0) & _IKE[words[5] >> 8 & 0xFFFF]
    found |= (first >> 24 == 0x38) & (third & 0xFFFFFF == 0)  # OpenVPN
    found |= (third >> 8 & 0xFFFF) == _Q0
    maybe = _VERSION[first >> 8 & 0xFFFF] & _FIRST[first >> 24]
    found |= (maybe & 6) != 0
    place = np.flatnonzero(maybe & 1)
    if len(place):
        number = first[place] << 8 | word[place] >> 24
        reserved = number & 0x0F0F0F0F == 0x0A0A0A0A
        found[place] |= np.isin(number, _QUIC) | reserved
    return found
