"""What a client's waits raise, and how a connection ended."""

from dataclasses import dataclass

from .codes import code_name


class ClientError(Exception):
    pass


class Refused(ClientError):
    """The server answered the CONNECT with another status than 200."""

    def __init__(self, status, headers):
        super().__init__(f"CONNECT was answered with {status}")
        self.status = status
        self.headers = headers


class RequestFailed(ClientError):
    def __init__(self, failed):
        super().__init__(f"request {failed.request} failed with {code_name(failed.code)}: {failed.reason}")
        self.code = failed.code
        self.reason = failed.reason


class ConnectionEnded(ClientError):
    def __init__(self, closed):
        super().__init__(f"the connection ended: {closed}")
        self.closed = closed


class Fault(ClientError):
    """The server broke the protocol."""


@dataclass(frozen=True)
class Closed:
    """How a connection ended. `code` is None where that is no code of §7 (a transport error, a time-out)."""

    code: int | None
    reason: str
    how: str

    def __str__(self):
        return f"{code_name(self.code)} {self.reason!r} by {self.how}"
