"""Pictures of recordings: found where they are, read when wanted, once, and shown by windows as a live camera's are."""

import io
import pickle
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from egohand_ros.data.bags.bag import episode_to_bag, episodes_from_bag
from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.bags.recording import new_writer
from egohand_ros.data.episode import Episode
from egohand_ros.data.episode_images import EpisodeImages, decode_all
from egohand_ros.data.image_sources import ArrayImages, ImageFiles, TarImages, VideoFrames
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.synthetic.render import SceneRenderer
from egohand_ros.data.synthetic.scene_images import with_pictures
from egohand_ros.data.windows import cut_windows, with_images
from egohand_ros.errors import UserError
from egohand_ros.forecast.common.protocol import ForecasterSpec, Need
from egohand_ros.geometry.camera import Camera
from egohand_ros.stream.aligner import WindowBuilder
from egohand_ros.training.session import gather
from egohand_ros.training.windows.augment import mirror

COUNT, RATE, SIZE = 60, 30.0, (48, 64)  # pictures, Hz, height and width px
SPEC = ForecasterSpec(
    "test",
    step=0.1,
    window_length=5,
    modalities=("keypoints", "images", "pixels", "betas"),
    image_offsets=(-4, 0),
    image_size=(24, 16),
    more_image_sizes=((8, 8),),
)
CAMERA = Camera(np.array([[50.0, 0, 30], [0, 48, 25], [0, 0, 1]]), SIZE[1], SIZE[0])


def grey(number):
    """The picture of a frame is as bright as its number says."""
    return np.full((*SIZE, 3), 4 * number + 8, dtype=np.uint8)


def number_of(image):
    return round((float(np.asarray(image).mean()) - 8) / 4)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, SIZE[::-1])
    for number in range(COUNT):
        writer.write(grey(number))
    writer.release()
    return path


@pytest.fixture(scope="module")
def episode():
    return generate_scene(1, (COUNT - 1) / RATE).episode


def stamps(episode):
    return episode.stamp[0] + np.arange(COUNT) / RATE


def shown(episode, end, spec=SPEC):
    cut = cut_windows(episode, np.atleast_1d(end), spec.step, spec.window_length, 0)
    return with_images(cut.window, episode, spec)


def jpeg(number):
    return cv2.imencode(".png", grey(number))[1].tobytes()


def test_a_window_shows_the_pictures_of_its_offsets_at_every_size(episode, video):
    seen = replace(episode, images=EpisodeImages(stamps(episode), VideoFrames(str(video), COUNT), CAMERA))
    window = shown(seen, [30, 50])
    assert window.images.shape == (2, 2, 24, 16, 3) and window.more_images[0].shape == (2, 2, 8, 8, 3)
    assert [[number_of(image) for image in views] for views in window.images.numpy()] == [[18, 30], [38, 50]]
    assert [number_of(image) for image in window.more_images[0][0].numpy()] == [18, 30]
    assert window.camera_matrix.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(window.camera_matrix[1, 1], CAMERA.scaled(16, 24).matrix)


def test_they_are_those_of_the_live_stream(episode, video):
    seen = replace(episode, images=EpisodeImages(stamps(episode) - 0.01, VideoFrames(str(video), COUNT), CAMERA))
    builder = WindowBuilder(SPEC)
    builder.set_calibration(CAMERA)
    for i in range(41):
        builder.add_image(seen.images.stamp[i], grey(i))
        builder.add_hands(episode.stamp[i], episode.keypoints[i], episode.valid[i])
    live, cut = builder.window(), shown(seen, 40)
    assert np.abs(live.images.numpy().astype(int) - cut.images.numpy()).max() <= 3  # the video's compression
    np.testing.assert_allclose(live.camera_matrix, cut.camera_matrix)


class Counted(ArrayImages):
    at_once = False
    decoded: list[int] = []

    def read(self, first):
        for number in range(first, COUNT):
            self.decoded.append(number)
            yield self.images[number]


def test_each_picture_is_decoded_once_and_only_as_far_as_wanted(episode):
    Counted.decoded.clear()
    images = EpisodeImages(stamps(episode), Counted(np.stack([grey(n) for n in range(COUNT)])))
    seen = replace(episode, images=images)
    for end in (40, 20, 45, 45):
        shown(seen, end)
    assert Counted.decoded == list(range(46))
    other = pickle.loads(pickle.dumps(images))
    assert number_of(other.take(np.array([3]), ((4, 4),))[0]) == 3 and len(images._kept) == 1


