"""§3.6: values to bytes and back."""

from dataclasses import field, fields


class DecodeError(Exception):
    """Bytes that are not of their type."""


class Reader:
    """Takes values off the front of some bytes. `canonical` insists on what a writer has to do: the shortest integers."""

    def __init__(self, data, canonical=False):
        self.data = bytes(data)
        self.at = 0
        self.canonical = canonical

    def take(self, count):
        if count > len(self.data) - self.at:
            raise DecodeError(f"{count} bytes wanted at {self.at}, {len(self.data) - self.at} left")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def integer(self, bits=64):
        marker = self.take(1)[0]
        if marker <= 250:
            value = marker
        elif marker in (251, 252, 253):
            value = int.from_bytes(self.take({251: 2, 252: 4, 253: 8}[marker]), "little")
            if self.canonical and encode_integer(value)[0] != marker:
                raise DecodeError(f"{value} is written with the marker {marker}, which is not the shortest form")
        else:
            raise DecodeError(f"marker {marker}")
        if value >> bits:
            raise DecodeError(f"{value} does not fit into {bits} bits")
        return value

    def finish(self):
        if self.at != len(self.data):
            raise DecodeError(f"{len(self.data) - self.at} bytes follow the body")


def encode_integer(value, marker=None):
    """The shortest form, or the one of `marker` (251, 252 or 253)."""
    if value < 0 or value >> 64:
        raise ValueError(f"{value} is no integer of 64 bits")
    if marker is None:
        if value <= 250:
            return bytes([value])
        marker = 251 if value < 1 << 16 else 252 if value < 1 << 32 else 253
    return bytes([marker]) + value.to_bytes({251: 2, 252: 4, 253: 8}[marker], "little")


class Integer:
    def __init__(self, bits):
        self.bits = bits

    def encode(self, value):
        if value < 0 or value >> self.bits:
            raise ValueError(f"{value} does not fit into {self.bits} bits")
        return encode_integer(value)

    def decode(self, reader):
        return reader.integer(self.bits)


class Byte:
    def encode(self, value):
        return bytes([value])

    def decode(self, reader):
        return reader.take(1)[0]


class Bool:
    def encode(self, value):
        return b"\x01" if value else b"\x00"

    def decode(self, reader):
        byte = reader.take(1)[0]
        if byte > 1:
            raise DecodeError(f"{byte} is no bool")
        return byte == 1


class Bytes:
    def encode(self, value):
        return encode_integer(len(value)) + bytes(value)

    def decode(self, reader):
        return reader.take(reader.integer())


class String:
    def encode(self, value):
        return BYTES.encode(value.encode("utf-8"))

    def decode(self, reader):
        try:
            return BYTES.decode(reader).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"a string that is no UTF-8: {error}") from error


class List:
    def __init__(self, item):
        self.item = item

    def encode(self, value):
        return encode_integer(len(value)) + b"".join(self.item.encode(item) for item in value)

    def decode(self, reader):
        return [self.item.decode(reader) for _ in range(reader.integer())]


class Option:
    def __init__(self, item):
        self.item = item

    def encode(self, value):
        return b"\x00" if value is None else b"\x01" + self.item.encode(value)

    def decode(self, reader):
        byte = reader.take(1)[0]
        if byte > 1:
            raise DecodeError(f"{byte} begins no option")
        return self.item.decode(reader) if byte else None


class Struct:
    def __init__(self, cls):
        self.cls = cls

    def encode(self, value):
        return b"".join(f.metadata["kind"].encode(getattr(value, f.name)) for f in fields(self.cls))

    def decode(self, reader):
        return self.cls(**{f.name: f.metadata["kind"].decode(reader) for f in fields(self.cls)})


class Enum:
    def __init__(self, *variants):
        self.variants = variants

    def encode(self, value):
        return encode_integer(self.variants.index(type(value))) + Struct(type(value)).encode(value)

    def decode(self, reader):
        number = reader.integer(32)
        if number >= len(self.variants):
            raise DecodeError(f"variant {number} of {len(self.variants)}")
        return Struct(self.variants[number]).decode(reader)


U8, U16, U32, U64 = Byte(), Integer(16), Integer(32), Integer(64)
BOOL, BYTES, STRING = Bool(), Bytes(), String()


def wire(kind):
    return field(metadata={"kind": kind})
