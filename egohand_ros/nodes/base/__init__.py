"""What every node shares: lifecycle, parameters, QoS, diagnostics, worker, timers.

Nothing about hands.
"""
