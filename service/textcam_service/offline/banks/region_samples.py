"""Activated regions in place of whole images: the parts that activate a channel, without the rest.

Only the selected images go through the backbone a second time, because maps of a whole probing set
would not fit in memory. R x E floats are kept, for R different regions: channels that are activated
at the same place share one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
    Window,
    activated_window,
    random_window,
    seen_window,
)
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, extreme_samples
from textcam_service.core.types import BoolArray, Crop, Float32Array, FloatArray, IntArray
from textcam_service.errors import InvalidSettings
from textcam_service.imaging.decoding import prepare
from textcam_service.offline.banks.mosaic import RegionView, embed_regions
from textcam_service.offline.chunks import Chunk, ChunkStore
from textcam_service.offline.dataset import ImageFolder, read_image
from textcam_service.offline.embedders.base import Embedder
from textcam_service.offline.threads import in_threads
from textcam_service.runtime.backbone import Backbone

_CHUNK = 128
_BATCH = 16  # a mosaic's tiles come from the images of one batch


@dataclass(frozen=True)
class RegionSamples:
    """Regions of the images that activate each channel most and least.

    Attributes:
        embeddings: (R, E) unit vectors.
        low: (D, M) rows of `embeddings` for the least activating images.
        high: (D, M) rows of `embeddings` for the most activating images.
        passes: Number of pictures that the embedder received.
    """

    embeddings: Float32Array
    low: IntArray
    high: IntArray
    passes: int


@dataclass(frozen=True)
class _Part:
    """Regions of some images.

    Attributes:
        embeddings: (R, E).
        image: (R,) index of each region's image; ascending.
        negative: (R,) True if the region may represent its image in a channel that it does not
            activate.
        excited: (K, 3) image, channel and region, for each image that a channel needs.
        passes: (1,) number of pictures that the embedder received.
    """

    embeddings: Float32Array
    image: IntArray
    negative: BoolArray
    excited: IntArray
    passes: IntArray


def region_samples(
    images: Sequence[Path],
    scores: FloatArray,
    backbone: Backbone,
    embedder: Embedder,
    settings: ChannelSettings,
    work: Path,
    progress: Callable[[str, int], Callable[[int], None]] = lambda _name, _total: (
        lambda _done: None
    ),
) -> RegionSamples:
    """Embed the activated regions of each channel's extreme images, resuming what `work` holds.

    Args:
        images: N images of the probing set, all readable.
        scores: (N, D) activation scores of the images.
        backbone: The served backbone.
        embedder: Embedder that defines the bank's space.
        settings: Settings with regions.
        work: Folder for finished chunks; the caller removes it when the bank is written.
        progress: Called with the step's name and size; what it returns is called as work is done.

    Raises:
        EmbedderError: The embedder does not see parts of pictures, and the settings want them.
        InvalidSettings: The backbone's maps stand on vertices.
    """
    regions = settings.regions
    assert regions is not None  # noqa: S101 - the caller wants regions
    if backbone.manifest.vertices:
        raise InvalidSettings(
            "regions are cut out of maps on a grid, but this backbone's stand on the "
            f"{backbone.manifest.vertices} vertices of a graph; leave --regions out"
        )
    low, high = extreme_samples(scores, settings.samples)
    live = np.flatnonzero(scores.max(axis=0) > scores.min(axis=0))
    wanted = _by_image(high[live], live)
    selected = np.unique(np.concatenate([low[live], high[live]]))
    # An image that activates no channel most still has a region: that of the channel that comes
    # nearest to its own maximum.
    relative = scores[:, live] / np.maximum(scores[:, live].max(axis=0), 1e-12)
    for index in set(selected.tolist()) - set(wanted):
        wanted[index] = live[[int(relative[index].argmax())]]
    store = ChunkStore(work, "regions", [field.name for field in fields(_Part)])
    tell = progress("regions", len(selected))
    parts = []
    for start in range(0, len(selected), _CHUNK):
        chosen = selected[start : start + _CHUNK].tolist()
        own = {index: wanted[index] for index in chosen}
        chunk = store.resume(
            _identity(images, own, backbone, embedder, regions),
            partial(_embed, images, own, backbone, embedder, regions),
        )
        parts.append(_Part(**chunk.tensors))
        tell(len(chosen))
    return _assembled(parts, low, high, len(images))


def _by_image(high: IntArray, channels: IntArray) -> dict[int, IntArray]:
    """Group the channels by the images that activate them most: {image: (K,)}."""
    order = np.argsort(high.ravel(), kind="stable")
    found = high.ravel()[order]
    owner = np.repeat(channels, high.shape[1])[order]
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    pieces = np.split(owner, starts[1:])
    return dict(zip(found[starts].tolist(), pieces, strict=True))


def _embed(
    images: Sequence[Path],
    wanted: Mapping[int, IntArray],
    backbone: Backbone,
    embedder: Embedder,
    settings: RegionSettings,
) -> Chunk:
    """Find and embed the regions of some images, batches side by side."""
    indices = list(wanted)
    batches = (indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH))
    embed = partial(_embed_batch, images, wanted, backbone, embedder, settings)
    parts: list[_Part] = []
    begun = 0
    for part in in_threads(embed, batches):
        parts.append(replace(part, excited=part.excited + np.array([0, 0, begun])))
        begun += len(part.image)
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(_Part)
    }
    arrays["passes"] = arrays["passes"].sum(keepdims=True)
    return Chunk(arrays, {})


def _embed_batch(
    images: Sequence[Path],
    wanted: Mapping[int, IntArray],
    backbone: Backbone,
    embedder: Embedder,
    settings: RegionSettings,
    indices: Sequence[int],
) -> _Part:
    """Find and embed the regions of a few images; regions are counted from 0."""
    image: list[int] = []
    negative: list[bool] = []
    excited: list[tuple[int, int, int]] = []
    views = []
    for index, picture, crop, maps in _seen(images, indices, backbone):
        place = crop, picture.height, picture.width
        rows: dict[Window, int] = {}
        for channel in wanted[index].tolist():
            window = activated_window(maps[channel], *place, settings)
            if window is not None:
                excited.append((index, channel, len(image) + rows.setdefault(window, len(rows))))
        found = list(rows)
        stands = [settings.negatives == "active"] * len(found)
        if settings.negatives == "random" or not found:
            found.append(random_window(index, *place, settings))
            stands.append(True)
        image += [index] * len(found)
        negative += stands
        views.append(RegionView(picture, seen_window(*place), tuple(found)))
    embeddings, passes = embed_regions(views, embedder, settings)
    return _Part(
        embeddings,
        np.array(image, np.int64),
        np.array(negative, np.bool_),
        np.array(excited, np.int64).reshape(-1, 3),
        np.array([passes], np.int64),
    )


def _seen(
    images: Sequence[Path], indices: Sequence[int], backbone: Backbone
) -> list[tuple[int, Image.Image, Crop, Float32Array]]:
    """Return images with the network's crop and their maps (D, H, W)."""
    pictures = [read_image(images[index]) for index in indices]
    inputs, crops = zip(
        *(prepare(picture, backbone.manifest.preprocessing) for picture in pictures), strict=True
    )
    _, maps = backbone.run(np.stack(inputs))
    placed = [backbone.on_grid(crop) for crop in crops]
    return list(zip(indices, pictures, placed, maps, strict=True))


