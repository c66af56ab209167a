"""Settings that would fail later with a raw error are refused at once, with their mend."""

import asyncio
import logging

import grpc
import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.serving.grpc.listening import channel_options
from textcam_service.settings import read_settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_connection_age_s": "inf"}, "max_connection_age_s: .* less than or equal to 2147483"),
        ({"max_connection_age_s": 2147484}, "max_connection_age_s: .* 2147483"),
        (
            {"max_message_bytes": 2**31, "max_bytes_in_work": 2**34},
            "max_message_bytes: .* less than or equal to 2147483647",
        ),
        ({"drain_seconds": "inf"}, "drain_seconds: .* finite"),
        ({"log_level": "chatty"}, "log_level: .* 'DEBUG', 'INFO', 'WARNING', 'ERROR' or"),
    ],
)
def test_what_would_fail_later_is_refused_with_what_is_taken(given, words):
    with pytest.raises(InvalidSettings, match=words):
        read_settings(given)


async def test_grpc_takes_the_largest_that_are_allowed():
    most = {"max_message_bytes": 2**31 - 1, "max_bytes_in_work": 2**34}
    settings = read_settings({"max_connection_age_s": 2147483, **most})
    server = grpc.aio.server(options=channel_options(settings, settings.max_message_bytes))
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.wait_for(server.stop(0), 10)


def test_a_log_level_is_a_word_in_either_case():
    level = read_settings({"log_level": "warning"}).log_level
    assert logging.getLevelName(level) == logging.WARNING


@pytest.mark.parametrize(
    ("host", "address"),
    [("::1", "[::1]:7"), ("[::1]", "[::1]:7"), ("0.0.0.0", "0.0.0.0:7"), ("host.a", "host.a:7")],
)
def test_an_ipv6_host_has_brackets_in_an_address_and_none_by_itself(host, address):
    settings = read_settings({"host": host})
    assert settings.address(7) == address
    assert "[" not in settings.host


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"max_bacth = 3",
            r"in the settings file .*own\.toml, max_bacth is no setting, near it: m",
        ),
        (b"max_batch = ", r"the settings file .*own\.toml is no TOML in UTF-8: Invalid value"),
        ("name = 'größe'".encode("latin-1"), r"own\.toml is no TOML in UTF-8: .* can't decode"),
    ],
)
def test_a_settings_file_at_fault_is_named(content, words, tmp_path, monkeypatch):
    file = tmp_path / "own.toml"
    file.write_bytes(content)
    monkeypatch.setenv("TEXTCAM_CONFIG", str(file))
    with pytest.raises(InvalidSettings, match=words):
        read_settings({})


def test_a_folder_is_no_settings_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTCAM_CONFIG", "")
    with pytest.raises(InvalidSettings, match="is a folder"):
        read_settings({}, tmp_path)
