"""What `kubectl apply -k` would send to a cluster."""

import json
import os
import re
from pathlib import PurePosixPath

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployed import (
    DEPLOY,
    OVERLAYS,
    built,
    environment,
    manifests,
    the,
)
from textcam_service.serving.grpc.contract import EXPLAINER
from textcam_service.settings import ServerSettings, read_settings
from textcam_service.version import __version__

# The oldest release that is maintained, and the newest.
VERSIONS = ("1.35", "1.37")
BUNDLED = tuple(overlay for overlay in OVERLAYS if overlay != "store")
OWN_KINDS = {"PrometheusRule", "ScaledObject", "ServiceMonitor"}


def validate(manifest, version):
    if manifest["kind"] in OWN_KINDS:
        schema = json.loads((DEPLOY / "schemas" / f"{manifest['kind'].lower()}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def pod_of(overlay):
    return the("Deployment", overlay)["spec"]["template"]["spec"]


def server_of(overlay):
    (container,) = pod_of(overlay)["containers"]
    return container


@pytest.fixture
def settings_of(monkeypatch):
    """The settings that a server reads under an overlay's environment."""

    def read(overlay):
        for name in [name for name in os.environ if name.startswith("TEXTCAM_")]:
            monkeypatch.delenv(name)
        for name, value in environment(overlay).items():
            monkeypatch.setenv(name, value)
        return read_settings({})

    return read


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay, version):
    for manifest in manifests(overlay):
        validate(manifest, version)


@pytest.mark.parametrize("kind", ["Deployment", *sorted(OWN_KINDS)])
def test_a_misspelt_field_would_be_found(kind):
    manifest = the(kind, "autoscaling")
    manifest["spec"]["replicsa"] = 3
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(manifest, VERSIONS[0])


@pytest.fixture
def guided(tmp_path):
    """The guide's example overlays, and what comes of one with more components."""
    guide = (DEPLOY / "README.md").read_text()
    up = os.path.relpath(DEPLOY.parent, tmp_path.resolve())
    examples = [
        yaml.safe_load(example.replace("textcam-service/deploy", f"{up}/deploy"))
        for example in re.findall(r"^ *```yaml\n(.*?)^ *```$", guide, re.DOTALL | re.MULTILINE)
    ]

    def build(composed, *components):
        more = [f"{up}/deploy/kubernetes/components/{component}" for component in components]
        composed = composed | {"components": [*composed["components"], *more]}
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(composed))
        return list(yaml.safe_load_all(built(tmp_path)))

    return examples, build


def test_the_guides_own_overlay_builds(guided):
    """The example with the GPU, every component, and a volume in place of the bundle's image."""
    (overlay, volume, _), build = guided
    found = build(overlay | volume, "mtls")
    for manifest in found:
        validate(manifest, VERSIONS[-1])
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
    pod = deployment["spec"]["template"]["spec"]
    assert (
        pod["containers"][0]["image"] == f"registry.example.com/textcam-service:{__version__}-gpu"
    )
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert not pod.get("initContainers")
    (models,) = (each for each in pod["volumes"] if each["name"] == "models")
    assert models == {
        "name": "models",
        "persistentVolumeClaim": {"claimName": "textcam-models", "readOnly": True},
    }
    (settings,) = (
        each for each in found if each["metadata"]["name"].startswith("textcam-settings")
    )
    assert settings["data"]["TEXTCAM_NAME"] == "photos"
    assert settings["data"]["TEXTCAM_BACKBONE"]


