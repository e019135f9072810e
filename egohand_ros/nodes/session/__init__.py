"""A graph of nodes as processes: its plan, its start, its end, and what it left.

No node's own work.
"""
