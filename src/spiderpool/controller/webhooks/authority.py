"""
The certificates of the webhooks, decided: which are made, and when each makes room for the next.

One authority signs the server's certificate. A new authority is trusted for some time before it
signs, so that a server with an old or a new certificate is trusted at every moment. Nothing is kept
outside the Secret: any replica can take the next step.

Source: docs/decisions/0022-webhook-certificates.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Data = Mapping[str, bytes]

TRUSTED: Final = "ca.crt"
SERVER: Final = ("tls.crt", "tls.key")
SIGNING: Final = ("signing.crt", "signing.key")
NEXT: Final = ("next.crt", "next.key")

COMMON_NAME: Final = "spiderpool.spidernet.io"
# clocks of API servers may be behind ours
EARLIER: Final = timedelta(minutes=5)
# a last third is left for whatever keeps the replicas from their work
PART_LEFT: Final = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What certificates are to be.

    `overlap`: how long a new authority is trusted before it signs; API servers hear of it within
    seconds.
    """

    names: tuple[str, ...]
    ips: tuple[IPv4Address | IPv6Address, ...]
    authority_life: timedelta
    server_life: timedelta
    overlap: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def made(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + EARLIER

    def is_valid(self, now: datetime) -> bool:
        """Return whether it has not ended."""
        return now < self.certificate.not_valid_after_utc

    def is_due(self, now: datetime) -> bool:
        """Return whether the next one is to be made."""
        end = self.certificate.not_valid_after_utc
        return now >= end - (end - self.made) / PART_LEFT


def renewed(data: Data, terms: Terms, now: datetime) -> dict[str, bytes] | None:
    """
    Take the next step with what a Secret holds.

    Args:
        data: of the Secret; empty at first. What cannot be read counts as absent.
        terms: what certificates are to be.
        now: the time.
    Returns:
        What the Secret is to hold; None when that is what it holds.
    """
    signing, following = _authority(data, SIGNING, now), _authority(data, NEXT, now)
    trusted = [each for each in _read_all(data.get(TRUSTED, b"")) if now < each.not_valid_after_utc]
    server = _server(data, trusted, terms, now)
    if signing is None and server is None:
        signing, following = following or _make_authority(terms, now), None
    elif following is not None and now >= following.made + terms.overlap:
        signing, following, server = following, None, None
    elif following is None and (signing is None or signing.is_due(now)):
        following = _make_authority(terms, now)
    if signing is not None and (server is None or server.is_due(now)):
        server = _make_server(signing, terms, now)
    wanted = _rendered(signing, following, server, trusted)
    return None if wanted == dict(data) else wanted


def _authority(data: Data, keys: tuple[str, str], now: datetime) -> Pair | None:
    pair = _read_pair(data, keys)
    return pair if pair is not None and pair.is_valid(now) else None


def _server(
    data: Data, trusted: Iterable[x509.Certificate], terms: Terms, now: datetime
) -> Pair | None:
    """Return the certificate that is shown, while it has all names and one of these signed it."""
    pair = _read_pair(data, SERVER)
    if pair is None or not pair.is_valid(now) or not _has_names(pair.certificate, terms):
        return None
    return pair if any(_is_signed(pair.certificate, by) for by in trusted) else None


def _is_signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _has_names(certificate: x509.Certificate, terms: Terms) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    names, ips = (
        found.get_values_for_type(x509.DNSName),
        found.get_values_for_type(x509.IPAddress),
    )
    return set(terms.names) <= set(names) and set(terms.ips) <= set(ips)


def _make_authority(terms: Terms, now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(COMMON_NAME)
    builder = (
        _builder(name, name, key, now, now + terms.authority_life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        # authorities have one name, and may be trusted at the same time
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: Pair, terms: Terms, now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + terms.server_life, authority.certificate.not_valid_after_utc)
    names = [
        *(x509.DNSName(name) for name in terms.names),
        *(x509.IPAddress(ip) for ip in terms.ips),
    ]
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(terms.names[0]), authority.certificate.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(signer, critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    # RFC 5280: a common name has at most 64 characters; nobody reads it where names are listed
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _read_pair(data: Data, keys: tuple[str, str]) -> Pair | None:
    """Read a certificate and its key; None where one is missing, or they do not fit."""
    try:
        certificate = x509.load_pem_x509_certificate(data[keys[0]])
        key = serialization.load_pem_private_key(data[keys[1]], password=None)
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return Pair(certificate, key) if certificate.public_key() == key.public_key() else None


def _read_all(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem) if pem else []
    except ValueError:
        return []


def _rendered(
    signing: Pair | None,
    following: Pair | None,
    server: Pair | None,
    trusted: Iterable[x509.Certificate],
) -> dict[str, bytes]:
    certificates = list(trusted)
    for pair in (signing, following):
        if pair is not None and pair.certificate not in certificates:
            certificates.append(pair.certificate)
    found = {TRUSTED: b"".join(map(_pem, certificates))}
    for keys, pair in ((SIGNING, signing), (NEXT, following), (SERVER, server)):
        if pair is not None:
            found |= {keys[0]: _pem(pair.certificate), keys[1]: _key_pem(pair.key)}
    return found


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
