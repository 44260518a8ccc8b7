"""§3.5: frames in the bytes of a stream."""

from .codec import DecodeError, Reader, Struct, encode_integer
from .frames import FRAMES, Unknown


def encode_raw(number, body):
    """A frame of any type around any body, §3.5."""
    content = encode_integer(number) + body
    return encode_integer(len(content)) + content


def encode_body(value):
    return Struct(type(value)).encode(value)


def encode_frame(value):
    return encode_raw(value.TYPE, encode_body(value))


def decode_content(content, canonical=False):
    """The frame whose type and body are `content`."""
    reader = Reader(content, canonical)
    number = reader.integer()
    if number not in FRAMES:
        return Unknown(number, content[reader.at :])
    value = Struct(FRAMES[number]).decode(reader)
    reader.finish()
    return value


class FrameReader:
    """Cuts the bytes of a stream into frames."""

    def __init__(self, limit=None, canonical=False):
        self.limit = limit
        self.canonical = canonical
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data
        found = []
        while (content := self._next()) is not None:
            found.append(decode_content(content, self.canonical))
        return found

    def _next(self):
        if not self.buffer:
            return None
        if self.buffer[0] in (254, 255):
            raise DecodeError(f"marker {self.buffer[0]} as a length")
        head = {251: 3, 252: 5, 253: 9}.get(self.buffer[0], 1)
        if len(self.buffer) < head:
            return None
        length = Reader(self.buffer[:head], self.canonical).integer()
        if length == 0:
            raise DecodeError("a frame of length 0")
        if self.limit is not None and length > self.limit:
            raise DecodeError(f"a frame of {length} bytes, {self.limit} are allowed")
        if len(self.buffer) < head + length:
            return None
        content = bytes(self.buffer[head : head + length])
        del self.buffer[: head + length]
        return content
