"""aioquic's connection, with what the tests need beside it. What is overridden here is private to it: its version is pinned."""

from collections import deque

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection


class Quic(QuicConnection):
    """QUIC that remembers who closed it, and that can be told to break the rules."""

    def __init__(self, *, permitted_streams=None, **kwargs):
        super().__init__(**kwargs)
        self.closed_here = None
        # Streams whose windows do not grow.
        self.withheld = set()
        # Grants neither windows nor streams beyond those of the handshake.
        self.frozen = False
        # Sends no ACK frame.
        self.silent = False
        self._injected = deque()
        if permitted_streams is not None:
            self._local_max_streams_uni.value = permitted_streams
            self._local_max_streams_uni.sent = permitted_streams

    def may_open(self, unidirectional=False):
        """Whether the server permits another stream now."""
        permitted = self._remote_max_streams_uni if unidirectional else self._remote_max_streams_bidi
        return self.get_next_available_stream_id(unidirectional) // 4 < permitted

    def first_forbidden(self, unidirectional):
        """The first stream that the server does not permit yet."""
        if unidirectional:
            return 4 * self._remote_max_streams_uni + 2
        return 4 * self._remote_max_streams_bidi

    def delivered(self):
        """Whether the server has acknowledged all that was to be sent."""
        if self._injected or self._loss.bytes_in_flight:
            return False
        return all(stream.is_blocked or stream.sender.buffer_is_empty for stream in self._streams.values())

    def sent_on(self, number):
        """Bytes of the stream `number` that were sent."""
        return self._streams[number].sender.highest_offset

    def inject(self, frame_type, *integers, data=b""):
        """Puts a frame into a packet to come that QUIC would not send by itself: type, integers, and bytes."""
        self._injected.append((frame_type, b"".join(encode_uint_var(integer) for integer in integers) + data))

    def close(self, error_code=0, frame_type=None, reason_phrase=""):
        if self._close_event is None and self.closed_here is None:
            self.closed_here = (error_code, reason_phrase)
        super().close(error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase)

    def _write_stream_limits(self, builder, space, stream):
        if not self.frozen and stream.stream_id not in self.withheld:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)

    def _write_connection_limits(self, builder, space):
        if not self.frozen:
            super()._write_connection_limits(builder=builder, space=space)
        while self._injected:
            frame_type, body = self._injected[0]
            capacity = 8 + len(body)
            if builder.remaining_buffer_space < capacity and not builder.packet_is_empty:
                return  # the next packet takes it
            builder.start_frame(frame_type, capacity=capacity).push_bytes(body)
            self._injected.popleft()

    def _write_ack_frame(self, builder, space, now):
        if self.silent:
            space.ack_at = None
        else:
            super()._write_ack_frame(builder=builder, space=space, now=now)


class Protocol(QuicConnectionProtocol):
    def __init__(self, quic, client):
        super().__init__(quic)
        self.client = client
        # Loses everything that arrives.
        self.deaf = False

    def datagram_received(self, data, addr):
        if not self.deaf:
            super().datagram_received(data, addr)
            # What was granted comes without an event.
            self.client._changed()

    def quic_event_received(self, event):
        self.client._quic_event(event)


class Nowhere:
    """A transport of which no packet leaves."""

    def sendto(self, data, address=None):
        pass

    def close(self):
        pass
