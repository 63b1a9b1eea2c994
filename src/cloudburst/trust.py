"""Which certificates are believed, and what to do about one that is not."""

from __future__ import annotations

import ssl

from cloudburst.errors import ConfigError

_OTHER_NAME = (
    "it is for another name or address: use the one that the stack was deployed with, or deploy it again "
    "with this one"
)
_ADVICE = {
    9: "it is not valid yet: set the clock of this machine, or of that one",
    10: "it has expired: deploy the stack again, which renews it; and compare this machine's clock",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""By OpenSSL's codes (X509_V_ERR_* in x509_vfy.h)."""


def context(ca_file: str) -> ssl.SSLContext:
    """For clients: the authority in that PEM file is the only one trusted; "": those of this machine are.

    The server's name or address has to be in its certificate. ConfigError when the file cannot be read.
    """
    checked(ca_file)
    return ssl.create_default_context(cafile=ca_file or None)


def checked(ca_file: str) -> str:
    """``ca_file``, if it is "" or a PEM file with certificates (else ConfigError)."""
    if not ca_file:
        return ca_file
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"ca_file: {ca_file} holds no certificate in PEM form ({error.reason})") from error
    except OSError as error:
        raise ConfigError(
            f"ca_file: cannot read {ca_file} ({error.strerror}): the stack's ca.pem belongs there, which is "
            "kept where the stack was deployed from, in ~/.cloudburst/<name>"
        ) from error
    return ca_file


def distrust(error: BaseException, ca_file: str) -> str:
    """What is wrong with TLS, and what to do, if that is why ``error`` was raised; else ""."""
    cause = _of_tls(error)
    if cause is None:
        return ""
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return f"no TLS connection comes about ({cause.reason or cause}): does it serve TLS on that port?"
    if cause.verify_code in _ADVICE:
        advice = _ADVICE[cause.verify_code]
    elif ca_file:
        advice = (
            f"it is not from this stack's authority, {ca_file}: something else answers there, or the stack "
            "was made anew; then fetch its endpoints.json and ca.pem again"
        )
    else:
        advice = "nobody whom this machine trusts has made it: name the stack's ca.pem as ca_file"
    return f"its certificate is refused ({cause.verify_message}); {advice}"


def _of_tls(error: BaseException) -> ssl.SSLError | None:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        each = pending.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return each
        seen.add(id(each))
        # urllib3 keeps what it has caught as ``reason``, or among its arguments.
        pending += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return None
