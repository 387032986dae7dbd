//! One AMQP connection to the hub, from `open` to `close`: one session for all links, as Microsoft's Node SDK has
//! it. Built anew each time, for the library cannot reconnect. Knows links, not what travels over them.

use std::borrow::Cow;
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection as Amqp, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::{Fields, ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::primitives::Symbol;
use serde_amqp::Value;
use uuid::Uuid;

use super::deadline::{Bounded, Limits};
use super::error::{Cause, CloudError};
use super::stream::{GuardedStream, Scissors, Wire};

/// Frames that may wait between the library's tasks. Two of them wait for each other for ever once the queues between
/// them are full both ways, so each holds what can be on its way: a megabyte of transfers in frames of 512 bytes, the
/// smallest there are, or the messages that our credit allows. What a dead peer leaves in memory is bounded where
/// transfers begin (`drain::next`), not here.
const FRAMES_WAITING: usize = 4_096;

/// Five minutes in the field: as long as a transfer of each size may keep a slow uplink busy, and a hub be throttled.
const PATIENCE: u32 = 20;

/// Says who we are in every attach, as the SDKs do.
const CLIENT_VERSION: &str = concat!("weather-station/", env!("CARGO_PKG_VERSION"));

/// An open connection with one session.
#[derive(Debug)]
pub struct Connection {
    handle: Bounded<ConnectionHandle<()>>,
    links: Links,
    limits: Limits,
    /// Its end was told: the library tells it once.
    ended: bool,
    /// Dropped last: ends the library's task even when the peer is dead.
    _scissors: Scissors,
}

/// Where links are attached: the session.
#[derive(Debug)]
pub struct Links {
    session: Bounded<SessionHandle<()>>,
    limits: Limits,
}

/// Where the end of the connection is told.
#[derive(Debug)]
pub struct Ending<'a> {
    handle: &'a mut Bounded<ConnectionHandle<()>>,
    told: &'a mut bool,
}

/// How a link settles, and what it says of itself besides the client version.
#[derive(Debug, Clone, Default)]
pub struct LinkOptions {
    pub sender_settle_mode: SenderSettleMode,
    pub receiver_settle_mode: ReceiverSettleMode,
    /// `com.microsoft:api-version` and the like.
    pub properties: Vec<(&'static str, Cow<'static, str>)>,
    /// Bytes of a message that is taken; one that is larger costs the link.
    pub largest: Option<u64>,
    /// Whether the answer is waited for [`PATIENCE`] times as long as usual: the library ends the session over one that
    /// comes after its attach was given up.
    pub patient: bool,
}

impl Connection {
    /// AMQP over a stream that is already encrypted. `host` is the hub's name, which the hub routes by.
    pub async fn open(host: &str, wire: Box<dyn Wire>, limits: &Limits) -> Result<Self, CloudError> {
        let (stream, scissors) = GuardedStream::new(wire, limits.write);
        let idle = u32::try_from(limits.idle.as_millis()).unwrap_or(u32::MAX);
        let opening = Amqp::builder()
            .container_id(Uuid::new_v4().to_string())
            .hostname(host)
            .idle_time_out(idle)
            .max_frame_size(65_536_u32)
            .sasl_profile(SaslProfile::Anonymous)
            .buffer_size(FRAMES_WAITING)
            .open_with_stream(stream);
        let mut handle = Bounded::make("open the connection", limits.open, opening).await?;
        let session = handle
            .within("begin a session", limits.attach, async |handle| {
                let session = Session::builder().buffer_size(FRAMES_WAITING).begin(handle).await;
                session.map_err(Cause::from)
            })
            .await?;
        let session = Bounded::ready(session);
        let links = Links { session, limits: limits.clone() };
        Ok(Self { handle, links, limits: limits.clone(), ended: false, _scissors: scissors })
    }

    /// The session, to attach to.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Both, for two loops.
    pub fn split(&mut self) -> (Ending<'_>, &mut Links) {
        (Ending { handle: &mut self.handle, told: &mut self.ended }, &mut self.links)
    }

    /// Closes politely. A late frame makes the library answer with an error now and then: it means nothing here.
    pub async fn close(mut self) {
        let limit = self.limits.close;
        let _closed = self.handle.listen(limit, async |handle| handle.close().await).await;
    }
}

impl Links {
    /// A link to `address` of the hub.
    pub async fn attach_sender(
        &mut self,
        doing: &'static str,
        address: &str,
        options: LinkOptions,
    ) -> Result<Bounded<Sender>, CloudError> {
        let limit = self.limit(&options);
        let sender = self.session.within(doing, limit, async |session| {
            let mut builder = Sender::builder()
                .name(unique("sender"))
                .target(address)
                .sender_settle_mode(options.sender_settle_mode)
                .receiver_settle_mode(options.receiver_settle_mode)
                .properties(properties(options.properties));
            builder.buffer_size = FRAMES_WAITING;
            builder.attach(session).await.map_err(Cause::from)
        });
        Ok(Bounded::ready(sender.await?))
    }

    /// A link from `address` of the hub. What comes is accepted by whoever takes it: the library, where it accepts by
    /// itself, has taken a delivery before it waits to say so, and a `recv` that is given up then takes it along.
    pub async fn attach_receiver(
        &mut self,
        doing: &'static str,
        address: &str,
        options: LinkOptions,
    ) -> Result<Bounded<Receiver>, CloudError> {
        let limit = self.limit(&options);
        let receiver = self.session.within(doing, limit, async |session| {
            let mut builder = Receiver::builder()
                .name(unique("receiver"))
                .source(address)
                .auto_accept(false)
                .sender_settle_mode(options.sender_settle_mode)
                .receiver_settle_mode(options.receiver_settle_mode)
                .properties(properties(options.properties))
                .credit_mode(fe2o3_amqp::link::CreditMode::Auto(super::cbs::CREDIT));
            builder.buffer_size = FRAMES_WAITING;
            builder.max_message_size = options.largest;
            builder.attach(session).await.map_err(Cause::from)
        });
        Ok(Bounded::ready(receiver.await?))
    }

    fn limit(&self, options: &LinkOptions) -> Duration {
        self.limits.attach * if options.patient { PATIENCE } else { 1 }
    }

    /// How long an attach takes at most where all is well.
    pub fn usual(&self) -> Duration {
        self.limits.attach
    }
}

impl Ending<'_> {
    /// Waits up to `limit` for the end of the connection; the one place where the I/O error is told, once.
    pub async fn wait(&mut self, limit: Duration) -> Option<CloudError> {
        if *self.told {
            return None;
        }
        let end = self.handle.listen(limit, async |handle| handle.on_close().await).await?;
        *self.told = true;
        let cause = end.err().map_or_else(|| Cause::Lost("the connection was closed".into()), Cause::from);
        Some(CloudError::new("stay connected", cause))
    }
}

/// A name still held at the hub by an older link would be refused.
fn unique(role: &str) -> String {
    format!("weather-station-{role}-{}", Uuid::new_v4())
}

fn properties(extra: Vec<(&'static str, Cow<'static, str>)>) -> Fields {
    let mut fields = Fields::new();
    fields.insert(Symbol::from("com.microsoft:client-version"), Value::String(CLIENT_VERSION.to_owned()));
    for (key, value) in extra {
        fields.insert(Symbol::from(key), Value::String(value.into_owned()));
    }
    fields
}
