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
    ]
)
SPEECH = st.lists(PIECES | st.binary(max_size=60), max_size=8).map(b"".join)
PROTOCOL = st.sampled_from(["tcp", "udp", "sctp"])


@given(SPEECH, SPEECH, PROTOCOL)
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_an_answer(client, server, protocol):
    answer = classify(client, server, protocol=protocol)
    assert answer.encryption.status in ("encrypted", "plaintext", "unknown")
    assert classify(client, server, protocol=protocol, complete=True).finished


@given(SPEECH, SPEECH)
@settings(max_examples=300, deadline=None)
def test_encrypted_always_has_a_proof(client, server):
    seen = classify(client, server, protocol="tcp").encryption
    if seen.status == "encrypted":
        assert seen.proof in ("handshake", "negotiation")
        assert seen.protocol in ("tls", "ssh")


@given(SPEECH, SPEECH, SPEECH, SPEECH)
@settings(max_examples=300, deadline=None)
def test_finished_means_that_more_bytes_change_nothing(client, server, more_client, more_server):
    """Except that an agreement may still be taken back, or contradicted, by later bytes."""
    answer = classify(client, server, protocol="tcp")
    if answer.finished and answer.encryption.status == "plaintext":
        later = classify(client + more_client, server + more_server, protocol="tcp")
        assert later.encryption.status == "plaintext"


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
