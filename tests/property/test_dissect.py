"""Any bytes give an answer, and no bytes make two parts of the dissection disagree."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from netwatch.dissect.conversation import LIMIT, Classified, classify
from netwatch.dissect.starts import WIDTH, promising

# Pieces that lead deep into the parsers, so that random bytes do not all fail at the first one.
PIECES = st.sampled_from(
    [
        b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03",
        b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03" + bytes(32) + b"\x00\xc0\x2f\x00",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x03abc",
        b"SSH-2.0-a\r\n",
        b"\x00\x00\x00\x0c\x0a\x15" + bytes(10),
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x11\x00\x03\x00\x00user\x00",
        b"\x10\x10\x00\x04MQTT",
        b"get key\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"\x30\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00",
        b"\x00\x1b\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x01a\x00\x00\x01\x00\x01",
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x01a\x00\x00\x01\x00\x01",
        # What begins in the clear and may switch to TLS.
        b"220 mx ESMTP\r\n",
        b"EHLO a\r\n",
        b"STARTTLS\r\n",
        b"AUTH TLS\r\n",
        b"234 go\r\n",
        b"+OK POP3\r\n",
        b"STLS\r\n",
        b"* OK IMAP4\r\n",
        b"a STARTTLS\r\n",
        b"a OK\r\n",
        b"<stream:stream xmlns='http://etherx.jabber.org/streams'>",
        b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        bytes.fromhex("0000000804d2162f"),
        b"\x31\x00\x00\x00\x0a8.0.36\x00" + bytes(4) + b"saltsalt\x00\xff\xff" + bytes(30),
        b"\x20\x00\x00\x01\x85\x0a\x00\x00" + bytes(28),
        b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x01\x00\x00\x00",
        b"\x80\x2e\x01\x00\x02\x00\x06\x00\x00\x00\x10\x07\x00\xc0\x01\x00\x80" + bytes(16),
        b"\xff\xfd\x18\xff\xfd\x20",
        b"\x00\x00\x00\x15\x00\x12\x00\x00\x00\x00\x00\x0f\x00\x07rdkafka\x00\x00\x00\x00",
        b"\x00\x00\x00\x06\x00\x00\x00\x0f\x00\x00",
        # Datagrams.
        b"\x16\xfe\xfd"
        + bytes(8)
        + b"\x00\x34\x01\x00\x00\x28"
        + bytes(5)
        + b"\x00\x00\x28\xfe\xfd",
        b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x02ab",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
        b"\xc3\x00\x00\x00\x01\x08clientid\x00\x00\x40\x20" + bytes(32),
        b"\xe3\x00\x00\x00\x01\x00\x08clientid\x40\x20" + bytes(32),
        b"\xc3\x6b\x33\x43\xcf\x00\x00\x00\x00\x14" + bytes(20),
        b"\x0dconnecteQ043\x01CHLO\x01\x00\x00\x00SNI\x00\x03\x00\x00\x00a.b",
        b"\x01\x00\x00\x00abcd" + bytes(140),
        b"\x04\x00\x00\x00abcd" + bytes(24),
        b"initiate" + bytes(8) + b"\x21\x20\x22\x08\x00\x00\x00\x00\x00\x00\x00\x1c",
        b"\x38session1" + bytes(5),
        b"\x40session2\x01" + bytes(4) + b"session1" + bytes(4),
    ]
)
SIZES = st.lists(st.integers(min_value=-5, max_value=200), max_size=5)
SPEECH = st.lists(PIECES | st.binary(max_size=60), max_size=8).map(b"".join)
PROTOCOL = st.sampled_from(["tcp", "udp", "sctp"])


@given(SPEECH, SPEECH, PROTOCOL, SIZES, SIZES)
@settings(max_examples=600, deadline=None)
def test_any_bytes_give_an_answer(client, server, protocol, mine, theirs):
    answer = classify(client, server, protocol=protocol, client_sizes=mine, server_sizes=theirs)
    assert answer.encryption.status in ("encrypted", "plaintext", "unknown")
    assert classify(client, server, protocol=protocol, complete=True).finished


@given(SPEECH, SPEECH, PROTOCOL)
@settings(max_examples=600, deadline=None)
def test_encrypted_always_has_a_proof(client, server, protocol):
    seen = classify(client, server, protocol=protocol).encryption
    if seen.status == "encrypted":
        assert seen.proof in ("handshake", "negotiation")
        assert seen.protocol in ("tls", "ssh", "dtls", "quic", "wireguard", "ike")


@given(SPEECH, SPEECH, SPEECH, SPEECH)
@settings(max_examples=300, deadline=None)
def test_what_is_in_the_clear_is_never_called_encrypted_later(
    client, server, more_client, more_server
):
    """An answer of another protocol may make it unknown; what was in the clear is never secret."""
    answer = classify(client, server, protocol="tcp")
    if answer.finished and answer.encryption.status == "plaintext":
        later = classify(client + more_client, server + more_server, protocol="tcp")
        assert later.encryption.status in ("plaintext", "unknown")


@given(SPEECH, SPEECH, st.booleans())
@settings(max_examples=400, deadline=None)
def test_what_the_filter_refuses_is_recognised_by_nobody(client, server, datagrams):
    """`promising` lets through every conversation that `classify` has something to say of."""
    protocol = "udp" if datagrams else "tcp"
    heads = np.zeros((2, WIDTH), dtype=np.uint8)
    for row, said in enumerate((client, server)):
        head = np.frombuffer(said[:WIDTH], dtype=np.uint8)
        heads[row, : len(head)] = head
    if not promising(heads, datagrams=np.array([datagrams] * 2)).any():
        answer = classify(client, server, protocol=protocol)
        assert answer == Classified(finished=answer.finished)


@given(st.binary(min_size=1, max_size=64))
@settings(max_examples=50, deadline=None)
def test_no_more_than_the_limit_is_ever_wanted(piece):
    data = piece * (LIMIT // len(piece) + 1)
    assert classify(data, data, protocol="tcp").finished
