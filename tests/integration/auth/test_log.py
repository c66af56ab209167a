"""What the log of a server at DEBUG never holds: tokens, keys, and anything of the images."""

import base64
import io
import json
import time
from hashlib import sha256

import grpc
import numpy as np
import pytest
from authority import Authority
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from processes import running
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam_client import CallError, Client, InvalidRequest, Unauthenticated

TOKEN = "textcam_" + "Zk3v9QpLw7" * 5
WRONG = "textcam_" + "Yh8r2TnVb6" * 5
# In EXIF and in PNG's text, as a camera or an editor writes what is nobody's business.
PRIVATE = "taken-at-52.5200-13.4050"


def photo_with_exif():
    exif = Image.Exif()
    exif[270] = PRIVATE  # ImageDescription
    exif[274] = 6  # Orientation: the server reads it
    return encoded("JPEG", exif=exif)


def photo_with_damaged_exif():
    """Pillow warns of it: more entries are announced than there are."""
    photo, exif = photo_with_exif(), b"Exif\0\0MM\0*\0\0\0\x08"
    entries = photo.index(exif) + len(exif)
    return photo[:entries] + b"\xff\0" + photo[entries + 2 :]


def photo_with_text():
    text = PngInfo()
    text.add_text("Comment", PRIVATE)
    return encoded("PNG", pnginfo=text)


def encoded(form, **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def traces_of(content):
    """How pieces of an image would look in a log: as Python's bytes, base64 or hex."""
    for start in range(0, len(content) - 48, len(content) // 9):
        piece = content[start : start + 24]
        yield repr(piece[:12])[2:-1]
        yield piece[:12].hex()
        # Base64 looks different by where a piece lies in threes of bytes.
        yield from (base64.b64encode(piece[shift:])[:20].decode() for shift in range(3))


@pytest.fixture(scope="module", params=["text", "json"])
def logged(request, backbone_folder, tmp_path_factory):
    """Whatever a server at DEBUG wrote while all this happened to it, and its key."""
    folder = tmp_path_factory.mktemp("log")
    authority = Authority("test authority")
    pair = authority.pair("server")
    pair.write(folder)
    entry = {"name": "known", "sha256": sha256(TOKEN.encode()).hexdigest(), "models": ["photos"]}
    (folder / "callers.json").write_text(json.dumps({"callers": [entry]}))
    flags = ["--tls-certificate", folder / "tls.crt", "--tls-key", folder / "tls.key"]
    more = [
        "--callers",
        folder / "callers.json",
        "--log-level",
        "DEBUG",
        "--log-format",
        request.param,
    ]
    with (
        (folder / "log").open("w") as log,
        running(*map(str, [*flags, *more]), stderr=log) as server,
    ):
        ask_for_trouble(server.address, authority.tls())
        (folder / "tls.key").write_bytes(pair.key[:-60])
        call_anew(server.address, authority.tls())
    return (folder / "log").read_text(), pair.key.decode()


def ask_for_trouble(address, tls):
    images = (photo_with_exif(), photo_with_text(), photo_with_damaged_exif())
    with Client(address, tls=tls, metadata={"authorization": f"Bearer {TOKEN}"}) as client:
        for image in images:
            assert client.explain(image).predictions
            with pytest.raises(InvalidRequest):
                client.explain(image[: len(image) // 2])
            list(client.explain_many([image, image[:40]], on_error="return"))
        client.explain(np.full((8, 8, 3), 77, np.uint8))
        with pytest.raises(CallError):
            client.explain(images[0], model="another")
    unknown = Client(address, tls=tls, metadata={"authorization": f"Bearer {WRONG}"})
    with unknown as client, pytest.raises(Unauthenticated):
        client.explain(images[0])
    channel = grpc.secure_channel(address, tls.credentials())
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(images[0])
    open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
        oip.ModelInferRequest(model_name="photos", inputs=[tensor]),
        metadata=[("authorization", f"Bearer {TOKEN}")],
        timeout=60,
    )
    channel.close()


def call_anew(address, tls):
    """So that the server looks at its files."""
    time.sleep(1.2)
    with Client(address, tls=tls, metadata={"authorization": f"Bearer {TOKEN}"}) as client:
        assert client.models()


def test_the_log_is_at_debug_and_tells_of_what_happened(logged):
    log, _ = logged
    assert "DEBUG" in log
    assert "tls_key is not a PEM private key" in log
    assert "may not use the model 'another'" in log


def test_the_log_holds_no_token_nor_key(logged):
    log, key = logged
    for secret in (TOKEN, WRONG):
        assert secret not in log
        assert sha256(secret.encode()).hexdigest() not in log
        assert base64.b64encode(secret.encode()).decode()[:20] not in log
    for line in key.splitlines()[1:-1]:
        assert line not in log


def test_the_log_holds_no_warnings_of_libraries(logged):
    """Each a line of its own form, and kept by Python for as long as the process lives."""
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(io.BytesIO(photo_with_damaged_exif())).getexif()
    log, _ = logged
    assert "Warning" not in log


@pytest.mark.parametrize("make", [photo_with_exif, photo_with_text])
def test_the_log_holds_nothing_of_an_image(logged, make):
    log, _ = logged
    assert PRIVATE not in log
    for trace in traces_of(make()):
        assert trace not in log
