"""Description of an audit: audit.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.files import write_whole
from textcam_client.audit.records.schema import VERSION

NAME = "audit.json"


@dataclass(frozen=True)
class DataDescription:
    """Audited data set.

    Attributes:
        name: Path or URL, as given.
        rows: Number of rows.
        fingerprint: Digest of all row ids, labels and slices.
        masks: True if rows have masks.
        slices: Slice columns.
    """

    name: str
    rows: int
    fingerprint: str
    masks: bool
    slices: Sequence[str]


@dataclass(frozen=True)
class ModelDescription:
    """Audited model; the attributes are those of Model and Provenance."""

    name: str
    version: str
    backbone_digest: str
    bank_digest: str
    vocabulary_digest: str
    architecture: str
    target_layer: str
    class_names: Sequence[str] = field(repr=False)
    vocabulary: Sequence[str] = field(repr=False)
    channel_phrases: Sequence[int] = field(repr=False)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True)
class Description:
    """Audit without its records.

    Attributes:
        data: The data set.
        model: The model.
        settings: Those that change records: "floor", "method" ...
        provenances: Origins of the answers, in order of appearance; records name their place.
        summary: AuditSummary as JSON; None: not computed yet.
    """

    data: DataDescription
    model: ModelDescription
    settings: Mapping[str, Any]
    provenances: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] | None = None


def write_description(path: Path, description: Description) -> None:
    """Write a description; raises OSError."""
    content = {"schema": VERSION, **asdict(description)}
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def finished_description(folder: Path) -> Description:
    """Read the description of a finished audit, given its folder.

    Raises:
        OutputRefused: There is none, or it is damaged, or of another schema.
    """
    try:
        return read_description(folder / NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OutputRefused(
            f"{folder} holds no finished audit: it has no {NAME}; run `textcam audit` into it"
        ) from error


def read_description(path: Path) -> Description:
    """Read a description.

    Raises:
        FileNotFoundError: There is none.
        OutputRefused: It is damaged, or of another schema.
    """
    try:
        content = json.loads(path.read_bytes())
        schema = content.pop("schema")
        if schema != VERSION:
            raise OutputRefused(
                f"{path} has the schema {schema!r}, and this version of textcam reads {VERSION!r}: "
                "use the version that wrote it, or audit into another folder"
            )
        known = {one.name for one in fields(Description)} - {"data", "model"}
        return Description(
            DataDescription(**content["data"]),
            ModelDescription(**content["model"]),
            **{name: value for name, value in content.items() if name in known},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputRefused(
            f"{path} is damaged ({error}): delete the folder {path.parent} and audit again"
        ) from error
