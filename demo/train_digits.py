"""Train the demo's network and write `digits.onnx`, `calib.npz` and `eval.npz` beside this file.

The three files are kept in the repository, so that `make demo` needs neither torch nor this script.
To make them again (a minute or two): `make digits`.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from digits import Split, split
from fx_to_onnx import difference, write
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
EPOCHS, BATCH, SEED, REQUIRED = 30, 64, 0, 0.985


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut is a 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(inputs, outputs, 3, stride), nn.ReLU(), *conv_bn(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(body(x) + shortcut(x))."""
        return self.relu(self.body(x) + self.shortcut(x))


class Inverted(nn.Module):
    """MobileNetV2's block: widen by 1x1, filter each channel by itself, narrow by 1x1, add."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        self.body = nn.Sequential(
            *conv_bn(channels, wide, 1),
            nn.ReLU6(),
            *conv_bn(wide, wide, 3, groups=wide),
            nn.ReLU6(),
            *conv_bn(wide, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + body(x)."""
        return x + self.body(x)


def network() -> nn.Sequential:
    """Return the network: [batch, 1, 8, 8] -> logits [batch, 10], about 86000 parameters."""
    return nn.Sequential(
        *conv_bn(1, 16, 3),
        nn.ReLU(),
        Residual(16, 16),
        Residual(16, 32, stride=2),
        Inverted(32, expand=3),
        Residual(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def jitter(images: Tensor) -> Tensor:
    """Return the images turned by up to 10 degrees, scaled by 10 % and moved by one pixel."""
    n = len(images)
    angle = (torch.rand(n) - 0.5) * 0.35
    scale = 1 + (torch.rand(n) - 0.5) * 0.2
    shift = (torch.rand(n, 2) - 0.5) * 0.5
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(data: Split) -> nn.Sequential:
    """Train by AdamW under a one-cycle schedule; the test images are not looked at."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    model = network()
    images, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            loss = functional.cross_entropy(
                model(jitter(images[batch])), labels[batch], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {loss.item():.3f}", flush=True)
    return model.eval()


def main() -> int:
    """Train, check, write."""
    data = split()
    model = train(data)
    with torch.no_grad():
        predicted = model(torch.from_numpy(data.test)).argmax(1).numpy()
    accuracy = float((predicted == data.test_labels).mean())
    proto = write(model, data.test.shape[1:], 10)
    error = difference(proto, model, data.test)
    print(f"test accuracy {accuracy:.2%}, onnxruntime differs from torch by at most {error:.1e}")
    if accuracy < REQUIRED or error > 1e-4:
        print(f"error: nothing written, {REQUIRED:.1%} and 1e-4 are required", file=sys.stderr)
        return 1
    onnx.save(proto, HERE / "digits.onnx")
    np.savez_compressed(HERE / "calib.npz", image=data.calibration)
    np.savez_compressed(HERE / "eval.npz", image=data.test, labels=data.test_labels)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
