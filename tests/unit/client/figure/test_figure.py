"""The picture for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from client_samples import make_pixels
from PIL import Image, ImageDraw
from textcam_client import Contrast, Crop, MapsDeclined, TopK, draw_figure
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.geometry import inside
from textcam_client.figure import wording
from textcam_client.figure.figure import _Canvas, _header, _meanings, _tiles
from textcam_client.figure.sheet import Sheet, row
from textcam_client.testing import serve_in_memory

TILE = 100
MARGIN, GAP = 10, 6


@pytest.fixture
def grey() -> np.ndarray:
    """A photograph without colour: what is coloured in a figure of it was drawn."""
    return np.full((80, 120, 3), 120, np.uint8)


def canvas(pixels: np.ndarray) -> _Canvas:
    """Of an image as large as its panel, of which the network saw the central square."""
    height, width = pixels.shape[:2]
    crop = Crop((width - height) / 2, 0, height, height)
    return _Canvas(Image.fromarray(pixels), crop, (height, width), 1)


def panel(figure: Image.Image, column: int, row_top: int, height: int) -> np.ndarray:
    left = MARGIN + column * (TILE + GAP)
    return np.asarray(figure)[row_top : row_top + height, left : left + TILE].astype(int)


def first_row_top(figure: Image.Image, height: int) -> int:
    """Where the photograph's panel begins: its grey fills whole rows of the first tile."""
    tile = np.asarray(figure)[:, MARGIN : MARGIN + TILE]
    rows = np.flatnonzero((tile == 120).all(axis=(1, 2)))
    assert (np.diff(rows[:height]) == 1).all()
    return int(rows[0])


def without_relative_maps(answer):
    """As an older server answers."""
    (target,) = answer.explanations
    groups = tuple(replace(group, relative_map=None) for group in target.groups)
    return replace(answer, explanations=(replace(target, groups=groups),))


