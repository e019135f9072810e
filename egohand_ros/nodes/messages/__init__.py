"""Messages from arrays: builders, which need the generated classes. Pure functions; no node needed.

What reads messages is in `egohand_ros/messages/`, for bags and reports too.
"""
