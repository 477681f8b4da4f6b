"""Architectures in plain PyTorch, small and with random weights.

Every module here has ``build()``, which returns a network and its example inputs.
"""

from importlib import import_module

import numpy as np
import torch
from torch import nn

CONVOLUTIONAL = (
    "resnet", "mobilenet_v3", "efficientnet", "convnext", "shufflenet_v2", "densenet", "unet",
)  # fmt: skip
ATTENTION = ("vit", "swin", "mobilevit", "detr", "bert", "gpt2", "llama")
RECURRENT = ("mamba", "vim", "lstm_tagger")
NAMES = (*CONVOLUTIONAL, *ATTENTION, *RECURRENT)

Example = tuple[torch.Tensor, ...]


def build(name: str, seed: int = 0) -> tuple[nn.Module, Example]:
    """The network ``name``, its statistics and norms unlike their trivial beginnings."""
    torch.manual_seed(seed)
    module, inputs = import_module(f".{name}", __name__).build()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.1)
    return module.eval(), inputs


def feeds(inputs: Example, names: list[str], count: int, seed: int = 1):
    """Feeds like the example: normal reals, whole numbers up to the example's greatest."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: rng.standard_normal(x.shape, np.float32)
            if x.is_floating_point()
            else rng.integers(0, int(x.max()) + 1, x.shape)
            for name, x in zip(names, inputs, strict=True)
        }
        for _ in range(count)
    ]
