"""What a hostile run forgives the middleware, and what it does not."""

from egohand_ros.nodes.bench.hostile_verdict import TARGETS, HostileReport, judge_counts, most_lost


def judged(lost, refused_short=0, attacks=300, kinds=15):
    """The failures of a run in which of 300 attacks on `prompt` some were lost, and some were not refused."""
    report = HostileReport()
    report.sent["prompt"] = {f"kind {i}": attacks // kinds for i in range(kinds)}
    report.must_be_refused["prompt"] = attacks
    counts = {node: {} for node in TARGETS.values()}
    counts["forecaster"] = {
        "count/received/prompt": attacks - lost,
        "rejected/prompt/too_long": attacks - lost - refused_short,
    }
    published = dict.fromkeys(TARGETS, 0) | {"prompt": attacks}
    judge_counts(report, counts, published, dict.fromkeys(TARGETS, kinds))
    assert report.lost["prompt"] == lost
    return report.failures


def test_a_few_messages_lost_on_the_way_are_counted_and_forgiven():
    assert judged(0) == judged(3) == []


def test_one_that_arrived_and_was_not_refused_is_a_failure():
    assert judged(0, refused_short=1) and judged(3, refused_short=1)


def test_a_kind_that_never_arrives_is_a_failure():
    assert judged(20) == ["prompt: of 300 messages 280 arrived"]
    assert judged(11)


def test_of_many_messages_no_more_than_a_thousandth_is_forgiven():
    assert most_lost(100_000, 90_000, 15) == 100.0
    assert most_lost(0, 0, 0) == 0.0
