"""Signs and sends one webhook by the Standard Webhooks specification, to checked addresses only.

A receiver's URL is typed by people and may point anywhere, so an address is resolved once, judged,
and connected to as it was judged: a name that changes its answer in between gains nothing. Nothing
is followed and no body is read, so an answer can neither lead elsewhere nor fill memory.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from netwatch import __version__
from netwatch.model.errors import InvalidDocument

TIMEOUT_S = 15.0  # the specification advises 15 to 30
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try. `status` is None when no HTTP answer came; `problem` says why."""

    status: int | None
    retry_after_s: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One try: everything that goes over the wire."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    allow_private: bool


Send = Callable[[Message], Answer]
Resolve = Callable[[str, int], list[str]]


def make_secret() -> str:
    """A signing secret of 256 bits, as the specification writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(id: str, timestamp_s: int, body: bytes, *, secret: str) -> dict[str, str]:
    """The headers of one try; raises InvalidDocument for a secret that is none.

    HMAC-SHA256 of `id.timestamp.body`, keyed with the decoded secret (Standard Webhooks 1.0).
    """
    content = f"{id}.{timestamp_s}.".encode() + body
    signature = hmac.new(_key(secret), content, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": f"netwatch/{__version__}",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def _key(secret: str) -> bytes:
    hint = "write whsec_ and 24 to 64 random bytes in base64, or leave the secret out"
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidDocument("the webhook secret is not base64", hint) from None
    if not 16 <= len(key) <= 128:
        raise InvalidDocument(f"the webhook secret has {len(key)} bytes", hint)
    return key


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name; raises OSError. Reads 2130706433 and 0177.1 as the libc does."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check(
    url: str, *, allow_private: bool, secret: str | None = None, resolve: Resolve = resolve
) -> None:
    """Raises InvalidDocument unless this may be a receiver. A name without answer is no error:
    it is judged again at every connection.
    """
    parts = _parts(url)
    if secret is not None:
        _key(secret)
    with contextlib.suppress(OSError, UnicodeError):
        _permitted(resolve(parts.hostname or "", _port(parts)), allow_private=allow_private)


def _parts(url: str) -> SplitResult:
    hint = "write it like https://alerts.example.org/netwatch"
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        raise InvalidDocument("the webhook's URL can not be read", hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidDocument("the webhook's URL must be http:// or https:// and a host", hint)
    if parts.username is not None or parts.password is not None:
        raise InvalidDocument("the webhook's URL names a user; sign with the secret instead", hint)
    if len(url) > 2048 or any(not 33 <= ord(character) <= 126 for character in url):
        raise InvalidDocument("the webhook's URL is too long or not plain ASCII", hint)
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _permitted(addresses: list[str], *, allow_private: bool) -> str:
    """The first address, if all of them may be connected to."""
    for address in addresses:
        if not _may_connect(address, allow_private=allow_private):
            raise InvalidDocument(
                f"the webhook's receiver has the address {address}, which is not public",
                "set allow_private for a receiver in your own network",
            )
    if not addresses:
        raise InvalidDocument("the webhook's host has no address")
    return addresses[0]


def _may_connect(text: str, *, allow_private: bool) -> bool:
    address = _embedded(ipaddress.ip_address(text.partition("%")[0]))
    if address.is_multicast or address.is_unspecified or text == "255.255.255.255":
        return False
    return allow_private or address.is_global


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 one: where the packet ends up."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def post(message: Message, *, timeout_s: float = TIMEOUT_S, resolve: Resolve = resolve) -> Answer:
    """Sends it; never raises for what the network or the receiver does."""
    try:
        parts = _parts(message.url)
        addresses = resolve(parts.hostname or "", _port(parts))
        address = _permitted(addresses, allow_private=message.allow_private)
        return _exchange(message, parts, address, timeout_s=timeout_s)
    except InvalidDocument as error:
        return Answer(None, problem=error.message)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        return Answer(None, problem=f"no answer: {reason[:200]}")


def _exchange(message: Message, parts: SplitResult, address: str, *, timeout_s: float) -> Answer:
    host, port = parts.hostname or "", _port(parts)
    plain = socket.create_connection((address, port), timeout=timeout_s)
    # The socket's own timeout starts anew with every byte; this one ends the whole exchange.
    watchdog = threading.Timer(timeout_s, _cut, (plain,))
    watchdog.daemon = True
    watchdog.start()
    connection = http.client.HTTPConnection(host, port)
    try:
        secure = parts.scheme == "https"
        connection.sock = _wrapped(plain, host) if secure else plain
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {**message.headers, "connection": "close"}
        connection.request("POST", target, body=message.body, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, _retry_after(response.getheader("retry-after")))
    finally:
        watchdog.cancel()
        connection.close()
        plain.close()


def _wrapped(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _retry_after(text: str | None) -> float | None:
    """Seconds only (RFC 9110 section 10.2.3); a date would trust the receiver's clock."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
