"""Options of the client."""

import pytest
from authority import Authority
from textcam_client import Tls
from textcam_client.options import settings as client_settings


def test_the_client_shows_no_secret_of_its_own():
    tls = Tls(b"root", b"private key", b"chain")
    made = client_settings(
        "x:1",
        model=None,
        version=None,
        timeout=1,
        retry=None,
        tls=tls,
        metadata={"authorization": "Bearer textcam_secret"},
        max_message_bytes=1,
        channel=None,
    )
    assert "private key" not in repr(made)
    assert "textcam_secret" not in repr(made)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda pem: b"\xef\xbb\xbf" + pem, "byte-order mark"),
        (lambda pem: b"\xef\xbb\xbf" + pem + pem, "byte-order mark"),
        (lambda pem: b" " + pem, "no line that begins with"),
        (lambda pem: b"0\x82", "no line that begins with"),
    ],
)
def test_pem_that_grpc_cannot_read_is_refused(tmp_path, spoil, fault):
    """gRPC itself would take it and reach no server."""
    (tmp_path / "ca.crt").write_bytes(spoil(Authority("a").certificate))
    with pytest.raises(ValueError, match=rf"Tls\(root_certificates=...\) .*{fault}"):
        Tls(tmp_path / "ca.crt").credentials()
