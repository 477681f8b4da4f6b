"""What a graph costs: weights of few bits count as what they would take packed."""

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph
from qc.ir.stored import code_bits
from qc.passes import Context, PassManager
from qc.passes.measure import weight_bytes
from qc.passes.recipe import load_recipe


@pytest.mark.parametrize(
    ("codes", "bits"), [([0], 2), ([1, -1], 2), ([3], 3), ([-7, 2], 4), ([8], 5), ([-127], 8)]
)
def test_bits_of_codes(codes: list[int], bits: int) -> None:
    assert code_bits(np.array(codes, np.int8)) == bits


def test_packed_bytes_round_up() -> None:
    graph = Graph("test")
    graph.constant(np.array([1, -3, 3], np.int8), "w")
    assert weight_bytes(graph) == 2
    graph.constant(np.array([1, 3, 3], np.int32), "b")
    assert weight_bytes(graph) == 14


@pytest.mark.parametrize(("name", "bits"), [("w8a8", 8), ("w6a6", 6), ("w4a4", 4), ("w3", 3)])
def test_the_ledger_counts_weights_at_their_width(name: str, bits: int) -> None:
    b = Builder((1, 8, 6, 6))
    b.done(b.conv(b.op("Relu", b.conv(b.x, 32)), 16))
    context = Context(calibration=b.feeds(8))
    _, ledger = PassManager(load_recipe(name).passes).run(b.graph, context)
    weights = 32 * 8 * 9 + 16 * 32 * 9
    biases_and_multipliers = 2 * 4 * (32 + 16)
    assert ledger.rows[-1].bytes == weights * bits // 8 + biases_and_multipliers
