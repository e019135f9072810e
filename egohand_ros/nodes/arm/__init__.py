"""What the nodes share that command a robot arm: its parameters, frames, joint states, and the stream of commands."""
