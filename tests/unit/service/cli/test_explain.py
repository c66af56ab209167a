"""`textcam explain`: options, errors that are sentences, and output."""

import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import run
from PIL import Image
from textcam.v1 import types_pb2 as types_pb
from textcam_client import Unavailable, UnreadableImage
from textcam_client.testing import serve_in_memory
from textcam_service.cli import main
from textcam_service.cli.explain import _received

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_timeout_that_is_none_is_a_usage_error(seconds, photo):
    code, said = run("explain", photo, "--timeout", seconds)
    assert (code, "Invalid value for '--timeout'" in said) == (2, True)


@pytest.mark.parametrize("option", ["--output", "--masks"])
def test_an_output_that_is_a_file_is_a_usage_error(option, photo):
    code, said = run("explain", photo, option, photo)
    assert (code, f"Directory '{photo}' is a file" in said) == (2, True)


def test_an_output_that_cannot_be_made_is_told_with_its_path(photo):
    code, said = run("explain", photo, "--output", photo / "below")
    assert (code, said) == (1, f"Error: {photo / 'below'}: Not a directory")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "tabby", "--top-k", "3"], "--class and --top-k exclude each other"),
        (["--against", "lynx"], "--against goes with --class"),
    ],
)
def test_options_that_contradict_are_refused(words, said, photo):
    code, told = run("explain", photo, *words)
    assert (code, said in told) == (2, True)


def test_a_folder_of_images_is_refused_with_how_to_give_its_images(photo):
    code, said = run("explain", photo.parent)
    assert (
        code,
        f"{photo.parent} is a folder; for the images in it: {photo.parent}/*" in said,
    ) == (
        2,
        True,
    )


def test_that_nothing_answers_is_said_once_however_many_images(photo):
    code, said = run("explain", "absent.jpg", *[photo] * 5, "--server", NOBODY, "--timeout", "2")
    assert code == 1
    assert said.count("Error:") == said.count("no TextCAM server") == 1
    assert said.startswith("absent.jpg: ")  # what was not sent says so by itself
    assert "photo.png" not in said


def test_an_image_that_breaks_the_connection_does_not_end_the_others():
    broken, gone = Unavailable("broke", reason="STREAM_RESET"), Unavailable("nobody")
    # Later than the first, a server that went away is told for each: some were answered.
    assert list(_received([broken, gone, gone])) == [broken, gone, gone]
    with pytest.raises(Unavailable, match="nobody"):
        list(_received([UnreadableImage("absent"), gone, broken]))


@pytest.mark.parametrize("option", ["--output", "--masks"])
def test_an_image_that_is_gone_when_it_is_to_be_drawn_fails_alone(photo, option, tmp_path):
    gone = photo.with_name("gone.png")
    gone.write_bytes(photo.read_bytes())

    def latency(request) -> float:
        if request.request_id.endswith("-0"):
            gone.unlink()
        return 0.0

    made = tmp_path / "made"
    with serve_in_memory(latency=latency) as server:
        code, said = run("explain", gone, photo, "--server", server.address, option, made)
    assert code == 1
    assert f"{gone}: the image cannot be opened again" in said
    assert "Error: 1 of 2 images were not explained and drawn" in said
    assert (made / "photo.png").exists()
    assert not (made / "gone.png").exists()


