"""Third-party packages and private modules: each is imported in its own rooms alone."""

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from source_tree import imported, modules

ROOT = Path(__file__).parents[2]
SERVICE, CLIENT = ROOT / "service" / "textcam_service", ROOT / "client" / "textcam_client"
SCRIPTS = [ROOT / name for name in ("tools", "examples", "deploy")]

TORCH_ROOMS = [
    "textcam_service.offline.networks*",
    "textcam_service.offline.export*",
    "textcam_service.offline.embedders*",
    "textcam_service.offline.scene_training",
]
WIRE_ROOMS = ["textcam_service.serving.grpc*"]

# Group: the packages, where they may be imported, and where not although the pattern fits.
RESTRICTED = {
    "torch": (
        {"torch", "torchvision", "open_clip", "timm", "sentence_transformers", "transformers"},
        TORCH_ROOMS,
        {"textcam_service.offline.embedders.base"},
        "take arrays there, and let the caller run the network",
    ),
    "onnx": (
        {"onnx", "onnxscript"},
        [
            *TORCH_ROOMS,
            "textcam_service.offline.quantization",
            "textcam_service.offline.evaluation.faithfulness",
        ],
        set(),
        "read and write graphs in offline/export",
    ),
    "onnxruntime": (
        {"onnxruntime"},
        ["textcam_service.runtime*", "textcam_service.offline*"],
        set(),
        "run graphs through runtime.backbone",
    ),
    "OpenVINO": (
        {"openvino"},
        ["textcam_service.runtime.openvino_session"],
        set(),
        "it is an extra: run graphs through runtime.backbone",
    ),
    "stubs": (
        {"textcam"},
        WIRE_ROOMS,
        set(),
        "convert messages in serving/grpc; pass jobs and results of serving/engine",
    ),
    "gRPC": (
        {"grpc", "grpc_health", "grpc_status", "grpc_reflection", "google"},
        [
            *WIRE_ROOMS,
            "textcam_service.serving.server",
            "textcam_service.serving.status",
            "textcam_service.serving.auth.tls",
        ],
        set(),
        "hand in names of codes and methods as text",
    ),
}

# Imports outside their rooms that stand until they are mended; "group: module".
EXCEPTIONS: set[str] = set()

CORE = {
    "numpy",
    "textcam_service.core",
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "typing",
}
CLIENT_PACKAGES = {
    *("textcam", "textcam_client", "numpy", "PIL"),
    *("grpc", "grpc_health", "grpc_status", "google"),
}
TYPING = {"typing_extensions"}
# The extra `audit`, in textcam_client.audit alone.
AUDIT_PACKAGES = {
    *("pyarrow", "scipy", "statsmodels", "jinja2", "fsspec", "tqdm", "tomllib", "tomli"),
    "markupsafe",
}
# The server draws heatmaps in the client's colours.
CLIENT_IN_SERVICE = {
    "textcam_service.serving.grpc.explainer.heatmaps",
    "textcam_service.serving.grpc.explainer.responses",
}
# Private packages of the client that are imported from outside it; "importer > imported".
PRIVATE = {
    "textcam_service.serving.grpc.explainer.heatmaps > textcam_client._heatmaps",
    "textcam_service.serving.grpc.explainer.responses > textcam_client._heatmaps",
}


def misplaced():
    for group, (packages, rooms, without, mend) in RESTRICTED.items():
        for name, module in modules(SERVICE).items():
            here = any(fnmatch(name, room) for room in rooms) and name not in without
            found = packages & {target.split(".")[0] for target in imported(module)}
            if found and not here:
                yield f"{group}: {name}", f"{name} imports {', '.join(sorted(found))}; {mend}"


def test_packages_are_imported_in_their_rooms_alone():
    found = dict(misplaced())
    new = [text for key, text in found.items() if key not in EXCEPTIONS]
    assert not new, "\n  ".join(["imports outside their rooms:", *new])
    assert not EXCEPTIONS - set(found), f"remove: {sorted(EXCEPTIONS - set(found))}"


def test_core_imports_numpy_and_itself_alone():
    for name, module in modules(SERVICE / "core").items():
        for target in imported(module):
            roots = {target.split(".")[0], ".".join(target.split(".")[:2])}
            assert roots & CORE, (
                f"{name} imports {target}: core is arrays in, arrays out; read clocks, files and "
                "settings in the caller"
            )


def test_the_client_imports_its_own_packages_and_never_the_service():
    for name, module in modules(CLIENT).items():
        audits = AUDIT_PACKAGES if name.startswith("textcam_client.audit") else set()
        for target in imported(module):
            root = target.split(".")[0]
            known = root in CLIENT_PACKAGES | audits or root in TYPING | sys.stdlib_module_names
            assert known, f"{name} imports {target}: the client needs gRPC, numpy and Pillow alone"


def test_the_server_imports_the_client_for_its_colours_alone():
    for name, module in modules(SERVICE).items():
        found = {target for target in imported(module) if target.startswith("textcam_client")}
        allowed = name in CLIENT_IN_SERVICE or name.startswith("textcam_service.cli")
        assert not found or allowed, f"{name} imports {sorted(found)}; cli alone may"


def private_imports():
    """Imports of `_modules` of the client from outside the package that they lie in."""
    scripts = [module for path in SCRIPTS if path.is_dir() for module in modules(path).values()]
    for module in (*modules(SERVICE).values(), *modules(CLIENT).values(), *scripts):
        for target in imported(module):
            parts = target.split(".")
            hidden = [place for place, part in enumerate(parts) if part.startswith("_")]
            if parts[0] != "textcam_client" or not hidden or parts[hidden[0]].startswith("__"):
                continue
            owner = ".".join(parts[: hidden[0]])
            if not f"{module.name}.".startswith(f"{owner}."):
                yield f"{module.name} > {owner}.{parts[hidden[0]]}"


def test_private_modules_of_the_client_are_imported_by_their_siblings_alone():
    found = set(private_imports())
    assert not found - PRIVATE, (
        "private to the client; export what is needed from a public module:\n  "
        + "\n  ".join(sorted(found - PRIVATE))
    )
    assert not PRIVATE - found, f"remove from PRIVATE: {sorted(PRIVATE - found)}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("textcam_service.serving.server", ["torch", "torchvision", "open_clip"]),
        ("textcam_client", ["torch", "onnxruntime", "textcam_service"]),
        ("textcam_service.cli", ["torch", "onnxruntime", "pydantic"]),
    ],
)
def test_importing_leaves_the_heavy_packages_out(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
