import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from egohand_ros.errors import RejectedInput
from egohand_ros.images.decoding import MAX_PIXELS, check_image, decode_image

PICTURE = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def encoded(array=PICTURE, kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(function, *args):
    with pytest.raises(RejectedInput) as error:
        function(*args)
    return error.value.reason


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "not_an_image"),
        (PICTURE.tolist(), "not_an_image"),
        (PICTURE.astype(np.float32), "not_uint8"),
        (PICTURE.astype(np.uint16), "not_uint8"),
        (PICTURE[..., 0], "not_rgb"),
        (PICTURE[..., :1], "not_rgb"),
        (np.zeros((64, 64, 4), np.uint8), "not_rgb"),
        (np.zeros((0, 0, 3), np.uint8), "tiny_image"),
        (np.zeros((4, 400, 3), np.uint8), "tiny_image"),
        (np.broadcast_to(np.uint8(0), (MAX_PIXELS // 1000, 1001, 3)), "huge_image"),
    ],
)
def test_wrong_arrays_are_refused_with_a_reason(image, reason):
    assert reason_of(check_image, image) == reason


def test_a_view_is_made_contiguous():
    assert check_image(PICTURE[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_pictures_come_back_as_they_were(kind):
    np.testing.assert_array_equal(decode_image(encoded(kind=kind, lossless=True)), PICTURE)


def test_jpeg_is_rgb_and_can_be_decoded_smaller():
    red = np.zeros((720, 1280, 3), np.uint8)
    red[..., 0] = 250
    full, half = decode_image(encoded(red)), decode_image(encoded(red), min_width=640)
    assert full.shape == (720, 1280, 3) and half.shape == (360, 640, 3)
    assert full[..., 0].min() > 240 and full[..., 2].max() < 10
    assert decode_image(encoded(red), min_width=700).shape == (720, 1280, 3)


def claimed_size(data, width, height):
    """PNG data whose header says another size (its checksum made right again)."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_image"),
        (b"\x00" * 1000, "undecodable_image"),
        (bytes(range(256)) * 10, "undecodable_image"),
        (encoded(kind="BMP"), "undecodable_image"),
        (encoded()[:20], "undecodable_image"),
        (encoded()[:-200], "truncated_image"),
        (encoded(kind="PNG")[:-400], "truncated_image"),
        (encoded(PICTURE[..., 0]), "not_rgb"),
        (encoded(np.zeros((8, 8, 3), np.uint8)), "tiny_image"),
        (claimed_size(encoded(kind="PNG"), 60000, 60000), "huge_image"),
    ],
)
def test_wrong_data_is_refused_with_a_reason(data, reason):
    assert reason_of(decode_image, data) == reason


def test_damaged_data_is_decoded_or_refused_and_nothing_else():
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP"):
        good = np.frombuffer(encoded(kind=kind), np.uint8)
        for _ in range(150):
            data = good.copy()
            data[rng.integers(0, len(data), rng.integers(1, 20))] = rng.integers(0, 255)
            with contextlib.suppress(RejectedInput):
                assert decode_image(data.tobytes()).dtype == np.uint8
