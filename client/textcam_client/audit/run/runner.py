"""Run of an audit: from a data set to the files of its records."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

from textcam_client.audit.datasets.dataset import DataSet, in_words
from textcam_client.audit.datasets.survey import survey
from textcam_client.audit.errors import AuditStopped, OutputRefused
from textcam_client.audit.records.description import (
    DataDescription,
    Description,
    ModelDescription,
)
from textcam_client.audit.records.writer import write_records
from textcam_client.audit.run.asking import Asking
from textcam_client.audit.run.log import RecordLog
from textcam_client.audit.run.output import OutputFolder, require_apart, require_same
from textcam_client.audit.run.progress import Progress, Silent
from textcam_client.audit.run.server import RESUME, Server
from textcam_client.audit.run.settings import AuditSettings
from textcam_client.client import Client
from textcam_client.errors import NotFound

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_audit(
    client: Client,
    data: DataSet,
    output: Path | str,
    settings: AuditSettings | None = None,
    progress: Progress | None = None,
) -> Description:
    """Ask for every image of a data set, and write the records.

    A run that was ended by anything goes on where it was; a finished one is not run again.

    Args:
        client: Client of the server.
        data: The data set.
        output: Folder for the files.
        settings: Settings of the run.
        progress: Display of its progress; None: none.

    Returns:
        The audit's description, which is in audit.json as well.

    Raises:
        DataSetError: The data set is empty, or two rows have the same id.
        OutputRefused: The folder is in use, holds something else, or lies in the data set.
        AuditStopped: The run cannot go on; the same call resumes it.
        CallError: The server cannot be reached at the start, or refuses.
        OSError: A file cannot be read or written.
    """
    folder = OutputFolder(Path(output))
    display = progress or Silent()
    try:
        require_apart(folder.path, data.name)
        with folder.locked():
            return _Run(client, data, folder, settings or AuditSettings(), display).run()
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise AuditStopped(
            f"there is no space left to write {folder.path} ({error.strerror}): free some; {RESUME}"
        ) from error
    except KeyboardInterrupt:
        raise AuditStopped(f"interrupted; {RESUME}") from None
    finally:
        display.close()


class _Run:
    """Steps of one run, in a locked folder."""

    def __init__(
        self,
        client: Client,
        data: DataSet,
        folder: OutputFolder,
        settings: AuditSettings,
        progress: Progress,
    ) -> None:
        self._client = client
        self._data = data
        self._folder = folder
        self._settings = settings
        self._progress = progress
        self._server = Server(client, settings.patience_s, progress)

    def run(self) -> Description:
        """Run what is left of the audit."""
        found = survey(self._data)
        finished, begun = self._folder.finished(), self._folder.begun()
        described = Description(
            DataDescription(
                in_words(self._data.name),
                found.rows,
                found.fingerprint,
                found.masks,
                found.slices,
            ),
            self._finished_model(finished) if finished else self._model(begun),
            self._settings.of_records(),
        )
        earlier = finished or begun
        if earlier is not None:
            require_same(self._folder.path, earlier, described)
        if finished is not None:
            self._folder.clean()
            return finished
        if begun is None:
            self._folder.begin(described)
        log = self._asked(earlier or described)
        return self._written(log, earlier or described)

    def _model(self, begun: Description | None) -> ModelDescription:
        """Return the model to ask: that of the audit that was begun, if there is one."""
        name, version = self._settings.model, self._settings.version
        if begun is None:
            return self._server.describe(name, version)
        try:
            return self._server.describe(name or begun.model.name, version or begun.model.version)
        except NotFound as error:
            raise AuditStopped(
                f"{self._folder.path} holds an unfinished audit of {begun.model.title}, which the "
                f"server does not serve ({error}): serve it again, or choose another folder"
            ) from error

    def _finished_model(self, finished: Description) -> ModelDescription:
        """Return the model of the settings; a finished audit's own need not be served any more."""
        named, own = self._settings, finished.model
        try:
            return self._server.describe(named.model, named.version)
        except NotFound:
            if named.version != own.version or named.model not in {None, own.name}:
                raise
            self._progress.note(f"the server does not serve {own.title}; its records are evaluated")
            return own

    def _asked(self, description: Description) -> RecordLog:
        """Ask for the rows that are not in the log yet."""
        log = RecordLog(
            self._folder.segments,
            description.data.slices,
            description.model.class_names,
            self._settings.segment_rows,
        )
        self._progress.start(description.data.rows, log.safe)
        asking = Asking(
            self._client, self._server, description.model, log, self._settings, self._progress
        )
        rows = islice(self._data.rows(), log.next_index, None)
        try:
            asking.run(rows, masks=description.data.masks)
        finally:
            log.flush()
        if log.safe != description.data.rows:
            raise OutputRefused(
                f"the data set had {description.data.rows} rows at the start and has {log.safe} "
                "now: audit data that nothing changes meanwhile, into another folder"
            )
        return log

    def _written(self, log: RecordLog, description: Description) -> Description:
        """Write the audit's files from the log."""
        self._progress.note(f"writing {self._folder.path}")
        write_records(log.tables(), description.data.slices, self._folder.path)
        origins = [json.loads(one) for one in log.provenances]
        finished = replace(description, provenances=origins)
        self._folder.finish(finished)
        self._folder.clean()
        return finished
