"""Names: one public class for one name, and unit tests that mirror the packages."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from source_tree import listed, modules

ROOT = Path(__file__).parents[2]
SERVICE, CLIENT = ROOT / "service" / "textcam_service", ROOT / "client" / "textcam_client"
UNIT = ROOT / "tests" / "unit"

# Public class names that two modules of the service may share, each with its reason.
SHARED_NAMES = {}

# Modules that no unit test mirrors; this list only shrinks.
UNTESTED = listed(Path(__file__).with_name("untested.txt"))

# Test files of the mirror whose name is no module's.
ASTRAY = {
    "tests/unit/client/test_api.py",
}


def test_a_public_class_name_is_given_once_in_the_service():
    found = defaultdict(list)
    for name, module in modules(SERVICE).items():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    twice = {name: homes for name, homes in found.items() if len(homes) > 1}
    new = [f"{name}: {', '.join(twice[name])}" for name in twice if name not in SHARED_NAMES]
    assert not new, "\n  ".join(["one name for two things; give each its own:", *new])
    assert not set(SHARED_NAMES) - set(twice), sorted(set(SHARED_NAMES) - set(twice))


def mirrored(package):
    """Test files of a package's mirror, each with the module that it names, if there is one."""
    label = package.name.removeprefix("textcam_")
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    for path in sorted((UNIT / label).rglob("test_*.py")):
        place = path.relative_to(UNIT / label)
        words = place.stem.removeprefix("test_").split("_")
        names = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
        found = [
            candidate
            for name in names
            for prefix in ("", "_")
            if (candidate := (place.parent / f"{prefix}{name}.py").as_posix()) in files
        ]
        yield path.relative_to(ROOT).as_posix(), f"{package.name}/{found[0]}" if found else None


@pytest.mark.parametrize("package", [SERVICE, CLIENT], ids=["service", "client"])
def test_unit_tests_lie_where_their_module_lies(package):
    astray = {test for test, module in mirrored(package) if module is None}
    known = {test for test in ASTRAY if f"/{package.name.removeprefix('textcam_')}/" in test}
    assert not astray - known, (
        "name each test_<module>.py or test_<module>_<subject>.py as the module that it tests:\n  "
        + "\n  ".join(sorted(astray - known))
    )
    assert not known - astray, f"remove from ASTRAY: {sorted(known - astray)}"


@pytest.mark.parametrize("package", [SERVICE, CLIENT], ids=["service", "client"])
def test_modules_have_unit_tests(package):
    tested = {module for _, module in mirrored(package)}
    untested = {
        f"{package.name}/{module.path.relative_to(package).as_posix()}"
        for module in modules(package).values()
        if not module.is_package
    } - tested
    known = {module for module in UNTESTED if module.startswith(f"{package.name}/")}
    new = [
        f"tests/unit/{module.removeprefix('textcam_').rpartition('/')[0]}/"
        f"test_{Path(module).name.lstrip('_')}"
        for module in sorted(untested - known)
    ]
    assert not new, "\n  ".join(["write these:", *new])
    assert not known - untested, f"remove from UNTESTED: {sorted(known - untested)}"
