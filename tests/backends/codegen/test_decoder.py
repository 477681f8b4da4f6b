"""Compiled decoders: states in place, prompts and single tokens, and what is refused."""

import json

import numpy as np
import pytest
from compiled import need_emulator
from decoders import WORDS, Shape, decoder, tokens_of
from networks import Net

from qc.backends.codegen import shares
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build, compile_graph
from qc.decoding import decoding_of
from qc.ir import ops
from qc.ir.errors import BackendError, DataError, TargetError
from qc.ir.evaluate import evaluate
from qc.ir.text import save
from qc.ir.verify import verify
from qc.targets import load

SHAPES = {
    "llama": Shape(length=24, heads=4, shared=2, size=8),
    "gpt2": Shape(batch=2, length=20, shared=4, rotary=None, mask="where", norm="layer", seed=1),
}


def compiled(shape, path, target="host", capacity=0):
    """The artifact of a random decoder, and the network itself."""
    from qc.compiler import write_manifest

    graph = decoder(shape)
    made = decoding_of(graph, capacity or shape.length, {"x": tokens_of(shape)})
    with pytest.MonkeyPatch.context() as patch:  # threads share all calls, however short
        patch.setattr(shares, "ALONE", -1.0)
        patch.setattr(shares, "WAKE", -1.0)
        built = compile_graph(made.step, load(target), prompt=made.prompt)
    path.mkdir()
    built.write(path)
    save(made.whole, path)
    write_manifest(path, {**built.manifest, **made.facts()})
    return graph, path


@pytest.fixture(scope="module", params=SHAPES)
def network(request, tmp_path_factory):
    shape = SHAPES[request.param]
    graph, path = compiled(shape, tmp_path_factory.mktemp("decoder") / "out")
    return shape, graph, path


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_whole_sequences(network):
    shape, graph, path = network
    artifact, tokens = Artifact.load(path), tokens_of(shape)
    for _ in range(2):  # the second run meets the states of the first
        near(artifact.run({"x": tokens})["logits"], evaluate(graph, {"x": tokens})["logits"])


@pytest.mark.parametrize("sizes", [[1] * 20, [17, 1, 2], [3, 16, 1], [20]])
def test_in_parts(network, sizes):
    """However a sequence is cut, also where the graph for prompts would reach beyond the end."""
    shape, graph, path = network
    tokens, decoder = tokens_of(shape), Artifact.load(path).decoder()
    at, parts = 0, []
    for size in sizes:
        parts.append(decoder.feed(tokens[:, at : at + size])["logits"])
        at += size
        assert decoder.position == at
    near(np.concatenate(parts, 1), evaluate(graph, {"x": tokens})["logits"][:, :20])


def test_generated_tokens_are_those_of_full_recomputation(network):
    shape, graph, path = network
    prompt = tokens_of(shape)[:, :3]
    known = np.zeros((shape.batch, shape.length), np.int64)
    known[:, :3] = prompt
    for at in range(3, 19):
        known[:, at] = evaluate(graph, {"x": known})["logits"][:, at - 1].argmax(-1)
    made = Artifact.load(path).decoder().generate(prompt, 16)
    assert np.array_equal(made, known[:, 3:19])
    assert len(set(made.ravel())) > 2


def test_sequences_are_independent(network):
    shape, _, path = network
    artifact, tokens = Artifact.load(path), tokens_of(shape)
    one, other = artifact.decoder(), artifact.decoder()
    first = one.feed(tokens[:, :4])["logits"]
    other.feed((tokens[:, :4] + 1) % WORDS)
    alone = artifact.decoder()
    alone.feed(tokens[:, :4])
    want = alone.feed(tokens[:, 4:6])["logits"]
    assert np.array_equal(one.feed(tokens[:, 4:6])["logits"], want)
    one.reset()
    assert np.array_equal(one.feed(tokens[:, :4])["logits"], first)


def test_two_threads(network):
    shape, graph, path = network
    tokens = tokens_of(shape)
    got = Artifact.load(path, threads=2).run({"x": tokens})["logits"]
    near(got, evaluate(graph, {"x": tokens})["logits"])


