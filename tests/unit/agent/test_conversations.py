"""First bytes are put in order, bounded, and classified once."""

from __future__ import annotations

from netwatch.agent.conversations import MAX_BYTES, Conversations, key_of
from netwatch.capture.sensor import Payload
from tests.unit.agent.rows import packed

REQUEST = b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def piece(data: bytes, *, offset: int = 0, low: bool = True, connection: int = 1) -> Payload:
    ends = (packed("198.18.0.2"), packed("198.18.0.3"), 40000, 80, 6)
    return Payload(*ends, low, offset, connection, data)


def verdict(
    conversations: Conversations, *, connection: int = 1, complete: bool = False
) -> str | None:
    found = conversations.verdict(
        key_of(piece(b"")),
        connection=connection,
        low_is_client=True,
        protocol="tcp",
        complete=complete,
    )
    return found.encryption.status if found else None


def test_pieces_make_one_stream_overlaps_counted_once() -> None:
    """A retransmission that overlaps what is there adds only what is new."""
    conversations = Conversations()
    conversations.add(piece(REQUEST[:10]))
    conversations.add(piece(REQUEST[5:], offset=5))
    conversations.add(piece(ANSWER, low=False))

    assert verdict(conversations) == "plaintext"


def test_a_gap_is_never_closed_by_guessing() -> None:
    """What comes after missing bytes is not appended to what came before them."""
    conversations = Conversations()
    conversations.add(piece(b"GE"))
    conversations.add(piece(REQUEST[10:], offset=10))

    assert verdict(conversations, complete=True) == "unknown"


def test_nothing_said_is_no_verdict() -> None:
    """A connection without payload has no classification, not an unknown one."""
    assert verdict(Conversations()) is None


def test_a_second_connection_on_the_ports_speaks_for_itself() -> None:
    """The first one's verdict does not stick to the second, whether that has spoken or not."""
    conversations = Conversations()
    conversations.add(piece(REQUEST))
    conversations.add(piece(ANSWER, low=False))
    first, silent = verdict(conversations), verdict(conversations, connection=2)
    conversations.add(piece(b"\x00\x01\x02\x03", connection=2))

    assert (first, silent, verdict(conversations, connection=2)) == ("plaintext", None, "unknown")


def test_what_does_not_fit_is_counted() -> None:
    """The oldest unfinished connection makes room, and the loss is told."""
    conversations = Conversations(max_open=2)
    for number in range(5):
        ends = (packed("198.18.0.2"), packed("198.18.0.3"), 40000 + number, 80, 6)
        conversations.add(Payload(*ends, True, 0, 1, b"?"))

    assert conversations.dropped == 3


def test_a_direction_keeps_no_more_than_its_share() -> None:
    """Whatever is sent, a direction holds MAX_BYTES."""
    conversations = Conversations()
    for n in range(20):
        conversations.add(piece(b"\x00" * 1024, offset=n * 1024))
    held = next(iter(conversations._open.values()))

    assert len(held.low) == MAX_BYTES