def test_the_guides_overlay_of_a_store_builds(guided):
    """With the components beside it: GPUs are the example's own matter."""
    (_, _, overlay), build = guided
    found = build(overlay, "mtls", "autoscaling")
    for manifest in found:
        validate(manifest, VERSIONS[-1])
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["startupProbe"]["grpc"]["port"] == 50052
    assert {each["name"] for each in pod["volumes"]} == {"cache", "tmp", "tls"}
    (settings,) = (
        each for each in found if each["metadata"]["name"].startswith("textcam-settings")
    )
    (given,) = overlay["configMapGenerator"][0]["literals"]
    assert given == f"TEXTCAM_STORE={settings['data']['TEXTCAM_STORE']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_container_may_do_more_than_it_must(overlay):
    pod = pod_of(overlay)
    assert pod["automountServiceAccountToken"] is False
    assert the("ServiceAccount", overlay)["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_requests_are_limits(overlay):
    """So that threads are sized by the quota, and no neighbour takes the memory."""
    for container in (*pod_of(overlay).get("initContainers", ()), server_of(overlay)):
        assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_memory_holds_the_worst_that_the_settings_let_in(overlay, settings_of):
    """By the sum in deploy/README.md, "Sizing"; what goes beyond it is OOMKilled."""
    limits, settings = server_of(overlay)["resources"]["limits"], settings_of(overlay)
    model = 280_000_000 * (2 + settings.store_keep if settings.store else 1)
    worker = model + 3 * settings.max_bytes_in_work
    thread = 30 * settings.max_image_pixels + 4 * settings.max_message_bytes
    # Each CPU has a decode thread, whoever's worker it is.
    threads = settings.decode_threads * settings.workers or int(limits["cpu"])
    worst = settings.workers * worker + threads * thread
    memory = int(limits["memory"].removesuffix("Gi")) * 2**30
    assert worst <= memory, f"{worst / 1e9:.1f} of {memory / 1e9:.1f} GB"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_environment_names_settings_of_the_server(overlay):
    known = set(ServerSettings.model_fields)
    for name in environment(overlay):
        assert name.removeprefix("TEXTCAM_").lower() in known, name
    # A Service called textcam would otherwise set TEXTCAM_PORT to "tcp://10.0.0.1:50051".
    assert pod_of(overlay)["enableServiceLinks"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_listens_where_it_is_looked_for(overlay, settings_of):
    settings = settings_of(overlay)
    assert settings.host == "0.0.0.0"
    listening = {"grpc": settings.port, "metrics": settings.metrics_port}
    # For the kubelet alone: no part of the Service.
    health = {"health": settings.health_port} if settings.health_port > 0 else {}
    ports = {p["name"]: p["containerPort"] for p in server_of(overlay)["ports"]}
    assert ports == listening | health
    service = the("Service", overlay)["spec"]
    assert {p["name"]: p["port"] for p in service["ports"]} == listening
    assert {p["targetPort"] for p in service["ports"]} == set(listening)
    rules = the("NetworkPolicy", overlay)["spec"]["ingress"]
    assert {p["port"] for rule in rules for p in rule["ports"]} == set(listening)
    (endpoint,) = the("ServiceMonitor", overlay)["spec"]["endpoints"]
    assert endpoint["port"] in listening


@pytest.mark.parametrize("overlay", BUNDLED)
def test_bundle_and_settings_agree_on_the_folders(overlay, settings_of):
    settings = settings_of(overlay)
    (bundle,) = pod_of(overlay)["initContainers"]
    (target,) = bundle["volumeMounts"]
    recipe = (DEPLOY / "container" / "bundle.Dockerfile").read_text()
    assert f'"{target["mountPath"]}"]' in recipe
    for folder in (settings.backbone, settings.bank):
        assert str(folder.parent) == target["mountPath"]
        assert f"/bundle/{folder.name}\n" in recipe
    (mount,) = (m for m in server_of(overlay)["volumeMounts"] if m["name"] == target["name"])
    assert mount["readOnly"]
    assert mount["mountPath"] == target["mountPath"]


def test_copies_of_a_store_have_a_volume_and_nothing_is_left_of_the_bundle(settings_of):
    """The root is read-only, and /tmp has no room for models."""
    settings, server, pod = settings_of("store"), server_of("store"), pod_of("store")
    assert settings.store
    mounts = {each["mountPath"]: each for each in server["volumeMounts"]}
    assert set(mounts) == {settings.store_cache, "/tmp"}
    assert not mounts[settings.store_cache].get("readOnly")
    assert not pod.get("initContainers")
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert set(volumes) == {each["name"] for each in mounts.values()}
    assert volumes[mounts[settings.store_cache]["name"]]["emptyDir"]["sizeLimit"]
    (credentials,) = (each["secretRef"] for each in server["envFrom"] if "secretRef" in each)
    assert credentials["optional"], "a pod may have rights of its own"


def test_a_store_that_is_away_is_waited_for():
    """Long enough for TextcamStoreUnseen, which each start puts off by five minutes."""
    startup = server_of("store")["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 3600


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "autoscaling", "store"])
def test_health_is_asked_over_grpc(overlay, settings_of):
    """Readiness by the service's name; loading and warm-up have minutes."""
    port, server = settings_of(overlay).port, server_of(overlay)
    assert server["startupProbe"]["grpc"] == {"port": port, "service": EXPLAINER}
    assert server["readinessProbe"]["grpc"] == {"port": port, "service": EXPLAINER}
    assert server["livenessProbe"]["grpc"] == {"port": port}
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


def test_engines_lie_on_a_volume_and_have_time_to_be_built(settings_of):
    """The root is read-only: where TensorRT writes, a volume must be."""
    server, cache = server_of("gpu"), settings_of("gpu").engine_cache
    (mount,) = (each for each in server["volumeMounts"] if each["mountPath"] == cache)
    assert not mount.get("readOnly")
    assert mount["name"] in {each["name"] for each in pod_of("gpu")["volumes"]}
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800
    others = {each["mountPath"] for each in server_of("cpu")["volumeMounts"]}
    assert {each["mountPath"] for each in server["volumeMounts"]} == {*others, cache}


def test_with_mtls_health_is_asked_without_a_certificate(settings_of):
    """On the port for it, in plaintext; and the certificates lie where the server looks."""
    port, server = settings_of("mtls").health_port, server_of("mtls")
    assert port > 0
    assert server["startupProbe"]["grpc"] == {"port": port, "service": EXPLAINER}
    assert server["readinessProbe"]["grpc"] == {"port": port, "service": EXPLAINER}
    assert server["livenessProbe"]["grpc"] == {"port": port}
    volumes = {each["name"]: each for each in pod_of("mtls")["volumes"]}
    (mount,) = (each for each in server["volumeMounts"] if "secret" in volumes[each["name"]])
    assert mount["readOnly"]
    for setting in ("tls_certificate", "tls_key", "tls_client_ca"):
        path = PurePosixPath(environment("mtls")[f"TEXTCAM_{setting.upper()}"])
        assert str(path.parent) == mount["mountPath"]
        # The names that a Secret of type kubernetes.io/tls and cert-manager's have.
        assert path.name in {"tls.crt", "tls.key", "ca.crt"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_drain(overlay, settings_of):
    """Server.stop gives the calls, and then the pipeline, the same grace."""
    pause = server_of(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = settings_of(overlay).drain_seconds
    assert pod_of(overlay)["terminationGracePeriodSeconds"] > pause + 2 * drain


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_means_the_same_pods(overlay):
    deployment = the("Deployment", overlay)["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    for selector in (
        deployment["selector"]["matchLabels"],
        the("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy", overlay)["spec"]["podSelector"]["matchLabels"],
        the("Service", overlay)["spec"]["selector"],
        *(each["labelSelector"]["matchLabels"] for each in spread),
    ):
        assert selector
        assert selector.items() <= labels
    watched = the("ServiceMonitor", overlay)["spec"]["selector"]["matchLabels"]
    assert watched.items() <= the("Service", overlay)["metadata"]["labels"].items()
    assert {each["topologyKey"] for each in spread} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_leaves_a_pod_and_only_named_peers_enter(overlay):
    """But to the store, and to ask for its name."""
    policy = the("NetworkPolicy", overlay)["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    leaving = {port["port"] for rule in policy.get("egress", ()) for port in rule["ports"]}
    assert leaving == ({53, 443} if overlay == "store" else set())
    assert all(rule["from"] for rule in policy["ingress"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clients_see_every_pod(overlay, settings_of):
    """Headless: the client takes turns among the addresses that DNS gives, and asks again."""
    assert the("Service", overlay)["spec"]["clusterIP"] == "None"
    assert 0 < settings_of(overlay).max_connection_age_s < 3600


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_node_may_be_drained_without_an_outage(overlay):
    budget = the("PodDisruptionBudget", overlay)["spec"]["maxUnavailable"]
    spec = the("Deployment", overlay)["spec"]
    replicas = spec.get("replicas") or the("ScaledObject", overlay)["spec"]["minReplicaCount"]
    assert replicas > budget
    assert replicas > spec["strategy"]["rollingUpdate"]["maxUnavailable"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_is_of_this_version(overlay):
    image = server_of(overlay)["image"]
    assert re.fullmatch(rf"textcam-service:{re.escape(__version__)}(-gpu)?", image)
    assert image.endswith("-gpu") == (overlay == "gpu")


def test_autoscaling_owns_the_number_of_replicas():
    assert "replicas" not in the("Deployment", "autoscaling")["spec"]
    scaled = the("ScaledObject", "autoscaling")["spec"]
    assert scaled["scaleTargetRef"]["name"] == the("Deployment", "autoscaling")["metadata"]["name"]
    # Figures of all replicas must not be divided by their number once more.
    assert [trigger["metricType"] for trigger in scaled["triggers"]] == ["Value"] * 2
