"""The plan of the arena: nothing that lives at the same time overlaps."""

from hypothesis import given
from hypothesis import strategies as st

from qc.backends.codegen.memory import ALIGNMENT, Interval, plan

intervals = st.lists(
    st.builds(
        lambda size, first, length: Interval(size, first, first + length),
        st.integers(1, 5000), st.integers(0, 30), st.integers(0, 10),
    ),
    max_size=25,
)  # fmt: skip


@given(intervals)
def test_no_overlap(items: list[Interval]) -> None:
    offsets = plan(items).offsets
    for i, a in enumerate(items):
        assert offsets[i] % ALIGNMENT == 0
        for j in range(i):
            apart = offsets[i] + a.room <= offsets[j] or offsets[j] + items[j].room <= offsets[i]
            assert apart or not a.meets(items[j])


@given(intervals)
def test_peak_covers_all_and_is_no_more_than_the_sum(items: list[Interval]) -> None:
    result = plan(items)
    ends = [o + x.room for o, x in zip(result.offsets, items, strict=True)]
    assert result.peak == max(ends, default=0) <= sum(x.room for x in items)


def test_a_chain_reuses_memory() -> None:
    chain = [Interval(1000, i, i + 1) for i in range(10)]
    assert plan(chain).peak == 2 * chain[0].room


def test_the_smallest_hole_is_taken() -> None:
    items = [
        Interval(4032, 0, 9), Interval(2000, 0, 1), Interval(1984, 0, 9), Interval(1000, 0, 1),
        Interval(960, 0, 9), Interval(900, 5, 6),
    ]  # fmt: skip
    result = plan(items)
    assert result.offsets[5] in (result.offsets[1], result.offsets[3])
    assert result.peak == plan(items[:5]).peak
