import array

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from egohand_ros.errors import RejectedInput
from egohand_ros.geometry.camera import Camera
from egohand_ros.images.raw_images import raw_image
from egohand_ros.nodes.messages.image import (
    build_image_msg,
    parse_camera_info_msg,
    parse_compressed_image_msg,
    parse_image_msg,
)

# Smooth, so that chroma subsampling and demosaicing lose little.
RAMP = np.stack(np.broadcast_arrays(np.arange(64)[None, :] * 3, np.arange(48)[:, None] * 4, np.full((48, 64), 90)), -1)
RAMP = RAMP.astype(np.uint8)
CALIBRATED = dict(width=640, height=480, k=[500.0, 0, 320, 0, 510, 240, 0, 0, 1], distortion_model="plumb_bob")


def raw(data, encoding, step=None, width=64, height=48):
    message = Image(encoding=encoding, width=width, height=height, step=step or data.shape[1] * (data[0, 0].size))
    message.data = array.array("B", data.tobytes())
    return message


def mosaic(pattern):
    """Bayer mosaic of RAMP whose top left 2x2 block has these colours, row by row."""
    out = np.zeros((48, 64), np.uint8)
    for i, colour in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = RAMP[i // 2 :: 2, i % 2 :: 2, "rgb".index(colour)]
    return out


@pytest.mark.parametrize(
    ("data", "encoding", "tolerance"),
    [
        (RAMP, "rgb8", 0),
        (RAMP[..., ::-1], "bgr8", 0),
        (RAMP[..., ::-1], "8UC3", 0),
        (np.dstack([RAMP, RAMP[..., :1]]), "rgba8", 0),
        (np.dstack([RAMP[..., ::-1], RAMP[..., :1]]), "bgra8", 0),
        (cv2.cvtColor(RAMP, cv2.COLOR_RGB2YUV_UYVY), "uyvy", 12),
        (cv2.cvtColor(RAMP, cv2.COLOR_RGB2YUV_UYVY), "yuv422", 12),
        (np.dstack([RAMP[..., ::-1], RAMP[..., :1]]), "8UC4", 0),
        (cv2.cvtColor(RAMP, cv2.COLOR_RGB2YUV_YUY2), "yuv422_yuy2", 12),
        (mosaic("rggb"), "bayer_rggb8", 8),
        (mosaic("bggr"), "bayer_bggr8", 8),
        (mosaic("gbrg"), "bayer_gbrg8", 8),
        (mosaic("grbg"), "bayer_grbg8", 8),
    ],
)
def test_every_encoding_comes_out_as_the_same_rgb(data, encoding, tolerance):
    image = parse_image_msg(raw(data, encoding))
    np.testing.assert_array_equal(image, raw_image(raw(data, encoding)), err_msg="a bag gives other pixels than a node")
    difference = np.abs(image.astype(int) - RAMP)[4:-4, 4:-4]
    assert image.dtype == np.uint8 and image.shape == RAMP.shape and difference.max() <= tolerance


def test_rows_may_be_padded_and_the_last_one_not():
    padded = np.full((48, 200), 7, np.uint8)
    padded[:, :192] = RAMP.reshape(48, 192)
    message = raw(padded, "rgb8", step=200)
    np.testing.assert_array_equal(parse_image_msg(message), RAMP)
    message.data = message.data[:-8]
    np.testing.assert_array_equal(parse_image_msg(message), RAMP)


def test_an_image_survives_being_built_and_parsed():
    message = build_image_msg(RAMP, Header(frame_id="camera"))
    assert (message.header.frame_id, message.step, len(message.data)) == ("camera", 192, RAMP.size)
    np.testing.assert_array_equal(parse_image_msg(message), RAMP)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Image(), "unsupported_encoding"),
        (raw(RAMP[..., 0], "mono8"), "unsupported_encoding"),
        (raw(RAMP, "16UC1"), "unsupported_encoding"),
        (Image(encoding="rgb8"), "tiny_image"),
        (Image(encoding="rgb8", width=2**32 - 1, height=2**32 - 1), "huge_image"),
        (Image(encoding="rgb8", width=64, height=48, step=192), "truncated_image"),
        (raw(RAMP, "rgb8", step=100), "bad_step"),
        (raw(RAMP, "rgb8", step=2**31), "truncated_image"),
        (raw(RAMP, "rgb8", height=49), "truncated_image"),
        (raw(RAMP, "uyvy", step=128, width=63), "bad_step"),
    ],
)
def test_wrong_images_are_refused_with_a_reason(message, reason):
    with pytest.raises(RejectedInput) as error:
        parse_image_msg(message)
    assert error.value.reason == reason


