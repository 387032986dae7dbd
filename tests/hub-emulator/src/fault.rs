//! What can go wrong, on command: the list of faults and the table of those in force. Knows neither sockets nor
//! links; the places where a fault bites ask the table.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::certificates::Certificate;
use crate::error::HubError;
use crate::hub::Port;
use crate::node::LinkKind;
use crate::wire::Cut;

/// A fault. The first group strikes once, at the moment it is given, on the connections that exist; the others hold
/// until they are cleared or used up (`times`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// At once: the TCP connections end.
    Drop { how: Cut },
    /// At once: links are detached (closed) with an error. No `link`: every link but `$cbs`.
    DetachLinks { link: Option<LinkKind>, error: HubError },
    /// At once: sessions end with an error.
    EndSessions { error: HubError },
    /// At once: connections are closed with an error.
    CloseConnections { error: HubError },

    /// A transfer is recorded, and the connection cut before its disposition.
    AckLost { how: Cut },
    /// A transfer arrives, is *not* recorded, and the connection is cut.
    CutOnTransfer { how: Cut },
    /// TCP stays up, nothing is read or written: connections that exist, new ones, or both. Clearing lets them go on.
    BlackHole { existing: bool, new: bool },
    /// Both ports are closed; connections that exist stay.
    Refuse,
    /// One port is closed; connections that exist stay.
    RefusePort { port: Port },
    /// The port takes new TCP connections and then neither reads nor writes.
    SilentPort { port: Port },
    /// The AMQP port shakes hands for TLS and then says nothing, as behind a firewall that knows no AMQP.
    SilentAfterTls,
    /// The TLS handshake shows this certificate.
    Certificate { certificate: Certificate },
    /// Put-token is answered with this status whatever the token is, or never.
    PutToken { answer: TokenAnswer },
    /// A request of put-token is not looked at but released. Only for all devices.
    PutTokenReleased,
    /// Put-token is answered rightly, but later.
    PutTokenLate { millis: u64 },
    /// Attaching is refused. No `link`: every link but `$cbs`.
    RefuseAttach { link: Option<LinkKind>, error: HubError },
    /// Attaching the link to the device is refused, where the one to the hub is not.
    RefuseReceiver { link: LinkKind, error: HubError },
    /// Attaching is answered rightly, but later; other links wait behind it.
    AttachLate { link: LinkKind, millis: u64 },
    /// No credit: none at attach, and links that exist are not topped up.
    NoCredit,
    /// Transfers are recorded, the disposition comes later.
    DispositionLate { millis: u64 },
    /// Transfers are recorded, the disposition never comes.
    DispositionNever,
    /// Transfers are not recorded but released.
    Release,
    /// Transfers are not recorded but answered with `modified`.
    Modify,
    /// Transfers are not recorded but rejected.
    Reject { error: HubError },
    /// Transfers that contain a message whose body contains `text` are rejected as a whole.
    Poison { text: String, error: HubError },
    /// Transfers are rejected with 429001; `retryAfter` in seconds goes into the info map as `Retry-After`.
    Throttle { retry_after: Option<u32> },
    /// The day's quota is spent: transfers are rejected with 403002, and twin requests get no answer.
    QuotaSpent,
    /// The connection opens, then nothing on it is answered any more (heartbeats go on).
    SilentAfterOpen,
    /// Twin requests get no answer.
    TwinSilent,
    /// Twin requests are answered with this status and body.
    TwinError { status: i32, body: String },
    /// A raw payload goes out in place of the right body of a twin answer.
    TwinBody { body: String },
}

/// How put-token is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenAnswer {
    /// 401, as for a bad signature.
    Unauthorized,
    /// 401, saying that the token is expired.
    Expired,
    /// 500.
    ServerError,
    /// 500, saying that the connection has too many tokens.
    TooMany,
    /// 200, but under another correlation id: no answer to what was asked.
    OtherId,
    Never,
}

/// A fault with its scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arming {
    #[serde(flatten)]
    pub fault: Fault,
    /// Only for this device. What strikes before a device is known (TLS, ports, new connections, silence after open)
    /// can only be armed for all.
    #[serde(default)]
    pub device: Option<String>,
    /// How often it strikes; without it, until cleared.
    #[serde(default)]
    pub times: Option<u32>,
}

impl Fault {
    /// Strikes `times` times, then it is gone.
    pub fn times(self, times: u32) -> Arming {
        Arming { times: Some(times), ..Arming::from(self) }
    }

    /// Strikes only this device.
    pub fn on(self, device: &str) -> Arming {
        Arming { device: Some(device.into()), ..Arming::from(self) }
    }
}

impl Fault {
    /// The ports that this fault closes.
    pub(crate) fn closes(&self, port: Port) -> bool {
        match self {
            Self::Refuse => true,
            Self::RefusePort { port: closed } => *closed == port,
            _ => false,
        }
    }
}

impl Arming {
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    pub fn on(self, device: &str) -> Self {
        Self { device: Some(device.into()), ..self }
    }
}

impl From<Fault> for Arming {
    fn from(fault: Fault) -> Self {
        Self { fault, device: None, times: None }
    }
}

/// The faults in force.
#[derive(Debug)]
pub(crate) struct Faults {
    armed: Mutex<Vec<(u64, Arming)>>,
    /// Counts changes, for those who wait for a fault to go.
    changed: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { armed: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Faults {
    pub(crate) fn arm(&self, arming: Arming) -> u64 {
        let mut armed = self.lock();
        let id = armed.last().map_or(1, |(id, _)| id + 1);
        armed.push((id, arming));
        drop(armed);
        self.changed.send_modify(|n| *n += 1);
        id
    }

    /// Takes a fault back; all of them without `id`.
    pub(crate) fn clear(&self, id: Option<u64>) {
        self.lock().retain(|(other, _)| id.is_some_and(|id| id != *other));
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn list(&self) -> Vec<(u64, Arming)> {
        self.lock().clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The first fault in force for `device` that `choose` takes; it counts as one strike.
    pub(crate) fn strike<T>(&self, device: Option<&str>, choose: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut armed = self.lock();
        let (at, chosen) = armed.iter().enumerate().find_map(|(at, (_, arming))| {
            let meant = arming.device.is_none() || arming.device.as_deref() == device;
            meant.then(|| choose(&arming.fault)).flatten().map(|chosen| (at, chosen))
        })?;
        let mut gone = false;
        if let Some(left) = &mut armed[at].1.times {
            *left = left.saturating_sub(1);
            gone = *left == 0;
        }
        if gone {
            armed.remove(at);
            drop(armed);
            self.changed.send_modify(|n| *n += 1);
        }
        Some(chosen)
    }

    /// Whether such a fault is in force; does not count as a strike.
    pub(crate) fn holds(&self, device: Option<&str>, choose: impl Fn(&Fault) -> bool) -> bool {
        self.lock().iter().any(|(_, arming)| {
            (arming.device.is_none() || arming.device.as_deref() == device) && choose(&arming.fault)
        })
    }

    /// None in force at all: the hot path asks nothing else.
    pub(crate) fn none(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Arming)>> {
        self.armed.lock().expect("no code panics while it holds the faults")
    }
}

/// Milliseconds of a fault.
pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
