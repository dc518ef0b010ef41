"""The bench's own client, which reads NATS by hand."""

from __future__ import annotations

import pytest

from bench.client import Wire, latencies


class Taken:
    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes, bytes]] = []

    def __call__(self, subject: bytes, head: bytes, body: bytes, _now: float) -> None:
        self.messages.append((subject, head, body))


STREAM = (
    b"MSG chat.delta.a 1 5\r\nhello\r\n"
    b"HMSG tts.audio.b 2 _INBOX.x 12 15\r\nNATS/1.0\r\n\r\n\r\nX\r\n"
    b"MSG chat.delta.a 1 0\r\n\r\n"
)
MESSAGES = [
    (b"chat.delta.a", b"", b"hello"),
    (b"tts.audio.b", b"NATS/1.0\r\n\r\n", b"\r\nX"),
    (b"chat.delta.a", b"", b""),
]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_are_the_same_however_the_socket_cuts_them(size: int) -> None:
    taken = Taken()
    wire = Wire(taken)
    for at in range(0, len(STREAM), size):
        wire.data_received(STREAM[at : at + size])
    assert taken.messages == MESSAGES


def test_a_joined_message_tells_the_delay_of_each_part() -> None:
    wire = [(1.0, 2), (2.0, 2), (3.0, 2)]
    assert latencies(wire, [(1.5, 2), (3.25, 4)]) == [0.5, 1.25, 0.25]


def test_a_part_has_come_when_all_of_it_has() -> None:
    assert latencies([(1.0, 4)], [(1.5, 1), (1.75, 3)]) == [0.75]


def test_only_what_was_sent_within_the_time_counts() -> None:
    wire = [(1.0, 1), (2.0, 1), (3.0, 1)]
    assert latencies(wire, [(4.0, 3)], (1.5, 2.5)) == [2.0]


def test_a_loss_is_no_latency() -> None:
    with pytest.raises(ValueError, match="not what was sent"):
        latencies([(1.0, 2)], [(1.5, 1)])
