"""Epilogues without a meaning are refused."""

import pytest

from qc.backends.codegen.kernels.epilogue import Epilogue, Residual


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "no epilogue"),
        ({"dtype": "uint16", "table": True}, "table"),
        ({"dtype": "float32", "residual": Residual(1, 0, 0)}, "residual"),
    ],
)
def test_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Epilogue(**arguments)  # type: ignore[arg-type]
