//! How this hub behaves where real hubs differ or are not known: one switch for each known form. Plain data.

use serde::{Deserialize, Serialize};

/// Changeable while the hub runs; what is negotiated at `open` or at attach holds for later ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Behaviour {
    /// Record messages; without it they are only counted.
    pub recording: bool,
    /// Seconds that a token is still taken after its end; 300.
    pub skew: i64,
    /// What put-token answers for a good token: 200, or 202.
    pub put_token_status: i32,
    /// Refused attaches are answered with a null terminus; otherwise with an echo and then a detach.
    pub null_terminus: bool,
    /// What happens at a token's end (plus skew).
    pub on_expiry: OnExpiry,
    /// What happens to the older connection of a device.
    pub on_stolen: OnStolen,
    /// The condition that the older connection's links are detached with.
    pub stolen_condition: String,
    /// Milliseconds announced in `open` and enforced: a peer that is silent for longer is cut off. 0: none.
    pub idle_time_out: u32,
    /// Announced in `open`, in bytes: what the peer sends comes in frames of at most this size. 64 KiB; 512 is the least.
    pub max_frame_size: u32,
    /// Announced on every link, in bytes; larger transfers detach the link. 1 MiB.
    pub max_message_size: u64,
    /// Larger transfers are rejected. 256 KiB.
    pub service_limit: usize,
    /// Credit of a telemetry link, topped up at half; 1 to 1000 or more.
    pub credit: u32,
    /// Flows go out without `next-incoming-id`, as some gateways send them; a client that counts by the rules stands
    /// still after 5000 frames of a session.
    pub bare_flow: bool,
    /// More messages a second (after a minute's worth as a burst) are rejected as throttled. 0: no limit.
    pub messages_per_second: u32,
    /// More chunks of 4 KiB are rejected as over quota, until [`crate::Emulator::new_day`]. 0: no limit.
    pub daily_quota: u64,
    pub tls12_only: bool,
    /// The TLS handshake asks for a client certificate, and does without.
    pub ask_client_certificate: bool,
    /// The type of a method call's correlation id.
    pub correlation: Correlation,
    /// Twin answers carry the annotation `version`.
    pub twin_version: bool,
    /// The status of the answer to a twin PATCH: 200, or 204.
    pub twin_patch_status: i32,
    /// Twin answers without content have an empty data section; otherwise no body at all.
    pub twin_empty_body: bool,
    /// Desired pushes carry the annotations `resource` and `version`.
    pub push_annotations: bool,
    /// AMQP bytes go out in WebSocket frames of at most this size; 0: as they come.
    pub websocket_chunk: usize,
    /// Seconds that a cloud-to-device message is locked; 60.
    pub lock: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            recording: true,
            skew: 300,
            put_token_status: 200,
            null_terminus: false,
            on_expiry: OnExpiry::Detach,
            on_stolen: OnStolen::DetachThenClose,
            stolen_condition: "amqp:link:stolen".into(),
            idle_time_out: 240_000,
            max_frame_size: 65_536,
            max_message_size: 1024 * 1024,
            service_limit: 256 * 1024,
            credit: 1000,
            bare_flow: false,
            messages_per_second: 0,
            daily_quota: 0,
            tls12_only: false,
            ask_client_certificate: false,
            correlation: Correlation::Uuid,
            twin_version: true,
            twin_patch_status: 200,
            twin_empty_body: true,
            push_annotations: true,
            websocket_chunk: 0,
            lock: 60,
        }
    }
}

/// At a token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// The device's links are detached with `amqp:unauthorized-access`.
    Detach,
    /// The connection is closed with the same condition.
    Close,
    /// TCP ends.
    Drop,
}

/// When a second connection of a device attaches its first link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStolen {
    /// Each link of the older is detached with `amqp:link:stolen`, then it is closed with `amqp:connection:forced`.
    DetachThenClose,
    Detach,
    Close,
    Drop,
    /// Both live on.
    Tolerate,
}

/// The AMQP type of a method call's correlation id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Correlation {
    Uuid,
    String,
    Binary,
    Ulong,
}
