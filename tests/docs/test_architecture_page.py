"""docs/architecture.md describes the tree that is there."""

import re

from pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
SERVICE = ROOT / "service" / "textcam_service"
PACKAGES = ("service/textcam_service", "client/textcam_client")


def described(package):
    section = PAGE.split(f"### {package}\n")[1].split("\n### ")[0].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE))


def folders(package):
    """The folders below a package that hold modules; data is none."""
    root = ROOT / package
    found = {path.parent.relative_to(root).as_posix() for path in root.rglob("*.py")}
    return {name for name in found if name != "." and name.split("/")[0] != "data"}


def test_every_folder_has_its_line_and_every_line_its_folder():
    for package in PACKAGES:
        assert described(package) == folders(package), (
            f"mend the table of {package} in docs/architecture.md"
        )


def test_paths_that_the_page_names_are_there():
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE)) | set(re.findall(r"`([\w/]+/)`", PAGE))
    # Of the repository, of the service, or of its serving half.
    roots = (ROOT, SERVICE, SERVICE / "serving", ROOT / "client" / "textcam_client")
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


def test_the_picture_names_folders_that_are_there():
    picture = (ROOT / "docs" / "request.svg").read_text()
    for label in re.findall(r'class="path"[^>]*>([^<]+)<', picture):
        first, *others = label.split(", ")
        folder = first.rsplit("/", 1)[0] if others and "/" in first else ""
        for name in (first, *others):
            places = (name, f"{folder}/{name}")
            assert any((ROOT / "service/textcam_service" / place).exists() for place in places), (
                name
            )
