"""Why some of ONNX's operators are refused."""

_RANDOM = "random numbers are not reproducible"
_TEXT = "features of texts are made before the network"
DOMAINS = {
    "ai.onnx.ml": "models other than neural networks are not supported",
    "ai.onnx.preview.training": "training is not supported; export the network for inference",
}
REFUSED = {
    "Bernoulli": _RANDOM,
    "ImageDecoder": "images are decoded before the network; see --preprocess",
    "MaxRoiPool": "export with RoiAlign",
    "Multinomial": _RANDOM,
    "Optional": "only tensors are supported, and sequences of known length",
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "TfIdfVectorizer": _TEXT,
}


def why(domain: str, name: str) -> str:
    """The reason, empty where none is known."""
    return DOMAINS.get(domain, "") or REFUSED.get(name, "")