def test_compressed_images_are_decoded_or_refused():
    data = cv2.imencode(".png", RAMP[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(parse_compressed_image_msg(CompressedImage(format="png", data=data)), RAMP)
    with pytest.raises(RejectedInput, match="truncated_image"):
        parse_compressed_image_msg(CompressedImage(format="png", data=data[:-60]))


def test_camera_info_becomes_the_camera_with_its_distortion():
    camera = parse_camera_info_msg(CameraInfo(**CALIBRATED, d=[0.1, -0.05, 1e-3, 2e-3, 0.0]))
    expected = Camera(np.array(CALIBRATED["k"]).reshape(3, 3), 640, 480, "plumb_bob", [0.1, -0.05, 1e-3, 2e-3, 0.0])
    point = np.array([0.1, -0.2, 0.6])
    np.testing.assert_allclose(camera.project(point), expected.project(point))


def test_a_rectified_image_has_the_projection_matrix_and_no_distortion():
    projection = [400.0, 0, 300, -20, 0, 400, 200, 0, 0, 0, 1, 0]
    camera = parse_camera_info_msg(CameraInfo(**CALIBRATED, d=[0.1] * 5, p=projection), rectified=True)
    np.testing.assert_allclose(camera.project(np.array([0.1, 0.1, 1.0])), [340, 240])


@pytest.mark.parametrize("rectified", [False, True])
def test_a_part_of_the_sensor_and_binned_pixels_are_what_the_image_shows(rectified):
    projection = [500.0, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]
    d = [0.1, -0.05, 1e-3, 2e-3, 0.0]
    whole = parse_camera_info_msg(CameraInfo(**CALIBRATED, d=d, p=projection), rectified)
    region = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    part = parse_camera_info_msg(
        CameraInfo(**CALIBRATED, d=d, p=projection, roi=region, binning_x=2, binning_y=3), rectified
    )
    point = np.array([0.1, -0.1, 1.0])
    np.testing.assert_allclose(part.project(point), (whole.project(point) - (100, 40)) / (2, 3))
    assert (part.width, part.height) == (200, 100) and part.fits(400, 200) and not part.fits(640, 480)


def test_no_coefficients_or_only_zeros_mean_no_distortion_whatever_the_model_is_called():
    for d in ([], [0.0] * 5, [0.0] * 12):
        camera = parse_camera_info_msg(CameraInfo(**{**CALIBRATED, "distortion_model": ""}, d=d))
        np.testing.assert_allclose(camera.project(np.array([0.1, 0.0, 1.0])), [370, 240])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(k=[0.0] * 9), "uncalibrated_camera"),
        (dict(k=[float("nan")] * 9), "uncalibrated_camera"),
        (dict(k=[-500.0, 0, 320, 0, 510, 240, 0, 0, 1]), "uncalibrated_camera"),
        (dict(k=[1e-300, 0, 320, 0, 510.0, 240, 0, 0, 1]), "uncalibrated_camera"),
        (dict(k=[500.0, 0, 320, 0, 1e30, 240, 0, 0, 1]), "uncalibrated_camera"),
        (dict(width=0), "bad_camera_size"),
        (dict(roi=RegionOfInterest(x_offset=500, width=200, height=100)), "bad_camera_region"),
        (dict(roi=RegionOfInterest(y_offset=1)), "bad_camera_region"),
        (dict(binning_x=1000), "bad_camera_region"),
        (dict(distortion_model="wobbly", d=[0.1]), "unknown_distortion"),
        (dict(d=[0.1, 0.2, 0.3]), "bad_distortion"),
        (dict(d=[0.1, 0.2, 0.3, float("inf")]), "bad_distortion"),
    ],
)
def test_wrong_calibrations_are_refused_with_a_reason(change, reason):
    with pytest.raises(RejectedInput) as error:
        parse_camera_info_msg(CameraInfo(**{**CALIBRATED, **change}))
    assert error.value.reason == reason
