"""Images of training windows: moved and recoloured, all frames of a window alike."""

import numpy as np
import pytest
import torch

from egohand_ros.stream.window import Window
from egohand_ros.training.windows.image_augment import NONE, ImageAugmentation, augment_images


@pytest.fixture
def window():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 40, 60, 3), dtype=np.uint8)
    images[:, 1:] = images[:, :1]  # a still picture
    return Window(
        stamp=torch.zeros(3), keypoints=torch.zeros(3, 2, 2, 21, 3), valid=torch.zeros(3, 2, 2, 21, dtype=torch.bool),
        wrist_rotation=torch.eye(3).expand(3, 2, 2, 3, 3), rotation_valid=torch.zeros(3, 2, 2, dtype=torch.bool),
        images=torch.from_numpy(images),
    )  # fmt: skip


def test_nothing_is_done_unless_asked(window):
    assert augment_images(window, NONE, np.random.default_rng(0)) is window


def test_frames_of_a_window_are_changed_alike_and_windows_each_in_their_way(window):
    options = ImageAugmentation(0.1, 0.3, 0.4, 0.5, 0.08)
    changed = augment_images(window, options, np.random.default_rng(0)).images
    assert (changed[:, 1:] == changed[:, :1]).all()
    shift = ImageAugmentation(shift=0.2)
    alike = window.images[:1].expand(3, -1, -1, -1, -1).clone()
    moved = augment_images(type(window)(**{**vars(window), "images": alike}), shift, np.random.default_rng(3)).images
    assert not (moved[0] == moved[1]).all()


def test_the_middle_of_a_moved_picture_is_a_part_of_the_picture(window):
    """With a shift of (1 - c) / 2 the middle of share c shows no repeated border: it is a random crop."""
    share, images = 0.9, window.images
    moved = augment_images(window, ImageAugmentation(shift=0.05), np.random.default_rng(1)).images
    keep = [round(side * share) for side in images.shape[2:4]]
    top, left = ((side - kept) // 2 for side, kept in zip(images.shape[2:4], keep))
    for row in range(len(images)):
        middle = moved[row, 0, top : top + keep[0], left : left + keep[1]]
        places = [
            (i, j)
            for i in range(images.shape[2] - keep[0] + 1)
            for j in range(images.shape[3] - keep[1] + 1)
            if (images[row, 0, i : i + keep[0], j : j + keep[1]] == middle).all()
        ]
        assert len(places) == 1


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue"])
def test_each_part_changes_colours_and_a_share_beyond_its_bounds_is_refused(window, part):
    changed = augment_images(window, ImageAugmentation(**{part: 0.4}), np.random.default_rng(0)).images
    assert (changed != window.images).any()
    with pytest.raises(ValueError, match=part):
        ImageAugmentation(**{part: 1.5})
