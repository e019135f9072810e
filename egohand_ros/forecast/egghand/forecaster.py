"""EggHand as a forecaster: window -> canonical frame -> network -> the window's frame."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...config import from_mapping, to_mapping
from ...errors import UserError
from ...geometry.transforms import invert_transform, make_transform
from ...hand.palm import palm_rotations
from ...hand.skeleton import NUM_KEYPOINTS
from ...stream.window import Window
from ..common.calibration import Calibration
from ..common.frames import LocalFrame, canonical_frame
from ..common.observed import Observed, assemble
from ..common.pretrained import choose_device, find_pretrained, save_pretrained
from ..common.protocol import Forecast
from .config import CAMERA_WIDTH, KIND, MAX_HYPOTHESES, TOKENIZER, EggHandConfig, spec_of
from .encoders import HuggingFaceEncoder
from .model import EggHandInputs, EggHandNetwork
from .tokenizer import OWN_WORDS, load_tokenizer, word_tokenizer

# In the authors' state and action the right hand comes first.
_ORDER = [1, 0]
_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EggHandForecaster:
    """The first hypothesis starts from no noise, the deterministic mode; further ones from noise drawn by the seed.

    `precision` is that of the network's arithmetic. `compile` records CUDA graphs (torch.compile, reduce-overhead), one
    for each number of windows and hypotheses, with and without images and prompt, when such a one is first forecast.
    """

    def __init__(
        self,
        config: EggHandConfig,
        network: EggHandNetwork,
        calibration: Calibration | None = None,
        preset: str = KIND,
        checkpoint_hash: str = "",
        device: str = "auto",
        precision: str = "float32",
        compile: bool = False,
        tokenizer: str | None = None,
    ):
        if precision not in _PRECISIONS:
            raise UserError(f"precision {precision!r} is unknown; expected {', '.join(_PRECISIONS)}")
        self.config, self.calibration, self.preset = config, calibration, preset
        self.device, self._precision = choose_device(device), _PRECISIONS[precision]
        self.network = network.to(self.device).eval()
        self._sample = _compiled(self._condition_and_sample) if compile else self._condition_and_sample
        self._tokenizer, self._tokenizer_source = None, tokenizer or config.tokenizer
        self.spec = spec_of(config, preset, calibration is not None, checkpoint_hash)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **options) -> "EggHandForecaster":
        """From a folder or hub id that `save_pretrained` wrote; options as of the constructor."""
        found = find_pretrained(path_or_id, KIND)
        config = from_mapping(EggHandConfig, found.config, str(found.folder / "config.json"))
        network = EggHandNetwork(config)
        found.load_into(network)
        own = found.folder / TOKENIZER
        tokenizer = str(own) if own.is_dir() else None
        return cls(config, network, found.calibration, found.preset, found.hash, tokenizer=tokenizer, **options)

    def save_pretrained(self, folder: Path | str) -> None:
        """Everything that `from_pretrained` needs, encoder and tokenizer (if it was used) included."""
        config, encoder = self.config, self.network.encoder
        if isinstance(encoder, HuggingFaceEncoder):
            vision, text = encoder.configs
            config = replace(config, huggingface=replace(config.huggingface, vision_config=vision, text_config=text))
        save_pretrained(folder, KIND, self.preset, to_mapping(config), self.network, self.calibration)
        if self._tokenizer is not None:
            self._tokenizer.save_pretrained(str(Path(folder) / TOKENIZER))

    def learn_words(self, texts: Iterable[str]) -> None:
        """Before training: the words of the data, for an encoder whose tokenizer is not a public one."""
        if self._tokenizer_source == OWN_WORDS and self._tokenizer is None and self.config.egovideo is not None:
            self._tokenizer = word_tokenizer(texts, self.config.egovideo.vocabulary)

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES equally probable futures; without a seed the samples are those of seed 0."""
        observed, frame = Observed.from_window(window), canonical_frame(window)
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        noise = torch.zeros(window.batch, count, self.config.action_steps, self.network.head.latent_action_width)
        if count > 1:
            noise[:, 1:] = torch.randn(noise[:, 1:].shape, generator=torch.Generator().manual_seed(seed or 0))
        inputs = self.inputs(window, observed, frame, self.device)
        with torch.autocast(self.device.type, self._precision, enabled=self._precision is not None):
            actions = self._sample(inputs, to_device(noise, self.device))
        ahead = actions[:, int(self.config.includes_now) :].cpu().double().numpy()
        local = keypoints_of(ahead).reshape(window.batch, -1, *ahead.shape[1:2], 2, NUM_KEYPOINTS, 3)
        forecast = self._assemble(window, observed, frame.points_out(local))
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def inputs(
        self, window: Window, observed: Observed, frame: LocalFrame, device: torch.device = torch.device("cpu")
    ) -> EggHandInputs:
        """What the network sees of a window, on a device; training uses it too."""
        keypoints = frame.points_in(observed.keypoints) * observed.valid[..., None]
        state = keypoints[:, :, _ORDER].reshape(window.batch, window.length, -1)
        valid = np.repeat(observed.valid[:, :, _ORDER].reshape(window.batch, window.length, -1), 3, axis=-1)
        camera, known = self._extrinsics(window, frame)
        return EggHandInputs(
            to_device(torch.from_numpy(np.concatenate([state, camera], axis=-1)).float(), device),
            to_device(torch.from_numpy(np.concatenate([valid, known], axis=-1)), device),
            *self._frames(window, device),
            *(None if part is None else to_device(part, device) for part in self._tokens(window)),
        )

    def _condition_and_sample(self, inputs: EggHandInputs, noise: torch.Tensor) -> torch.Tensor:
        """Keypoints (B K, S, 126) m from noise (B, K, S, latent)."""
        given = self.network.condition(inputs).repeat(noise.shape[1])
        return self.network.sample(given, noise.flatten(0, 1))

    def _extrinsics(self, window: Window, frame: LocalFrame) -> tuple[np.ndarray, np.ndarray]:
        """Rows of T_camera_world, or T_camera_canonical, (B, T, 12) and whether they are known."""
        lead = (window.batch, window.length, CAMERA_WIDTH)
        if window.camera_pose is None:
            return np.zeros(lead), np.zeros(lead, dtype=bool)
        T_camera_frame = invert_transform(window.camera_pose.cpu().numpy())
        if not self.config.world_extrinsics:
            T_camera_frame = T_camera_frame @ make_transform(frame.basis, frame.origin)[:, None]
        return T_camera_frame[..., :3, :].reshape(lead), np.ones(lead, dtype=bool)

    def _frames(self, window: Window, device: torch.device) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Frames (B, V, 3, size, size) in 0..1, cropped in the middle, and that they are there (B,).

        Bytes go to the device, a quarter of the numbers that are made of them there.
        """
        if window.images is None:
            return None, None
        if window.images.shape[1] != len(self.config.image_offsets):
            raise ValueError(f"window has {window.images.shape[1]} images; expected {len(self.config.image_offsets)}")
        images = to_device(window.images, device).permute(0, 1, 4, 2, 3)
        height, width = images.shape[-2:]
        keep = [round(side * self.config.image_crop) for side in (height, width)]
        top, left = (height - keep[0]) // 2, (width - keep[1]) // 2
        cropped = images[..., top : top + keep[0], left : left + keep[1]].flatten(0, 1).float() / 255.0
        size = (self.config.image_size, self.config.image_size)
        resized = torch.nn.functional.interpolate(cropped, size, mode="bilinear", antialias=True)
        return resized.unflatten(0, images.shape[:2]), torch.ones(window.batch, dtype=torch.bool, device=device)

    def _tokens(self, window: Window) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Token ids and mask (B, text_length); an empty prompt is no prompt, and no prompt at all needs no
        tokenizer."""
        if window.prompt is None or not any(window.prompt):
            return None, None
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._tokenizer_source)
        told = self._tokenizer(
            list(window.prompt),
            padding="max_length",
            truncation=True,
            max_length=self.config.text_length,
            return_tensors="pt",
        )
        known = torch.tensor([bool(text) for text in window.prompt])
        mask = told.get("attention_mask", torch.ones_like(told["input_ids"])).bool()
        return told["input_ids"], mask & known[:, None]

    def _assemble(self, window: Window, observed: Observed, keypoints: np.ndarray) -> Forecast:
        rotation = palm_rotations(keypoints)
        held = observed.rotation[:, -1][:, None, None]
        rotation = np.where(np.isfinite(rotation), rotation, held)  # a flat palm has no rotation of its own
        return assemble(self.spec, window, observed, keypoints, rotation)


def _compiled(function):
    """With shapes fixed, as graphs want them."""
    # Beyond this number of graphs torch would silently run without any; each number of hypotheses has up to four.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(function, mode="reduce-overhead", dynamic=False)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; to a GPU from page-locked memory, so that the copy runs beside what the CPU does next."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def keypoints_of(actions: np.ndarray) -> np.ndarray:
    """Actions (..., 126), right hand first, as keypoints (..., 2, 21, 3) with sides [left, right]."""
    return actions.reshape(*actions.shape[:-1], 2, NUM_KEYPOINTS, 3)[..., _ORDER, :, :]


def actions_of(keypoints: np.ndarray) -> np.ndarray:
    """The way back of `keypoints_of`."""
    return keypoints[..., _ORDER, :, :].reshape(*keypoints.shape[:-3], -1)
