"""Secrets of one namespace of a Kubernetes cluster, and their twin in memory."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

_ANSWER_SECONDS = 10


class ClusterUnreachable(Exception):
    """The cluster's API cannot be used; the text is one line."""


class Secrets(Protocol):
    """Named secrets: keys with bytes."""

    def get(self, name: str) -> dict[str, bytes] | None:
        """None: there is none of this name."""
        ...

    def create(self, name: str, data: Mapping[str, bytes], kind: str = "Opaque") -> bool:
        """False: there is one of this name, which stays as it is."""
        ...

    def update(self, name: str, data: Mapping[str, bytes]) -> None:
        """Set these keys of one that is there."""
        ...

    def delete(self, name: str) -> bool:
        """False: there is none."""
        ...


class MemorySecrets:
    """The twin for tests."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, bytes]] = {}

    def get(self, name: str) -> dict[str, bytes] | None:
        found = self.secrets.get(name)
        return None if found is None else dict(found)

    def create(self, name: str, data: Mapping[str, bytes], kind: str = "Opaque") -> bool:
        if name in self.secrets:
            return False
        self.secrets[name] = dict(data)
        return True

    def update(self, name: str, data: Mapping[str, bytes]) -> None:
        self.secrets[name].update(data)

    def delete(self, name: str) -> bool:
        return self.secrets.pop(name, None) is not None


class KubernetesSecrets:
    """Those of a namespace. Every method raises ClusterUnreachable."""

    def __init__(self, api: client.CoreV1Api, namespace: str, labels: Mapping[str, str]) -> None:
        """`labels`: of those that are made."""
        self._api = api
        self._namespace = namespace
        self._labels = dict(labels)

    def get(self, name: str) -> dict[str, bytes] | None:
        with _refusals():
            try:
                found = self._api.read_namespaced_secret(name, self._namespace, _request_timeout=_ANSWER_SECONDS)
            except ApiException as error:
                if error.status != 404:
                    raise
                return None
        return {key: base64.b64decode(value) for key, value in (found.data or {}).items()}

    def create(self, name: str, data: Mapping[str, bytes], kind: str = "Opaque") -> bool:
        body = client.V1Secret(
            metadata=client.V1ObjectMeta(name=name, labels=self._labels), data=_encoded(data), type=kind
        )
        with _refusals():
            try:
                self._api.create_namespaced_secret(self._namespace, body, _request_timeout=_ANSWER_SECONDS)
            except ApiException as error:
                if error.status != 409:
                    raise
                return False
        return True

    def update(self, name: str, data: Mapping[str, bytes]) -> None:
        body = {"data": _encoded(data)}
        with _refusals():
            self._api.patch_namespaced_secret(name, self._namespace, body, _request_timeout=_ANSWER_SECONDS)

    def delete(self, name: str) -> bool:
        with _refusals():
            try:
                self._api.delete_namespaced_secret(name, self._namespace, _request_timeout=_ANSWER_SECONDS)
            except ApiException as error:
                if error.status != 404:
                    raise
                return False
        return True


@contextmanager
def _refusals() -> Iterator[None]:
    """The library's errors as ours."""
    try:
        yield
    except (ApiException, HTTPError) as error:
        raise unreachable(error) from error


def unreachable(error: ApiException | HTTPError | ConfigException) -> ClusterUnreachable:
    """What a library's error means, in one line."""
    if isinstance(error, ApiException):
        return ClusterUnreachable(f"the Kubernetes API refused: {error.status} {error.reason}")
    return ClusterUnreachable(f"the Kubernetes API cannot be reached: {str(error).splitlines()[0]}")


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}
