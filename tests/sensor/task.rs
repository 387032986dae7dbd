//! The sensor task: schedule, repair, accounting.

use std::time::Duration;

use super::rig::Rig;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_day_of_samples_says_what_the_trace_says_and_does_not_drift() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let first = rig.sample().await;
    rig.assert_true(&first);
    for minute in 1..1440 {
        let sample = rig.sample().await;
        rig.assert_true(&sample);
        let since_first = sample.stamp.since_boot - first.stamp.since_boot;
        let late = since_first.abs_diff(MINUTE * minute);
        assert!(late < Duration::from_millis(20), "sample {minute} came {late:?} off");
    }
    assert_eq!(rig.chip.conversions(), 1440);
    assert_eq!(rig.chip.begun_while_busy(), 0);
}
