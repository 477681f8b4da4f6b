"""Least squares after removal: the closed forms against numpy's own solver, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir.actions import delete
from qc.ir.coupling import Coupling
from qc.ir.evaluate import evaluate
from qc.passes.context import Context
from qc.passes.fitting import cursor, fit
from qc.passes.fitting.gram import Gram
from qc.passes.pruning import obs
from qc.passes.pruning.compensate import assign, joint, sequential
from qc.passes.pruning.obs import _parts, damped, eliminate
from qc.passes.pruning.readers import readers
from qc.passes.statistics.moments import Moments
from qc.passes.statistics.streaming import stream

Feeds = list[dict[str, np.ndarray]]


def chain(seed: int = 0) -> tuple[Builder, Feeds]:
    """Two layers of which the second reads what the first makes, and a classifier."""
    b = Builder((1, 3, 6, 6), seed)
    x = b.op("Relu", b.conv(b.x, 8))
    x = b.op("Relu", b.conv(x, 6))
    b.done(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 4))
    return b, b.feeds(12)


def observed(coupling: Coupling, feeds: Feeds) -> dict[str, Moments]:
    found = {r.name: Moments(r.layer, 10_000) for r in readers(coupling)}
    values = [(m.layer.node.operands[0].name, m) for m in found.values()]
    stream(coupling.graph, Context(calibration=feeds), values, "observe")
    return found


def removed(coupling: Coupling, counts: dict[int, int]) -> np.ndarray:
    gone = np.zeros(coupling.count, bool)
    for group, count in counts.items():
        gone[coupling.deletable()[group].channels[:count]] = True
    return gone


def test_the_joint_update_is_least_squares_on_the_kept_columns() -> None:
    b, feeds = chain()
    coupling = Coupling(b.graph)
    moments = observed(coupling, feeds)
    gone = removed(coupling, {0: 3})
    reader = next(r for r in readers(coupling) if r.dropped(gone).any())
    data = joint(coupling, readers(coupling), moments, gone)
    h, w = moments[reader.name].covariance[0], reader.layer.weights()[0].reshape(6, -1)
    kept = np.repeat(~reader.dropped(gone), 9)
    count = moments[reader.name].evidence
    level = obs.DAMPING * (1 + obs.SCARCE * kept.sum() / count)
    level = np.sqrt(level * np.trace(h[np.ix_(kept, kept)]) / kept.sum())
    root = np.linalg.cholesky(h + 1e-12 * np.eye(len(h))).T
    rows = np.vstack([root[:, kept], level * np.eye(kept.sum())])
    aims = np.vstack([root @ w.T, level * w[:, kept].T])
    expected = np.linalg.lstsq(rows, aims, rcond=None)[0].T
    found = data[reader.layer.node.operands[1].name].reshape(6, -1)
    np.testing.assert_allclose(found[:, kept], expected, atol=1e-6)
    assert not found[:, ~kept].any()
    # The same in double precision, where the update is not rounded to the weights' dtype.
    new = (
        w[:, kept]
        + np.linalg.solve(
            damped(h[np.ix_(kept, kept)], count), h[np.ix_(kept, ~kept)] @ w[:, ~kept].T
        ).T
    )
    assert np.abs(new - expected).max() <= 1e-8 * np.abs(expected).max()


def test_elimination_one_by_one_is_elimination_at_once() -> None:
    b, feeds = chain(1)
    coupling = Coupling(b.graph)
    moments = observed(coupling, feeds)
    group = coupling.deletable()[0]
    reader = next(r for r in readers(coupling) if np.isin(r.elements, group.channels).any())
    (part,) = _parts(group, reader, moments[reader.name])
    for channel in (5, 1, 6):
        part.remove(np.array([channel]))
    h, w = (
        damped(moments[reader.name].covariance[0], moments[reader.name].evidence),
        reader.layer.weights()[0].reshape(6, -1),
    )
    lost = np.isin(np.arange(72) // 9, (5, 1, 6))
    inverse = np.linalg.inv(h)
    gain = np.linalg.solve(inverse[np.ix_(lost, lost)], inverse[lost])
    expected = w - w[:, lost] @ gain
    assert np.abs(part.weights[:, ~lost] - expected[:, ~lost]).max() <= 1e-8 * np.abs(w).max()


def test_the_predicted_error_is_the_error() -> None:
    b, feeds = chain(2)
    coupling = Coupling(b.graph)
    moments = observed(coupling, feeds)
    group = coupling.deletable()[0]
    mine = [r for r in readers(coupling) if np.isin(r.elements, group.channels).any()]
    order, errors = eliminate(group, mine, moments)
    assert sorted(order) == sorted(group.channels)
    assert np.isinf(errors[-1])
    (reader,) = mine
    h, w = moments[reader.name].covariance[0], reader.layer.weights()[0].reshape(6, -1)
    (part,) = _parts(group, reader, moments[reader.name])
    for c in order[:4]:
        part.remove(np.flatnonzero(group.channels == c))
    lost = w - part.weights
    actual = np.trace(lost @ damped(h, moments[reader.name].evidence) @ lost.T) / np.trace(
        w @ h @ w.T
    )
    assert actual == pytest.approx(errors[:4].sum(), rel=1e-9)


def test_sequential_is_joint_where_nothing_before_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The layer behind the first cut sees float inputs, so both solve the same equations."""
    monkeypatch.setattr(fit, "POSITIONS", 10_000)
    monkeypatch.setattr(fit, "DAMPINGS", (1e-14,))
    monkeypatch.setattr(obs, "DAMPING", 0.0)
    b = Builder((1, 5, 3), dtype="float64")
    x = b.op("Tanh", b.op("MatMul", b.x, b.normal(3, 8)))
    b.done(b.op("MatMul", x, b.normal(8, 4)))
    feeds = [{"x": b.rng.normal(size=(1, 5, 3))} for _ in range(20)]
    coupling = Coupling(b.graph)
    (reader,) = [r for r in readers(coupling) if r.layer.node is b.graph.nodes[-1]]
    seen = Moments(reader.layer, 10_000)
    for feed in feeds:
        seen.add(evaluate(b.graph, feed, [x.name])[x.name])
    moments = {reader.name: seen}
    gone = removed(coupling, {0: 3})
    small = delete(coupling, gone)
    last = small.nodes[-1].operands[1]
    sequential(coupling, small, gone, Context(calibration=feeds), feeds)
    data = joint(coupling, readers(coupling), moments, gone)
    expected = data[last.name][~gone[coupling.channels(coupling.graph[last.name], 0)[0]]]
    found = small[last.name].data
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(expected).max()