def test_several_recordings_are_decoded_beforehand(episode, video, tmp_path):
    many = [EpisodeImages(stamps(episode), VideoFrames(str(video), COUNT)) for _ in range(3)]
    told = []
    decode_all(many, SPEC, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    video.rename(tmp_path / "away.avi")
    try:
        assert number_of(many[2].take(np.array([59]), ((24, 16), (8, 8)))[0]) == 59
    finally:
        (tmp_path / "away.avi").rename(video)


def test_an_episode_finds_its_pictures_again_and_keeps_all_it_has(episode, video, tmp_path):
    rng = np.random.default_rng(0)
    length = len(episode)
    full = replace(
        episode,
        images=EpisodeImages(stamps(episode), VideoFrames(str(video), COUNT), CAMERA),
        pixels=rng.uniform(0, 40, (length, 2, 21, 2)),
        mano_pose=rng.normal(size=(length, 2, 16, 3)),
        mano_translation=rng.normal(size=(length, 2, 3)),
        betas=rng.normal(size=(2, 10)),
        body=rng.normal(size=(length, 2, 3)),
        body_names=("nose", "left_knee"),
        contacts=np.array([[episode.stamp[3], 1.0]]),
    )
    full.save(tmp_path / "full.npz")
    again = Episode.load(tmp_path / "full.npz")
    for name in ("pixels", "mano_pose", "mano_translation", "betas", "body", "contacts"):
        assert np.array_equal(getattr(again, name), getattr(full, name)), name
    assert again.body_names == full.body_names and np.array_equal(again.camera_matrix, CAMERA.matrix)
    window = shown(again, 50)
    assert number_of(window.images[0, -1]) == 50 and np.array_equal(window.betas[0], full.betas)
    np.testing.assert_allclose(window.pixels[0, -1], full.pixels[50] * (16 / 64, 24 / 48))
    part = again.slice(10, 40)
    assert len(part.pixels) == 30 and number_of(shown(part, 29).images[0, -1]) == 39
    # Moved together with its video to another machine, it finds it beside itself.
    described = np.load(tmp_path / "full.npz", allow_pickle=False)
    text = str(described["images"]).replace(str(video), "/nowhere/walk.avi")
    np.savez(tmp_path / "moved.npz", **{**described, "images": np.array(text)})
    (tmp_path / "walk.avi").write_bytes(video.read_bytes())
    assert number_of(shown(Episode.load(tmp_path / "moved.npz"), 50).images[0, -1]) == 50
    (tmp_path / "walk.avi").unlink()
    with pytest.raises(UserError, match="video /nowhere/walk.avi is not there"):
        shown(Episode.load(tmp_path / "moved.npz"), 50)


def test_files_and_tars_are_read_alike(episode, tmp_path):
    names = tuple(f"{n:03d}.png" for n in range(COUNT))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for number, name in enumerate(names):
            (tmp_path / name).write_bytes(jpeg(number))
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(number))
            tar.addfile(member, io.BytesIO(jpeg(number)))
    for source in (ImageFiles(str(tmp_path), names), TarImages(str(tmp_path / "all.tar"), names)):
        images = EpisodeImages(stamps(episode), source)
        again = EpisodeImages.from_json(images.to_json(), images.stamp, tmp_path)
        for one in (images, again):
            assert [number_of(image) for image in one.take(np.array([50, 7]), ((8, 8),))[0]] == [50, 7]
    with pytest.raises(UserError, match="in memory alone"):
        EpisodeImages(stamps(episode), ArrayImages(np.zeros((COUNT, 2, 2, 3), np.uint8))).to_json()
    (tmp_path / "009.png").unlink()
    with pytest.raises(UserError, match="009.png cannot be read"):
        EpisodeImages(stamps(episode), ImageFiles(str(tmp_path), names)).take(np.array([9]), ((8, 8),))


def test_a_bag_gives_the_pictures_of_its_camera(episode, tmp_path):
    episode_to_bag(episode, tmp_path / "hands")
    types = MessageTypes()
    make = types.store.types
    first = max(0.0, 1.0 - episode.stamp[0])
    with new_writer(tmp_path / "seen", "mcap") as writer:
        topics = {}

        def write(topic, msgtype, stamp, message):
            if topic not in topics:
                text, digest = types.definition(msgtype)
                topics[topic] = writer.add_connection(topic, msgtype, msgdef=text, rihs01=digest)
            writer.write(topics[topic], round(stamp * 1e9), types.store.serialize_cdr(message, msgtype))

        def header(stamp):
            time = make["builtin_interfaces/msg/Time"](sec=int(stamp), nanosec=int(stamp % 1 * 1e9))
            return make["std_msgs/msg/Header"](stamp=time, frame_id="camera")

        roi = make["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        info = make["sensor_msgs/msg/CameraInfo"](
            header=header(first + 1), height=48, width=64, distortion_model="plumb_bob", d=np.zeros(5),
            k=CAMERA.matrix.ravel(), r=np.eye(3).ravel(), p=np.eye(3, 4).ravel(), binning_x=0, binning_y=0, roi=roi,
        )  # fmt: skip
        write("/camera_info", "sensor_msgs/msg/CameraInfo", first, info)
        for number in range(COUNT):
            stamp = stamps(episode)[number] + first
            image = make["sensor_msgs/msg/CompressedImage"](header(stamp), "png", np.frombuffer(jpeg(number), np.uint8))
            write("/image/compressed", "sensor_msgs/msg/CompressedImage", stamp, image)
        build_hands(types, writer, episode, first)
    (seen,) = episodes_from_bag(tmp_path / "seen")
    np.testing.assert_allclose(seen.camera_matrix, CAMERA.matrix)
    assert len(seen.images) == COUNT and number_of(shown(seen, 45).images[0, -1]) in (44, 45)
    seen.save(tmp_path / "seen.npz")
    assert number_of(shown(Episode.load(tmp_path / "seen.npz"), 45).images[0, -1]) in (44, 45)
    assert episodes_from_bag(tmp_path / "hands")[0].images is None


