"""Digests differ where values differ, and not by rounding."""

import hashlib

import numpy as np
from PIL import Image
from textcam_service.serving.engine.digests import activations_digest, pixels_digest


def test_the_digest_of_pixels_is_of_their_rgb_bytes():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    wanted = "sha256:" + hashlib.sha256(pixels.tobytes()).hexdigest()
    assert pixels_digest(Image.fromarray(pixels)) == wanted


def test_the_digest_of_activations_is_of_thousandths_of_the_largest_score():
    maps = np.zeros((3, 2, 2), np.float32)
    maps[0], maps[1] = 2.0, -0.5
    steps = np.array([1000, -250, 0], "<i4").tobytes()
    assert activations_digest(maps) == "sha256:" + hashlib.sha256(steps).hexdigest()
    assert activations_digest(maps * np.float32(1 + 1e-6)) == activations_digest(maps)
    maps[2] = 0.01
    assert activations_digest(maps) != "sha256:" + hashlib.sha256(steps).hexdigest()


def test_maps_without_activity_have_a_digest():
    assert activations_digest(np.zeros((2, 1, 1), np.float32)).startswith("sha256:")
