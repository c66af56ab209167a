"""Files that are read again: whatever their parser raises, the old ones stay and it is told."""

import asyncio
import logging
import time

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.serving.auth import reloading
from textcam_service.serving.auth.reloading import ReloadingFiles, watch


class Oddity(Exception):
    """As a library raises it, which says that it raises ValueError alone."""


class Told(list):
    def on_reload(self, what, read):
        self.append((what, read))


def parse(content):
    if content.startswith(b"odd"):
        raise Oddity(content)
    return content


async def test_the_watch_outlives_what_a_parser_raises(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(reloading, "_POLL_EVERY_S", 0.01)
    file, told = tmp_path / "key", Told()
    file.write_bytes(b"old")
    reloaded = ReloadingFiles("key", [file], parse, told)
    watching = asyncio.create_task(watch(reloaded.poll))
    with caplog.at_level(logging.ERROR):
        for content, expected in ((b"odd secret", ("key", False)), (b"new", ("key", True))):
            file.write_bytes(content)
            end = time.monotonic() + 30
            while expected not in told:
                assert not watching.done(), watching
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
    watching.cancel()
    assert reloaded.get() == b"new"
    assert told[0] == ("key", False)
    (line,) = [
        record.getMessage() for record in caplog.records if "old one stays" in record.message
    ]
    assert "Oddity" in line
    assert "secret" not in line


def test_what_cannot_be_parsed_to_begin_with_is_a_setting_that_is_not_valid(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"odd secret")
    with pytest.raises(InvalidSettings, match=r"the key is not usable: .* \(Oddity\)$"):
        ReloadingFiles("key", [file], parse, Told())


def test_a_file_is_read_again_by_its_content_and_looked_at_once_a_second(tmp_path, monkeypatch):
    now, told, path = [0.0], Told(), tmp_path / "file"
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    path.write_text("1")
    number = ReloadingFiles("number", [path], int, told)
    path.write_text("2")
    assert number.get() == 1
    for written, expected, heard in [
        ("2", 2, [True]),
        ("2", 2, [True]),
        ("x", 2, [True, False]),
        ("x", 2, [True, False]),
        (None, 2, [True, False, False]),
        ("2", 2, [True, False, False, True]),
        ("3", 3, [True, False, False, True, True]),
    ]:
        now[0] += 1.1
        path.write_text(written) if written else path.unlink()
        assert number.get() == expected
        assert [read for _, read in told] == heard


def test_a_file_that_is_broken_to_begin_with_stops_the_start(tmp_path):
    with pytest.raises(InvalidSettings, match="the number is not usable"):
        ReloadingFiles("number", [tmp_path / "absent"], int, Told())
