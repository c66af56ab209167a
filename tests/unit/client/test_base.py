"""Lists of models, page by page."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
from client_samples import QUICK
from textcam.v1 import explainer_pb2 as pb
from textcam_client import InvalidRequest, MalformedResponse, NotFound, _base
from textcam_client.testing import server as testing_server
from textcam_client.testing._explainer import FakeExplainer

NAMES = [f"model {number:03}" for number in range(250)]


@pytest.fixture(scope="module")
def many():
    with testing_server.serve_in_memory(model=NAMES[0], further_models=NAMES[:0:-1]) as server:
        yield server


async def test_all_pages_are_listed_in_order_of_name(many):
    with many.client() as client:
        assert [model.name for model in client.models()] == NAMES
    async with many.async_client() as client:
        assert [model.name for model in await client.models()] == NAMES


def test_each_model_answers_under_its_name_and_one_has_to_be_named(many, png):
    with many.client(model=NAMES[7]) as client:
        assert client.explain(png).provenance.model_name == NAMES[7]
        assert client.model(NAMES[8]).summary.name == NAMES[8]
        with pytest.raises(NotFound):
            client.model("another")
    with many.client() as client, pytest.raises(InvalidRequest) as refused:
        client.explain(png)
    assert refused.value.violations[0].field == "model"


def test_a_failed_page_is_tried_again(many):
    many.fail_with("UNAVAILABLE", "", times=2)
    with many.client(retry=QUICK) as client:
        assert len(client.models()) == len(NAMES)


def test_the_timeout_is_that_of_all_pages(monkeypatch):
    """Pages take 25 s each by this clock, so the third is asked for with 10 s left of 60."""
    clock = count(0.0, 25.0)
    monkeypatch.setattr(_base, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    listing = _base.Listing(60.0)
    left = []
    for request, seconds in listing.requests():
        left.append(seconds)
        listing.add(pb.ListModelsResponse(next_page_token=f"{request.page_token}x"))
        if seconds <= 0:
            break
    assert left == [35.0, 10.0, 0.0]


def test_a_server_that_names_a_page_twice_breaks_the_contract(monkeypatch):
    class Looping(FakeExplainer):
        def list_models(self, request):
            del request
            return pb.ListModelsResponse(next_page_token="again")

    monkeypatch.setattr(testing_server, "FakeExplainer", Looping)
    twice = pytest.raises(MalformedResponse, match="the same page twice")
    with testing_server.serve_in_memory() as server, server.client() as client, twice:
        client.models()
