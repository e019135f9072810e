"""Sizes of vision-language models, as settings of a preset have them; nothing is loaded to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import LlamaConfig, PretrainedConfig, SiglipVisionConfig


@dataclass(frozen=True)
class QwenSizes:
    """Qwen2.5-VL's (arXiv 2502.13923); the defaults are those of the 7B model.

    vocabulary   rows of the table of tokens
    rope         how many frequencies of a head are turned by time, height and width
    vision_full  blocks of the eye that see all of the picture, not a window of it
    pixels       of a picture, at most; a whole number of 28 x 28
    dtype        of the weights
    """

    width: int = 3584
    layers: int = 28
    heads: int = 28
    key_heads: int = 4
    feed_forward: int = 18944
    vocabulary: int = 151674
    rope: tuple[int, ...] = (16, 24, 24)
    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    vision_feed_forward: int = 3420
    vision_full: tuple[int, ...] = (7, 15, 23, 31)
    vision_window: int = 112
    pixels: int = 50176
    dtype: Literal["float32", "bfloat16"] = "float32"

    def config(self, image_token: int) -> PretrainedConfig:
        """As transformers takes them; `image_token` stands where a picture goes."""
        from transformers import Qwen2_5_VLConfig

        if 2 * sum(self.rope) * self.heads != self.width:
            raise ValueError(f"rope {self.rope} does not sum up to half of a head's {self.width // self.heads}")
        text = {
            "hidden_size": self.width,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(self.rope)},
            "tie_word_embeddings": False,
            "bos_token_id": None,  # nothing is generated
            "eos_token_id": None,
        }
        vision = {
            "depth": self.vision_layers,
            "hidden_size": self.vision_width,
            "num_heads": self.vision_heads,
            "intermediate_size": self.vision_feed_forward,
            "out_hidden_size": self.width,
            "fullatt_block_indexes": list(self.vision_full),
            "window_size": self.vision_window,
        }
        return Qwen2_5_VLConfig(
            text_config=text, vision_config=vision, image_token_id=image_token, tie_word_embeddings=False
        )


@dataclass(frozen=True)
class EyeAndTextSizes:
    """Of models that put a picture's patches before words: PaliGemma 2 (arXiv 2412.03555) and SmolVLM (arXiv
    2504.05299). The defaults are those of PaliGemma 2 3B at 224 px.

    head_width  of a head of the language model
    vocabulary  rows of the table of tokens
    picture     px, square, that the eye takes
    shuffle     SmolVLM: so many patches in a row and in a column become one token
    sliding     PaliGemma: tokens that every second layer sees
    """

    family: Literal["paligemma", "smolvlm"] = "paligemma"
    width: int = 2304
    layers: int = 26
    heads: int = 8
    key_heads: int = 4
    head_width: int = 256
    feed_forward: int = 9216
    vocabulary: int = 257216
    vision_width: int = 1152
    vision_layers: int = 27
    vision_heads: int = 16
    vision_feed_forward: int = 4304
    patch: int = 14
    picture: int = 224
    shuffle: int = 1
    sliding: int = 4096
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.picture % (self.patch * self.shuffle):
            raise ValueError(f"picture {self.picture} is no multiple of {self.patch * self.shuffle} px")
        if self.family == "paligemma" and self.shuffle != 1:
            raise ValueError(f"shuffle is {self.shuffle}; PaliGemma has none, and 1 is expected")

    @property
    def picture_tokens(self) -> int:
        """Of one picture."""
        return (self.picture // self.patch // self.shuffle) ** 2

    def config(self, image_token: int) -> PretrainedConfig:
        """As transformers takes them; `image_token` stands where a picture goes."""
        text = {
            "hidden_size": self.width,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head_width,
            "vocab_size": self.vocabulary,
            "bos_token_id": None,  # nothing is generated
            "eos_token_id": None,
            "pad_token_id": 0,
        }
        vision = {
            "hidden_size": self.vision_width,
            "intermediate_size": self.vision_feed_forward,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.vision_heads,
            "image_size": self.picture,
            "patch_size": self.patch,
        }
        if self.family == "smolvlm":
            from transformers import SmolVLMConfig

            return SmolVLMConfig(
                text_config=text | {"model_type": "llama"},
                vision_config=vision,
                scale_factor=self.shuffle,
                image_token_id=image_token,
                pad_token_id=0,
                tie_word_embeddings=False,
            )
        from transformers import PaliGemmaConfig

        return PaliGemmaConfig(
            text_config=text | {"model_type": "gemma2", "query_pre_attn_scalar": 256, "sliding_window": self.sliding},
            vision_config=vision | {"model_type": "siglip_vision_model", "vision_use_head": False},
            image_token_index=image_token,
            projection_dim=self.width,
            hidden_size=self.width,
        )


@dataclass(frozen=True)
class SmolSizes:
    """SigLIP-2's eye (arXiv 2502.14786) and SmolLM2 (arXiv 2502.02737) behind it, as Eagle-2 (arXiv 2501.14818) puts
    them together for GR00T N1 (arXiv 2503.14734): the defaults are its sizes, So400m/14 and the first 12 layers of the
    1.7B model.

    picture, patch  px, square
    merged          so many by so many patches of the eye become one token
    vocabulary      rows of the table of tokens
    dtype           of the language model's weights
    """

    width: int = 2048
    layers: int = 12
    heads: int = 32
    key_heads: int = 32
    feed_forward: int = 8192
    vocabulary: int = 49152
    rope_base: float = 130000.0
    vision_width: int = 1152
    vision_layers: int = 27
    vision_heads: int = 16
    vision_feed_forward: int = 4304
    picture: int = 224
    patch: int = 14
    merged: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.picture % (self.patch * self.merged):
            raise ValueError(f"picture is {self.picture} px; expected a multiple of {self.patch} x {self.merged}")

    @property
    def grid(self) -> int:
        """Patches of a picture's side."""
        return self.picture // self.patch

    @property
    def picture_tokens(self) -> int:
        """Tokens of a picture, as the language model sees it."""
        return (self.grid // self.merged) ** 2

    def eye(self) -> SiglipVisionConfig:
        """SigLIP-2's at a fixed resolution has the class of SigLIP."""
        from transformers import SiglipVisionConfig

        return SiglipVisionConfig(
            hidden_size=self.vision_width,
            intermediate_size=self.vision_feed_forward,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            image_size=self.picture,
            patch_size=self.patch,
            vision_use_head=False,
        )

    def language(self) -> LlamaConfig:
        """SmolLM2's has the class of Llama."""
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_base},
            bos_token_id=None,  # nothing is generated
            eos_token_id=None,
        )
