"""The picture of the loss: that it is a picture, and that what it shows is where the axes say."""

import re
from math import inf, nan
from xml.etree import ElementTree

import pytest

from sitewright.errors import SitewrightError
from sitewright.tuning.curve import DRAWN, HEIGHT, WIDTH, Axis, Sample, loss_curve, smoothed
from sitewright.tuning.progress import Point

SVG = "{http://www.w3.org/2000/svg}"


def logged(losses) -> list[Point]:
    return [Point(step=step, steps=1000, loss=loss, time=step) for step, loss in enumerate(losses, 1)]


@pytest.fixture
def drawn(tmp_path):
    """The parsed picture of these losses."""

    def draw(losses, **more) -> ElementTree.Element:
        loss_curve(logged(losses), tmp_path / "loss.svg", **more)
        return ElementTree.parse(tmp_path / "loss.svg").getroot()

    return draw


def line(picture, name: str) -> list[tuple[float, float]]:
    [found] = [one for one in picture.iter(f"{SVG}polyline") if one.get("id") == name]
    return [tuple(map(float, pair.split(","))) for pair in found.get("points").split()]


def texts(picture) -> list[str]:
    return ["".join(one.itertext()) for one in picture.iter(f"{SVG}text")]


def test_both_lines_lie_within_the_picture(drawn):
    picture = drawn([3 / step for step in range(1, 101)])
    for name in ("raw", "smoothed"):
        places = line(picture, name)
        assert len(places) == 100
        assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)
        assert places == sorted(places), "steps go to the right"
        assert places[0][1] < places[-1][1], "a smaller loss is further down"


def test_a_point_lies_where_the_labels_of_the_axes_say(drawn):
    picture = drawn([4, 3, 2, 1, 0])
    heights = {
        one.text: float(one.get("y")) - 4
        for group in picture.iter(f"{SVG}g")
        if group.get("text-anchor") == "end"
        for one in group
        if re.fullmatch(r"\d", one.text or "")
    }
    assert set(heights) == {"0", "1", "2", "3", "4"}
    for loss, (_, y) in zip([4, 3, 2, 1, 0], line(picture, "raw"), strict=True):
        assert y == pytest.approx(heights[str(loss)], abs=0.02)


def test_the_axes_have_names(drawn):
    assert {"step", "loss"} <= set(texts(drawn([2, 1])))


def test_a_title_is_text_and_nothing_else(drawn):
    picture = drawn([2, 1], title='<script>alert("x")</script> & more')
    assert '<script>alert("x")</script> & more' in texts(picture)
    assert not list(picture.iter(f"{SVG}script"))


def test_the_picture_needs_no_other_file(drawn, tmp_path):
    drawn([2, 1])
    text = (tmp_path / "loss.svg").read_text()
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|<style|@import|url\(", text)


def test_losses_that_are_no_numbers_are_left_out_and_counted(drawn):
    picture = drawn([3, nan, 2, inf, 1])
    assert len(line(picture, "raw")) == 3
    assert "steps without a finite loss, left out: 2" in texts(picture)


@pytest.mark.parametrize(
    "losses", [[2.5], [0.0], [1, 1, 1], [1e9, 1e9 + 1], [0.0, 0.0], [-1, -2], [1e-9, 2e-9]]
)
def test_few_or_equal_losses_are_drawn_too(drawn, losses):
    picture = drawn(losses)
    if len(losses) == 1:
        assert len(list(picture.iter(f"{SVG}circle"))) == 1
    else:
        assert len(line(picture, "raw")) == len(losses)


def test_a_long_run_gives_a_small_picture_that_ends_at_its_last_step(drawn, tmp_path):
    picture = drawn([1 + 1 / step for step in range(1, 50_001)])
    assert len(line(picture, "raw")) <= DRAWN
    assert (tmp_path / "loss.svg").stat().st_size < 64 * 1024
    assert line(picture, "raw")[-1][0] == pytest.approx(WIDTH - 40, abs=1)


@pytest.mark.parametrize(
    ("losses", "message"),
    [([], "no step is logged yet"), ([nan, inf], "2 steps are logged, and none has a finite loss")],
)
def test_nothing_to_draw_is_an_error_and_writes_no_file(tmp_path, losses, message):
    with pytest.raises(SitewrightError, match=rf"loss\.svg: nothing to draw: {message}"):
        loss_curve(logged(losses), tmp_path / "loss.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SitewrightError, match=r"nowhere/loss\.svg: cannot be written: No such file"):
        loss_curve(logged([2, 1]), tmp_path / "nowhere/loss.svg")


def test_a_picture_is_replaced_and_nothing_else_is_left(tmp_path):
    for losses in ([1, 2], [2, 1]):
        loss_curve(logged(losses), tmp_path / "loss.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.svg"]


def test_the_smoothed_line_neither_lags_nor_drifts():
    straight = [Sample(step, 100 - step) for step in range(100)]
    assert [one.loss for one in smoothed(straight)] == pytest.approx([one.loss for one in straight])
    zigzag = smoothed([Sample(step, 1 + (-1) ** step) for step in range(200)])
    assert all(0.5 < sample.loss < 1.5 for sample in zigzag[5:-5])


@pytest.mark.parametrize(
    ("low", "high", "whole", "labels"),
    [
        (0, 4, False, ["0", "1", "2", "3", "4"]),
        (0.12, 0.19, False, ["0.12", "0.14", "0.16", "0.18"]),
        (1, 3, True, ["1", "2", "3"]),
        (1, 200_000, True, ["50,000", "100,000", "150,000", "200,000"]),
    ],
)
def test_labels_are_round_numbers(low, high, whole, labels):
    assert [tick.label for tick in Axis(low, high, 0, 100).ticks(whole)] == labels
