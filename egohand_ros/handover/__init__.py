"""Handing objects over between a person and a robot: what the person wants, where and when the hands meet, how close
the robot may come, and what it does next. Arms are in robot/arm/, the node in nodes/; nothing here knows ROS or MuJoCo,
but for simulation/, where a person is made up who reacts."""