def test_compensation_helps_and_the_sequence_helps_more() -> None:
    b = Builder((1, 3, 6, 6), 3)
    x = b.x
    for _ in range(4):  # twelve channels that are about mixtures of six
        narrow = b.rng.normal(0, 0.2, (6, x.shape[1], 3, 3))
        w = b.const(np.tensordot(b.rng.normal(0, 0.5, (12, 6)), narrow, 1))
        x = b.op("Tanh", b.op("Conv", x, w, b.normal(12, scale=0.1), pads=(1, 1, 1, 1)))
    b.done(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 4))
    waves = b.rng.normal(size=(4, 1, 3, 6, 6))
    mixtures = b.rng.normal(size=(100, 4, 1, 1, 1, 1))
    feeds = [{"x": (waves * m).sum(0).astype(np.float32)} for m in mixtures]
    coupling = Coupling(b.graph)
    moments = observed(coupling, feeds)
    gone = removed(coupling, dict.fromkeys(range(4), 5))

    def error(how: str) -> float:
        small = delete(coupling, gone)
        if how == "joint":
            for name, array in joint(coupling, readers(coupling), moments, gone).items():
                for axis, kept in enumerate(coupling.keeps(coupling.graph[name], gone)):
                    array = np.compress(kept, array, axis)
                assign(small, {name: array})
        if how == "sequential":
            sequential(coupling, small, gone, Context(calibration=feeds), feeds)
        pairs = [(evaluate(b.graph, f), evaluate(small, f)) for f in feeds]
        return float(np.mean([np.square(p["gemm"] - q["gemm"]).mean() for p, q in pairs]))

    none, once, twice = (error(how) for how in ("none", "joint", "sequential"))
    assert twice < once < 0.7 * none


def test_a_shortcut_is_made_up_for() -> None:
    """The last layer before a sum is fitted to the float sum less the pruned shortcut."""
    b = Builder((1, 4, 6, 6), 5)
    stem = b.op("Relu", b.conv(b.x, 8))
    inner = b.op("Relu", b.conv(stem, 8))
    total = b.op("Add", b.conv(inner, 8), stem)
    b.done(b.conv(total, 3, 1))
    feeds = b.feeds(30)
    coupling = Coupling(b.graph)
    stream_group = next(g for g in coupling.deletable() if any(p.value is stem for p in g.places))
    gone = np.zeros(coupling.count, bool)
    gone[stream_group.channels[:2]] = True
    small = delete(coupling, gone)
    sequential(coupling, small, gone, Context(calibration=feeds), feeds)
    kept = coupling.keep(total, 1, gone)
    before = [evaluate(b.graph, f, [total.name])[total.name][:, kept] for f in feeds]
    after = [evaluate(small, f, [total.name])[total.name] for f in feeds]
    error = np.mean([np.square(p - q).mean() for p, q in zip(before, after, strict=True)])
    assert error < 0.1 * np.mean([np.square(p).mean() for p in before])


def test_a_walk_that_may_hold_nothing_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for held in (1 << 30, 0):
        monkeypatch.setattr(cursor, "HELD", held)
        b, feeds = chain(4)
        coupling = Coupling(b.graph)
        gone = removed(coupling, {0: 3, 1: 2})
        small = delete(coupling, gone)
        sequential(coupling, small, gone, Context(calibration=feeds), feeds)
        found.append(str(small))
    assert found[0] == found[1]


def test_dead_inputs_do_not_make_it_singular() -> None:
    b, feeds = chain(6)
    dead = b.graph.nodes[0].operands[1]
    zeros = np.array(dead.data)
    zeros[:4] = 0
    b.graph.assign(dead, zeros)
    b.graph.assign(b.graph.nodes[0].operands[2], np.zeros(8, np.float32))
    coupling = Coupling(b.graph)
    moments = observed(coupling, feeds)
    group = coupling.deletable()[0]
    mine = [r for r in readers(coupling) if np.isin(r.elements, group.channels).any()]
    order, errors = eliminate(group, mine, moments)
    assert set(order[:4]) == set(group.channels[:4]), "dead channels go first"
    assert np.isfinite(errors[:-1]).all()
    assert errors[:4].max() < 0.2 * errors[4:-1].min(), "nothing but the damping"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_follows_from_the_rest_is_seen(dtype: type) -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((1, 60, 500)).astype(dtype)
    cases = {
        "whole": (whole, False),
        "fewer vectors than inputs": (whole[:, :, :40], True),
        "one twice": (whole[:, [*range(60), 7]], True),
        "one constant": (whole * (np.arange(60) != 3)[None, :, None].astype(dtype), True),
    }
    for name, (x, singular) in cases.items():
        gram = Gram(1, x.shape[1])
        gram.add(x)
        assert gram.singular == singular, name
