"""Messages to arrays: one `parse_` function and one array form for each, for live nodes, bags, replays and reports
alike.

Duck-typed and without ROS: generated messages of rclpy and those that `rosbags` makes of a bag are read alike. What
needs generated classes, building messages, is in `nodes/messages/`.
"""
