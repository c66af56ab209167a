"""Maps of a run's examples, which are asked for once the findings are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from textcam_client.audit.datasets.dataset import DataSet
from textcam_client.audit.records.description import Description
from textcam_client.audit.records.maps import ExampleMap, MapsDamaged, read_maps, write_maps
from textcam_client.audit.records.reading import record_batches
from textcam_client.audit.run.progress import Progress, Silent
from textcam_client.audit.run.server import is_away
from textcam_client.audit.run.settings import AuditSettings
from textcam_client.client import Client
from textcam_client.options import Targeted
from textcam_client.result import ExplainResult


class Examples:
    """Maps of single rows, from the file of the audit or from the server.

    Args:
        client: Client of the server.
        data: The data set.
        folder: Output folder of the finished run.
        description: Its description.
        settings: Its settings.
        progress: Shows sentences; None: nothing does.
    """

    def __init__(
        self,
        client: Client,
        data: DataSet,
        folder: Path,
        description: Description,
        settings: AuditSettings,
        progress: Progress | None = None,
    ) -> None:
        self._client = client
        self._data = data
        self._folder = folder
        self._model = description.model
        self._settings = settings
        self._progress = progress or Silent()

    def maps(self, indices: Sequence[int]) -> Mapping[int, Sequence[ExampleMap]]:
        """Return the maps of rows by index, without those that the server does not give.

        Raises:
            CallError: The server is away.
            OSError: The maps cannot be written.
        """
        found: dict[int, list[ExampleMap]] = {}
        try:
            found = read_maps(self._folder, indices)
        except MapsDamaged as error:
            self._progress.note(f"{error}: asking for the maps again")
        missing = set(indices) - set(found)
        if missing:
            found.update(self._asked(missing))
            write_maps(self._folder, found)
            left = len(missing - set(found))
            if left:
                self._progress.note(
                    f"{left} images have no maps in the report: they failed or changed since, or "
                    f"the server does not explain them with {self._model.title}"
                )
        return found

    def _asked(self, indices: set[int]) -> dict[int, list[ExampleMap]]:
        asked: list[int] = []
        found: dict[int, list[ExampleMap]] = {}
        with self._client.explain_many(
            self._images(indices, asked),
            on_error="return",
            concurrency=self._settings.concurrency,
            model=self._model.name,
            version=self._model.version,
            method=self._settings.method,
            lane="audit",
            timeout=self._settings.timeout_s,
        ) as outcomes:
            for place, outcome in enumerate(outcomes):
                if isinstance(outcome, ExplainResult):
                    found[asked[place]] = list(_maps_of(outcome))
                elif is_away(outcome):
                    raise outcome
        return found

    def _images(self, indices: set[int], asked: list[int]) -> Iterator[Targeted]:
        """Yield the answered images that are still the audited ones."""
        targets = self._targets(indices)
        for row in self._data.rows():
            if not targets:
                return
            digest, target = targets.pop(row.index, ("", -1))
            if target < 0:
                continue
            try:
                content = row.read()
            except OSError:
                continue
            if digest == f"sha256:{hashlib.sha256(content).hexdigest()}":
                asked.append(row.index)
                yield Targeted(content, [target])

    def _targets(self, indices: set[int]) -> dict[int, tuple[str, int]]:
        """Return the digest and the explained class of rows by index."""
        columns = ["index", "content_digest", "target_index"]
        return {
            row["index"]: (row["content_digest"], row["target_index"])
            for batch in record_batches(self._folder, columns)
            for row in batch.to_pylist()
            if row["index"] in indices
        }


def _maps_of(result: ExplainResult) -> Iterator[ExampleMap]:
    whole = result.saliency_map
    if whole is not None:
        yield ExampleMap("", whole)
    for group in result.groups:
        if group.phrase is not None and group.saliency_map is not None:
            yield ExampleMap(group.phrase.text, group.saliency_map)
