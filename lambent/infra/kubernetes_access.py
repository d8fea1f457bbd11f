"""How our processes and commands reach a Kubernetes cluster: as their pod's service account, or by a kubeconfig."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from lambent.infra.kubernetes_secrets import unreachable

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def api_client() -> tuple[client.ApiClient, str]:
    """A client, and the namespace of the pod or of the kubeconfig. Raises ClusterUnreachable."""
    settings = client.Configuration()
    try:
        if _NAMESPACE.exists():
            config.load_incluster_config(client_configuration=settings)
            return client.ApiClient(settings), _NAMESPACE.read_text().strip()
        config.load_kube_config(client_configuration=settings)
        _, active = config.list_kube_config_contexts()
    except ConfigException as error:
        raise unreachable(error) from error
    return client.ApiClient(settings), active["context"].get("namespace") or "default"


def core_api() -> tuple[client.CoreV1Api, str]:
    """The core API, and the namespace. Raises ClusterUnreachable."""
    made, namespace = api_client()
    return client.CoreV1Api(made), namespace
