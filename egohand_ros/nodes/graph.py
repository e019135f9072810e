"""The table of nodes, their arguments and their topics, which the launch file and `egohand run` share. Needs no ROS."""

# Topics that sensors, trackers and people give, by relative name. A replay plays these; everything else is computed anew.
INPUT_TOPICS = (
    "image",
    "image/compressed",
    "camera_info",
    "depth",
    "camera_pose",
    "odometry",
    "prompt",
    "hand_poses",
    "tracker_poses",
)

# Topics that a recording keeps: the inputs, what was made of them, and how long it took.
RECORDED_TOPICS = (
    *INPUT_TOPICS,
    "hand_forecasts",
    "forecaster_info",
    "joint_commands",
    "joint_states",
    "sim_hand/image",
    "session",
    "*/debug/*",
    "player/state",
    "/diagnostics",
    "/tf",
    "/tf_static",
)
