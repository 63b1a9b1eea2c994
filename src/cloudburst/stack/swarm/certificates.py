"""The stack's own certificates: an authority that only this stack knows, and what it has signed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloudburst.errors import ConfigError
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm.paths import SwarmPaths

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
RENEWED_DAYS = 30
"""A certificate that is valid for fewer days than this is made anew at the next deployment."""

_EARLIER = timedelta(hours=1)
"""Clocks of machines differ."""


@dataclass(frozen=True, repr=False)
class Pair:
    """A certificate and its key, as PEM texts; never shown."""

    certificate: str
    key: str


@dataclass(frozen=True, repr=False)
class Certificates:
    """What a stack needs."""

    authority: str
    """The authority's certificate, PEM."""
    server: Pair
    """Of the gateway, the queue and the registry."""
    node: Pair
    """By which nodes are known to the registry."""


def ensure(paths: SwarmPaths, stack: str, names: Sequence[str]) -> Certificates:
    """The stack's certificates: those that there are, unless they are old or lack one of the names.

    ``names``: host names and addresses of the master. Raises ConfigError when a file is damaged.
    """
    authority = _load(paths, "ca")
    if authority is None:
        authority = _authority(stack)
        _save(paths, "ca", authority)
    server = _load(paths, "server")
    if server is None or not _good(server, authority, names):
        server = _signed(authority, f"cloudburst {stack}", names, ExtendedKeyUsageOID.SERVER_AUTH)
        _save(paths, "server", server)
    node = _load(paths, "node")
    if node is None or not _good(node, authority, ()):
        node = _signed(authority, f"cloudburst {stack} node", (), ExtendedKeyUsageOID.CLIENT_AUTH)
        _save(paths, "node", node)
    return Certificates(authority.certificate, server, node)


def expires(certificate: str) -> datetime:
    """When a certificate (PEM; of a chain, its first) ends."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def given(certificate_file: str, key_file: str, host: str) -> Pair:
    """A certificate of the user's own, for clients that know the gateway as ``host``.

    Raises ConfigError when it is none, not of that key, has expired, or is for another name.
    """
    try:
        with open(certificate_file, encoding="ascii") as file:
            certificate = file.read()
        with open(key_file, encoding="ascii") as file:
            key = file.read()
        public = serialization.load_pem_private_key(key.encode(), None).public_key()
        first = x509.load_pem_x509_certificate(certificate.encode())
        if first.public_key() != public:
            raise ConfigError(f"--tls-key: {key_file} is not the key of {certificate_file}")
    except OSError as error:
        raise ConfigError(
            f"--tls-cert, --tls-key: cannot read {error.filename} ({error.strerror})"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"--tls-cert, --tls-key: PEM files are needed, the key without a password ({error})"
        ) from error
    if first.not_valid_after_utc < datetime.now(UTC):
        raise ConfigError(
            f"--tls-cert: {certificate_file} has expired ({first.not_valid_after_utc:%Y-%m-%d}): give a "
            'newer one, or --tls-cert "" --tls-key "" for one that the stack makes'
        )
    covered = _names(first)
    if not any(_covers(name, host) for name in covered):
        raise ConfigError(
            f"--tls-cert: {certificate_file} is for {', '.join(map(str, covered)) or 'no name'}, and clients "
            f"reach this stack at {host}: name the master in --hosts as the certificate does"
        )
    return Pair(certificate, key)


def _names(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that it is for."""
    try:
        there = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in there.get_values_for_type(x509.IPAddress)]
    return [*there.get_values_for_type(x509.DNSName), *addresses]


def _covers(name: str, host: str) -> bool:
    """Whether a certificate for ``name`` is one for ``host`` (RFC 6125: a star is one whole label)."""
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if name.startswith("*."):
        first, _, rest = host.partition(".")
        return bool(first) and rest == name[2:]
    return name == host


def _good(pair: Pair, authority: Pair, names: Iterable[str]) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    if certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEWED_DAYS):
        return False
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    try:
        there = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        there = x509.SubjectAlternativeName([])
    return all(name in there for name in map(_general, names))


def _authority(stack: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cloudburst {stack} authority")])
    usage = _usage(signs_certificates=True)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def _signed(authority: Pair, name: str, names: Sequence[str], purpose: x509.ObjectIdentifier) -> Pair:
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = serialization.load_pem_private_key(authority.key.encode(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ConfigError("secrets/ca.key: not the key that a stack makes")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(one) for one in dict.fromkeys(names)]), critical=False
        )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def _load(paths: SwarmPaths, name: str) -> Pair | None:
    certificate, key = (read_text(paths.secret(f"{name}.{end}")) for end in ("crt", "key"))
    if not certificate or not key:
        return None
    try:
        x509.load_pem_x509_certificate(certificate.encode())
        serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        path = paths.secret(f"{name}.crt")
        raise ConfigError(
            f"{path}: it or its key is damaged ({error}); restore it, or remove both for new ones"
        ) from error
    return Pair(certificate, key)


def _save(paths: SwarmPaths, name: str, pair: Pair) -> None:
    paths.secret(f"{name}.crt").unlink(missing_ok=True)  # never a certificate beside another one's key
    write_private(paths.secret(f"{name}.key"), pair.key)
    write_private(paths.secret(f"{name}.crt"), pair.certificate)
