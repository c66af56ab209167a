"""Rendering of scenes: a ray caster with a fixed camera, in numpy.

The image is computed at twice its size and averaged, which smooths the edges. All that
depends on the camera alone is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from textcam_service.core.types import (
    BoolArray,
    Float32Array,
    FloatArray,
    Int8Array,
    IntArray,
    UInt8Array,
)
from textcam_service.scenes.shapes import HEIGHTS, INTERSECT
from textcam_service.scenes.world import Scene, SceneObject

SIZE = 96
_SUPER = 2
_CAMERA = np.array([0.0, -11.0, 7.0])
_LOOK_AT = np.array([0.0, 0.3, 0.5])
_FIELD_OF_VIEW = np.radians(35)
_LIGHT_HEIGHT = 1.5  # of a unit step sideways
_NOISE = 0.012
_PALETTE = {
    "red": (0.78, 0.08, 0.08),
    "green": (0.10, 0.55, 0.13),
    "blue": (0.10, 0.20, 0.80),
    "yellow": (0.95, 0.85, 0.08),
    "purple": (0.50, 0.12, 0.65),
    "cyan": (0.10, 0.78, 0.80),
    "orange": (0.98, 0.45, 0.04),
    "gray": (0.42, 0.42, 0.42),
}


@dataclass(frozen=True)
class Rendered:
    """Picture with its truth.

    Attributes:
        image: (S, S, 3) RGB.
        masks: (K, S, S) the pixels with each object visible at their centre, in the objects' order.
    """

    image: UInt8Array
    masks: BoolArray


@dataclass(frozen=True)
class _View:
    """Rays of the camera, n = (2 S)^2 of them, without any scene.

    Attributes:
        rays: (3, n) unit directions.
        floor: (2, n) where each meets the floor.
        shade: (n,) the floor's brightness, less far away.
    """

    rays: Float32Array
    floor: Float32Array
    shade: Float32Array


def render(scene: Scene, size: int = SIZE) -> Rendered:
    """Render a scene; the same scene gives the same pixels.

    Args:
        scene: Objects and floor.
        size: S, pixels of the square image's side.
    """
    view = _view(size)
    side = size * _SUPER
    rng = np.random.default_rng(scene.seed)
    light = np.array([np.cos(scene.light), np.sin(scene.light), _LIGHT_HEIGHT], np.float32)
    light /= np.linalg.norm(light)
    colour = _floor(scene.floor, view, rng)
    for item in scene.objects:
        _cast_shadow(colour, item, view, light, side)
    depth = np.full(side * side, np.inf, np.float32)
    owner = np.full(side * side, -1, np.int8)
    for index, item in enumerate(scene.objects):
        _draw(index, item, view, light, side, (colour, depth, owner))
    fine = colour.reshape(3, side, side)
    pixels = fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]
    pixels /= _SUPER**2
    pixels += _NOISE * rng.standard_normal(pixels.shape, np.float32)
    image = (np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    seen = owner.reshape(side, side)[::_SUPER, ::_SUPER]
    masks = np.arange(len(scene.objects))[:, None, None] == seen
    return Rendered(np.ascontiguousarray(image), masks)


@cache
def _view(size: int) -> _View:
    forward = _LOOK_AT - _CAMERA
    forward /= np.linalg.norm(forward)
    right = np.array([1.0, 0.0, 0.0])
    up = np.cross(right, forward)
    side = size * _SUPER
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    spread = np.tan(_FIELD_OF_VIEW / 2)
    x, y = np.meshgrid(steps * spread, -steps * spread)
    rays = forward[:, None] + right[:, None] * x.ravel() + up[:, None] * y.ravel()
    rays /= np.linalg.norm(rays, axis=0)
    floor = _CAMERA[:2, None] - rays[:2] * _CAMERA[2] / rays[2]
    shade = 1.02 - 0.035 * np.maximum(floor[1] + 2, 0)
    return _View(rays.astype(np.float32), floor.astype(np.float32), shade.astype(np.float32))


def _floor(kind: str, view: _View, rng: np.random.Generator) -> Float32Array:
    """Compute colours (3, n) of the floor: muted, so that no floor looks like an object."""
    light = np.float32(0.66) + rng.uniform(-0.04, 0.04, 3).astype(np.float32)
    dark = light * np.float32(rng.uniform(0.5, 0.6))
    turn, shift = rng.uniform(0, np.pi), rng.uniform(0, 10, 2)
    x = np.cos(turn) * view.floor[0] + np.sin(turn) * view.floor[1] + np.float32(shift[0])
    y = np.cos(turn) * view.floor[1] - np.sin(turn) * view.floor[0] + np.float32(shift[1])
    share: FloatArray = np.zeros(x.shape, np.float32)
    if kind == "striped":
        share = _bands(x, 0.85)
    elif kind == "checkered":
        share = 0.5 - 2 * (_bands(x, 1.3) - 0.5) * (_bands(y, 1.3) - 0.5)
    elif kind == "speckled":
        share = _speckles(x, y)
    mixed = light[:, None] + (dark - light)[:, None] * share
    return np.asarray(mixed * view.shade, np.float32)


def _bands(x: Float32Array, period: float) -> Float32Array:
    """Alternate 0 and 1, with soft edges."""
    return np.asarray(np.clip(0.5 + 6 * np.sin(x * np.float32(2 * np.pi / period)), 0, 1))


def _speckles(x: Float32Array, y: Float32Array, cell: float = 0.42) -> Float32Array:
    """Draw round dots at positions given by a hash of their cell."""
    column, row = np.floor(x / cell), np.floor(y / cell)
    mixed = np.sin(column * np.float32(12.99) + row * np.float32(78.23)) * np.float32(437.5)
    chance = mixed - np.floor(mixed)
    centre = 0.5 + 0.2 * np.sin(chance * 40), 0.5 + 0.2 * np.cos(chance * 70)
    away = (x / cell - column - centre[0]) ** 2 + (y / cell - row - centre[1]) ** 2
    return np.asarray((chance < 0.7) * np.clip((0.085 - away) * 25, 0, 1), np.float32)


def _draw(
    index: int,
    item: SceneObject,
    view: _View,
    light: Float32Array,
    side: int,
    canvas: tuple[Float32Array, Float32Array, Int8Array],
) -> None:
    colour, depth, owner = canvas
    where = _box(item, side, 0.0, light)
    distance, normal = _meet(item, _CAMERA[:, None], view.rays[:, where])
    nearer = distance < depth[where]
    where, distance = where[nearer], distance[nearer]
    hit = _CAMERA[:, None].astype(np.float32) + view.rays[:, where] * distance
    colour[:, where] = _shade(item, hit, normal[:, nearer], view.rays[:, where], light)
    depth[where], owner[where] = distance, index


def _cast_shadow(
    colour: Float32Array, item: SceneObject, view: _View, light: Float32Array, side: int
) -> None:
    where = _box(item, side, 1.0, light)
    ground = np.concatenate([view.floor[:, where], np.zeros((1, len(where)), np.float32)])
    distance, _ = _meet(item, ground, np.broadcast_to(light[:, None], ground.shape))
    dark = np.isfinite(distance)
    away = np.hypot(ground[0] - item.x, ground[1] - item.y) / item.radius
    contact = 1 - 0.35 * np.clip(1.5 - away, 0, 1)
    colour[:, where] *= np.where(dark, np.float32(0.55), 1) * contact


def _box(item: SceneObject, side: int, shadow: float, light: Float32Array) -> IntArray:
    """Return indices of the pixels where an object, or its shadow, can be seen."""
    height = HEIGHTS[item.shape] * item.radius
    reach = item.radius * 1.45
    corners = [
        (item.x + a * reach, item.y + b * reach, z)
        for a in (-1, 1)
        for b in (-1, 1)
        for z in (0.0, height)
    ]
    points = np.array(corners)
    if shadow:
        points[:, :2] -= points[:, 2:] * light[:2] / light[2]
        points[:, 2] = 0
    forward = _LOOK_AT - _CAMERA
    forward = forward / np.linalg.norm(forward)
    up = np.cross([1.0, 0.0, 0.0], forward)
    offset = points - _CAMERA
    scale = np.tan(_FIELD_OF_VIEW / 2) * (offset @ forward)
    column = (offset[:, 0] / scale + 1) / 2 * side
    row = (1 - (offset @ up) / scale) / 2 * side
    left, right = _span(column, side)
    top, bottom = _span(row, side)
    return (np.arange(top, bottom)[:, None] * side + np.arange(left, right)).ravel()


def _span(places: FloatArray, side: int) -> tuple[int, int]:
    return max(0, int(places.min())), min(side, int(places.max()) + 1)


def _meet(
    item: SceneObject,
    origin: FloatArray,
    rays: Float32Array,
) -> tuple[Float32Array, Float32Array]:
    """Compute distances and normals in the world's frame, by way of the object's own."""
    cos, sin = np.cos(item.turn), np.sin(item.turn)
    into = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    base = np.array([[item.x], [item.y], [0]])
    start = into @ ((origin - base) / item.radius).astype(np.float32)
    start = np.ascontiguousarray(np.broadcast_to(start, rays.shape))
    distance, normal = INTERSECT[item.shape](start, into @ rays)
    return distance * np.float32(item.radius), into.T @ normal


def _shade(
    item: SceneObject,
    hit: Float32Array,
    normal: Float32Array,
    rays: Float32Array,
    light: Float32Array,
) -> Float32Array:
    """Shade rubber by Lambert, metal by a mirrored room and a sharp highlight (Blinn 1977)."""
    albedo = np.array(_PALETTE[item.colour], np.float32)[:, None]
    facing = np.clip(light @ normal, 0, 1)
    grounded = 0.7 + 0.3 * np.clip(hit[2] / item.radius, 0, 1)
    half = light[:, None] - rays
    half = half / np.sqrt((half**2).sum(0))
    gloss = np.clip((half * normal).sum(0), 0, 1)
    if item.material == "rubber":
        lit = albedo * (0.46 + 0.60 * facing) * grounded
        return np.asarray(lit + 0.04 * gloss**4, np.float32)
    mirrored = rays[2] - 2 * (rays * normal).sum(0) * normal[2]
    height = hit[2] / (HEIGHTS[item.shape] * item.radius)
    # The dark floor below, the bright room above, and a window's glare across the side.
    room = 0.15 + 0.55 * height + 0.6 * np.clip(mirrored, 0, 1)
    glare = np.clip(1 - np.abs(height - 0.62) * 9, 0, 1) * (normal[2] < 0.9)
    lit = albedo * (0.10 + 0.35 * facing + room) * grounded
    return np.asarray(lit + 0.10 * room + 0.45 * glare + 0.9 * gloss**40, np.float32)
