"""Tokens (RFC 7515, 7519)."""

import base64
import hashlib
import hmac
import json


def make_token(secret, claims, algorithm="HS256"):
    """A JWT of `claims`, signed with HS256; with the algorithm `none` it has no signature."""
    header = {"alg": algorithm, "typ": "JWT"}
    signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode("utf-8")) for part in (header, claims))
    if algorithm == "none":
        return signed + "."
    return signed + "." + _base64url(hmac.new(secret, signed.encode("ascii"), hashlib.sha256).digest())


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
