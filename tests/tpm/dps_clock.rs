//! A clock that is off without anybody knowing, and the provisioning service: its Date puts the clock right.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use weather_station::clock::{Clock, ClockState, SystemClock, Timekeeper};
use weather_station::cloud::tls::Tls;
use weather_station::cloud::{Limits, visit_provisioning_service};
use weather_station::identity::Identity;
use weather_station::identity::dps::Service;
use weather_station::reading::BootId;

use crate::dps::{Scene, service};
use crate::swtpm::Swtpm;

/// The machine's clock, set back.
struct Behind {
    by: TimeDelta,
    synchronised: bool,
    of: SystemClock,
}

impl Clock for Behind {
    fn wall(&self) -> DateTime<Utc> {
        self.of.wall() - self.by
    }

    fn since_boot(&self) -> Duration {
        self.of.since_boot()
    }

    fn boot(&self) -> BootId {
        self.of.boot()
    }

    fn synchronised(&self) -> bool {
        self.synchronised
    }
}

/// The scene's service, seen by a station with this clock.
fn with_clock(scene: &Scene, by: TimeDelta, synchronised: bool) -> Service {
    let clock = Behind { by, synchronised, of: SystemClock::new() };
    let timekeeper = Timekeeper::new(Arc::new(clock), DateTime::UNIX_EPOCH);
    let ca_file = scene.dps.ca_file();
    let tls = Tls::load(Some(ca_file), timekeeper.clone()).unwrap();
    Service { tls, timekeeper, ..service(&scene.tpm.tcti(), &scene.dps.endpoint(), ca_file) }
}

#[tokio::test]
async fn a_plausible_clock_that_is_behind_is_put_right_by_the_services_date() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    // A token that is old when it is made, and a certificate that is not valid yet.
    for by in [TimeDelta::hours(2), TimeDelta::days(53 * 365)] {
        let service = with_clock(&scene, by, false);
        assert_eq!(service.timekeeper.state(), ClockState::Plausible);
        let identity = visit_provisioning_service(&service, &Limits::default()).await.unwrap();
        assert_eq!(identity, Identity { host: "first-hub".into(), device_id: "station-7".into() });
        let off = service.timekeeper.now() - SystemClock::new().wall();
        assert!(off.abs() < TimeDelta::seconds(30), "{off}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_told_apart_from_an_unknown_enrollment() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let service = with_clock(&scene, TimeDelta::hours(2), true);
    let text = visit_provisioning_service(&service, &Limits::default()).await.unwrap_err().to_string();
    assert!(text.contains("it does not take the token that this TPM signed"), "{text}");
    assert!(text.contains("401002 it has expired") && text.contains("is the clock right"), "{text}");
    assert_eq!(service.timekeeper.state(), ClockState::Synchronised, "the kernel's word stands");
}
