import numpy as np
import pytest

from egohand_ros.hand.conventions import CONVENTIONS, convention_for_count, to_canonical
from egohand_ros.hand.palm import palm_or_given_rotation, palm_rotation, to_palm_frame
from egohand_ros.hand.skeleton import BONES, FINGER_KEYPOINTS, INDEX_MCP, KEYPOINT_NAMES, LITTLE_MCP, TIPS, side_index


def flat_right_hand():
    """A right hand palm down on a table, fingers along +x, thumb to the left (+y); z is up."""
    keypoints = np.zeros((21, 3))
    for row, points in enumerate(FINGER_KEYPOINTS.values()):
        for step, index in enumerate(points):
            keypoints[index] = [0.09 + 0.03 * step, 0.04 - 0.02 * row, 0.0]
    return keypoints


def test_the_palm_frame_of_a_hand_on_a_table():
    right = flat_right_hand()
    middle = right[[INDEX_MCP, LITTLE_MCP]].mean(axis=0)
    rotation = palm_rotation(right, "right")
    np.testing.assert_allclose(rotation[:, 0], middle / np.linalg.norm(middle), atol=1e-12)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, 1], atol=1e-12)  # out of the back of the hand
    assert rotation[:, 1] @ [0, 1, 0] > 0.9  # to the thumb
    left = right * [1, -1, 1]
    np.testing.assert_allclose(palm_rotation(left, "left")[:, 2], [0, 0, 1], atol=1e-12)
    assert palm_rotation(left, "left")[:, 1] @ [0, 1, 0] > 0.9  # to the little finger
    for side, hand in (("right", right), ("left", left)):
        assert np.linalg.det(palm_rotation(hand, side)) == pytest.approx(1.0)


def test_palm_coordinates_do_not_change_when_the_hand_moves():
    rng = np.random.default_rng(0)
    hand = flat_right_hand() + rng.normal(scale=0.005, size=(21, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = hand @ turn.T + [1.0, 2.0, 3.0]
    np.testing.assert_allclose(to_palm_frame(moved, "right"), to_palm_frame(hand, "right"), atol=1e-12)
    np.testing.assert_allclose(palm_rotation(moved, "right"), turn @ palm_rotation(hand, "right"), atol=1e-12)


def test_a_palm_without_width_or_with_a_missing_point_has_no_orientation():
    thin = flat_right_hand()
    thin[LITTLE_MCP] = thin[INDEX_MCP]
    assert np.isnan(palm_rotation(thin, "right")).all()
    gone = flat_right_hand()
    gone[INDEX_MCP] = np.nan
    assert np.isnan(palm_rotation(gone, "right")).all()


def test_every_convention_names_each_source_joint_at_most_once():
    for count, indices in CONVENTIONS.values():
        used = [i for i in indices if i >= 0]
        assert len(indices) == 21 and len(set(used)) == len(used) and max(used) < count


@pytest.mark.parametrize(
    ("convention", "names"),
    [
        # Joint names in the order of the specification, thumb to little, palm outwards.
        (
            "webxr",
            ["wrist"]
            + [f"thumb_{b}" for b in ("cmc", "mcp", "ip", "tip")]
            + [
                f"{f}_{b}"
                for f in ("index", "middle", "ring", "little")
                for b in ("metacarpal", "mcp", "pip", "dip", "tip")
            ],
        ),
        (
            "openxr",
            ["palm", "wrist"]
            + [f"thumb_{b}" for b in ("cmc", "mcp", "ip", "tip")]
            + [
                f"{f}_{b}"
                for f in ("index", "middle", "ring", "little")
                for b in ("metacarpal", "mcp", "pip", "dip", "tip")
            ],
        ),
    ],
)
def test_joint_names_of_headset_conventions_land_on_our_names(convention, names):
    source = np.arange(len(names), dtype=float)[:, None]
    picked = to_canonical(source, convention)[:, 0].astype(int)
    assert [names[i] for i in picked] == list(KEYPOINT_NAMES)


def test_what_a_source_lacks_is_nan_and_errors_say_what_was_given():
    joints = np.zeros((4, 21, 3))
    assert np.isnan(to_canonical(joints, "aria_mps")[:, 1]).all()
    with pytest.raises(ValueError, match="26 joints, but 21"):
        to_canonical(joints, "openxr")
    with pytest.raises(ValueError, match="known: aria_mps"):
        to_canonical(joints, "nonsense")
    assert [convention_for_count(n) for n in (21, 25, 26, 7)] == ["mediapipe", "webxr", "openxr", None]


def test_skeleton_is_a_tree_that_ends_at_the_tips():
    children = [child for _, child in BONES]
    assert sorted(children) == list(range(1, 21))
    assert set(children) - {parent for parent, _ in BONES} == set(TIPS)
    with pytest.raises(ValueError, match="'Left'"):
        side_index("Left")


def test_one_hand_and_many_have_the_same_palm_frame():
    points = np.random.default_rng(3).normal(size=(50, 21, 3))
    points[::10, 5] = points[::10, 17]  # flat
    points[5, 0] = np.nan
    for side in ("left", "right"):
        alone = np.stack([palm_rotation(p, side) for p in points])
        np.testing.assert_allclose(alone, palm_rotation(points, side), atol=1e-12)
    assert np.isnan(palm_rotation(np.zeros((21, 3)), "left")).all()


def test_a_given_rotation_serves_where_the_palm_has_none():
    points = np.random.default_rng(4).normal(size=(3, 21, 3))
    points[1, 5] = np.nan
    given = np.broadcast_to(np.eye(3), (3, 3, 3)).copy()
    given[2] = np.nan
    rotation = palm_or_given_rotation(points, "right", given)
    np.testing.assert_array_equal(rotation[[0, 2]], palm_rotation(points, "right")[[0, 2]])
    np.testing.assert_array_equal(rotation[1], np.eye(3))
    assert np.isnan(to_palm_frame(points, "right")[1, 1:]).all() and (to_palm_frame(points, "right")[1, 0] == 0).all()
