"""The words of pcap-filter(7) as a program for the kernel; libpcap knows the language.

scapy finds libpcap and speaks to it; it takes a quarter of a second to import, so only a capture
with a filter pays for it.
"""

from __future__ import annotations

import re

from netwatch.capture.packets import LONGEST, RETURN, Instruction
from netwatch.model.errors import NetwatchError

MOST = 1024  # characters; the kernel takes 4,096 instructions at most
_ETHERNET = 1  # LINKTYPE_ETHERNET
_MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS


class BadFilter(NetwatchError):
    """The filter can not be compiled."""

    code = "bad-filter"


def compiled(text: str, *, snap: int = LONGEST) -> list[Instruction]:
    """The program that keeps `snap` bytes of each packet that `text` describes; "" is every one.

    Raises BadFilter with libpcap's reason, or where there is no libpcap.
    """
    if not text.strip():
        return [(RETURN, 0, 0, snap)]
    if len(text) > MOST or not text.isprintable():
        raise BadFilter(
            f"the filter is no line of at most {MOST} characters", "see man pcap-filter"
        )
    if re.search(r"\bvlan\b", text):
        # The kernel takes the tag off before the filter sees the frame: it would find nothing.
        raise BadFilter(
            "a filter can not ask for vlan", "capture without it; netwatch read tells the tags"
        )
    program = _asked(text)
    if not 0 < len(program) <= _MOST_INSTRUCTIONS:
        raise BadFilter(f"the filter takes {len(program)} instructions", "make it simpler")
    # libpcap writes its own snap length wherever it lets a packet through.
    return [(c, t, f, snap if c == RETURN and k else k) for c, t, f, k in program]


def _asked(text: str) -> list[Instruction]:
    from scapy.arch.common import compile_filter, free_filter
    from scapy.error import Scapy_Exception

    try:
        program = compile_filter(text, linktype=_ETHERNET)
    except ImportError:
        raise BadFilter(
            "a filter needs libpcap, and it is not here", "apt-get install libpcap0.8"
        ) from None
    except Scapy_Exception as error:
        reason = str(error).rpartition("(")[2].rstrip(")")
        raise BadFilter(
            f"the filter {text!r} is refused: {reason}", "see man pcap-filter"
        ) from None
    try:
        found = program.bf_insns[: program.bf_len]
        return [(i.code, i.jt, i.jf, i.k & 0xFFFFFFFF) for i in found]
    finally:
        free_filter(program)
