"""Protocols of lines, commands and answers: SMTP, FTP, POP3, IMAP, NNTP; and XMPP's of tags.

Each has a command that asks for TLS (RFC 3207, 4217, 2595, 4642, 6120) and an answer that grants
it; TLS begins right behind. A request that is not the last thing said before TLS, or an answer
that is not, counts for nothing: then somebody only wrote of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from netwatch.dissect.upgrade import Talk, tls_begins

_FLAGS = re.IGNORECASE | re.DOTALL
# A command is short in each of the protocols (RFC 5321 section 4.5.3.1.4 allows 512).
_LONGEST_LINE = 2048
_GREETINGS = b"1245*+-"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a protocol sounds. `command` is what its client says first, `greeting` what its server
    does; `alone` proves it if nothing is known of the other end. `settling` commands mean that
    the conversation carries on in the clear.
    """

    name: str
    greeting: re.Pattern[bytes]
    command: re.Pattern[bytes]
    alone: re.Pattern[bytes]
    request: re.Pattern[bytes]
    grant: re.Pattern[bytes]
    settling: re.Pattern[bytes]


def _dialect(name: str, *patterns: bytes) -> Dialect:
    return Dialect(name, *[re.compile(pattern, _FLAGS) for pattern in patterns])


_DIALECTS = (
    _dialect(
        "smtp",
        rb"[245]\d\d[ -]",
        rb"(?:EHLO|HELO|LHLO|HELP|NOOP|STARTTLS)\b",
        rb"(?:EHLO|HELO|LHLO) [\x21-\x7e]+ *\r?\n|220[ -][^\r\n]*SMTP",
        rb"STARTTLS\s*$",
        rb"220[ \r\n]",
        rb"(?:MAIL|RCPT|DATA|BDAT|AUTH|VRFY|EXPN)\b",
    ),
    _dialect(
        "ftp",
        rb"(?:220|120|421)[ -]",
        rb"(?:USER|AUTH|FEAT|SYST|OPTS|HOST|CLNT|PBSZ|QUIT|HELP|NOOP|PASS|PWD|TYPE|PASV)\b",
        rb"220[ -][^\r\n]*FTP|AUTH (?:TLS|SSL)(?:-[CP])?\r?\n\x16\x03|"
        rb"USER [^\r\n]*\r?\nPASS [^\r\n]*\r?\n(?:SYST|FEAT|PWD|TYPE|PASV|EPSV|CWD|OPTS)\b",
        rb"AUTH +(?:TLS|SSL)(?:-[CP])?\s*$",
        rb"[23]34[ \r\n]",
        rb"(?:PASS|ACCT|RETR|STOR|LIST|NLST|PASV|EPSV|PORT|EPRT|CWD|MKD)\b",
    ),
    _dialect(
        "pop3",
        rb"(?:\+OK|-ERR)[ \r\n]",
        rb"(?:CAPA|USER|APOP|STLS|AUTH|PASS|STAT|LIST|UIDL|QUIT)\b",
        rb"\+OK[^\r\n]*\bPOP-?3?\b|APOP [^\r\n]+ [0-9a-f]{32}\r?\n",
        rb"STLS\s*$",
        rb"\+OK[ \r\n]",
        rb"(?:PASS|APOP|AUTH .|STAT|LIST|UIDL|RETR|TOP|DELE)",
    ),
    _dialect(
        "imap",
        rb"\* (?:OK|PREAUTH|BYE)\b",
        rb"[\x21-\x7e]{1,32} (?:CAPABILITY|LOGIN|STARTTLS|AUTHENTICATE|ID|NOOP|LOGOUT|SELECT"
        rb"|NAMESPACE|LIST|STATUS|EXAMINE|ENABLE)\b",
        rb"\* (?:OK|PREAUTH) [^\r\n]*IMAP",
        rb"[\x21-\x7e]{1,32} STARTTLS\s*$",
        rb"[\x21-\x7e]{1,32} OK\b",
        rb"[\x21-\x7e]{1,32} (?:LOGIN|AUTHENTICATE|SELECT|EXAMINE|LIST|STATUS|FETCH|UID|APPEND)\b",
    ),
    _dialect(
        "nntp",
        rb"(?:200|201|400|502)[ -]",
        rb"(?:CAPABILITIES|MODE READER|AUTHINFO|GROUP|LIST|ARTICLE|STARTTLS|DATE|XOVER|HELP)\b",
        rb"20[01][ -][^\r\n]*NNTP",
        rb"STARTTLS\s*$",
        rb"382[ \r\n]",
        rb"(?:AUTHINFO|GROUP|LIST|ARTICLE|HEAD|BODY|STAT|XOVER|OVER|POST|IHAVE)\b",
    ),
)


def talk(client: bytes, server: bytes) -> Talk | None:
    """The clear part of such a conversation, or None."""
    if server and server[0] not in _GREETINGS:
        return None
    for each in _DIALECTS:
        if _is(each, client, server):
            return _talk(each, client, server)
    return None


def _is(dialect: Dialect, client: bytes, server: bytes) -> bool:
    if client and server:
        return bool(dialect.command.match(client) and dialect.greeting.match(server))
    return dialect.alone.match(client or server) is not None


def _talk(dialect: Dialect, client: bytes, server: bytes) -> Talk:
    commands, asked = _lines(client)
    answers, granted = _lines(server)
    if any(dialect.settling.match(line) for line in commands):
        return Talk(dialect.name, settled=True)
    if asked is not None and not (commands and dialect.request.match(commands[-1])):
        asked = None
    if granted is not None and not (answers and dialect.grant.match(answers[-1])):
        granted = None
    return Talk(dialect.name, asked, granted)


def _lines(said: bytes) -> tuple[Sequence[bytes], int | None]:
    """The lines, and where TLS begins behind the last."""
    lines: list[bytes] = []
    at = 0
    while at < len(said):
        if tls_begins(said, at):
            return lines, at
        end = said.find(b"\n", at, at + _LONGEST_LINE)
        if end < 0:
            lines.append(said[at : at + _LONGEST_LINE])
            break
        lines.append(said[at : end + 1])
        at = end + 1
    return lines, None


_STREAM = re.compile(
    rb"(?:<\?xml[^>]{0,200}\?>\s*)?<stream:stream\s[^>]{0,1000}http://etherx\.jabber\.org/streams"
)
_TLS_XMPP = rb"\s[^>]{0,100}urn:ietf:params:xml:ns:xmpp-tls[\"'][^>]{0,20}(?:/>|></%b>)\s*"
_STARTTLS = re.compile(rb"<starttls" + _TLS_XMPP % b"starttls")
_PROCEED = re.compile(rb"<proceed" + _TLS_XMPP % b"proceed")
_STANZA = re.compile(rb"<(?:auth|iq|message|presence|response|handshake)\b")


def xmpp(client: bytes, server: bytes) -> Talk | None:
    """The clear part of a conversation of XMPP (RFC 6120 section 5), or None."""
    if not _STREAM.match(client) and not _STREAM.match(server):
        return None
    asked, granted = _STARTTLS.search(client), _PROCEED.search(server)
    clear = client[: asked.start()] if asked else client
    if _STANZA.search(clear):
        return Talk("xmpp", settled=True)
    if asked and not tls_begins(client, asked.end()):
        return Talk("xmpp", settled=_STANZA.search(client) is not None)
    return Talk("xmpp", asked.end() if asked else None, granted.end() if granted else None)
