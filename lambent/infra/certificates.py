"""Certificates with which our processes know each other: mutual TLS on every connection between two of them.

One folder has tls.crt, tls.key and ca.crt, as a Kubernetes Secret of type kubernetes.io/tls is mounted and as
cert-manager writes it. The files are read again when they change: new connections are made with what is there then, and
those that are up stay up. Every process shows a certificate for the same name, NAME, signed by that authority.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from lambent.infra.lifecycle import StartError

# The name that certificates are for: peers are reached at addresses that come and go.
NAME = "lambent.internal"
_FILES = ("tls.crt", "tls.key", "ca.crt")


class CertificatesError(StartError):
    """Certificates that cannot be used; the text is one line."""


class Certificates:
    """What one folder has."""

    def __init__(self, folder: Path) -> None:
        """Raises CertificatesError."""
        self._folder = folder
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self.version = 0  # grows with every change that was seen
        self._dialling: ssl.SSLContext
        self._listening: ssl.SSLContext
        try:
            self._load(self._look())
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CertificatesError(f"cannot use the certificates in {folder}: {error}") from error

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stats = [(self._folder / name).stat() for name in _FILES]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in stats)

    def _load(self, seen: tuple[tuple[int, int, int], ...]) -> None:
        chain, key, authority = (self._folder / name for name in _FILES)
        dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (dialling, listening):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(chain, key)
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
        listening.sni_callback = self._meet  # asked at the beginning of every connection
        self._dialling, self._listening = dialling, listening
        self._pem = (authority.read_bytes(), key.read_bytes(), chain.read_bytes())
        self._seen = seen
        self.version += 1

    def refresh(self) -> None:
        """Read the files again if they have changed. While they cannot be used, what was read before is."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._load(seen)
        except (OSError, ValueError):
            return  # in the middle of being written, most likely

    def dialling(self) -> ssl.SSLContext:
        """For a connection that is made now, to a server called NAME."""
        self.refresh()
        return self._dialling

    def listening(self) -> ssl.SSLContext:
        """For a server; every connection that comes in is met with the files as they are then."""
        return self._listening

    def _meet(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.refresh()
        connection.context = self._listening

    def of_channel(self) -> grpc.ChannelCredentials:
        """For a gRPC channel that is made now."""
        self.refresh()
        return grpc.ssl_channel_credentials(*self._pem)

    def of_server(self) -> grpc.ServerCredentials:
        """For a gRPC server; as `listening`."""
        told = self.version

        # None, which the library takes for "as before", is missing in its types.
        def fetch() -> Any:
            nonlocal told
            self.refresh()
            if told == self.version:
                return None
            told = self.version
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(self._configuration(), fetch, require_client_authentication=True)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authority, key, chain = self._pem
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)


def certificates(folder: str) -> Certificates | None:
    """What a setting names; empty: none. Raises CertificatesError."""
    return Certificates(Path(folder)) if folder else None
