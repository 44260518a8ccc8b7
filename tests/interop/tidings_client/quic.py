"""aioquic's connection, with what the tests need beside it. What is overridden here is private to it: its version is pinned."""

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.connection import QuicConnection


class Quic(QuicConnection):
    """QUIC with two additions: windows of chosen streams that do not grow, and a memory of who closed the connection."""

    def __init__(self, *, permitted_streams=None, **kwargs):
        super().__init__(**kwargs)
        self.withheld = set()
        self.closed_here = None
        if permitted_streams is not None:
            self._local_max_streams_uni.value = permitted_streams
            self._local_max_streams_uni.sent = permitted_streams

    def close(self, error_code=0, frame_type=None, reason_phrase=""):
        if self._close_event is None and self.closed_here is None:
            self.closed_here = (error_code, reason_phrase)
        super().close(error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase)

    def _write_stream_limits(self, builder, space, stream):
        if stream.stream_id not in self.withheld:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)


class Protocol(QuicConnectionProtocol):
    def __init__(self, quic, client):
        super().__init__(quic)
        self.client = client

    def quic_event_received(self, event):
        self.client._quic_event(event)


class Nowhere:
    """A transport of which no packet leaves."""

    def sendto(self, data, address=None):
        pass

    def close(self):
        pass
