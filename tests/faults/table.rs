//! The table of faults: what goes wrong, how it shows, how fast it is noticed and recovered from.

use std::time::Duration;

use hub_emulator::{Behaviour, Certificate, Cut, Fault, HubError, Port, TokenAnswer};

use crate::rig::Plan;

/// One row: what goes wrong, how the station shows it, and the times.
pub struct Row {
    pub name: &'static str,
    pub faults: fn() -> Vec<Fault>,
    /// The fault strikes once and is not cleared; the station has to come back by itself.
    pub once: bool,
    /// Ends what is connected after the fault is armed: for faults that only new connections meet.
    pub kick: bool,
    pub notice: Notice,
    /// From the injection to the notice.
    pub noticed: Duration,
    /// From the end of the fault to everything accepted.
    pub recovered: Duration,
    pub more: fn(&mut Plan),
    pub behaviour: fn(&mut Behaviour),
    /// Readings on disk before the fault comes, besides the sensor's.
    pub backlog: u64,
    /// Readings that end in the dead letters.
    pub aside: u64,
}

/// How a fault shows.
pub enum Notice {
    /// `cloud.state` leaves `online`.
    Offline,
    /// Connected, with this in `cloud.reason`.
    HeldUp(&'static str),
    /// Offline with this in the reason.
    Says(&'static str),
    /// It is not to be seen at all.
    Nothing,
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A row with the usual values.
fn row(name: &'static str, faults: fn() -> Vec<Fault>) -> Row {
    Row {
        name,
        faults,
        once: false,
        kick: false,
        notice: Notice::Offline,
        noticed: seconds(1),
        recovered: seconds(5),
        more: |_| {},
        behaviour: |_| {},
        backlog: 100,
        aside: 0,
    }
}

fn detached(condition: &str) -> Vec<Fault> {
    vec![Fault::DetachLinks { link: None, error: HubError::new(condition).describe("the hub's words") }]
}

fn certificate(certificate: Certificate) -> Vec<Fault> {
    vec![Fault::Certificate { certificate }]
}

fn poison(text: &str, condition: &str) -> Vec<Fault> {
    vec![Fault::Poison { text: text.into(), error: HubError::new(condition) }]
}

pub fn table() -> Vec<Row> {
    let fin = || vec![Fault::Drop { how: Cut::Fin }];
    vec![
        Row { once: true, ..row("TCP ends (FIN) with deliveries in flight", fin) },
        Row {
            once: true,
            ..row("TCP reset with deliveries in flight", || vec![Fault::Drop { how: Cut::Rst }])
        },
        Row {
            once: true,
            ..row("acknowledgement lost, then FIN", || vec![Fault::AckLost { how: Cut::Fin }])
        },
        Row {
            once: true,
            ..row("acknowledgement lost, then reset", || vec![Fault::AckLost { how: Cut::Rst }])
        },
        Row {
            once: true,
            ..row("cut in the middle of a transfer", || vec![Fault::CutOnTransfer { how: Cut::Rst }])
        },
        Row {
            // 60 s of idle time in the field, 4 s here; the rest is one turn.
            noticed: seconds(6),
            recovered: seconds(10),
            ..row("half-open with a delivery pending", || {
                vec![Fault::BlackHole { existing: true, new: true }]
            })
        },
        Row {
            noticed: seconds(6),
            recovered: seconds(10),
            more: |plan| plan.every = None,
            notice: Notice::Says("the connection broke"),
            ..row("half-open while idle", || vec![Fault::BlackHole { existing: true, new: true }])
        },
        Row {
            // 20 s for a write in the field, 2 s here.
            noticed: seconds(6),
            recovered: seconds(20),
            backlog: 20_000,
            more: |plan| plan.config.telemetry.batch = 500,
            ..row("half-open while draining a lot", || vec![Fault::BlackHole { existing: true, new: true }])
        },
        Row {
            kick: true,
            notice: Notice::Says("UnknownIssuer"),
            ..row("TLS: unknown root", || certificate(Certificate::UnknownRoot))
        },
        Row {
            kick: true,
            notice: Notice::Says("not valid for name"),
            ..row("TLS: wrong name", || certificate(Certificate::WrongName))
        },
        Row {
            kick: true,
            notice: Notice::Says("expired"),
            ..row("TLS: expired", || certificate(Certificate::Expired))
        },
        Row {
            kick: true,
            notice: Notice::Says("not valid yet"),
            ..row("TLS: not yet valid", || certificate(Certificate::NotYetValid))
        },
        Row { kick: true, ..row("the hub refuses connections", || vec![Fault::Refuse]) },
        Row {
            kick: true,
            notice: Notice::Says("did not answer within"),
            noticed: seconds(5),
            ..row("the hub takes connections and is silent", || {
                vec![Fault::SilentPort { port: Port::Amqp }, Fault::SilentPort { port: Port::Https }]
            })
        },
        Row {
            once: true,
            ..row("session ended", || {
                vec![Fault::EndSessions { error: HubError::new("amqp:internal-error") }]
            })
        },
        Row {
            once: true,
            ..row("connection closed by force", || {
                vec![Fault::CloseConnections { error: HubError::new("amqp:connection:forced") }]
            })
        },
        Row { once: true, ..row("link detached: forced", || detached("amqp:link:detach-forced")) },
        Row { once: true, ..row("link detached: internal error", || detached("amqp:internal-error")) },
        Row { once: true, ..row("link detached: unauthorized", || detached("amqp:unauthorized-access")) },
        Row { once: true, ..row("link detached: not found", || detached("amqp:not-found")) },
        Row { once: true, ..row("link detached: quota", || detached("amqp:resource-limit-exceeded")) },
        Row {
            once: true,
            ..row("link detached: throttled", || detached("com.microsoft:device-container-throttled"))
        },
        Row {
            once: true,
            notice: Notice::Says("another station signs in with this identity"),
            recovered: seconds(15),
            ..row("link stolen", || detached("amqp:link:stolen"))
        },
        Row { once: true, ..row("link detached: unknown condition", || detached("com.example:news")) },
        Row {
            kick: true,
            notice: Notice::Says("401"),
            noticed: seconds(3),
            recovered: seconds(8),
            ..row("put-token answered 401", || vec![Fault::PutToken { answer: TokenAnswer::Unauthorized }])
        },
        Row {
            kick: true,
            notice: Notice::Says("401"),
            noticed: seconds(3),
            recovered: seconds(8),
            ..row("fresh token refused as expired", || vec![Fault::PutToken { answer: TokenAnswer::Expired }])
        },
        Row {
            kick: true,
            notice: Notice::Says("500"),
            noticed: seconds(3),
            ..row("put-token answered 500", || vec![Fault::PutToken { answer: TokenAnswer::ServerError }])
        },
        Row {
            kick: true,
            notice: Notice::Says("did not answer within 2 s"),
            noticed: seconds(4),
            ..row("put-token never answered", || vec![Fault::PutToken { answer: TokenAnswer::Never }])
        },
        Row {
            kick: true,
            notice: Notice::Says("403005"),
            noticed: seconds(3),
            ..row("put-token refused: too many", || vec![Fault::PutToken { answer: TokenAnswer::TooMany }])
        },
        Row {
            kick: true,
            notice: Notice::Says("did not answer within 2 s"),
            noticed: seconds(4),
            ..row("put-token answered to another", || vec![Fault::PutToken { answer: TokenAnswer::OtherId }])
        },
        Row {
            kick: true,
            once: true,
            recovered: seconds(4),
            ..row("put-token answered late", || vec![Fault::PutTokenLate { millis: 1000 }])
        },
        Row {
            kick: true,
            notice: Notice::Says("resource-limit-exceeded"),
            noticed: seconds(3),
            recovered: seconds(8),
            ..row("attach refused: quota", || {
                vec![Fault::RefuseAttach { link: None, error: HubError::new("amqp:resource-limit-exceeded") }]
            })
        },
        Row {
            kick: true,
            notice: Notice::Says("unauthorized-access"),
            noticed: seconds(3),
            recovered: seconds(8),
            ..row("attach refused: unauthorized", || {
                vec![Fault::RefuseAttach { link: None, error: HubError::unauthorized("no") }]
            })
        },
        Row {
            kick: true,
            notice: Notice::Says("unauthorized-access"),
            noticed: seconds(3),
            recovered: seconds(8),
            behaviour: |behaviour| behaviour.null_terminus = true,
            ..row("attach refused with a null terminus", || {
                vec![Fault::RefuseAttach { link: None, error: HubError::unauthorized("no") }]
            })
        },
        Row {
            kick: true,
            notice: Notice::Says("throttled"),
            noticed: seconds(3),
            ..row("attach refused: throttled", || {
                vec![Fault::RefuseAttach { link: None, error: HubError::throttled(None) }]
            })
        },
        Row {
            kick: true,
            notice: Notice::Says("did not answer within"),
            noticed: seconds(5),
            ..row("hub silent after open", || vec![Fault::SilentAfterOpen])
        },
        Row {
            kick: true,
            notice: Notice::Says("send readings"),
            noticed: seconds(8),
            ..row("no credit", || vec![Fault::NoCredit])
        },
        Row {
            notice: Notice::Nothing,
            ..row("disposition late", || vec![Fault::DispositionLate { millis: 1500 }])
        },
        Row {
            notice: Notice::Says("have readings accepted"),
            noticed: seconds(6),
            ..row("disposition never", || vec![Fault::DispositionNever])
        },
        Row {
            notice: Notice::HeldUp("unprocessed"),
            noticed: seconds(2),
            ..row("released", || vec![Fault::Release])
        },
        Row {
            notice: Notice::HeldUp("unprocessed"),
            noticed: seconds(2),
            ..row("modified", || vec![Fault::Modify])
        },
        Row {
            notice: Notice::HeldUp("throttled"),
            noticed: seconds(2),
            ..row("throttled without a hint", || vec![Fault::Throttle { retry_after: None }])
        },
        Row {
            notice: Notice::HeldUp("throttled"),
            noticed: seconds(2),
            ..row("throttled with a hint", || vec![Fault::Throttle { retry_after: Some(10) }])
        },
        Row {
            notice: Notice::HeldUp("daily quota"),
            noticed: seconds(2),
            recovered: seconds(16),
            ..row("daily quota spent", || vec![Fault::QuotaSpent])
        },
        Row {
            notice: Notice::Nothing,
            recovered: seconds(8),
            aside: 1,
            ..row("one reading is poison", || poison("\"sequence\":170}", "amqp:decode-error"))
        },
        Row {
            notice: Notice::Nothing,
            recovered: seconds(8),
            aside: 1,
            ..row("one reading is too large for the hub", || {
                poison("\"sequence\":170}", "amqp:link:message-size-exceeded")
            })
        },
        Row {
            notice: Notice::HeldUp("decode-error"),
            noticed: seconds(3),
            aside: 2,
            ..row("the hub rejects everything", || {
                vec![Fault::Reject { error: HubError::new("amqp:decode-error") }]
            })
        },
    ]
}
