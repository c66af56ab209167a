"""Files of a model bundle: a backbone folder and a bank folder, under one version."""

from __future__ import annotations

from pathlib import Path

from textcam_service.artefacts.bank import FILES


def bundle_files(backbone: Path, bank: Path) -> dict[str, Path]:
    """List the files of a bundle in two folders, by their paths in a store."""
    network = {
        f"backbone/{path.name}": path
        for path in sorted(backbone.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }
    return network | {f"bank/{file}": bank / file for file in FILES}
