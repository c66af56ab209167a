"""`textcam explain` against a server that wants certificates and tokens."""

import json
import os
import subprocess

import pytest
from authority import Authority
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from known import entry, write_callers
from processes import TEXTCAM, running

TOKEN = "textcam_" + "Qw7" * 15


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A server's files, and those of a caller; some of them broken."""
    folder, authority = tmp_path_factory.mktemp("files"), Authority("test authority")
    authority.pair("server").write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "other.crt").write_bytes(Authority("another").certificate)
    caller = authority.pair("caller")
    (folder / "caller.crt").write_bytes(caller.certificate)
    (folder / "caller.key").write_bytes(caller.key)
    (folder / "locked.key").write_bytes(
        load_pem_private_key(caller.key, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"phrase")
        )
    )
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "wrong").write_text(TOKEN[:-1] + "\n")
    (folder / "lines").write_text(f"{TOKEN}\n{TOKEN}\n")
    (folder / "empty").write_text("\n")
    write_callers(folder / "callers.json", [entry("known", TOKEN)])
    return folder


@pytest.fixture(scope="module")
def mutual(backbone_folder, files):
    """Certificates both ways, and a token."""
    flags = {"tls-certificate": "tls.crt", "tls-key": "tls.key", "tls-client-ca": "ca.crt"}
    given = {**flags, "callers": "callers.json"}.items()
    with running(*(part for flag, name in given for part in (f"--{flag}", files / name))) as server:
        yield server


def explain(server, files, photo, flags, **environment):
    """Run the command; in `flags` names of files stand for their paths."""
    given = [str(files / word) if (files / word).exists() else word for word in flags.split()]
    command = [TEXTCAM, "explain", str(photo), "--server", server, "--json", "--timeout", "20"]
    return subprocess.run(
        [*command, *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


SHOWN = "--ca ca.crt --certificate caller.crt --key caller.key"


@pytest.mark.parametrize("given", ["--token-file token", "variable", "--token-file token wins"])
def test_a_caller_with_certificate_and_token_is_answered(given, mutual, files, photos):
    environment = {"TEXTCAM_TOKEN": TOKEN} if given == "variable" else {}
    if given.endswith("wins"):
        environment = {"TEXTCAM_TOKEN": TOKEN[:-1]}
    flags = "" if given == "variable" else "--token-file token"
    done = explain(mutual.address, files, photos[0], f"{SHOWN} {flags}", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["predictions"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (SHOWN, "the call has no credentials"),
        (f"{SHOWN} --token-file wrong", "belongs to no caller of this server"),
        ("--ca other.crt --certificate caller.crt --key caller.key", "CERTIFICATE_VERIFY_FAILED"),
        ("--tls", "CERTIFICATE_VERIFY_FAILED"),
        ("--ca ca.crt --token-file token", "UNAVAILABLE"),
        ("--token-file token", "UNAVAILABLE"),
    ],
)
def test_who_shows_less_or_another_is_refused_with_the_reason(flags, said, mutual, files, photos):
    done = explain(mutual.address, files, photos[0], f"{flags} --timeout 4")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN[:-1] not in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--ca nowhere", "'nowhere' does not exist"),
        ("--ca token", "token holds no PEM certificate"),
        ("--certificate caller.crt", "--certificate and --key go together"),
        ("--key caller.key", "--certificate and --key go together"),
        ("--certificate caller.crt --key tls.key", "tls.key are not a PEM certificate and its"),
        ("--certificate caller.crt --key locked.key", "without a passphrase"),
        ("--certificate token --key caller.key", "are not a PEM certificate"),
        ("--token-file empty", "empty holds no token"),
        ("--token-file lines", "lines holds no token"),
        ("--token-file nowhere", "'nowhere' does not exist"),
    ],
)
def test_files_that_are_none_are_found_before_anything_is_sent(flags, said, files, photos):
    done = explain("127.0.0.1:1", files, photos[0], flags)
    assert done.returncode == 2
    # click breaks lines where it likes.
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


def test_a_variable_that_is_no_token_is_named(files, photos):
    done = explain("127.0.0.1:1", files, photos[0], "", TEXTCAM_TOKEN="two words")
    assert done.returncode == 2
    assert "the variable TEXTCAM_TOKEN holds no token" in done.stderr
    assert "two words" not in done.stderr
