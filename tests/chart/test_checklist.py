"""What users of Helm charts look for, item by item, with the tests that show it; and a dry run by an API server."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chart.rendering import CI, ROOT, helm, needs_helm, template

# Item → tests that show it, of this folder, or FOLDER/FILE::TEST of another.
CHECKLIST = {
    "1. values.schema.json covers every key and refuses others": ("test_no_key_of_ours_is_open", "test_good_values_are_taken"),
    "2. Chart.yaml says what the chart is": ("test_the_readme_is_of_this_chart", "test_an_older_cluster_is_told"),
    "3. README from comments, with upgrades": ("test_what_is_generated_is_current", "test_every_value_is_documented"),
    "4. semantic versions": ("test_the_version_is_the_packages", "test_the_readme_is_of_this_chart"),
    "5. names, their overrides and length, two releases": (
        "test_names_stay_within_63_characters", "test_two_releases_in_a_namespace_share_nothing", "test_overrides_of_names",
    ),
    "6. labels and annotations": ("test_labels_are_the_standard_ones_and_further_ones_are_put_everywhere",),
    "7. readable messages on conflicts and moved keys": (
        "test_bad_values_are_refused_with_a_reason", "test_everything_that_is_wrong_is_said_at_once",
    ),
    "8. registry, tag, digest": ("test_every_image_comes_from_the_given_registry_and_the_digest_wins",),
    "9. pull secrets, for workers too": ("test_every_image_comes_from_the_given_registry_and_the_digest_wins",),
    "10. list of images; telemetry off": ("test_the_list_of_images_is_whole",),
    "11. every credential by an existing Secret": (
        "test_given_secrets_leave_nothing_to_make", "test_no_value_and_no_object_holds_a_secret",
    ),
    "12. secrets made in the cluster, if absent, and kept": (
        "test_keys_are_made_by_a_hook_before_anything_needs_them", "test_what_is_made_stays_unless_it_is_to_go",
        "unit/test_keys.py",
    ),
    "13. rotation is documented": ("test_the_readme_is_of_this_chart",),
    "14. checksums of configuration and secrets": (
        "test_pods_are_replaced_when_what_they_read_changed", "test_pods_of_workers_stay_where_nothing_of_theirs_changed",
    ),
    "15. further environment, volumes, containers, arguments": ("test_further_things_are_put_into_each_component",),
    "16. extraObjects are templates": ("test_further_objects_are_templates",),
    "17. logs and telemetry": ("test_logs_and_telemetry_are_values",),
    "18. bundled or external store, not both": ("test_how_each_store_is_reached", "test_bad_values_are_refused_with_a_reason"),
    "19. persistence and its policy, and a warning": (
        "test_the_bundled_store_keeps_what_it_has", "test_notes_say_how_to_begin_and_what_is_not_safe",
    ),
    "20. TLS, ACL and Sentinel to the store": ("test_how_each_store_is_reached", "integration/test_redis_servers.py"),
    "21. noeviction": ("test_the_bundled_store_keeps_what_it_has", "test_helm_test_proves_the_installation", "unit/test_durability.py"),
    "22. replicas and election": ("test_rights_are_few_and_of_the_namespace", "test_bad_values_are_refused_with_a_reason"),
    "23. autoscaling": ("test_replicas_are_left_to_the_autoscaler",),
    "24. resources": ("test_every_container_says_what_it_needs",),
    "25. updates and drains": ("test_how_pods_come_and_go",),
    "26. probes": ("test_probes",),
    "27. disruption budgets": ("test_disruption_budgets_only_where_they_can_be_kept",),
    "28. where pods run": ("test_where_pods_run",),
    "29. pools of workers": ("test_pools_differ_in_what_they_say", "test_a_pool_says_the_same_to_the_scheduler_and_to_its_pods"),
    "30. security contexts, OpenShift": (
        "test_the_control_plane_passes_pod_security_restricted", "test_profiles_of_isolation", "test_openshift_chooses_users",
    ),
    "31. service accounts": ("test_accounts_have_no_token_but_where_it_is_used",),
    "32. rights": ("test_rights_are_few_and_of_the_namespace",),
    "33. network policies": ("test_who_may_reach_whom", "test_workers_reach_only_what_values_say"),
    "34. certificates": ("test_certificates",),
    "35. CustomResourceDefinitions: there are none": ("test_there_are_no_custom_resource_definitions",),
    "36. the Service": ("test_the_service_and_ways_from_outside",),
    "37. Ingress and Gateway API": ("test_the_service_and_ways_from_outside",),
    "38. monitors, alerts, dashboards": (
        "test_what_prometheus_is_told", "test_alerts_and_dashboards_speak_of_metrics_that_there_are",
        "test_the_exporter_calls_metrics_as_dashboards_do",
    ),
    "39. helm test": ("test_helm_test_proves_the_installation", "e2e/test_verify.py"),
    "40. notes": ("test_notes_say_how_to_begin_and_what_is_not_safe",),
    "41. values for each kind of cluster": ("test_the_linter_has_nothing_to_say", "test_an_api_server_takes_everything"),
    "42. rendering twice is the same; upgrades": ("test_rendering_twice_gives_the_same", "kube/test_upgrades.py"),
    "43. uninstalling leaves what it should": ("test_what_is_made_stays_unless_it_is_to_go", "kube/test_installation.py"),
}  # fmt: skip
# Kinds of operators that a cluster need not have.
OF_OPERATORS = ("monitoring.coreos.com", "cert-manager.io", "gateway.networking.k8s.io")


def test_every_item_has_a_test_that_there_is() -> None:
    here = Path(__file__).parent
    known = {
        node.name
        for path in here.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert [int(item.partition(".")[0]) for item in CHECKLIST] == list(range(1, 44))
    for item, tests in CHECKLIST.items():
        missing = [
            test for test in tests if not ((ROOT / "tests" / test).exists() if test.endswith(".py") else test in known)
        ]
        assert not missing, f"{item}: {missing}"


def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=100
    )


def no_cluster() -> str:
    """Why no API server can be asked; empty: one can."""
    if not shutil.which("kubectl"):
        return "there is no kubectl on PATH"
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster"
    asked = kubectl("version", "--request-timeout=5s")
    return "" if asked.returncode == 0 else f"the cluster does not answer: {asked.stderr.strip()}"


@needs_helm
@pytest.mark.parametrize("path", CI, ids=[path.stem for path in CI])
def test_an_api_server_takes_everything(path: Path) -> None:
    """A dry run by the server: every field is one that it knows, and every value one that it takes."""
    if reason := no_cluster():
        pytest.skip(reason)
    sets = ("rbac.aggregate=true", "workers.prePull.enabled=true", "uninstall.keepData=false")
    done = template(*sets, values=[path], namespace="default")
    assert done.returncode == 0, done.stderr
    served = kubectl("api-versions").stdout
    objects = [
        text
        for text in done.stdout.split("\n---\n")
        if not any(f"apiVersion: {group}/" in text and group not in served for group in OF_OPERATORS)
    ]
    asked = kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin="\n---\n".join(objects)
    )
    assert asked.returncode == 0, asked.stderr
    # Pods that schedulers make are in a file of a ConfigMap, which no server looks into.
    fixed = template(
        *sets,
        "workers.scaling=fixed",
        values=[path],
        namespace="default",
        options=["--show-only", "templates/workers.yaml"],
    )
    asked = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=fixed.stdout)
    assert asked.returncode == 0, asked.stderr


@needs_helm
def test_a_package_is_made(tmp_path: Path) -> None:
    done = helm("package", str(ROOT / "charts" / "lambent"), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lambent-0.1.0.tgz"]
