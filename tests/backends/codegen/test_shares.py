"""Who runs which call, and who waits for whom."""

from __future__ import annotations

import pytest

from qc.backends.codegen import shares
from qc.backends.codegen.program import Call, Program
from qc.backends.codegen.regions import Region
from qc.backends.codegen.shares import Shares, shares_of

LONG, SHORT = 1e-3, 1e-7


def program(calls: str, *regions: Region) -> Program:
    """A program of long (``l``), short (``s``) and indivisible (``i``) calls."""
    return Program(calls=[Call(c, (), "node") for c in calls], regions=[*regions])


@pytest.fixture(autouse=True)
def estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "estimate", lambda _: {"l": LONG, "s": SHORT, "i": LONG})


def shared(calls: str, *regions: Region) -> tuple[str, str]:
    """Marks under the calls that are split, and under those that all wait for."""
    found = shares_of(program(calls, *regions), {"l": 8, "s": 8, "i": 1})
    assert isinstance(found, Shares)
    split, wait = ("".join(".x"[flag] for flag in flags) for flags in (found.split, found.wait))
    return split, wait


def test_long_calls_are_split_and_short_ones_are_not() -> None:
    assert shared("slislls") == (".x..xx.", "xx.xxx.")


def test_nobody_waits_after_the_last_call() -> None:
    assert shared("ll")[1] == "x."


def test_all_wait_where_a_branch_begins_and_ends() -> None:
    assert shared("sssssssl", Region(2, 5))[1] == ".x..x.x."


def test_all_wait_before_a_loop_goes_around() -> None:
    assert shared("lsss", Region(1, 4, trips=3))[1] == "x..x", "its last call is not the last"
    assert shared("lsss", Region(1, 4))[1] == "x...", "a branch does not"


@pytest.mark.parametrize("calls", ["", "s" * 9, "i"])
def test_threads_stay_asleep_where_they_would_gain_little(calls: str) -> None:
    assert shares_of(program(calls), {"l": 8, "s": 8, "i": 1}) is None


def test_a_short_loop_that_goes_around_often_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    extents, loop = {"l": 8}, Region(0, 1, trips=100)
    monkeypatch.setattr(shares, "estimate", lambda _: {"l": shares.WAKE / 10})
    assert shares_of(program("l"), extents) is None
    assert shares_of(program("l", loop), extents) is not None