def _assembled(parts: Sequence[_Part], low: IntArray, high: IntArray, images: int) -> RegionSamples:
    """Assign regions to the samples of each channel."""
    rows = np.full(high.shape, -1, np.int64)
    begun = 0
    for part in parts:
        for image, channel, region in part.excited.tolist():
            place = int(np.searchsorted(high[channel], image))
            if place < high.shape[1] and high[channel, place] == image:
                rows[channel, place] = begun + region
        begun += len(part.image)
    image = np.concatenate([part.image for part in parts])
    negative = np.flatnonzero(np.concatenate([part.negative for part in parts]))
    counts = np.bincount(image[negative], minlength=images)
    first = np.cumsum(counts) - counts

    def drawn(samples: IntArray, seed: int) -> IntArray:
        # One region of each image, which differs between channels.
        share = np.random.default_rng(seed).random(samples.shape)
        place = first[samples] + (share * counts[samples]).astype(np.int64)
        return np.asarray(negative[np.minimum(place, len(negative) - 1)])

    # A dead channel's images may be unselected; its rows are never read.
    lowest = np.stack([drawn(own, channel) for channel, own in enumerate(low)])
    # If a channel seldom responds, its map is nowhere positive in some of its M most activating
    # images. They are treated like its least activating images.
    silent = np.stack([drawn(own, len(low) + channel) for channel, own in enumerate(high)])
    return RegionSamples(
        np.concatenate([part.embeddings for part in parts]),
        lowest,
        np.where(rows >= 0, rows, silent),
        sum(int(part.passes[0]) for part in parts),
    )


def _identity(
    images: Sequence[Path],
    wanted: Mapping[int, IntArray],
    backbone: Backbone,
    embedder: Embedder,
    settings: RegionSettings,
) -> list[object]:
    stamps = ImageFolder(images[index] for index in wanted).stamps()
    channels = [(index, own.tolist()) for index, own in wanted.items()]
    networks = backbone.manifest.weights_digest, embedder.identity
    return [stamps, channels, networks, asdict(settings)]
