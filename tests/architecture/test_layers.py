"""Import orders: rooms import from rooms to their left alone, and never in a circle."""

from itertools import chain
from pathlib import Path

import pytest
from source_tree import circles, import_graph, modules, room_graph

ROOT = Path(__file__).parents[2]
SERVICE, CLIENT = ROOT / "service" / "textcam_service", ROOT / "client" / "textcam_client"
PACKAGES = [SERVICE, CLIENT]

# For each package its rooms (modules and folders), lowest layer first. A room may import what
# stands in a line above its own; rooms of one line do not know each other.
LAYERS = {
    "textcam_service": """
        version errors
        core
        imaging artefacts scenes
        runtime
        model
        store settings
        serving offline
        cli
    """,
    "textcam_service.core": """
        types
        vectors interpolation maps probability vertices heatmap preprocess
        cam predictions agreement
        methods concepts
        rationale
    """,
    "textcam_service.serving": """
        telemetry status memory batching pagination
        engine auth admission
        registry
        dataplane
        grpc
        server
        process
        workers
    """,
    "textcam_service.offline": """
        dataset networks chunks threads
        cache
        export
        embedders
        banks
        evaluation
        quantization scene_training
    """,
    "textcam_client": """
        errors _arrays _image_files
        images _transport
        _heatmaps retry
        masks types model options
        result
        _convert wording figure_sheet
        figure
        _streaming
        _base
        client aio
        audit video testing
    """,
}

# Imports against the order that stand until they are mended; "importer > imported".
EXCEPTIONS: set[str] = set()

SETTINGS_IMPORT = {"textcam_service.errors", "textcam_service.artefacts.packaged"}

# Circles that stand until they are opened; "package: members".
CIRCLES: set[str] = set()


def layers(package):
    return [line.split() for line in LAYERS[package].strip().splitlines()]


def graph_of(package):
    (folder,) = (path for path in PACKAGES if path.name == package.split(".")[0])
    return import_graph(modules(folder))


def wrong_imports(package):
    """Modules' imports that go sideways or up between the package's rooms."""
    height = {room: place for place, line in enumerate(layers(package)) for room in line}
    for importer, targets in graph_of(package).items():
        for target in targets:
            names = importer, target
            if not all(name.startswith(f"{package}.") for name in names):
                continue
            own, other = (name[len(package) + 1 :].split(".")[0] for name in names)
            if own != other and height.get(own, 0) <= height.get(other, 0):
                yield f"{importer} > {target}"


@pytest.mark.parametrize("package", LAYERS)
def test_every_room_has_its_layer(package):
    rooms = {name.rpartition(".")[2] for name in room_graph(graph_of(package), package)}
    unknown = rooms - set(chain.from_iterable(layers(package)))
    assert not unknown, f"{package}: give {sorted(unknown)} a layer in LAYERS, as low as it can be"


@pytest.mark.parametrize("package", LAYERS)
def test_rooms_import_lower_layers_alone(package):
    wrong = set(wrong_imports(package)) - EXCEPTIONS
    assert not wrong, (
        f"against the order of {package}; move what is shared to a lower room, or hand it in as an "
        "argument:\n  " + "\n  ".join(sorted(wrong))
    )


def test_no_exception_outlives_its_import():
    found = set(chain.from_iterable(map(wrong_imports, LAYERS)))
    assert not EXCEPTIONS - found, f"remove from EXCEPTIONS: {sorted(EXCEPTIONS - found)}"


def all_circles():
    """Circles of modules, and of rooms at each level."""
    for folder in PACKAGES:
        known = modules(folder)
        graph = import_graph(known)
        yield from circles(graph)
        for name, module in known.items():
            if module.is_package:
                yield from circles(room_graph(graph, name))


def shown(circle):
    """Members of a circle within the package that holds them all: "package: a b"."""
    parts = [name.split(".") for name in circle]
    shared = next(place for place, same in enumerate(zip(*parts, strict=False)) if len({*same}) > 1)
    return ": ".join(
        [".".join(parts[0][:shared]), " ".join(".".join(own[shared:]) for own in parts)]
    )


def test_neither_modules_nor_folders_import_each_other_in_a_circle():
    found = {shown(circle) for circle in all_circles()}
    new = found - CIRCLES
    assert not new, "circles; move what both need to a module below both:\n  " + "\n  ".join(
        sorted(new)
    )
    assert not CIRCLES - found, f"remove from CIRCLES: {sorted(CIRCLES - found)}"


def test_settings_import_errors_and_paths_alone():
    found = graph_of("textcam_service")["textcam_service.settings"] - SETTINGS_IMPORT
    assert not found, (
        f"settings import {sorted(found)}; state choices as literals there, and let the callers "
        "build what belongs to other rooms"
    )
