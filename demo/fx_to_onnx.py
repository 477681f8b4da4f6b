"""Write a traced torch module as ONNX, layer for layer.

Nothing is folded or fused: BatchNormalization stays a node of its own, because folding it is the
compiler's work and the demo shows it.
"""

import operator
from collections.abc import Iterable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

OPSET = 17


class Writer:
    """Nodes and weights of the ONNX graph so far; `add` appends one node under the layer's name."""

    def __init__(self, module: nn.Module) -> None:
        self.traced = fx.symbolic_trace(module)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, name: str, inputs: Iterable[str], **attributes: object) -> str:
        """Append node `name` with one output of the same name."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def weight(self, name: str, tensor: torch.Tensor | None) -> list[str]:
        """Store a parameter or a buffer; an absent one is no operand."""
        if tensor is None:
            return []
        self.weights.append(numpy_helper.from_array(tensor.detach().numpy().copy(), name))
        return [name]

    def layer(self, node: fx.Node, x: str) -> str:
        """Translate one call of a torch layer."""
        target, name = str(node.target), node.name
        match self.traced.get_submodule(target):
            case nn.Conv2d() as m:
                weights = self.weight(f"{target}.weight", m.weight)
                weights += self.weight(f"{target}.bias", m.bias)
                return self.add(
                    "Conv",
                    name,
                    [x, *weights],
                    kernel_shape=m.kernel_size,
                    strides=m.stride,
                    pads=[*m.padding, *m.padding],
                    group=m.groups,
                )
            case nn.BatchNorm2d() as m:
                weights = self.weight(f"{target}.weight", m.weight)
                weights += self.weight(f"{target}.bias", m.bias)
                weights += self.weight(f"{target}.mean", m.running_mean)
                weights += self.weight(f"{target}.var", m.running_var)
                return self.add("BatchNormalization", name, [x, *weights], epsilon=m.eps)
            case nn.Linear() as m:
                weights = self.weight(f"{target}.weight", m.weight)
                weights += self.weight(f"{target}.bias", m.bias)
                return self.add("Gemm", name, [x, *weights], transB=1)
            case nn.ReLU():
                return self.add("Relu", name, [x])
            case nn.ReLU6():
                bounds = [*self.weight(f"{name}.min", torch.tensor(0.0))]
                bounds += self.weight(f"{name}.max", torch.tensor(6.0))
                return self.add("Clip", name, [x, *bounds])
            case nn.AdaptiveAvgPool2d(output_size=1):
                return self.add("GlobalAveragePool", name, [x])
            case nn.Flatten(start_dim=1):
                return self.add("Flatten", name, [x], axis=1)
            case other:
                raise NotImplementedError(f"{target}: {type(other).__name__}")

    def model(self, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
        """Translate the whole module; input "image" [batch, *shape], output "logits"."""
        names: dict[fx.Node, str] = {}
        for node in self.traced.graph.nodes:
            operands = [names[a] for a in node.args if isinstance(a, fx.Node)]
            match node.op:
                case "placeholder":
                    names[node] = "image"
                case "call_module":
                    names[node] = self.layer(node, operands[0])
                case "call_function" if node.target is operator.add:
                    names[node] = self.add("Add", node.name, operands)
                case "output":
                    self.nodes[-1].output[0] = "logits"
                case _:
                    raise NotImplementedError(f"{node.op} {node.target}")
        graph = helper.make_graph(
            self.nodes,
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def write(module: nn.Module, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
    """Return the ONNX model of `module` in inference mode."""
    return Writer(module.eval()).model(shape, classes)


def difference(model: onnx.ModelProto, module: nn.Module, images: np.ndarray) -> float:
    """Return the largest difference between onnxruntime and torch on `images`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(images)).numpy()
    return float(np.abs(session.run(None, {"image": images})[0] - expected).max())
