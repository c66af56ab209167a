"""Intersections of rays with shapes, analytic, in an object's own frame.

There an object stands on z = 0 around the z axis and is one unit wide to each side. All
functions take ray origins and directions of shape (3, n) and give the distance (n,), infinite
where a ray misses, and the unit normal (3, n) at the hit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from textcam_service.core.types import BoolArray, Float32Array

Hit = tuple[Float32Array, Float32Array]

_BOX = 0.82, 1.64  # half width, height
_CYLINDER = 0.84, 1.7  # radius, height
_CONE = 1.0, 2.0  # radius, height
HEIGHTS = {"sphere": 2.0, "cube": _BOX[1], "cylinder": _CYLINDER[1], "cone": _CONE[1]}


def _sphere(origin: Float32Array, ray: Float32Array) -> Hit:
    start = origin - np.array([[0], [0], [1]], np.float32)
    half = (start * ray).sum(0)
    root = half**2 - (start**2).sum(0) + 1
    distance = _first(-half - np.sqrt(np.maximum(root, 0)), root >= 0)
    return distance, start + ray * _finite(distance)


def _cube(origin: Float32Array, ray: Float32Array) -> Hit:
    half, height = _BOX
    centre = np.array([[0], [0], [height / 2]], np.float32)
    extent = np.array([[half], [half], [height / 2]], np.float32)
    inverse = 1 / np.where(np.abs(ray) < 1e-6, np.float32(1e-6), ray)
    middle, reach = (centre - origin) * inverse, np.abs(extent * inverse)
    enter, leave = middle - reach, middle + reach
    near = enter.max(0)
    distance = _first(near, near <= leave.min(0))
    return distance, np.where(enter == near, -np.sign(ray), 0).astype(np.float32)


def _cylinder(origin: Float32Array, ray: Float32Array) -> Hit:
    radius, height = _CYLINDER
    a = ray[0] ** 2 + ray[1] ** 2
    half = origin[0] * ray[0] + origin[1] * ray[1]
    root = half**2 - a * (origin[0] ** 2 + origin[1] ** 2 - radius**2)
    side = (-half - np.sqrt(np.maximum(root, 0))) / np.maximum(a, 1e-9)
    z = origin[2] + ray[2] * side
    distance = _first(side, (root >= 0) & (z >= 0) & (z <= height))
    lid = (height - origin[2]) / np.where(np.abs(ray[2]) < 1e-6, np.float32(1e-6), ray[2])
    at = origin[:2] + ray[:2] * lid
    lid = _first(lid, (at**2).sum(0) <= radius**2)
    on_top = lid < distance
    distance = np.minimum(distance, lid)
    hit = origin + ray * _finite(distance)
    normal: Float32Array = (hit / radius).astype(np.float32)
    normal[2] = 0
    normal[:, on_top] = np.array([[0], [0], [1]], np.float32)
    return distance, normal


def _cone(origin: Float32Array, ray: Float32Array) -> Hit:
    radius, height = _CONE
    slope = np.float32((radius / height) ** 2)
    down = origin[2] - np.float32(height)
    a = ray[0] ** 2 + ray[1] ** 2 - slope * ray[2] ** 2
    half = origin[0] * ray[0] + origin[1] * ray[1] - slope * down * ray[2]
    c = origin[0] ** 2 + origin[1] ** 2 - slope * down**2
    root = half**2 - a * c
    safe = np.where(np.abs(a) < 1e-6, np.float32(1e-6), a)
    surface = []
    for sign in (-1, 1):
        at = (-half + sign * np.sqrt(np.maximum(root, 0))) / safe
        z = origin[2] + ray[2] * at
        surface.append(_first(at, (root >= 0) & (z >= 0) & (z <= height)))
    distance = np.minimum(*surface)
    hit = origin + ray * _finite(distance)
    normal = np.stack([hit[0], hit[1], slope * (np.float32(height) - hit[2])])
    return distance, normal / np.maximum(np.sqrt((normal**2).sum(0)), 1e-6)


INTERSECT: dict[str, Callable[[Float32Array, Float32Array], Hit]] = {
    "sphere": _sphere,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
}


def _first(distance: Float32Array, hits: BoolArray) -> Float32Array:
    return np.where(hits & (distance > 1e-4), distance, np.inf).astype(np.float32)


def _finite(distance: Float32Array) -> Float32Array:
    return np.where(np.isfinite(distance), distance, 0).astype(np.float32)
