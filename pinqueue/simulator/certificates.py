"""A certificate that nobody has signed but itself, for a server on a network of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate_for(names: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """The files `ca.pem`, for clients to trust, and `key.pem`, which is the server's own. What an
    earlier start left there is kept, so that clients need not read it again."""
    certificate, private = folder / "ca.pem", folder / "key.pem"
    if certificate.exists() and private.exists():
        return certificate, private
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private.unlink(missing_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    half = certificate.with_suffix(".new")
    half.write_bytes(_signed(names, key).public_bytes(serialization.Encoding.PEM))
    half.rename(certificate)  # whoever waits for it reads all of it
    return certificate, private


def _signed(names: Sequence[str], key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    us = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulated Tuya cloud")])
    public = key.public_key()
    today = datetime.now(UTC)
    purposes = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(us, us, public, x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        # From Python 3.13 on a client refuses a signer that does not say that it is one.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(purposes, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .sign(key, hashes.SHA256())
    )
