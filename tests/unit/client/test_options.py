"""Options of the client."""

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
