"""Canaries: drift is measured, reported and, past a threshold, refused."""

import asyncio
import json
import subprocess

import numpy as np
import pytest
from model_callers import picture, publish, served
from processes import TEXTCAM
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb


async def test_the_canary_reports_drift_and_by_default_lets_it_pass(store, made, caplog):
    caplog.set_level("INFO", "textcam_service.serving.registry.watcher")
    publish(store, made["a"], "1")
    async with served(store.root) as caller:
        publish(store, made["a2"], "2")
        await caller.poll()
        close = report(caplog)
        publish(store, made["b"], "3")
        await caller.poll()
        far = report(caplog)
        assert caller.version() == "3"
        measured = caller.metric("textcam_canary_drift", model="m", measure="map_correlation")
        assert measured == far["map_correlation"]
    assert (close["from"], close["to"], close["images"]) == ("1", "2", 16)
    assert close["map_correlation"] > 0.999
    assert close["first_phrase"] == close["top1"] == 1
    assert close["share_difference"] < 0.01
    assert far["map_correlation"] < 0.9
    assert far["top1"] < 1
    assert far["share_difference"] > 0.1


def report(caplog):
    lines = [record.getMessage() for record in caplog.records]
    return json.loads([line for line in lines if line.startswith("canary ")][-1][7:])


@pytest.mark.parametrize(
    "threshold",
    [
        {"canary_min_map_correlation": 0.95},
        {"canary_min_first_phrase": 0.95},
        {"canary_min_top1": 0.95},
        {"canary_max_share_difference": 0.05},
    ],
)
async def test_each_threshold_refuses_a_switch(store, made, threshold, caplog):
    publish(store, made["a"], "1")
    async with served(store.root, **threshold) as caller:
        publish(store, made["b"], "2")
        await caller.poll()
        assert caller.version() == "1"
        assert (await caller.explain()).provenance.model_version == "1"
        assert (caller.failures("DRIFT_REFUSED"), caller.pending()) == (1, 1)
        await caller.poll()  # it is not loaded again until the store says something else
        assert caller.failures("DRIFT_REFUSED") == 1
        assert f"textcam model use m 2 --store {store.root} --accept-drift" in caplog.text
        publish(store, made["a2"], "3")
        await caller.poll()
        assert (caller.version(), caller.pending()) == ("3", 0)
        store.use("m", "2", accept_drift=True)
        await caller.poll()
        assert caller.version() == "2"
        assert store.roll_back("m") == "3"
        await caller.poll()
        assert caller.version() == "3"


async def test_a_server_that_starts_anew_refuses_what_the_others_refuse(store, made):
    publish(store, made["a"], "1")
    publish(store, made["b"], "2")
    async with served(store.root, canary_min_map_correlation=0.95) as caller:
        assert caller.version() == "1"
        assert (caller.failures("DRIFT_REFUSED"), caller.pending()) == (1, 1)
        assert await caller.healthy()


async def test_the_canary_explains_the_images_that_were_published(store, made, tmp_path, caplog):
    """Its maps' correlation is that of both versions' answers to these images, by numpy."""
    caplog.set_level("INFO", "textcam_service.serving.registry.watcher")
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    publish(store, made["a"], "1")
    async with served(store.root, store_keep=1) as caller:
        publish(store, made["b"], "2", canary=tmp_path)
        await caller.poll()
        expected = []
        for seed in range(3):
            before = await caller.explain(version="1", seed=seed)
            request = pb.ExplainRequest(model=types_pb.ModelSpec(name="m"), encoded=picture(seed))
            index = before.explanations[0].target.class_index
            request.target.classes.classes.add(index=index)
            after = await caller.explainer.Explain(request)
            maps = [
                np.frombuffer(answer.explanations[0].saliency_map.data, "<f4")
                for answer in (before, after)
            ]
            expected.append(np.corrcoef(*maps)[0, 1])
    found = report(caplog)
    assert found["images"] == 3
    assert found["map_correlation"] == pytest.approx(np.mean(expected), abs=1e-4)


async def test_a_roll_back_is_one_command(store, made):
    for version, letter in (("1", "a"), ("2", "b")):
        publish(store, made[letter], version)
    async with served(store.root, canary_min_map_correlation=0.99) as caller:
        command = [TEXTCAM, "model", "rollback", "m", "--store", store.root]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=True
        )
        assert done.stdout == "m@1 is current\n"
        await caller.poll()
        assert (await caller.explain()).provenance.model_version == "1"
