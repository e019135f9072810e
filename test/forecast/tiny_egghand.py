"""Sizes of an EggHand that is small enough to test."""

from egohand_ros.forecast.egghand.action_head import ActionHeadConfig
from egohand_ros.forecast.egghand.egovideo import EgoVideoConfig
from egohand_ros.forecast.egghand.model import ACTION_WIDTH, STATE_WIDTH

HEAD = ActionHeadConfig(
    STATE_WIDTH,
    ACTION_WIDTH,
    64,
    32,
    width=48,
    heads=4,
    layers=4,
    hidden_width=32,
    context_width=48,
    fusion_heads=4,
    fusion_layers=1,
    categories=32,
    action_positions=16,
    dropout=0.0,
)
EGOVIDEO = EgoVideoConfig(
    width=32,
    depth=1,
    heads=4,
    feed_forward=64,
    image_size=28,
    text_width=32,
    text_layers=1,
    text_heads=4,
    text_feed_forward=64,
    text_output=16,
    vocabulary=30,
)

# Those of the stored numbers of the public modules (parity.npz).
PARITY_HEAD = ActionHeadConfig(
    state_width=16,
    action_width=8,
    width=48,
    heads=4,
    layers=4,
    hidden_width=32,
    context_width=64,
    fusion_heads=4,
    fusion_layers=2,
    categories=2,
    future_tokens=3,
    action_positions=32,
)
PARITY_EGOVIDEO = EgoVideoConfig(
    width=64,
    depth=3,
    heads=4,
    feed_forward=128,
    image_size=56,
    text_width=32,
    text_heads=4,
    text_feed_forward=64,
    text_output=12,
    vocabulary=100,
)
