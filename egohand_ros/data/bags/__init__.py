"""rosbag2 folders: reading, writing, mending.

No ROS: `rosbags` does the work.
"""
