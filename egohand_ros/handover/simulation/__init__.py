"""A handover in MuJoCo: an arm with a dexterous hand, an object, and a person made up by rules who reacts to the robot.
Judging what happens is evaluation/'s business."""