def test_weights_are_stored_once(network):
    shape, graph, path = network
    manifest = json.loads((path / "manifest.json").read_text())
    weights = sum(v.data.nbytes for v in graph.constants)
    assert manifest["constant_bytes"] < 1.5 * weights + 20000
    assert manifest["decoder"]["capacity"] == shape.length


def test_what_is_refused(network):
    shape, _, path = network
    decoder, tokens = Artifact.load(path).decoder(), tokens_of(shape)
    too_many = np.zeros((shape.batch, shape.length + 1), np.int64)
    with pytest.raises(DataError, match=f"exceed the capacity of {shape.length}: compile"):
        decoder.feed(too_many)
    with pytest.raises(DataError, match="exceed the capacity"):
        decoder.generate(tokens[:, :5], shape.length)
    with pytest.raises(DataError, match="0 tokens to generate: it must be at least 1"):
        decoder.generate(tokens[:, :5], 0)
    assert decoder.position == 0
    with pytest.raises(DataError, match=r"tokens are \[\d, count\], not of shape \[2, 2, 2\]"):
        decoder.feed(np.zeros((2, 2, 2), np.int64))
    with pytest.raises(DataError, match="whole numbers, not float32"):
        decoder.feed(tokens.astype(np.float32))
    with pytest.raises(TargetError, match="is a decoder, which --device does not serve"):
        Artifact.load(path, device="127.0.0.1:9")


def test_longer_than_the_network(tmp_path):
    shape = Shape(length=8)
    graph, path = compiled(shape, tmp_path / "out", capacity=40)
    ours, tokens = Artifact.load(path).decoder(), tokens_of(shape, length=40)
    near(ours.feed(tokens)["logits"], evaluate(decoder(Shape(length=40)), {"x": tokens})["logits"])
    near(Artifact.load(path).run({"x": tokens[:, :8]})["logits"],
         evaluate(graph, {"x": tokens[:, :8]})["logits"])  # fmt: skip


def test_in_the_emulator(tmp_path):
    """Without a function for prompts: states go through the program's standard input."""
    need_emulator()
    shape = Shape(length=6, layers=1)
    graph, path = compiled(shape, tmp_path / "out", "arm")
    tokens = tokens_of(shape)
    got = Artifact.load(path).run({"x": tokens})["logits"]
    near(got, evaluate(graph, {"x": tokens})["logits"])


def test_no_states_on_cuda():
    made = decoding_of(decoder(Shape()), 8, {"x": tokens_of(Shape())})
    with pytest.raises(BackendError, match="written in place, which code for CUDA cannot do"):
        compile_graph(made.step, load("cuda"))


def test_networks_without_states_have_no_decoder(tmp_path):
    net = Net()
    net.out(net.add(ops.Relu(), net.floats(1, 4)))
    build(net.graph, load("host"), tmp_path / "out")
    with pytest.raises(BackendError, match="whole sequences only: compile it with --capacity"):
        Artifact.load(tmp_path / "out").decoder()


def test_tensor_scatter(tmp_path):
    """As an op of any network: in a copy, and in place where it is a state."""
    net = Net()
    starts = net.graph.input("starts", net.const(np.zeros(2, np.int64)).type)
    for mode in ("linear", "circular"):
        cache, update = net.floats(2, 3, 7, 4), net.floats(2, 3, 2, 4)
        state, more = net.floats(2, 8, 4), net.floats(2, 1, 4)
        copied = net.add(ops.TensorScatter(2, mode), cache, update, starts)
        kept = net.add(ops.TensorScatter(1, mode), state, more, starts)
        net.out(copied, kept, net.add(ops.Relu(), cache))
        net.graph.states.append((state.name, kept.name))
    net.graph.prune()
    verify(net.graph)
    build(net.graph, load("host"), tmp_path / "out")
    feed = {v.name: net.rng.normal(size=v.shape).astype(v.type.dtype) for v in net.graph.inputs}
    feed["starts"] = np.array([5, 1])
    artifact = Artifact.load(tmp_path / "out")
    for name, want in evaluate(net.graph, feed).items():
        assert np.array_equal(artifact.run(feed)[name], want)
