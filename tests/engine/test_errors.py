"""The error tree: every leaf is told apart, documented, and comes back from JSON."""

from __future__ import annotations

import pytest

from headrace import errors
from headrace.cli import exit_status


def test_codes_are_unique_and_documented():
    """Each leaf's code stands in the module's drawing."""
    codes = [leaf.code for leaf in errors.leaves()]
    assert len(codes) == len(set(codes))
    for leaf in errors.leaves():
        assert leaf.__name__ in errors.__doc__
        assert leaf.code in errors.__doc__


def test_retryable_leaves_are_marked_in_the_drawing():
    """What the drawing says of retries is what the code does."""
    for leaf in errors.leaves():
        line = next(line for line in errors.__doc__.splitlines() if f" {leaf.__name__} " in line + " ")
        assert ("(retryable)" in line) is leaf.retryable


@pytest.mark.parametrize("leaf", list(errors.leaves()))
def test_an_error_survives_json(leaf):
    """As an item's error, and as a problem document."""
    error = leaf("what happened", hint="what to do")
    again = errors.from_json(error.to_json())
    assert type(again) is leaf
    assert (again.message, again.hint) == ("what happened", "what to do")


def test_exit_statuses_are_those_of_the_contract():
    """DESIGN.md, the command line."""
    expected = {
        errors.InvalidSource: 2,
        errors.NotFound: 4,
        errors.NotAllowed: 5,
        errors.Conflict: 6,
        errors.Limited: 7,
        errors.DiskFull: 1,
        errors.StackError: 1,
    }
    assert {kind: exit_status(kind("x")) for kind in expected} == expected
