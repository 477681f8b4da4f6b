"""Operands in number formats: what is packed, shared, counted and left alone."""

from __future__ import annotations

import numpy as np
import pytest
from attention import TOKENS, WIDTH, attention
from graphs import Builder

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError
from qc.ir.formats import parse
from qc.ir.text import parse as parse_graph
from qc.ir.verify import verify
from qc.passes import Canonicalize, Context, PassManager
from qc.passes.encode import EncodeFormats
from qc.passes.measure import parameters, sqnr_db, weight_bytes


def layer(width: int = 40) -> Builder:
    b = Builder((3, width))
    b.done(b.op("MatMul", b.op("Relu", b.x), b.normal(width, 6)))
    return b


def feeds(count: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"x": rng.standard_normal((1, TOKENS, WIDTH)).astype(np.float32)} for _ in range(count)]


def test_a_layer_by_hand() -> None:
    b = layer()
    work = b.graph.copy()
    found = EncodeFormats("mxfp4", "mxint8").apply(work, Context())
    verify(work)
    x = b.feeds(1)[0]
    w = parse("mxfp4").round(b.graph.constants[0].data, 0)
    expected = parse("mxint8").round(np.maximum(x["x"], 0)) @ w
    (y,) = evaluate(work, x).values()
    np.testing.assert_array_equal(y, expected)
    assert [n.op.name for n in work.nodes] == ["Relu", "Encode", "Decode", "Decode", "MatMul"]
    assert (found["weights"], found["activations"], found["rewrites"]) == (1, 1, 2)


def test_packed_bytes_and_padding_are_counted() -> None:
    """40 elements are two blocks of 32: 24 zeros behind each of 6 columns and 3 rows."""
    work = layer().graph
    found = EncodeFormats("mxfp4", "mxint8").apply(work, Context())
    assert weight_bytes(work) == 6 * 2 * 17
    assert parameters(work) == 240
    assert found["bits_per_weight"] == round(8 * 6 * 34 / 240, 3)
    assert found["padding"] == 24 * 6 + 24 * 3
    assert found["runs"] == "by the numpy reference: no kernels for mxfp4, mxint8 yet"


def test_kernels_with_taps_are_packed_in_rows() -> None:
    b = Builder((1, 3, 8, 8))
    graph = b.done(b.conv(b.x, 8))
    w = graph.nodes[0].operands[1].data
    EncodeFormats("mxfp4").apply(graph, Context())
    verify(graph)
    assert [n.op.name for n in graph.nodes] == ["Decode", "Reshape", "Conv"]
    found = evaluate(graph, b.feeds(1)[0], [graph.nodes[1].output.name])
    (rounded,) = found.values()
    np.testing.assert_array_equal(rounded, parse("mxfp4").round(w.reshape(8, 27)).reshape(w.shape))


def test_layers_share_what_they_read_alike() -> None:
    b = Builder((3, 32))
    x = b.op("Relu", b.x)
    w = b.normal(32, 6)
    b.done(b.op("MatMul", x, w), b.op("MatMul", x, w), b.op("MatMul", x, b.normal(32, 3)))
    EncodeFormats("mxfp4", "mxint8").apply(b.graph, Context())
    verify(b.graph)
    assert [n.op.name for n in b.graph.nodes].count("Encode") == 1
    assert [n.op.name for n in b.graph.nodes].count("Decode") == 3


def test_an_attention_with_caches() -> None:
    graph = attention()
    work = graph.copy()
    found = EncodeFormats("bfp8-16", "bfp8-16", caches="bfp4-16").apply(work, Context())
    verify(work)
    assert found["caches"] == 2
    assert parse_graph(str(work), _data(work)) == work
    before = [a for f in feeds() for a in evaluate(graph, f).values()]
    after = [a for f in feeds() for a in evaluate(work, f).values()]
    assert 10 < sqnr_db(before, after) < 35
    theirs = OnnxRuntimeExecutor(1).open(work)
    for f, a in zip(feeds(), after, strict=True):
        np.testing.assert_allclose(a, theirs(f)["out"], 1e-4, 1e-5)


def _data(graph: Graph) -> dict[str, np.ndarray]:
    from qc.ir.text import digest

    return {digest(v.data): v.data for v in graph.constants if v.data is not None}


def test_more_bits_err_less() -> None:
    graph = attention()
    before = [a for f in feeds() for a in evaluate(graph, f).values()]
    ratios = []
    for m in (3, 4, 6, 8):
        work = graph.copy()
        EncodeFormats(f"bfp{m}-16", f"bfp{m}-16", caches=f"bfp{m}-16").apply(work, Context())
        ratios.append(sqnr_db(before, [a for f in feeds() for a in evaluate(work, f).values()]))
    assert np.all(np.diff(ratios) > 4)


def sharp(scale: float) -> Graph:
    """Probabilities of 64 tokens times values, whose last rows are large for small ``scale``."""
    b = Builder((1, 4, 64))
    chances = b.op("Softmax", b.op("Mul", b.x, b.const(scale)))
    return b.done(b.op("MatMul", chances, b.op("Relu", b.op("Transpose", b.x, perm=(0, 2, 1)))))


def test_logarithms_only_where_the_product_errs_less() -> None:
    """Steps of 1/127 are finer than those of a root of two, steps of 1/7 lose what is small."""
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((1, 4, 64)).astype(np.float32)} for _ in range(4)]
    counts = []
    for scale, activations in ((0.3, "int8"), (4.0, "int4")):
        graph = sharp(scale)
        found = EncodeFormats("", activations, probabilities="logsqrt2-4bit").apply(
            graph, Context(calibration=data)
        )
        verify(graph)
        counts.append(found.get("probabilities", 0))
        used = [n.op.format for n in graph.nodes if n.op.name == "Encode"]
        assert ("logsqrt2-4bit" in used) == bool(counts[-1])
    assert counts == [0, 1]


def test_chosen_logarithms_are_better_on_the_data_they_were_chosen_on() -> None:
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((1, 4, 64)).astype(np.float32)} for _ in range(4)]
    graph = sharp(4.0)
    before = [a for f in data for a in evaluate(graph, f).values()]
    ratios = []
    for probabilities in ("", "logsqrt2-4bit"):
        work = graph.copy()
        context = Context(calibration=data)
        EncodeFormats("", "int4", probabilities=probabilities).apply(work, context)
        ratios.append(sqnr_db(before, [a for f in data for a in evaluate(work, f).values()]))
    assert ratios[1] > ratios[0]


def test_the_manager_runs_it_and_checks() -> None:
    context = Context(calibration=feeds(), verify=True)
    passes = [Canonicalize(), EncodeFormats("mxfp4", "mxfp4")]
    graph, ledger = PassManager(passes).run(attention(), context)
    assert "quantized" in graph.properties
    assert ledger.rows[-1].sqnr_db is not None
    assert ledger.rows[-1].bytes < ledger.rows[0].bytes


def test_without_any_format_nothing_is_done() -> None:
    with pytest.raises(PreconditionError, match="needs a format: weights, activations or caches"):
        EncodeFormats().apply(layer().graph, Context())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "mxfp5"}, "did you mean 'mxfp4'"),
        ({"weights": "log2-4bit"}, "logarithmic formats are for probabilities"),
        ({"activations": "int4", "probabilities": "int4"}, "which take no others"),
        ({"probabilities": "log2-4bit"}, "weighed against the format of activations"),
        ({"weights": "mxfp4", "samples": 0}, "less than 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(PreconditionError, match=message):
        EncodeFormats(**options)
