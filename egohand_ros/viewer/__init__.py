"""The web page that shows a running graph or a recording: what it shows, how it is drawn, and who may connect.

No ROS: the node is in nodes/, and feeds it arrays. Nothing on the page reaches back into the graph.
"""
