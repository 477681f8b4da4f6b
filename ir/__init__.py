"""What a network is: types, graph, ops, verifier, text form, rewriting, evaluation."""

from .errors import QcError
from .evaluate import evaluate
from .graph import Graph, Node, Origin, Value
from .text import load, parse, save
from .types import Block, PerAxis, PerGroup, PerTensor, Quantization, TensorType
from .verify import verify

__all__ = [
    "Block",
    "Graph",
    "Node",
    "Origin",
    "PerAxis",
    "PerGroup",
    "PerTensor",
    "QcError",
    "Quantization",
    "TensorType",
    "Value",
    "evaluate",
    "load",
    "parse",
    "save",
    "verify",
]
