"""The server's name in a plain HTTP/1 request: the Host field (RFC 9110, section 7.2)."""

from __future__ import annotations

import re

from netwatch.dissect.dns import host_name

_FIELD = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n \t]{1,300})[ \t]*(?=\r?\n)")


def host_of(request: bytes) -> str | None:
    """The name, lower case and without the port; None for an address, or what is no name.

    Two fields that differ say nothing: which of them counts is the server's secret.
    """
    head, _, _ = request.partition(b"\r\n\r\n")
    found = {match.group(1).lower() for match in _FIELD.finditer(head + b"\r\n")}
    if len(found) != 1:
        return None
    try:
        text = found.pop().decode("ascii")
    except UnicodeDecodeError:
        return None
    name, _, port = text.partition(":")
    return host_name(name) if not port or port.isdecimal() else None
