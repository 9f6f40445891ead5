"""HTTP/1 and the preface of cleartext HTTP/2: protocols that prove plaintext by what they say."""

from __future__ import annotations

import re

# RFC 9110 section 9 and RFC 5789; WebDAV and the methods of UPnP are seen between containers too.
_REQUEST = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE"
    rb"|LOCK|UNLOCK|REPORT|SEARCH|PURGE|LINK|UNLINK|SUBSCRIBE|UNSUBSCRIBE|NOTIFY|M-SEARCH)"
    rb" [\x21-\xff][^\r\n]{0,8191}? HTTP/1\.[01]\r?\n"
)
_REQUEST_BEGUN = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) (?:/|\*|http://)[\x21-\x7e]{0,8191}"
    rb"(?: HTTP/1\.[01])?"
)
_RESPONSE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9][ \r\n]")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def application(client: bytes, server: bytes) -> str | None:
    """`http`, `http2` or None, by what either end said."""
    if not client[:1].isupper() and not server[:1].isupper():
        return None
    if client.startswith(_PREFACE):
        return "http2"
    if _REQUEST.match(client) or _RESPONSE.match(server):
        return "http"
    if _RESPONSE.match(client) or _REQUEST.match(server):
        return "http"
    # A request line longer than what was kept.
    begun = _REQUEST_BEGUN.match(client)
    return "http" if begun and begun.end() == len(client) > 32 else None
