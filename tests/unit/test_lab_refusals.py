"""What `sitewright lab` says to an operator whom it cannot serve, on the command line."""

import os

import pytest
from click.testing import CliRunner
from lab_site import plan_below

from sitewright.cli import main


@pytest.fixture
def plan(tmp_path):
    return plan_below(tmp_path)


def lab(plan, *arguments):
    done = CliRunner().invoke(main, ["lab", "--environment", plan.environment, *arguments])
    assert done.exit_code == 1
    return done.stderr


@pytest.mark.parametrize("arguments", [["up"], ["up", "--deploy"], ["down"]], ids=" ".join)
def test_without_root_nothing_is_made(plan, monkeypatch, arguments):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "which takes root\n  Run it as root, or with `sudo`." in lab(plan, *arguments)
    assert not plan.state.exists()


def test_an_xname_that_the_site_does_not_have_is_answered_with_those_it_has(plan):
    said = lab(plan, "ssh", "x1000c0s0b7n0")
    assert "named 'x1000c0s0b7n0' (did you mean 'x1000c0s0b1n0'?)" in said
    assert "x1000c0s0b0n0, x1000c0s0b1n0." in said
