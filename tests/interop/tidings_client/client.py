"""One connection: what is sent, and what is kept of all that arrives."""

import asyncio
import itertools

from aioquic.quic import events

from .codec import DecodeError, Reader
from .codes import Code, code_from_http, code_to_http
from .errors import Closed, Fault
from .frames import ANSWERS, GoAway, HistoryPage, Publication, Unknown, Welcome
from .framing import FrameReader, encode_frame
from .quic import Nowhere
from .requests import Requests
from .stream import Stream
from .waiting import Waiting
from .webtransport import WebTransport


class Client(Waiting, Requests, WebTransport):
    """One connection. Everything received is kept; `until` waits for a state of it."""

    def __init__(self, webtransport, keep_alive):
        super().__init__()
        self._pause = keep_alive
        self.webtransport = webtransport
        self.welcome = None
        self.go_away = None
        self.control_frames = []
        # Of each page of history what followed it.
        self.pages = []
        self.answers = {}
        self.streams = {}
        # Streams and parts of lanes, by subscription.
        self.subscriptions = {}
        # Subscription and publication of each, §5.6.
        self.datagrams = []
        self.status = None
        self.headers = None
        self.control = None
        self.control_finished = False
        self.control_reset = None
        self.others = {}
        self._requests = itertools.count(1)
        self._control_reader = FrameReader(canonical=True)
        self._capsules = b""
        self._session = None
        self._h3 = None
        self._protocol = None
        self._quic = None
        self._keep_alive = None

    # --- sending

    def _flush(self):
        self._protocol.transmit()

    def open_control(self):
        """Opens the control stream; nothing is on the wire until something is sent on it."""
        self.control = self.open_bidirectional()

    def open_bidirectional(self):
        if self._h3 is not None:
            number = self._h3.create_webtransport_stream(self._session)
        else:
            number = self._quic.get_next_available_stream_id()
            self._quic.send_stream_data(number, b"")
        self.others[number] = {"data": b"", "finished": False, "reset": None, "stop": None}
        return number

    def send_on(self, number, data, fin=False):
        self._quic.send_stream_data(number, data, fin)
        self._flush()

    def send_raw(self, data, fin=False):
        if self.control is None:
            self.open_control()
        self.send_on(self.control, data, fin)

    async def send_slowly(self, data):
        """Every byte in a packet of its own."""
        for at in range(len(data)):
            self.send_raw(data[at : at + 1])
            await asyncio.sleep(0)

    def send(self, item):
        self.send_raw(encode_frame(item))

    def stop(self, stream, code):
        """STOP_SENDING for a stream of the server."""
        self._quic.stop_stream(stream.number, code_to_http(code) if self._h3 is not None else code)
        self._flush()

    def withhold(self, stream):
        """Grants no more of this stream's window, as a reader that does not read."""
        self._quic.withheld.add(stream.number)

    def grant(self, stream):
        self._quic.withheld.discard(stream.number)
        self._flush()

    def lose(self, lost=True):
        """Loses everything that arrives, or no longer."""
        self._protocol.deaf = lost

    # --- what a client should not do

    def may_open(self, unidirectional=False):
        """Whether the server permits another stream now."""
        return self._quic.may_open(unidirectional)

    def first_forbidden(self, unidirectional=False):
        """The first stream that the server does not permit yet."""
        return self._quic.first_forbidden(unidirectional)

    def open_unidirectional(self):
        number = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(number, b"")
        return number

    def reset(self, number, code):
        """RESET_STREAM on a stream of ours; what was not sent of it by then never is."""
        self._quic.reset_stream(number, code_to_http(code) if self._h3 is not None else code)
        self._flush()

    def sent_on(self, number):
        """Bytes that were sent on a stream of ours."""
        return self._quic.sent_on(number)

    def delivered(self):
        """Whether the server has acknowledged all that was to be sent."""
        return self._quic.delivered()

    def inject(self, frame_type, *integers, data=b""):
        """Sends a QUIC frame as it is, once; nothing of ours keeps account of it."""
        self._quic.inject(frame_type, *integers, data=data)
        self._protocol._transmit_soon()

    def freeze(self):
        """Grants no window and no stream any more."""
        self._quic.frozen = True

    def acknowledge_nothing(self):
        self._quic.silent = True

    def vanish(self):
        """Goes without a word: no packet leaves or arrives any more."""
        self._protocol._transport.abort()
        self._protocol._transport = Nowhere()

    # --- receiving

    def _quic_event(self, event):
        try:
            self._handle(event)
        except (Fault, DecodeError) as error:
            if self.fault is None:
                self.fault = error if isinstance(error, Fault) else Fault(str(error))
        self._changed()

    def _handle(self, event):
        if isinstance(event, events.ConnectionTerminated):
            self._terminated(event)
            return
        number = getattr(event, "stream_id", None)
        if number is not None and number in self.others:
            # What the server sends on a bidirectional stream of ours is not HTTP/3's: only the first bytes, which we send, are.
            self._on_own_stream(number, event)
            return
        if self._h3 is not None:
            if isinstance(event, events.StreamReset):
                self._reset(number, event.error_code)
            for item in self._h3.handle_event(event):
                self._h3_event(item)
        elif isinstance(event, events.StreamDataReceived):
            self._on_stream(number, event.data, event.end_stream)
        elif isinstance(event, events.StreamReset):
            self._reset(number, event.error_code)
        elif isinstance(event, events.DatagramFrameReceived):
            self._on_datagram(event.data)

    def _on_datagram(self, data):
        """§5.6."""
        reader = Reader(data, canonical=True)
        subscription = reader.integer()
        rest = data[reader.at :]
        frames = FrameReader(canonical=True)
        items = frames.feed(rest)
        if frames.buffer or len(items) != 1 or not isinstance(items[0], Publication):
            raise Fault(f"a datagram that is no publication: {data.hex()}")
        self.datagrams.append((subscription, items[0]))

    def send_datagram(self, data):
        if self._h3 is not None:
            self._h3.send_datagram(self._session, data)
        else:
            self._quic.send_datagram_frame(data)
        self._flush()

    def _terminated(self, event):
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if self.closed is not None:
            return
        if self._quic.closed_here is not None:
            code, reason = self._quic.closed_here
            self.closed = Closed(None, f"{code:#x} {reason}", "this client")
        elif event.frame_type is not None:
            self.closed = Closed(None, f"{event.error_code:#x} {event.reason_phrase}", "the transport")
        elif self._h3 is not None:
            code = code_from_http(event.error_code)
            reason = event.reason_phrase if code is not None else f"{event.error_code:#x} {event.reason_phrase}"
            self.closed = Closed(code, reason, "a close of the HTTP/3 connection")
        else:
            self.closed = Closed(event.error_code, event.reason_phrase, "an application close")

    def _code(self, code):
        return code_from_http(code) if self._h3 is not None else code

    def _on_own_stream(self, number, event):
        state = self.others[number]
        if isinstance(event, events.StreamDataReceived):
            if number == self.control:
                self._on_control(event.data, event.end_stream)
            else:
                state["data"] += event.data
            state["finished"] |= event.end_stream
        elif isinstance(event, events.StreamReset):
            state["reset"] = self._code(event.error_code)
            if number == self.control:
                self.control_reset = state["reset"]
        elif isinstance(event, events.StopSendingReceived):
            state["stop"] = self._code(event.error_code)

    def _on_control(self, data, fin):
        for item in self._control_reader.feed(data):
            self.control_frames.append(item)
            if isinstance(item, Unknown):
                continue
            if self.welcome is None and not isinstance(item, Welcome):
                raise Fault(f"{item} before Welcome")
            if isinstance(item, Welcome):
                if self.welcome is not None:
                    raise Fault("a second Welcome")
                self.welcome = item
            elif isinstance(item, GoAway):
                self.go_away = item
            elif isinstance(item, Publication):
                # §4.11: they follow their page at once.
                page = self.pages[-1] if self.pages else None
                if page is None or len(page[1]) == page[0].count:
                    raise Fault(f"{item} after no page")
                page[1].append(item)
            elif self.pages and len(self.pages[-1][1]) < self.pages[-1][0].count:
                raise Fault(f"{item} between the publications of a page")
            elif isinstance(item, ANSWERS):
                if isinstance(item, HistoryPage):
                    self.pages.append((item, []))
                if item.request in self.answers:
                    raise Fault(f"a second answer to request {item.request}: {item}")
                self.answers[item.request] = item
            else:
                raise Fault(f"{item} on the control stream")
        self.control_finished |= fin

    def _on_stream(self, number, data, fin):
        if number % 4 != 3:
            raise Fault(f"stream {number} of the server is not unidirectional")
        self.streams.setdefault(number, Stream(number, self.subscriptions)).feed(data, fin)

    def _reset(self, number, code):
        if self._h3 is not None and number == self._session:
            if self.closed is None:
                self.closed = Closed(self._code(code), f"{code:#x}", "a reset of the CONNECT stream")
        elif number % 4 == 3:
            self.streams.setdefault(number, Stream(number, self.subscriptions)).reset = self._code(code)

    # --- the end

    def _keep(self):
        self._quic.send_ping(0)
        self._flush()
        self._keep_alive = asyncio.get_running_loop().call_later(self._pause, self._keep)

    def close(self, code=Code.CLOSED, reason=""):
        """An orderly end, §6."""
        if self._h3 is not None:
            if self.closed is None and self.status == 200:
                self._close_session(code, reason)
                # Before the close, which takes the place of all that still waits.
                self._flush()
            self._protocol.close(0x100)  # H3_NO_ERROR
        else:
            self._protocol.close(code, reason)