def test_panels_are_photograph_whole_map_and_a_panel_per_group_on_one_scale(client, grey):
    answer = without_relative_maps(client.explain(grey, max_phrases=2))
    target = answer.explanation
    figure = draw_figure(answer, tile_width=TILE, columns=5)
    assert figure.mode == "RGB"
    assert figure.width == 2 * MARGIN + 5 * TILE + 4 * GAP
    height = round(TILE * 80 / 120)
    top = first_row_top(figure, height)
    photo, whole, one, other, rest = (panel(figure, i, top, height) for i in range(5))
    assert (photo == 120).all()
    # The grey image is seen alike everywhere inside the crop, which spans 2/3 of the width.
    middle, edge = np.s_[height // 2, TILE // 2], np.s_[height // 2, 2]
    for tile in (whole, one, other, rest):
        assert (tile[edge] == 0.4 * 120).all()
    change = [np.abs(tile[middle] - 120).sum() for tile in (whole, one, other)]
    assert target.groups[0].evidence > target.groups[1].evidence > 0
    assert change[0] > change[1] > change[2] > 0
    hottest = np.array([255, 246, 132]) * 0.8 + 120 * 0.2
    np.testing.assert_allclose(whole[middle], hottest, atol=1)


def test_header_bar_is_as_long_as_the_probability(client, grey):
    answer = client.explain(grey)
    figure = np.asarray(draw_figure(answer, tile_width=TILE, columns=4)).astype(int)
    width = 4 * TILE + 3 * GAP
    dark = (figure[:, MARGIN : MARGIN + width] < 60).all(axis=2)
    expected = answer.predictions[0].probability * width
    # The bar is the one long unbroken dark run.
    longest = max(int(row.argmin()) for row in dark if row[0])
    assert longest == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(("height", "width"), [(40, 300), (300, 40), (2000, 1500), (5, 5)])
def test_every_shape_of_photograph_fits_its_panels(client, height, width):
    answer = client.explain(make_pixels(height, width))
    figure = draw_figure(answer, tile_width=TILE)
    assert figure.width in {2 * MARGIN + n * TILE + (n - 1) * GAP for n in (3, 4, 5)}
    assert figure.height < 500


def test_numbers_are_amounts_of_the_logit_or_shares_of_the_methods_evidence(client, grey):
    (target,) = client.explain(grey, max_phrases=2).explanations
    assert target.in_logit_units
    one, two, rest = (group.evidence for group in (*target.groups, target.rest))
    numbers = [tile.number for tile in _tiles(target, canvas(grey))]
    assert numbers == ["", *(f"{number:+.1f}" for number in (one + two + rest, one, two, rest))]
    assert wording.sums(target).endswith(f"bias {target.bias:+.1f}   = logit {target.logit:.1f}")
    off = replace(target, logit=target.logit + 2.5, gap=2.5)
    assert _tiles(off, canvas(grey))[1].number == numbers[1]
    assert wording.sums(off).endswith(f"gap +2.5   = logit {target.logit + 2.5:.1f}")
    own_scale = replace(off, in_logit_units=False)
    whole = abs(one) + abs(two) + abs(rest)
    shares = [f"{number / whole:+.0%}" for number in (one + two + rest, one, two, rest)]
    assert [t.number for t in _tiles(own_scale, canvas(grey))] == ["", *shares]
    assert wording.sums(own_scale).endswith(
        f"of the method's evidence, not of the logit {off.logit:.1f}"
    )


def test_a_contrasts_number_is_said_to_be_the_difference_of_two_logits(client, grey):
    (target,) = client.explain(grey, target=Contrast("daisy", "barn owl")).explanations
    assert wording.sums(target).endswith(f"= difference of logits {target.logit:.1f}")
    own_scale = replace(target, in_logit_units=False)
    assert wording.sums(own_scale).endswith(f"not of the difference of logits {target.logit:.1f}")
    widths = []
    for shown in (target, replace(target, reference=None)):
        header = np.asarray(_header(Sheet(TILE), shown, 600))[:-2, 300:]
        widths.append(300 - np.flatnonzero((header != header[0, 0]).any(axis=(0, 2)))[0])
    words = ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(
        "difference of logits", Sheet(TILE).font(7)
    )
    # The right half holds the label and the probability: the words are drawn, or "logit" alone.
    assert widths[0] > words > widths[1]


def test_a_phrases_panel_is_its_relative_map_and_the_rests_its_own(client):
    pixels = make_pixels(80, 120)
    (target,) = client.explain(pixels, max_phrases=2).explanations
    _, whole, *phrases, rest = (np.asarray(tile.picture) for tile in _tiles(target, canvas(pixels)))
    # Within the frame, which is drawn a pixel wide.
    seen = inside(Crop(21, 1, 78, 78), (80, 120), (80, 120))
    whole_heat = target.heatmap(smooth=True)
    # Of where the model looked, what is more for the phrase than for others, on its own scale.
    products = [g.relative_heatmap() * np.sqrt(whole_heat) for g in target.groups]
    heats = [whole_heat, *(p / p.max() for p in products), target.rest.heatmap(smooth=True)]
    for drawn, heat in zip((whole, *phrases, rest), heats, strict=True):
        np.testing.assert_array_equal(drawn[seen], blend(pixels, heat, 0.8)[seen])
    assert np.abs(phrases[0].astype(int) - phrases[1]).mean() > 5


def test_what_the_network_did_not_see_is_dimmed_behind_a_frame(client, grey):
    (target,) = client.explain(grey, max_phrases=2).explanations
    photo, *drawn = (np.asarray(tile.picture) for tile in _tiles(target, canvas(grey)))
    assert (photo == 120).all()
    for picture in drawn:
        assert (picture[:, [*range(20), *range(100, 120)]] == 48).all()
        assert (picture[:, [20, 99]] == 255).all()
        assert (picture[[0, -1], 20:100] == 255).all()
        assert not (picture[1:-1, 21:99] == 255).all(axis=2).any()
    assert any("The frame" in told for told in _meanings(target, framed=True))
    assert not any("frame" in told for told in _meanings(target, framed=False))


def test_beside_a_phrase_stand_its_chance_share_effect_and_kind_and_below_what_they_mean(
    client, grey
):
    (target,) = client.explain(grey, max_phrases=1).explanations
    told = replace(target.phrases[0], probability=0.938, evidence=3.21, effect=8.7, kind="texture")
    group = replace(target.groups[0], phrase=told, evidence=3.21)
    target = replace(target, phrases=(told,), groups=(group,))
    tile = _tiles(target, canvas(grey))[2]
    assert (tile.caption, tile.chance, tile.number, tile.note, tile.kind) == (
        told.text, "94%", "+3.2", "effect +8.7", "texture",
    )  # fmt: skip
    numbers, panels = _meanings(target, framed=True)
    assert "94%: the chance that the phrase is true of what the network saw" in numbers
    assert "+3.2: its share of the logit; shares, rest and bias add up" in numbers
    assert (
        "effect +8.7: all evidence, by how far it supports the phrase; phrases overlap" in numbers
    )
    assert "the network sees it more than the other phrases" in panels
    assert "not where a part of the object is" in panels
    own_scale = replace(target, in_logit_units=False)
    assert (
        "its share of the method's evidence; shares and rest"
        in _meanings(own_scale, framed=True)[0]
    )
    older = replace(told, probability=None, effect=0.0, kind=None)
    group = replace(group, phrase=older, relative_map=None)
    target = replace(target, phrases=(older,), groups=(group,))
    tile = _tiles(target, canvas(grey))[2]
    assert (tile.chance, tile.number, tile.note, tile.kind) == ("", "+3.2", "", "")
    numbers, panels = _meanings(target, framed=True)
    assert "chance" not in numbers
    assert "effect" not in numbers
    assert "All panels have one scale" in panels


@pytest.mark.parametrize(
    ("probability", "said"),
    [(None, ""), (1.0, ">99%"), (0.9951, ">99%"), (0.994, "99%"), (0.004, "<1%"), (0.0, "<1%")],
)
def test_a_chance_is_never_quite_nothing_or_certain(client, grey, probability, said):
    phrase = client.explain(grey).phrases[0]
    assert wording.chance(replace(phrase, probability=probability)) == said


def test_each_text_of_a_tile_is_drawn_and_a_long_caption_set_smaller_before_it_is_cut(client, grey):
    (target,) = client.explain(grey, max_phrases=1).explanations
    tile = _tiles(target, canvas(grey))[2]
    changes = [{"chance": "1%"}, {"number": "+0"}, {"note": "effect +99.0"}, {"kind": "thing"}]
    tiles = [tile, *(replace(tile, **change) for change in changes)]
    rows = [row(Sheet(320), [shown], 320, 80) for shown in tiles]
    assert len({drawn.tobytes() for drawn in rows}) == 5
    long, longer = (
        row(Sheet(320), [replace(tile, caption=caption)], 320, 80).tobytes()
        for caption in ("steering wheel of a car", "steering wheel of a cab")
    )
    assert long != longer
    plain = replace(tile, kind="", note="")
    assert row(Sheet(320), [plain], 320, 80).height < rows[0].height


def test_where_nothing_is_said_the_figure_says_so_and_shows_the_whole_and_the_rest(
    client, grey, monkeypatch
):
    answer = client.explain(grey, min_probability=1)
    (target,) = answer.explanations
    assert target.phrases == target.groups == ()
    captions = [tile.caption for tile in _tiles(target, canvas(grey))]
    assert captions == ["photograph", "where it looked", "all the rest"]
    told = []
    write = ImageDraw.ImageDraw.text

    def noted(self, place, text, *rest, **options):
        told.append(text)
        return write(self, place, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    draw_figure(answer, columns=5)
    assert wording.NOTHING_SAID in told
    told.clear()
    draw_figure(client.explain(grey, include_groups=False), columns=5)
    assert wording.NOTHING_SAID not in told


def test_panels_go_by_the_answers_order_where_phrases_have_chances(client, grey):
    (target,) = client.explain(grey, max_phrases=3).explanations
    groups = target.groups
    turned = replace(target, groups=groups[::-1])
    captions = [tile.caption for tile in _tiles(turned, canvas(grey))]
    assert captions[2:-1] == [group.phrase.text for group in groups[::-1]]


def test_panels_go_by_evidence_where_phrases_have_no_chances(grey):
    with serve_in_memory(calibrated=False) as server, server.client() as client:
        (target,) = client.explain(grey, max_phrases=3).explanations
    groups = target.groups
    shuffled = replace(target, groups=(groups[1], groups[2], groups[0]))
    names = [tile.caption for tile in _tiles(shuffled, canvas(grey))]
    assert names[2:-1] == [group.phrase.text for group in groups]
    assert [g.evidence for g in groups] == sorted((g.evidence for g in groups), reverse=True)


def test_what_rounds_to_nothing_has_no_minus(client, grey):
    (target,) = client.explain(grey, max_phrases=1).explanations
    tiny = replace(target, bias=-0.01, gap=0.0, logit=-0.01)
    assert wording.sums(tiny).endswith("bias +0.0   = logit 0.0")
    assert wording.amount(tiny, -0.01) == "+0.0"
    assert wording.amount(replace(tiny, in_logit_units=False), -1e-9) == "+0%"


def test_each_target_has_its_section(client, grey):
    one = draw_figure(client.explain(grey, max_phrases=2), tile_width=TILE)
    two = draw_figure(client.explain(grey, max_phrases=2, target=TopK(2)), tile_width=TILE)
    assert two.height > 1.7 * one.height


def test_long_texts_stay_inside_the_paper(grey):
    wordy = ["an exceedingly long phrase that never ends " * 3 + str(i) for i in range(6)]
    names = ["a class with more words than any header has room for " * 4 + str(i) for i in range(3)]
    with serve_in_memory(vocabulary=wordy, class_names=names) as other, other.client() as client:
        figure = np.asarray(draw_figure(client.explain(grey), tile_width=TILE))
    paper = figure[0, 0]
    for edge in (figure[:, : MARGIN - 2], figure[:, -MARGIN + 2 :], figure[: MARGIN - 2]):
        assert (edge == paper).all()


def test_the_photograph_may_be_given(client, png, pixels):
    answer = client.explain(png)
    assert draw_figure(answer, image=pixels).tobytes() == draw_figure(answer).tobytes()


@pytest.mark.parametrize(
    "options", [{"tile_width": 0}, {"tile_width": -5}, {"columns": 0}, {"columns": -1}]
)
def test_measures_of_nothing_are_refused_in_words(client, grey, options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{name} is at least 1.* {name}={value}"):
        draw_figure(client.explain(grey), **options)


def test_letters_beyond_ascii_are_drawn_with_the_font_that_is_given(client, grey):
    """Pillow's own font draws the same box for each of them."""
    matplotlib = pytest.importorskip("matplotlib")
    dejavu = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    targets = client.explain(grey).explanations
    named = [
        replace(targets[0], target=replace(targets[0].target, class_name=name))
        for name in ("żółw", "żąłw")
    ]
    own, given = (
        [_header(Sheet(TILE, font), target, 600).tobytes() for target in named]
        for font in (None, dejavu)
    )
    assert own[0] == own[1]
    assert given[0] != given[1]
    answer = client.explain(grey)
    assert draw_figure(answer, font=str(dejavu)).tobytes() != draw_figure(answer).tobytes()
    with pytest.raises(OSError, match="cannot open"):
        draw_figure(answer, font="nowhere.ttf")


def test_declined_groups_leave_their_panels_out_and_declined_maps_are_an_error(client, grey):
    with_groups = draw_figure(client.explain(grey, max_phrases=4), tile_width=TILE)
    without = draw_figure(
        client.explain(grey, max_phrases=4, include_groups=False), tile_width=TILE
    )
    assert without.height < with_groups.height
    with pytest.raises(MapsDeclined):
        draw_figure(client.explain(grey, heatmap="none"))
