"""The selective scan: against onnxruntime's Scan, against a plain loop, in text, and coupled."""

import numpy as np
import pytest

from qc.ir import Graph, load, ops, save
from qc.ir.actions import delete, mask, scale
from qc.ir.actions.rewritten import rewritten
from qc.ir.actions.scale import scaled
from qc.ir.coupling import Action, Coupling, Sites
from qc.ir.errors import VerifyError
from qc.ir.evaluate import evaluate
from qc.ir.ops.hadamard import rotation
from qc.ir.types import type_of

RNG = np.random.default_rng(0)
BATCH, LENGTH, CHANNELS, STATES = 2, 7, 6, 4
NONE = [None] * 5


def normal(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


def operands(dtype=np.float32):
    """u, delta (positive), A (negative), B, C, D, z, bias, initial state, slope of the gate."""
    u, z = (normal(BATCH, LENGTH, CHANNELS, dtype=dtype) for _ in range(2))
    b, c = (normal(BATCH, LENGTH, STATES, dtype=dtype) for _ in range(2))
    delta, a = np.abs(normal(*u.shape)) + 0.1, -np.abs(normal(CHANNELS, STATES)) - 0.1
    d, bias = (normal(CHANNELS, dtype=dtype) for _ in range(2))
    start = normal(BATCH, CHANNELS, STATES, dtype=dtype)
    slope = np.abs(normal(CHANNELS, dtype=dtype)) + dtype(0.1)
    return [u, delta.astype(dtype), a.astype(dtype), b, c, d, z, bias, start, slope]


def loop(ins, softplus, reverse):
    """The definition, element by element, in float64."""
    wide = (None if x is None else np.float64(x) for x in ins)
    u, delta, a, b, c, d, z, bias, start, slope = wide
    slope = np.ones(CHANNELS) if slope is None else slope
    y, h = np.zeros(u.shape), np.zeros((BATCH, CHANNELS, STATES)) if start is None else start.copy()
    for i in range(BATCH):
        for k in range(CHANNELS):
            for t in range(LENGTH)[:: -1 if reverse else 1]:
                step = delta[i, t, k] + (0 if bias is None else bias[k])
                step = np.log1p(np.exp(step)) if softplus else step
                for n in range(STATES):
                    h[i, k, n] *= np.exp(step * a[k, n])
                    h[i, k, n] += step * u[i, t, k] * b[i, t, n]
                    y[i, t, k] += h[i, k, n] * c[i, t, n]
                y[i, t, k] += 0 if d is None else d[k] * u[i, t, k]
                y[i, t, k] *= 1 if z is None else z[i, t, k] / (1 + np.exp(-slope[k] * z[i, t, k]))
    return y, h


FORMS = {
    "bare": (),
    "skip": (5,),
    "gate": (6,),
    "bias": (7,),
    "start": (8,),
    "slope": (6, 9),
    "all": (5, 6, 7, 8, 9),
}
"""The optional operands that are there."""


def chosen(ins, form):
    return [x if i < 5 or i in FORMS[form] else None for i, x in enumerate(ins)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_says_what_the_definition_says(agree, form, softplus, reverse):
    op = ops.SelectiveScan(softplus, reverse)
    wide = chosen(operands(np.float64), form)
    for found, wanted in zip(op.eval(wide), loop(wide, softplus, reverse), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    y, h = agree(op, *chosen(operands(), form), constants=(2, 5, 7, 9))
    assert (y.shape, h.shape) == ((BATCH, LENGTH, CHANNELS), (BATCH, CHANNELS, STATES))


def test_goes_on_where_it_stopped():
    """Two halves, the second from the state of the first, are the whole."""
    ins = operands(np.float64)
    op, half = ops.SelectiveScan(), LENGTH // 2
    parts, state = [], ins[8]
    for window in (slice(0, half), slice(half, None)):
        cut = [x[:, window] if i in (0, 1, 3, 4, 6) else x for i, x in enumerate(ins[:8])]
        y, state = op.eval([*cut, state, ins[9]])
        parts.append(y)
    whole, last = op.eval(ins)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-12)
    np.testing.assert_allclose(state, last, rtol=1e-12)


def network(form="all", bounded=False):
    """A scan between products, so that its channels and states can go; ``bounded``: u is a tanh."""
    graph, ins = Graph("g"), chosen(operands(np.float64), form)
    x = graph.input("x", type_of(np.zeros((BATCH, LENGTH, 3))))

    def value(i):
        if ins[i] is None or i not in (0, 1, 3, 4, 6):
            return None if ins[i] is None else graph.constant(ins[i])
        weight = graph.constant(normal(3, ins[i].shape[2], dtype=np.float64))
        made = graph.add(ops.MatMul(), [x, weight]).output
        return graph.add(ops.Tanh(), [made]).output if bounded and i == 0 else made

    y = graph.add(ops.SelectiveScan(softplus=True), list(map(value, range(10)))).output
    out = graph.add(ops.MatMul(), [y, graph.constant(normal(CHANNELS, 2, dtype=np.float64))])
    graph.outputs = [out.output]
    return graph


def test_text_comes_back(tmp_path):
    graph = network()
    assert any("SelectiveScan" in x and "softplus=True" in x for x in str(graph).splitlines())
    save(graph, tmp_path)
    again = load(tmp_path)
    assert str(again) == str(graph)
    feed = {"x": normal(BATCH, LENGTH, 3, dtype=np.float64)}
    assert_same(evaluate(again, feed), evaluate(graph, feed))


def assert_same(found, wanted):
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", ["bare", "all"])
def test_channels_and_states_can_be_deleted(form):
    graph = network(form)
    coupling = Coupling(graph)
    groups = coupling.deletable()
    assert sorted(map(len, groups)) == [STATES, CHANNELS]
    feed = {"x": normal(BATCH, LENGTH, 3, dtype=np.float64)}
    for group in groups:
        gone = np.zeros(coupling.count, bool)
        gone[group.channels[1:3]] = True
        small = evaluate(delete(coupling, gone), feed)
        for name, array in evaluate(mask(coupling, gone), feed).items():
            np.testing.assert_allclose(small[name], array, rtol=1e-10, atol=1e-10)
        whole = evaluate(graph, feed)
        assert any(np.abs(small[name] - whole[name]).max() > 1e-3 for name in whole)


@pytest.mark.parametrize(
    ("index", "shape", "match"),
    [
        (1, (BATCH, LENGTH, CHANNELS + 1), r"is not float32\[2,7,6\]"),
        (2, (CHANNELS,), r"is not float32\[6,n\]"),
        (3, (BATCH, LENGTH, STATES + 1), r"is not float32\[2,7,4\]"),
        (5, (1, CHANNELS), r"is not float32\[6\]"),
        (8, (BATCH, STATES, CHANNELS), r"is not float32\[2,6,4\]"),
    ],
)
def test_what_does_not_fit_is_named(index, shape, match):
    graph, ins = Graph("g"), operands()
    ins[index] = normal(*shape)
    with pytest.raises(VerifyError, match=match):
        graph.add(ops.SelectiveScan(), [graph.constant(x) for x in ins])


def test_one_type_for_all():
    graph, ins = Graph("g"), operands()
    ins[3] = ins[3].astype(np.float64)
    with pytest.raises(VerifyError, match=r"is not float32\[2,7,4\]"):
        graph.add(ops.SelectiveScan(), [graph.constant(x) for x in ins])


def test_a_slope_needs_a_gate():
    graph, ins = Graph("g"), operands()
    ins[6] = None
    with pytest.raises(VerifyError, match="is the slope of no gate"):
        graph.add(ops.SelectiveScan(), [None if x is None else graph.constant(x) for x in ins])


@pytest.mark.parametrize(("form", "free"), [("gate", False), ("slope", True)])
def test_a_gate_can_be_scaled_where_it_has_a_slope(form, free):
    """MambaQuant's S2: silu(z) is z * sigmoid(slope * z); what z loses the slope takes on."""
    graph = network(form, bounded=True)
    sites = Sites(graph, Action.SCALE)
    gate = graph.nodes[-2].operands[5]
    (channels,) = sites.channels(gate, 2)
    held = [s.why for s in sites.groups if s.why and np.isin(channels, s.channels).any()]
    assert held == ([] if free else ["op SelectiveScan"])
    feed = {"x": normal(BATCH, LENGTH, 3, dtype=np.float64)}
    factor = np.ones(sites.count)
    factor[channels] = np.linspace(0.25, 4, CHANNELS)
    wanted = evaluate(graph, feed)
    if free:
        same = scale(sites, factor)
        weights = [n.operands[1].name for n in graph.nodes if n.op.name == "MatMul"]
        changed = [w for w in weights if (graph[w].data != same[w].data).any()]
        assert len(changed) == 2  # of the layers that make the gate and read the result
        for name, array in evaluate(same, feed).items():
            np.testing.assert_allclose(array, wanted[name], rtol=1e-9, atol=1e-9)
    else:
        wrong = rewritten(graph, lambda v, d: scaled(sites, v, d, sites.spread(np.log2(factor))))
        assert any(np.abs(evaluate(wrong, feed)[k] - a).max() > 1e-3 for k, a in wanted.items())


# -- what MambaQuant does around the scan (Xu et al., 2025, section 4.3) -----------------------


def test_rows_and_columns_take_opposite_factors():
    """B / s and C * s: the site of the states, exact."""
    graph = network("all", bounded=True)
    sites = Sites(graph, Action.SCALE)
    rows = graph.nodes[-2].inputs[3]
    (channels,) = sites.channels(rows, 2)
    assert not any(s.why for s in sites.groups if np.isin(channels, s.channels).any())
    factor = np.ones(sites.count)
    factor[channels] = 1 / np.linspace(0.1, 8, STATES)
    feed = {"x": normal(BATCH, LENGTH, 3, dtype=np.float64)}
    for name, array in evaluate(scale(sites, factor), feed).items():
        np.testing.assert_allclose(array, evaluate(graph, feed)[name], rtol=1e-9, atol=1e-9)


def test_the_published_term_in_the_exponent_would_be_wrong():
    """MambaQuant's S4 as coded also adds log(1 / s) to ``delta * A``."""
    u, delta, a, b, c = operands(np.float64)[:5]
    s = np.linspace(0.1, 8, STATES)
    wanted, _ = ops.SelectiveScan().eval([u, delta, a, b, c])
    exact, _ = ops.SelectiveScan().eval([u, delta, a, b / s, c * s])
    np.testing.assert_allclose(exact, wanted, rtol=1e-12, atol=1e-12)
    state, published = np.zeros((BATCH, CHANNELS, STATES)), np.zeros(u.shape)
    for t in range(LENGTH):
        kept = np.exp(delta[:, t, :, None] * a + np.log(1 / s)) * state
        state = kept + (delta * u)[:, t, :, None] * (b / s)[:, t, None, :]
        published[:, t] = (state * (c * s)[:, t, None, :]).sum(-1)
    assert np.abs(published - wanted).max() > 0.5 * np.abs(wanted).max()


def test_states_can_be_scaled_and_turned_at_the_readout():
    """S3 (channels) and R4 (states): exact, and inside of what stays real here."""
    u, delta, a, b, c = operands(np.float64)[:5]
    wanted, _ = ops.SelectiveScan().eval([u, delta, a, b, c])
    s = np.linspace(0.1, 8, CHANNELS)
    moved = np.zeros(u.shape)
    turn = rotation(STATES)
    state = np.zeros((BATCH, CHANNELS, STATES))
    for t in range(LENGTH):
        state = np.exp(delta[:, t, :, None] * a) * state
        state += (delta * u)[:, t, :, None] * b[:, t, None, :]
        read = ((state / s[:, None]) @ turn) @ (c[:, t] @ turn)[:, :, None]
        moved[:, t] = read[..., 0] * s
    np.testing.assert_allclose(moved, wanted, rtol=1e-12, atol=1e-12)
