"""Functions that are container images, from a registry, through AWS's clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import registry
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.connected import connected_cluster
from tests.e2e.harness import ROLE, ROOT, Cluster, code_blocks, error_of, eventually, run, zipped
from tests.images import CLIENT, function

TELLS = """\
import os, sys
def handler(event, context):
    if "read" in event:
        return open(event["read"]).read()
    if "write" in event:
        open(event["write"], "a").write("x")
        return os.path.getsize(event["write"])
    if "list" in event:
        return sorted(os.listdir(event["list"]))
    names = ("GREETING", "OWN", "PATH", "LAMBDA_TASK_ROOT", "_HANDLER", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME")
    return {"argv": sys.argv, "cwd": os.getcwd(), "environ": {name: os.environ.get(name) for name in names},
            "arn": context.invoked_function_arn, "uid": os.getuid()}
def other(event, context):
    return "other"
"""
SLOW = """
import time
fast = handler
def handler(event, context):
    return time.sleep(event["sleep"]) if "sleep" in event else fast(event, context)
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    """A registry that lets in who may read."""
    if registry.PROGRAM:
        with registry.real(tmp_path_factory.mktemp("registry"), login=True) as made:
            yield made
    else:
        with registry.twin(f"{registry.USER}:{registry.PASSWORD}") as made:
            yield made


@pytest.fixture(scope="module")
def pulling(shelf: registry.Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose first account has images there, also as it would call them on AWS; another account has none."""
    row = f'service = "ecr"\nendpoint = "http://{shelf.host}"\naccount = "000000000000"\n'
    known = f'access_key = "{registry.USER}"\nsecret_key = "{registry.PASSWORD}"\n'
    unknown = 'access_key = "nobody"\nsecret_key = "wrong"\n'
    rows = [row + known, f'{row}{known}registry = "{ON_AWS}"', f'{row}{unknown}registry = "closed.example"']
    rows.append('service = "ecr"\nendpoint = "http://127.0.0.1:1"\nregistry = "gone.example"')
    with connected_cluster(tmp_path_factory.mktemp("files"), *rows) as cluster:
        yield cluster


ON_AWS = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def create(cluster: Cluster, name: str, uri: str, **more: Any) -> Any:
    client = cluster.client()
    made = client.create_function(FunctionName=name, PackageType="Image", Role=ROLE, Code={"ImageUri": uri}, **more)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    return made


def answer(cluster: Cluster, name: str, event: Any = None, **more: Any) -> Any:
    answered = cluster.client().invoke(FunctionName=name, Payload=json.dumps(event or {}), **more)
    return json.loads(answered["Payload"].read())


def test_an_image_runs_with_what_it_says_of_itself(shelf: registry.Registry, pulling: Cluster) -> None:
    digest = shelf.push("shop/orders:v1", function(TELLS))
    uri = f"{shelf.host}/shop/orders:v1"
    made = create(pulling, "orders", uri, Environment={"Variables": {"OWN": "mine"}})
    assert (made["PackageType"], made["CodeSha256"], made["CodeSize"]) == ("Image", digest, 0)
    assert not {"Runtime", "Handler", "Layers", "ImageConfigResponse", "RuntimeVersionConfig"} & made.keys()
    told = answer(pulling, "orders")
    assert told.pop("arn").endswith(":function:orders")
    assert told["cwd"] == "/var/task"
    assert told["environ"] == {
        "GREETING": "hello", "OWN": "mine", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": None, "AWS_EXECUTION_ENV": None,
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
    }  # fmt: skip
    found = pulling.client().get_function(FunctionName="orders")
    assert found["Code"] == {
        "RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": f"{shelf.host}/shop/orders@sha256:{digest}",
    }  # fmt: skip
    listed = pulling.client().list_functions()["Functions"]
    assert [each["PackageType"] for each in listed if each["FunctionName"] == "orders"] == ["Image"]


def test_a_function_says_what_runs_in_its_image(shelf: registry.Registry, pulling: Cluster) -> None:
    shelf.push("shop/said:v1", function(TELLS, {"other/app.py": b"def handler(event, context): return 'elsewhere'"}))
    said: dict[str, Any] = {"Command": ["app.other"]}
    made = create(pulling, "said", f"{shelf.host}/shop/said:v1", ImageConfig=said)
    assert made["ImageConfigResponse"] == {"ImageConfig": said}
    assert answer(pulling, "said") == "other"
    said = {"Command": ["app.handler"], "WorkingDirectory": "/other"}
    assert pulling.client().update_function_configuration(FunctionName="said", ImageConfig=said)
    pulling.updated("said")
    assert answer(pulling, "said") == "elsewhere"
    for wrong, error in (
        ({"EntryPoint": ["/no/such"]}, "Runtime.InvalidEntrypoint"),
        ({"EntryPoint": ["no-such"]}, "Runtime.InvalidEntrypoint"),
        ({"EntryPoint": ["/etc/hosts"]}, "Runtime.InvalidEntrypoint"),
        ({"WorkingDirectory": "/no/such"}, "Runtime.InvalidWorkingDir"),
    ):
        pulling.client().update_function_configuration(FunctionName="said", ImageConfig=wrong)
        pulling.updated("said")
        assert answer(pulling, "said")["errorType"] == error
    logged = pulling.lambent("logs", "said").stdout
    entry = f"Entry Point: [{' '.join(CLIENT)}]\tCmd: [app.handler]\tWorkingDir: [/no/such]"
    assert f"IMAGE\tLaunch error: chdir /no/such: no such file or directory\t{entry}" in logged
    made = pulling.client().update_function_configuration(FunctionName="said", ImageConfig={})
    assert "ImageConfigResponse" not in made
    pulling.updated("said")
    assert answer(pulling, "said")["cwd"] == "/var/task"


def test_versions_keep_their_image_whatever_becomes_of_its_tag(shelf: registry.Registry, pulling: Cluster) -> None:
    returns = "def handler(event, context):\n    return {}\n"
    client, uri = pulling.client(), f"{ON_AWS}/shop/tagged:latest"
    first = shelf.push("shop/tagged:latest", function(returns.format(1)))
    made = create(pulling, "tagged", uri.removesuffix(":latest"), Publish=True)
    assert (made["Version"], made["CodeSha256"]) == ("1", first)
    second = shelf.push("shop/tagged:latest", function(returns.format(2)))
    assert answer(pulling, "tagged") == 1, "a tag that moves changes no function"
    would = client.update_function_code(FunctionName="tagged", ImageUri=uri, DryRun=True)
    assert would["CodeSha256"] == second
    assert client.update_function_code(FunctionName="tagged", ImageUri=uri, Publish=True)["Version"] == "2"
    pulling.updated("tagged")
    assert [answer(pulling, "tagged", Qualifier=number) for number in ("1", "2")] == [1, 2]
    again = client.update_function_code(FunctionName="tagged", ImageUri=f"{ON_AWS}/shop/tagged@sha256:{first}")
    assert again["CodeSha256"] == first
    pulling.updated("tagged")
    assert answer(pulling, "tagged") == 1
    found = client.get_function(FunctionName="tagged", Qualifier="2")["Code"]
    assert found["ResolvedImageUri"] == f"{ON_AWS}/shop/tagged@sha256:{second}"
    with pytest.raises(client.exceptions.ClientError, match="CodeSHA256"):
        client.publish_version(FunctionName="tagged", CodeSha256=second)


def test_nothing_is_in_sight_but_the_image(shelf: registry.Registry, pulling: Cluster) -> None:
    shelf.push("shop/alone:v1", function(TELLS, {"opt/mine": b"", "dev/own": b"", "proc/own": b""}))
    create(pulling, "alone", f"{shelf.host}/shop/alone:v1", EphemeralStorage={"Size": 512})
    root = answer(pulling, "alone", {"list": "/"})
    assert {"client", "dev", "etc", "opt", "proc", "tmp", "usr", "var"} <= set(root)
    assert not {"run", "root", "home", "work"} & set(root)
    assert answer(pulling, "alone", {"list": "/opt"}) == ["mine"]
    assert answer(pulling, "alone", {"list": "/etc"}) == ["hosts", "resolv.conf"]
    assert "own" not in answer(pulling, "alone", {"list": "/dev"})
    assert all(
        name == "1" or not name.isdigit() or int(name) < 10 for name in answer(pulling, "alone", {"list": "/proc"})
    )
    for place in ("/var/task/app.py", "/new", "/dev/new", "/etc/hosts"):
        assert answer(pulling, "alone", {"write": place})["errorType"] in ("OSError", "PermissionError")
    sizes = [answer(pulling, "alone", {"write": "/tmp/kept"}) for _ in range(2)]
    assert sizes[1] == sizes[0] + 1 or sizes == [1, 1]
    mounts = answer(pulling, "alone", {"read": "/proc/self/mounts"})
    assert str(pulling.data) not in mounts


def test_what_cannot_be_had_is_told(shelf: registry.Registry, pulling: Cluster) -> None:
    client = pulling.client()
    shelf.push("shop/arm:v1", function(TELLS, architecture="arm64"))
    zstd = function(TELLS)
    zstd.layer_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    shelf.push("shop/zstd:v1", zstd)
    source = "Source image {} {} Provide a valid source image."
    for uri, status, name, text in (
        ("python:3.11", 400, "InvalidParameterValueException", source.format("python:3.11", "is not valid.")),
        (f"{shelf.host}/shop/no:v1", 400, "InvalidParameterValueException", "does not exist. Provide a valid source"),
        (f"{shelf.host}/shop/arm:v1", 400, "InvalidParameterValueException", "linux on arm64, not for linux on amd64"),
        (f"{shelf.host}/shop/zstd:v1", 400, "InvalidParameterValueException", "layer media type for the source image"),
        ("other.example/shop/orders:v1", 400, "InvalidParameterValueException", "no connection of this cluster leads"),
        ("closed.example/shop/orders:v1", 403, "AccessDeniedException", "does not have permission to access the ECR"),
        ("gone.example/shop/orders:v1", 503, "ServiceUnavailableException", "gone.example cannot be reached"),
    ):
        call = {"FunctionName": "none", "PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": uri}}
        found = error_of(client.create_function, **call)
        assert (found[:2], text in found[2]) == ((status, name), True), found
    others = pulling.client(key=OTHER_KEY, secret=OTHER_SECRET)
    call["Code"] = {"ImageUri": f"{shelf.host}/shop/orders:v1"}
    assert "no connection of this cluster leads" in error_of(others.create_function, **call)[2]
    assert error_of(client.get_function, FunctionName="none")[0] == 404


def test_a_function_is_of_one_kind_for_its_life(shelf: registry.Registry, pulling: Cluster) -> None:
    client, uri = pulling.client(), f"{shelf.host}/shop/kinds:v1"
    shelf.push("shop/kinds:v1", function(TELLS))
    image: dict[str, Any] = {"FunctionName": "kinds", "PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": uri}}
    package = zipped({"app.py": TELLS})
    neither = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
    for more, text in (
        ({"Runtime": "python3.11"}, neither),
        ({"Handler": "app.handler"}, neither),
        ({"Code": {"ZipFile": package}}, "Please provide ImageUri when creating a function with packageType Image."),
        ({"Code": {"ImageUri": uri, "ZipFile": package}}, "other FunctionCode parameters when providing an ImageUri"),
        ({"PackageType": "Zip", "Runtime": "python3.11", "Handler": "a.b"}, "ImageUri when creating a function with"),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "not supported for SnapStart enabled functions"),
        ({"ImageConfig": {"Command": ["x" * 1000] * 17}}, "ImageConfig must have at most 16384 bytes."),
    ):
        found = error_of(client.create_function, **{**image, **more})
        assert (found[:2], text in found[2]) == ((400, "InvalidParameterValueException"), True), found
    create(pulling, "kinds", uri)
    pulling.create("zipped", package)
    of_zip = "Please don't provide ImageConfig when the function's PackageType is Zip."
    update, configure = client.update_function_code, client.update_function_configuration
    refused: list[tuple[Any, str, dict[str, Any], str]] = [
        (
            update,
            "kinds",
            {"ZipFile": package},
            "Please provide ImageUri when updating a function with packageType Image.",
        ),
        (
            update,
            "zipped",
            {"ImageUri": uri},
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ),
        (configure, "kinds", {"Handler": "app.other"}, neither),
        (configure, "zipped", {"ImageConfig": {"Command": ["x"]}}, of_zip),
    ]
    for call, name, changes, text in refused:
        assert error_of(call, FunctionName=name, **changes) == (400, "InvalidParameterValueException", text)


# Subscribes to telemetry over HTTP, and keeps what it is told where the function sees it.
EXTENSION = """\
import http.server, json, os, threading, urllib.request
BASE = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
def call(method, path, document=None, **headers):
    data = None if document is None else json.dumps(document).encode()
    return urllib.request.urlopen(urllib.request.Request(BASE + path, data, headers, method=method))
class Listener(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open("/tmp/told", "a") as file:
            file.writelines(each["type"] + "\\n" for each in told)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 4243), Listener)
threading.Thread(target=server.serve_forever, daemon=True).start()
answer = call("POST", "/2020-01-01/extension/register", {"events": ["INVOKE"]}, **{"Lambda-Extension-Name": "tells"})
me = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/"}
subscription = {"schemaVersion": "2022-12-13", "types": ["platform"], "destination": destination,
                "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}}
call("PUT", "/2022-07-01/telemetry", subscription, **me)
while True:
    call("GET", "/2020-01-01/extension/event/next", **me).read()
"""


def test_extensions_of_an_image_are_started_and_told(shelf: registry.Registry, pulling: Cluster) -> None:
    program = f"#!{CLIENT[0]}\n{EXTENSION}".encode()
    shelf.push("shop/extended:v1", function(TELLS, {"opt/extensions/tells": program}))
    create(pulling, "extended", f"{shelf.host}/shop/extended:v1", MemorySize=256)
    eventually(lambda: "platform.report" in answer(pulling, "extended", {"read": "/tmp/told"}))
    told = answer(pulling, "extended", {"read": "/tmp/told"}).split()
    assert told[:2] == ["platform.initStart", "platform.telemetrySubscription"]
    assert "platform.runtimeDone" in told


def test_the_page_is_run_as_it_stands(shelf: registry.Registry, pulling: Cluster, tmp_path: Path) -> None:
    shelf.push("shop/orders-page:v1", function(TELLS))
    [block] = code_blocks((ROOT / "docs/howto/container-images.md").read_text(), "sh")
    script = block.replace("registry.example.com:5000", shelf.host).replace("orders", "orders-page")
    done = run("bash", "-ec", f"cd {tmp_path}\n{script}", env=pulling.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["cwd"] == "/var/task"
    pulling.updated("orders-page")
    assert answer(pulling, "orders-page", Qualifier="1") == "other"


@pytest.mark.parametrize(
    ("level", "settings"),
    [("user-namespace", {}), ("namespaces", {"LAMBENT_WORKER_NETWORK": "loopback"}), ("landlock", {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_levels_of_isolation_that_have_images(
    own_cluster: Any, tmp_path: Path, level: str, settings: dict[str, str]
) -> None:
    with registry.twin() as open_shelf:
        open_shelf.push("shop/levels:v1", function(TELLS + SLOW))
        rows = tmp_path / "connections.toml"
        rows.write_text(f'[[connections]]\nservice = "ecr"\nendpoint = "http://{open_shelf.host}"\n')
        cluster = own_cluster(
            "--no-examples", LAMBENT_QUEUE_CONNECTIONS=str(rows), LAMBENT_WORKER_ISOLATION=level, **settings
        )
        create(cluster, "levels", f"{open_shelf.host}/shop/levels:v1", Timeout=1)
        if level == "landlock":
            assert answer(cluster, "levels")["errorType"] == "Runtime.Unavailable"
            return
        assert answer(cluster, "levels")["cwd"] == "/var/task"
        assert answer(cluster, "levels", {"write": "/tmp/kept"}) == 1
        # What comes after a timeout is a fresh process in the same file system.
        assert answer(cluster, "levels", {"sleep": 30})["errorType"] == "Sandbox.Timedout"
        assert answer(cluster, "levels", {"write": "/tmp/kept"}) == 2
        assert "1" in answer(cluster, "levels", {"list": "/proc"})
        assert answer(cluster, "levels", {"list": "/etc"}) == ["hosts", "resolv.conf"]


def test_a_manifest_names_images(shelf: registry.Registry, pulling: Cluster, tmp_path: Path) -> None:
    (tmp_path / "serverless.yml").write_text(
        "service: shop\nprovider: {name: aws, runtime: python3.11}\nfunctions:\n"
        f"  orders: {{image: {{uri: '{shelf.host}/shop/manifest:v1', command: [app.other]}}, timeout: 5}}\n"
    )

    def deployed() -> Any:
        done = pulling.lambent("deploy", str(tmp_path), "--output", "json")
        assert done.returncode == 0, done.stderr
        [function] = json.loads(done.stdout)["functions"]
        return function["action"], answer(pulling, "shop-dev-orders")

    shelf.push("shop/manifest:v1", function(TELLS))
    assert deployed() == ("created", "other")
    assert deployed() == ("unchanged", "other")
    shelf.push("shop/manifest:v1", function(TELLS.replace('"other"', '"changed"')))
    assert deployed() == ("updated", "changed")
    manifest = (tmp_path / "serverless.yml").read_text()
    (tmp_path / "serverless.yml").write_text(manifest.replace(", command: [app.other]", ""))
    action, told = deployed()
    assert (action, told["cwd"]) == ("updated", "/var/task")


def test_an_index_of_several_leads_to_the_one_for_the_function(shelf: registry.Registry, pulling: Cluster) -> None:
    images = {name: function(TELLS, architecture=name) for name in ("arm64", "amd64")}
    digests = {name: shelf.push("shop/both", image) for name, image in images.items()}
    shelf.put_manifest("shop/both:v1", registry.index(images), registry.INDEX)
    made = create(pulling, "both", f"{shelf.host}/shop/both:v1")
    assert made["CodeSha256"] == digests["amd64"]
    assert answer(pulling, "both")["cwd"] == "/var/task"