def build_hands(types, writer, episode, first):
    """Hands as `episode_to_bag` writes them, into a bag that is open."""
    from egohand_ros.data.bags.bag import HAND_POSES, _BagTopics, _Builder

    topics, build = _BagTopics(writer, types, ""), _Builder(types)
    for i, stamp in enumerate(episode.stamp + first):
        message = build.hand_pose_array(stamp, replace(episode, camera_pose=None), i)
        topics.write(HAND_POSES, "egohand_ros/msg/HandPoseArray", stamp, message)


def test_windows_before_the_first_picture_or_long_after_the_last_have_none_of_their_own(episode, video):
    images = EpisodeImages(stamps(episode)[30:], VideoFrames(str(video), 30, 30), CAMERA)
    at = episode.stamp[0] + np.array([0.9, 1.1, 2.3, 2.6])
    assert images.covers(at).tolist() == [False, True, True, False]
    seen = replace(episode, images=images)
    assert [number_of(image) for image in shown(seen, 35).images[0]] == [30, 35], "the oldest stands for those before"


def test_a_mirrored_window_has_mirrored_pictures(episode, video):
    rng = np.random.default_rng(1)
    images = EpisodeImages(stamps(episode), VideoFrames(str(video), COUNT), CAMERA)
    camera = CAMERA.scaled(16, 24)
    seen = replace(episode, images=images, betas=rng.normal(size=(2, 10)))
    pixels = np.stack([CAMERA.project(points) for points in _in_camera(episode)])
    cut = cut_windows(replace(seen, pixels=pixels), np.array([50]), 0.1, 5, 0)
    flipped = mirror(replace(cut, window=with_images(cut.window, replace(seen, pixels=pixels), SPEC))).window
    assert np.array_equal(flipped.betas[0, 0], seen.betas[1])
    # A point of the mirrored hand is seen where its own pixel says, by the mirrored camera.
    point = np.linalg.inv(flipped.camera_pose[0, -1].numpy())
    local = flipped.keypoints[0, -1, 0, 5].numpy() @ point[:3, :3].T + point[:3, 3]
    told = flipped.camera_matrix[0, -1].numpy() @ local
    np.testing.assert_allclose(told[:2] / told[2], flipped.pixels[0, -1, 0, 5], atol=1e-6)
    assert camera.width == 16


def _in_camera(episode):
    world_to_camera = np.linalg.inv(episode.camera_pose)
    turned = np.einsum("tij,tskj->tski", world_to_camera[:, :3, :3], episode.keypoints)
    return turned + world_to_camera[:, None, None, :3, 3]


@pytest.mark.parametrize(
    "wrong, told",
    [
        (dict(stamp=np.zeros(COUNT)), "60 images have 60 times"),
        (dict(stamp=np.arange(3.0)), "60 images have 3 times"),
    ],
)
def test_wrong_times_are_explained(video, wrong, told):
    with pytest.raises(UserError, match=told):
        EpisodeImages(source=VideoFrames(str(video), COUNT), **wrong)


def test_a_video_that_is_shorter_than_was_said_is_explained(episode, video):
    images = EpisodeImages(np.arange(90.0), VideoFrames(str(video), 90))
    with pytest.raises(UserError, match="90 images are expected, but they end after 60"):
        images.take(np.array([80]), ((4, 4),))


def test_a_scene_is_drawn_when_it_is_shown():
    scene = generate_scene(2, 2.0)
    seen = with_pictures(scene.episode, scene, 24)
    window = shown(seen, 30)
    told = SceneRenderer(scene, seen.images.camera).render(30)
    assert np.array_equal(window.images[0, -1].numpy(), cv2.resize(told, (16, 24), interpolation=cv2.INTER_AREA))
    with pytest.raises(UserError, match="cannot be saved with its pictures"):
        seen.images.to_json()


def test_training_data_for_who_needs_images_have_them(tmp_path):
    needy = replace(SPEC, needs=(Need("images", "Test needs images"),))
    data = gather([], 2, needy)
    assert all(episode.images is not None for episode in [*data.training, *data.validation.values()])
    generate_scene(2, 30.0).episode.save(tmp_path / "blind.npz")
    with pytest.raises(UserError, match="^Test needs images, and '.*blind.npz' has none"):
        gather([str(tmp_path / "blind.npz")], 0, needy)
