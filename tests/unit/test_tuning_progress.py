"""How far a run is said to be, from what its training has written so far."""

import json
from math import isnan

import pytest

from sitewright.tuning.progress import RECENT, Point, Progress, points, read


def line(step: int, time: float = 0.0, loss: float = 1.0, steps: int = 100) -> str:
    logged = {"step": step, "steps": steps, "loss": loss, "learning_rate": 1e-4, "time": time}
    return json.dumps(logged) + "\n"


@pytest.fixture
def logged(tmp_path):
    """The progress that is read from a text."""

    def progress(text: str | bytes) -> Progress | None:
        path = tmp_path / "progress.jsonl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)

    return progress


def steps_of(progress: Progress) -> list[int]:
    return [point.step for point in progress.points]


def test_the_last_step_says_how_far_it_is(logged):
    now = logged("".join(line(step, time=1000 + 2 * step, loss=5 - step) for step in range(1, 5)))
    assert (now.step, now.steps, now.loss) == (4, 100, 1)
    assert now.steps_per_second == 0.5
    assert now.eta == 192


def test_a_run_that_has_not_begun_has_no_progress(tmp_path, logged):
    assert read(tmp_path / "nowhere.jsonl") is None
    assert points(tmp_path / "nowhere.jsonl") == []
    assert logged("") is None
    assert logged('{"step": 1, "ste') is None


def test_one_step_has_no_rate_yet(logged):
    now = logged(line(1))
    assert (now.step, now.steps_per_second, now.eta) == (1, None, None)


@pytest.mark.parametrize("cut", range(1, len(line(3))))
def test_a_half_written_last_line_is_left_for_the_next_look(logged, cut):
    assert steps_of(logged(line(1) + line(2) + line(3)[:-cut])) == ([1, 2, 3] if cut == 1 else [1, 2])


@pytest.mark.parametrize(
    "broken",
    [
        line(3)[:20] + line(3),
        "\n",
        "\0\0\0\0\n",
        "[]\n",
        '{"step": -1, "steps": 2, "loss": 1, "time": 1}\n',
        '{"step": 3, "steps": 0, "loss": 1, "time": 1}\n',
        '{"step": 3, "steps": 9, "loss": null, "time": 1}\n',
        b"\xff\xfe\n",
    ],
)
def test_a_line_that_cannot_be_read_takes_no_other_with_it(logged, broken):
    """A run that is killed leaves half a line, and the next one writes on behind it."""
    broken = broken if isinstance(broken, bytes) else broken.encode()
    assert steps_of(logged(line(1).encode() + broken + line(4).encode())) == [1, 4]


def test_after_a_resume_the_later_line_of_a_step_counts(logged):
    now = logged("".join([line(1), line(2, loss=2), line(3, loss=3), line(2, loss=20), line(3, loss=30)]))
    assert [(point.step, point.loss) for point in now.points] == [(1, 1), (2, 20), (3, 30)]


def test_after_a_resume_steps_that_were_lost_are_not_shown(logged):
    """It was at step 60, its checkpoint was of step 50: now it is at step 51."""
    now = logged("".join(line(step) for step in [*range(1, 61), 51]))
    assert now.step == 51
    assert steps_of(now) == list(range(1, 52))


def test_the_wait_before_a_resume_is_not_part_of_the_rate(logged):
    times = [*range(1, 11), *range(5000, 5010)]
    now = logged("".join(line(step, time) for step, time in enumerate(times, 1)))
    assert now.steps_per_second == 1


def test_the_rate_is_that_of_the_last_twenty_logged_steps(logged):
    slow = [10.0 * step for step in range(1, 200)]
    fast = [slow[-1] + step for step in range(1, RECENT + 1)]
    assert logged("".join(line(*one) for one in enumerate(slow + fast, 1))).steps_per_second == 1


def test_steps_that_are_logged_seldom_all_count(logged):
    now = logged("".join(line(step, time=step / 10) for step in (10, 20, 30)))
    assert now.steps_per_second == pytest.approx(10)
    assert now.eta == pytest.approx(7)


def test_a_clock_that_goes_back_gives_no_negative_rate(logged):
    assert logged(line(1, time=100) + line(2, time=50)).steps_per_second is None
    assert logged(line(1, time=100) + line(2, time=50) + line(3, time=51)).steps_per_second == 1


def test_a_run_at_its_end_has_nothing_left(logged):
    assert logged(line(99, 1) + line(100, 2)).eta == 0


def test_a_loss_that_is_no_number_is_told_as_it_is(logged):
    now = logged(line(1) + line(2, loss=float("nan")))
    assert now.step == 2
    assert isnan(now.loss)


def test_further_keys_of_a_line_do_not_matter():
    Point.model_validate_json('{"step": 1, "steps": 2, "loss": 1, "time": 3, "grad_norm": 0.5}')
