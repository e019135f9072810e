"""Public weights of MEgoHand's parts, each of the file that transformers wrote. MEgoHand's own are not public."""

from pathlib import Path

from ...errors import UserError
from ..common.checkpoints import below, fill, read_checkpoint
from .network import MEgoHandNetwork


def load_siglip2(network: MEgoHandNetwork, path: Path | str) -> None:
    """The eye of google/siglip2-so400m-patch14-224; the pooling behind it, and the text's tower, are left out."""
    state = below(read_checkpoint(path), "vision_model.") or read_checkpoint(path)
    fill(network.vlm.eye, {key: tensor for key, tensor in state.items() if not key.startswith("head.")})


def load_smollm2(network: MEgoHandNetwork, path: Path | str) -> None:
    """The first layers of HuggingFaceTB/SmolLM2-1.7B-Instruct, as many as the network has."""
    state = below(read_checkpoint(path), "model.")
    if not state:
        raise UserError(f"{path} is no weights of SmolLM2; expected keys 'model. …'")
    layers = network.config.vlm.layers
    fill(network.vlm.language, {key: tensor for key, tensor in state.items() if _layer(key) < layers})


def load_resnet(network: MEgoHandNetwork, path: Path | str) -> None:
    """microsoft/resnet-50, trained on ImageNet."""
    state = below(read_checkpoint(path), "resnet.") or read_checkpoint(path)
    fill(network.depth.network, {key: tensor for key, tensor in state.items() if not key.startswith("classifier.")})


def load_depth_anything(network: MEgoHandNetwork, path: Path | str) -> None:
    """depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf."""
    if network.estimator is None:
        raise UserError("this MEgoHand estimates no depth (depth.estimator is none); leave depth_anything out")
    fill(network.estimator.model, read_checkpoint(path))


def _layer(key: str) -> int:
    """The number of the layer that a key is of; -1 for none."""
    first, _, rest = key.partition(".")
    return int(rest.partition(".")[0]) if first == "layers" else -1
