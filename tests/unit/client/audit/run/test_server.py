"""The audited server and patience with it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from textcam_client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unavailable,
)
from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.run.progress import Silent
from textcam_client.audit.run.server import Server, is_away, is_final, require_pinned
from textcam_client.testing import serve_in_memory


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def client():
    with serve_in_memory() as server, server.client() as connected:
        yield connected


def test_the_model_is_described_as_it_is_served(client):
    found = Server(client, 0, Silent()).describe(None, None)
    assert (found.title, found.class_names[0]) == ("fake 1", "tabby cat")
    assert len(found.channel_phrases) == 24
    with pytest.raises(NotFound):
        Server(client, 0, Silent()).describe("fake", "2")


def test_a_model_without_channel_phrases_is_too_old(client, monkeypatch):
    model = client.model()
    monkeypatch.setattr(client, "model", lambda *_: replace(model, channel_phrases=()))
    with pytest.raises(AuditStopped, match="newer server"):
        Server(client, 0, Silent()).describe(None, None)


def test_a_server_that_comes_back_is_waited_for(client):
    notes = Notes()
    Server(client, 60, notes).wait(Unavailable("gone"))
    assert notes.notes == ["the server is away (gone); waiting"]


def test_patience_ends_with_words_on_resuming():
    with Client("127.0.0.1:1") as nowhere:
        server = Server(nowhere, 0.2, Silent())
        with pytest.raises(AuditStopped, match=r"away for 0\.2 s \(gone\).* run the same command"):
            server.wait(Unavailable("gone"))


def test_patience_counts_from_the_last_answer(client):
    now = [0.0]
    server = Server(client, 10, Silent(), lambda: now[0])
    now[0] = 9
    server.answered()
    now[0] = 18
    server.wait(Unavailable("gone"))
    now[0] = 19
    with pytest.raises(AuditStopped):
        server.wait(Unavailable("gone"))


@pytest.mark.parametrize(
    ("error", "away", "final"),
    [
        (Unavailable("x"), True, False),
        (DeadlineExceeded("x"), True, False),
        (Cancelled("x"), True, False),
        (Overloaded("x", retry_after=1.0), True, False),
        (Overloaded("x"), False, False),
        (InvalidRequest("x"), False, False),
        (InvalidRequest("x", violations=[("max_phrases", "too many")]), False, True),
        (NotFound("x"), False, True),
        (PermissionDenied("x"), False, True),
    ],
)
def test_kinds_of_errors(error, away, final):
    assert (is_away(error), is_final(error)) == (away, final)


def test_an_answer_of_another_bank_stops_the_audit(client):
    model = Server(client, 0, Silent()).describe(None, None)
    result = client.explain(np.full((9, 9, 3), 128, np.uint8))
    require_pinned(result, model)
    with pytest.raises(AuditStopped, match=re.escape("another bank as fake 1")):
        require_pinned(result, replace(model, bank_digest="sha256:other"))
