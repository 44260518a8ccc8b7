"""§2.2: the session on an HTTP/3 connection."""

import struct

from aioquic.buffer import Buffer, BufferReadError, encode_uint_var
from aioquic.h3.connection import Setting
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived, WebTransportStreamDataReceived

from .errors import Closed, Fault, Refused

SUBPROTOCOL = "tidings.v1"
_CLOSE_SESSION = 0x2843  # CLOSE_WEBTRANSPORT_SESSION


class WebTransport:
    """A client's part over HTTP/3; nothing of it is used over raw QUIC."""

    async def _open_session(self, authority, path, headers):
        await self.until(lambda: self._h3.received_settings is not None, "the server's SETTINGS")
        settings = self._h3.received_settings
        if settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
            raise Fault(f"the server's SETTINGS do not enable extended CONNECT: {settings}")
        if settings.get(Setting.ENABLE_WEBTRANSPORT) != 1:
            raise Fault(f"the server's SETTINGS do not enable WebTransport (draft 02): {settings}")
        self._session = self._quic.get_next_available_stream_id()
        self._h3.send_headers(
            self._session,
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"webtransport"),
                (b":scheme", b"https"),
                (b":authority", authority.encode("ascii")),
                (b":path", path.encode("ascii")),
                *((key.encode("ascii"), value.encode("ascii")) for key, value in headers),
            ],
        )
        self._flush()
        await self.until(lambda: self.status, "the answer to CONNECT")
        if self.status != 200:
            raise Refused(self.status, self.headers)

    def _h3_event(self, item):
        if isinstance(item, WebTransportStreamDataReceived):
            if item.session_id != self._session:
                raise Fault(f"a stream of session {item.session_id}")
            self._on_stream(item.stream_id, item.data, item.stream_ended)
        elif isinstance(item, DatagramReceived):
            if item.stream_id != self._session:
                raise Fault(f"a datagram of session {item.stream_id}")
            self._on_datagram(item.data)
        elif isinstance(item, HeadersReceived) and item.stream_id == self._session:
            self.headers = {key.decode("ascii"): value.decode("ascii") for key, value in item.headers}
            self.status = int(self.headers[":status"])
            if item.stream_ended and self.status == 200:
                self._session_ended()
        elif isinstance(item, DataReceived) and item.stream_id == self._session and self.status == 200:
            self._on_capsules(item.data)
            if item.stream_ended:
                self._session_ended()

    def _on_capsules(self, data):
        self._capsules += data
        while self._capsules:
            buffer = Buffer(data=self._capsules)
            try:
                kind = buffer.pull_uint_var()
                payload = buffer.pull_bytes(buffer.pull_uint_var())
            except BufferReadError:
                return
            self._capsules = self._capsules[buffer.tell() :]
            if kind == _CLOSE_SESSION and self.closed is None:
                if len(payload) < 4:
                    raise Fault("a CLOSE_WEBTRANSPORT_SESSION capsule without a code")
                self.closed = Closed(struct.unpack(">I", payload[:4])[0], payload[4:].decode("utf-8"), "a capsule")

    def _session_ended(self):
        if self.closed is None:
            self.closed = Closed(0, "", "the end of the CONNECT stream")

    def _close_session(self, code, reason):
        payload = struct.pack(">I", code) + reason.encode("utf-8")
        capsule = encode_uint_var(_CLOSE_SESSION) + encode_uint_var(len(payload)) + payload
        self._h3.send_data(self._session, capsule, end_stream=True)
