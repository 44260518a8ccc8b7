"""§7: the codes, and their place in HTTP/3's space, §2.2."""

from enum import IntEnum

_FIRST = 0x52E4A40FA8DB
_LAST = 0x52E5AC983162


class Code(IntEnum):
    """§7"""

    CLOSED = 0
    UNSUBSCRIBED = 1
    ENDED = 2
    PROTOCOL_VIOLATION = 100
    FRAME_TOO_LARGE = 101
    UNSUPPORTED_VERSION = 102
    HELLO_TIMEOUT = 303
    LAGGED = 304
    STALLED = 305
    UNEXPECTED_FRAME = 104
    UNKNOWN_REQUEST = 105
    INVALID_CHANNEL = 110
    ALREADY_SUBSCRIBED = 111
    NOT_SUBSCRIBED = 112
    MESSAGE_TOO_LARGE = 113
    TOO_MANY_SUBSCRIPTIONS = 114
    NO_STREAM_LEFT = 115
    INVALID_KEY = 116
    KEY_REUSED = 117
    RESERVED_MESSAGE = 119
    UNAUTHENTICATED = 200
    INVALID_TOKEN = 201
    TOKEN_EXPIRED = 202
    PERMISSION_DENIED = 203
    REVOKED = 204
    OVERLOADED = 300
    TOO_MANY_SESSIONS = 301
    TOO_MANY_CHANNELS = 302
    INTERNAL = 400
    GOING_AWAY = 401


def code_name(code):
    try:
        return f"{int(code)} ({Code(code).name.lower()})"
    except (ValueError, TypeError):
        return str(code)



def code_to_http(code):
    return _FIRST + code + code // 0x1E


def code_from_http(code):
    """The application's code, or None where `code` is none of WebTransport's."""
    if not _FIRST <= code <= _LAST or (code - 0x21) % 0x1F == 0:
        return None
    shifted = code - _FIRST
    return shifted - shifted // 0x1F
