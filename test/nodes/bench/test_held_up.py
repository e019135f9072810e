"""The control of what is measured by arrival: processes that only wait."""

import time

from egohand_ros.nodes.bench.held_up import HeldUp


def test_what_was_woken_late_is_found_by_when_it_waited(tmp_path):
    held_up = HeldUp(tmp_path, 0)
    try:
        deadline = time.monotonic() + 60.0
        while not held_up.worst(0.0, 2e9) and time.monotonic() < deadline:
            held_up._processes[0].send_signal(19)  # it is stopped, as by a busy computer
            time.sleep(0.05)
            held_up._processes[0].send_signal(18)
            time.sleep(0.05)
        assert held_up.worst(0.0, 2e9) > 0.002
    finally:
        held_up.stop()
    assert all(process.returncode is not None for process in held_up._processes)
    held_up._files[0].write_text("100.0 0.03\n200.0 0.01\n300")
    for file in held_up._files[1:]:
        file.write_text("")
    assert [held_up.worst(*span) for span in ((99, 101), (100.02, 101), (100.04, 101), (150, 250), (0, 400))] == [
        0.03, 0.03, 0.0, 0.01, 0.03,
    ]  # fmt: skip
