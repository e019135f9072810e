"""Images as they arrive: decode them, and refuse what is no colour image before a detector sees it."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import RejectedInput

# 8K UHD is 33 million pixels. More is a fault or an attack (a few bytes of PNG can claim gigapixels).
MAX_PIXELS = 40_000_000
MIN_SIDE = 16  # px; no hand can be found in less

_FORMATS = ("JPEG", "PNG", "WEBP")


def check_image(image: np.ndarray) -> np.ndarray:
    """The same image when it is uint8 (height, width, 3) of a usable size, C-contiguous.

    Raises `RejectedInput`: not_an_image, not_uint8, not_rgb, tiny_image, huge_image.
    """
    if not isinstance(image, np.ndarray):
        raise RejectedInput("not_an_image", f"got {type(image).__name__}, expected a uint8 array (height, width, 3)")
    if image.dtype != np.uint8:
        raise RejectedInput("not_uint8", f"got {image.dtype}, expected uint8 RGB")
    if image.ndim != 3 or image.shape[2] != 3:
        raise RejectedInput("not_rgb", f"got shape {image.shape}, expected (height, width, 3) RGB")
    check_size(image.shape[1], image.shape[0])
    return np.ascontiguousarray(image)


def check_size(width: int, height: int) -> None:
    """Raises `RejectedInput` (tiny_image, huge_image) for sizes in px that no camera image has."""
    if min(width, height) < MIN_SIDE:
        raise RejectedInput("tiny_image", f"{width}x{height} px, at least {MIN_SIDE} px on each side is needed")
    if width * height > MAX_PIXELS:
        raise RejectedInput(
            "huge_image", f"{width}x{height} px, at most {MAX_PIXELS / 1e6:.0f} million pixels are used"
        )


def decode_image(data: bytes, min_width: int = 0) -> np.ndarray:
    """RGB uint8 (height, width, 3) of JPEG, PNG or WebP bytes.

    With `min_width` a JPEG may come out smaller (by 2, 4 or 8) but never narrower than that many px, which saves most
    of the decoding. Raises `RejectedInput`: empty_image, undecodable_image, truncated_image, not_rgb, and those of
    `check_size`.
    """
    if len(data) == 0:
        raise RejectedInput("empty_image", "the image has no data")
    try:
        # The header alone is read here, so a huge picture is refused before memory is taken for it.
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise RejectedInput("huge_image", str(error)) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise RejectedInput("undecodable_image", f"expected {', '.join(_FORMATS)} data: {error}") from None
    check_size(*image.size)
    if image.mode not in ("RGB", "RGBA", "P", "CMYK"):
        raise RejectedInput("not_rgb", f"a {image.format} image of mode {image.mode}, expected colour")
    if min_width:
        image.draft("RGB", (min_width, 1))
    try:
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise RejectedInput("truncated_image", str(error)) from None
