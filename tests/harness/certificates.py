"""Certificates for tests, by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.harness.tools import require


@dataclass(frozen=True)
class Certificates:
    """An authority of its own, and a server's certificate for localhost and 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Makes new ones, good for a day."""
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    authority_key = folder / "ca.key"
    new = (require("openssl"), "req", "-x509", "-newkey", "rsa:2048")
    plain = ("-nodes", "-days", "1")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for command in (
        (*new, *plain, "-subj", "/CN=authority", "-keyout", authority_key, "-out", made.authority),
        (
            *(*new, *plain, "-subj", "/CN=server", "-keyout", made.key, "-out", made.certificate),
            *("-CA", made.authority, "-CAkey", authority_key, "-addext", names),
        ),
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made
