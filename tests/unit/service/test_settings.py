"""Settings that would fail later with a raw error are refused at once, with their mend."""

import logging

import pytest
from textcam_service.errors import InvalidSettings
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
            r"in the settings file .*own\.toml, max_bacth is not a setting; did you mean m",
        ),
        (b"max_batch = ", r"the settings file .*own\.toml is not TOML in UTF-8: Invalid value"),
        ("name = 'größe'".encode("latin-1"), r"own\.toml is not TOML in UTF-8: .* can't decode"),
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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tls_certificate": "a"}, "tls_certificate, tls_key go together"),
        ({"tls_client_ca": "a"}, "tls_client_ca needs tls_certificate"),
        ({"jwt_keys": "a", "jwt_issuer": "b"}, "jwt_audience go together"),
    ],
)
def test_settings_that_would_leave_a_gap_are_refused(flags, said):
    with pytest.raises(InvalidSettings, match=said):
        read_settings(flags)
