"""The resource metrics API (metrics.k8s.io) for clusters that have none: what kubelets count, as rates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.harness import eventually
from tests.kube.release import Release, run

# Real figures of real kubelets; only the way from there to the API is short here.
SERVER = r"""
import http.server, json, re, ssl, subprocess, threading, time, urllib.parse, urllib.request
HERE = "/var/run/secrets/kubernetes.io/serviceaccount/"
AUTHORITY = ssl.create_default_context(cafile=HERE + "ca.crt")
LINE = re.compile(r'container_cpu_usage_seconds_total\{container="([^"]*)",namespace="([^"]*)",pod="([^"]*)"\} (\S+) (\d+)')
seen = {}  # of each container the last two counts, with their times

def api(path):
    request = urllib.request.Request("https://kubernetes.default.svc" + path)
    request.add_header("Authorization", "Bearer " + open(HERE + "token").read())
    return urllib.request.urlopen(request, context=AUTHORITY, timeout=5).read()

def collect():
    while True:
        for node in json.loads(api("/api/v1/nodes"))["items"]:
            try:
                text = api("/api/v1/nodes/%s/proxy/metrics/resource" % node["metadata"]["name"]).decode()
            except OSError:
                continue
            for container, space, pod, value, at in LINE.findall(text):
                last = seen.setdefault((space, pod, container), [])
                if not last or last[-1][1] != int(at):
                    seen[space, pod, container] = [*last, (float(value), int(at))][-2:]
        time.sleep(3)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        found = re.fullmatch("/apis/metrics.k8s.io/v1beta1/namespaces/([^/]+)/pods", parts.path)
        if found:
            answer = {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}}
            pods = json.loads(api("/api/v1/namespaces/%s/pods?%s" % (found[1], parts.query)))["items"]
            answer["items"] = list(filter(None, map(self.of, pods)))
        elif parts.path == "/apis/metrics.k8s.io/v1beta1":
            pods = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
            answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1", "resources": [pods]}
        else:
            return self.send_error(404)
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def of(self, pod):
        about, used = pod["metadata"], []
        for container in pod["spec"]["containers"]:
            counts = seen.get((about["namespace"], about["name"], container["name"]), [])
            if len(counts) < 2:
                return None
            (before, since), (after, at) = counts
            rate = (after - before) / (at - since) * 1000
            used.append({"name": container["name"], "usage": {"cpu": "%dn" % (rate * 1e9), "memory": "1Mi"}})
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000))
        named = {key: about[key] for key in ("name", "namespace", "labels")}
        return {"metadata": named, "timestamp": when, "window": "%ds" % ((at - since) / 1000), "containers": used}

subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout", "/tmp/key", "-out", "/tmp/crt", "-subj", "/CN=metrics"], check=True)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tmp/crt", "/tmp/key")
threading.Thread(target=collect, daemon=True).start()
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
NAME = "metrics-of-kubelets"


def _objects(release: Release) -> list[dict[str, object]]:
    space, labels = release.namespace, {"app": NAME}
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": space}
    reads = [{"apiGroups": [""], "resources": ["nodes", "nodes/proxy", "pods"], "verbs": ["get", "list"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    container = {
        "name": "server", "image": f"lambent.local/lambent-control:{release.version}",
        "command": ["python", "-c", SERVER],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }  # fmt: skip
    served = {
        "group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": True, "groupPriorityMinimum": 100,
        "versionPriority": 100, "service": {"name": NAME, "namespace": space},
    }  # fmt: skip
    meta = {"name": NAME}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": reads},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": meta,
            "roleRef": role, "subjects": [account],
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": meta | {"labels": labels},
            "spec": {"serviceAccountName": NAME, "containers": [container], "terminationGracePeriodSeconds": 0},
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": served,
        },
    ]  # fmt: skip


@contextmanager
def metrics(release: Release) -> Iterator[None]:
    """Have the cluster know how much its pods use."""
    if "metrics.k8s.io/" in run("kubectl", "api-versions"):
        yield
        return
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects(release)})
    release.kubectl("apply", "-f", "-", stdin=objects)
    try:
        release.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{release.namespace}/pods"
        eventually(lambda: json.loads(run("kubectl", "get", "--raw", path, check=False) or "{}").get("items"), 90)
        yield
    finally:
        release.kubectl("delete", "-f", "-", "--wait=false", stdin=objects)
