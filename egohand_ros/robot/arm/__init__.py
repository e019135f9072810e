"""Robot arms that carry a hand: configs, kinematics and bodies, inverse kinematics within limits, jerk-limited motion,
and an audit that shares nothing with it. Who the arm works with is not known here: that is handover/."""