def test_a_picture_is_there_whole_or_not_at_all(photo, tmp_path, monkeypatch):
    save = Image.Image.save

    def full_disk(picture, file, *format_):
        save(picture, file, *format_)
        os.truncate(file, 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    with serve_in_memory() as server:
        words = ["explain", photo, "--server", server.address, "--output", tmp_path]
        assert run(*words)[0] == 0
        before = (tmp_path / f"{photo.stem}.png").read_bytes()
        monkeypatch.setattr(Image.Image, "save", full_disk)
        code, said = run(*words)
    assert code == 1
    assert f"{tmp_path / photo.stem}.png: No space left on device" in said
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    assert (tmp_path / f"{photo.stem}.png").read_bytes() == before


def test_one_of_several_models_goes_by_its_name_and_version(photo):
    with serve_in_memory(model="own") as server:
        words = ["explain", photo, "--server", server.address]
        assert run(*words, "--model", "own")[0] == 0
        code, said = run(*words, "--model", "another")
        assert (code, "'another'" in said) == (1, True)
        code, said = run(*words, "--model", "own", "--version", "of old")
        assert (code, "of old" in said) == (1, True)


def test_names_of_no_text_are_shown_as_they_can_be(photo, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    odd.write_bytes(photo.read_bytes())
    with serve_in_memory() as server:
        code, said = run("explain", odd, "--server", server.address, "--output", tmp_path / "made")
    assert code == 0
    assert said.count("caf\ufffd.png") == 2


@pytest.mark.parametrize("wrong", ["", "2000", "9" * 9, "9" * 30])
def test_a_class_that_is_not_there_is_refused_however_it_is_given(wrong, photo):
    with serve_in_memory() as server:
        code, said = run("explain", photo, "--server", server.address, "--class", wrong)
    assert (code, "no class" in said) == (1, True)


def test_waiting_in_vain_says_for_whom_and_what_to_look_at(photo):
    code, said = run("explain", photo, "--server", NOBODY, "--wait", "0.3")
    assert code == 1
    assert f"no TextCAM server responded at {NOBODY} in 0.3 s: is it running" in said


@pytest.mark.parametrize("given", ["-0.1", "1.1", "nan", "much"])
def test_a_probability_that_is_none_is_a_usage_error(given, photo):
    code, said = run("explain", photo, "--min-probability", given)
    assert (code, "Invalid value for '--min-probability'" in said) == (2, True)


@pytest.mark.parametrize("given", ["color", "part,", "part,thing,color", ""])
def test_a_kind_that_is_none_is_a_usage_error_with_those_that_there_are(given, photo):
    code, said = run("explain", photo, "--kinds", given)
    assert code == 2
    assert "is none of thing, part, material, texture, colour, shape, scene, category" in said


def test_what_phrases_are_wanted_is_asked_of_the_server(photo):
    with serve_in_memory() as server:
        words = ["explain", photo, "--server", server.address]
        assert run(*words)[0] == 0
        assert run(*words, "--min-probability", "0.25", "--repeat-class")[0] == 0
        assert run(*words, "--kinds", "part, Texture", "--kinds", "scene")[0] == 0
    plain, wanted, kinds = server.requests
    assert not plain.HasField("min_probability")
    assert not plain.repeat_class
    assert not plain.kinds
    assert (wanted.min_probability, wanted.repeat_class) == (0.25, True)
    assert list(kinds.kinds) == [
        types_pb.PHRASE_KIND_PART,
        types_pb.PHRASE_KIND_TEXTURE,
        types_pb.PHRASE_KIND_SCENE,
    ]


def test_phrases_are_listed_with_chance_share_effect_and_kind(photo):
    with serve_in_memory() as server, server.client() as client:
        (target,) = client.explain(photo).explanations
        words = ["explain", str(photo), "--server", server.address]
        lines = CliRunner().invoke(main, words).output.splitlines()
        told = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
        _, nothing = run(*words, "--min-probability", "1")
    head = lines.index("    true   share  effect  phrase")
    shown = [line.split(None, 3) for line in lines[head + 1 : head + 1 + len(target.phrases)]]
    assert shown == [
        [f"{p.probability:.0%}", f"{p.evidence:+.1f}", f"{p.effect:+.1f}", f"{p.text} ({p.kind})"]
        for p in target.phrases
    ]
    assert len(lines) == head + 1 + len(target.phrases)
    first = told["explanations"][0]["phrases"][0]
    assert first["probability"] == target.phrases[0].probability
    assert (first["effect"], first["kind"]) == (target.phrases[0].effect, target.phrases[0].kind)
    assert "nothing in particular" in nothing
    assert "effect" not in nothing


def test_what_a_server_does_not_tell_of_phrases_is_a_dash(photo):
    with serve_in_memory(calibrated=False, vocabulary=["red", "blue"]) as server:
        words = ["explain", str(photo), "--server", server.address]
        lines = CliRunner().invoke(main, words).output.splitlines()
    assert lines[-1].split()[0] == "-"
    assert lines[-1].split()[-1] in {"red", "blue"}


@pytest.mark.parametrize("against", [(), ("--against", "0")])
def test_a_class_goes_by_its_index_too(against, photo):
    with serve_in_memory() as server:
        done = CliRunner().invoke(
            main,
            ["explain", str(photo), "--server", server.address, "--json", "--class", "2", *against],
        )
    target = json.loads(done.output)["explanations"][0]["target"]
    assert target["class_index"] == 2


@pytest.mark.parametrize("option", ["--max-phrases", "--phrases"])
def test_the_most_phrases_are_asked_for_under_both_names(option, photo):
    with serve_in_memory() as server:
        code, _ = run("explain", photo, "--server", server.address, option, "2")
        (request,) = server.requests
    assert (code, request.max_phrases) == (0, 2)
