//! The cloud task: finds out who the station is, makes a token, connects, serves the connection until it ends,
//! waits, and does it again, for ever. Knows the order of these steps; what follows from a failure is in `failure`.

mod failure;
mod serve;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fe2o3_amqp::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::serve::Link;
use super::acknowledge::Acknowledging;
use super::assignment::Assignment;
use super::batch::MOST_BYTES;
use super::cbs::Cbs;
use super::connection::{Connection, LinkOptions};
use super::deadline::{Limits, beating};
use super::dial::Dialer;
use super::error::{Cause, CloudError};
use super::groups::Groups;
use super::hub_time::{self, Compared};
use super::outage::Outage;
use super::pace::Pace;
use super::poison::{EventSuspicion, Suspicion};
use super::proxy::Proxy;
use super::report::Reporter;
use super::shared::{Gate, Shared, stopped};
use super::steering::{MODEL_ID, MODEL_PROPERTY, Steering};
use super::tls::Tls;
use super::token::SignerDesk;
use super::uplink::Uplink;
use crate::backoff::Backoff;
use crate::clock::{ClockState, Timekeeper};
use crate::config;
use crate::identity::Identity;
use crate::settings::Settings;
use crate::status::Board;
use crate::store::StoreHandle;

/// The kernel's clock is given this long after boot to be synchronised.
const JUST_BOOTED: Duration = Duration::from_secs(120);

/// Everything the task needs. It runs until `stop` is true.
pub struct Task {
    pub identity: config::Identity,
    pub provisioning: config::Provisioning,
    pub hub: config::Hub,
    /// HTTPS goes through it: the WebSocket, the hub's time, the provisioning service.
    pub proxy: Proxy,
    pub telemetry: config::Telemetry,
    pub store: StoreHandle,
    pub settings: watch::Receiver<Settings>,
    pub timekeeper: Timekeeper,
    pub board: Arc<Board>,
    /// Asks for a message that is not full to be sent all the same.
    pub flush: Arc<Notify>,
    /// Twin, methods and messages; none for telemetry alone.
    pub steering: Option<Steering>,
    pub stop: watch::Receiver<bool>,
    /// How long what is in flight may take once `stop` is true.
    pub last_call: Duration,
    /// Counts the turns of the loop, for the watchdog.
    pub turns: Arc<AtomicU64>,
    pub limits: Limits,
    /// Of the jitter: different on each station.
    pub seed: u64,
}

struct Running {
    task: Task,
    shared: Shared,
    gate: Arc<Gate>,
    desk: SignerDesk,
    assignment: Assignment,
    dialer: Dialer,
    tls: Option<Tls>,
    backoff: Backoff,
    steering: Option<Steering>,
    /// The hub has refused a token since the last healthy minute.
    token_refused: bool,
    /// Renewals that failed.
    renewals: Outage,
}

impl Task {
    /// Connects and sends until told to stop; never gives up.
    pub async fn run(self) {
        let mut stop = self.stop.clone();
        let last_call = self.last_call;
        let mut running = Running::new(self);
        tokio::select! {
            () = running.run() => {}
            () = async {
                stopped(&mut stop).await;
                tokio::time::sleep(last_call).await;
            } => tracing::warn!("the hub did not answer in time; what was in flight is sent again next time"),
        }
        running.shared.report.stopped();
    }
}

impl Running {
    fn new(mut task: Task) -> Self {
        let shared = Shared {
            store: task.store.clone(),
            store_news: task.store.synced(),
            settings: task.settings.clone(),
            limits: task.limits.clone(),
            timekeeper: task.timekeeper.clone(),
            report: Reporter::new(Arc::clone(&task.board), task.timekeeper.clone(), task.proxy.trouble()),
            outage: Outage::default(),
            suspicion: Suspicion::default(),
            event_suspicion: EventSuspicion::default(),
            not_aside: Outage::default(),
            uplink: Uplink::default(),
            groups: Groups::default(),
            remembered: false,
            grouped_by: task.settings.borrow().readings_per_message,
            acknowledging: Acknowledging::default(),
            pace: Pace::new(task.telemetry.max_messages_per_second),
            batch: task.telemetry.batch,
            most_bytes: MOST_BYTES,
            pauses: Backoff::new(task.seed.wrapping_add(2)),
            flush: Arc::clone(&task.flush),
            stop: task.stop.clone(),
            turns: Arc::clone(&task.turns),
        };
        Self {
            shared,
            gate: Arc::new(Gate::new()),
            desk: SignerDesk::new(task.identity.clone(), task.limits.sign),
            assignment: Assignment::new(task.identity.clone(), task.provisioning.clone()),
            dialer: Dialer::new(task.hub.clone()),
            tls: None,
            backoff: Backoff::new(task.seed),
            steering: task.steering.take(),
            token_refused: false,
            renewals: Outage::default(),
            task,
        }
    }

    async fn run(&mut self) {
        self.await_clock().await;
        while !self.shared.is_stopping() {
            self.shared.report.connecting();
            let error = match self.connect().await {
                Err(error) => error,
                Ok(link) => match self.serve(link).await {
                    None => return,
                    Some(error) => error,
                },
            };
            self.after(error).await;
        }
    }

    /// Most machines are synchronised a few seconds after boot. One that has been up for minutes without it (a
    /// container, a field behind a firewall) is not worth the wait.
    async fn await_clock(&mut self) {
        let until = Instant::now() + self.task.limits.clock;
        while self.task.timekeeper.state() != ClockState::Synchronised
            && self.task.timekeeper.since_boot() < JUST_BOOTED
            && Instant::now() < until
            && !self.shared.is_stopping()
        {
            self.wait(Duration::from_millis(200).min(self.task.limits.clock)).await;
        }
    }

    /// Everything from the identity to the attached links, under the permit.
    async fn connect(&mut self) -> Result<Link, CloudError> {
        let mut stop = self.shared.stop.clone();
        let gate = Arc::clone(&self.gate);
        let _permit = gate.acquire().await;
        let (turns, turn) = (Arc::clone(&self.shared.turns), self.task.limits.turn);
        tokio::select! {
            link = beating(&turns, turn, self.steps()) => link,
            () = stopped(&mut stop) => {
                Err(CloudError::new("connect", Cause::Lost("the station is ending".into())))
            }
        }
    }

    /// The steps of `connect`, run under `beating`, which feeds the watchdog.
    async fn steps(&mut self) -> Result<Link, CloudError> {
        let limits = self.task.limits.clone();
        let source = self.task.identity.source;
        let mut identity = self.desk.identity().await;
        self.shared.report.identity(source, identity.as_ref());
        if let Err(error) = &identity
            && self.assignment.is_wanted(error)
        {
            identity = self.visit().await;
            self.shared.report.identity(source, identity.as_ref());
        }
        if let Some(steering) = &mut self.steering {
            match &identity {
                Ok(identity) => steering.identified(identity).await,
                Err(_) => steering.unidentified().await,
            }
        }
        let identity = identity?;
        let tls = self.tls()?;
        if self.task.timekeeper.state() == ClockState::Wrong {
            self.compare_clock(&identity, &tls).await?;
        }
        let timekeeper = &self.task.timekeeper;
        let token = self.desk.token(identity.clone(), timekeeper, self.task.hub.token_lifetime).await?;
        let way = self.dialer.way();
        let opened = async {
            let wire = self.dialer.dial(way, &identity.host, &tls, &limits).await?;
            Connection::open(&identity.host, wire, &limits).await
        };
        let mut connection = match opened.await {
            Ok(connection) => connection,
            Err(error) => {
                self.dialer.failed(way);
                return Err(error);
            }
        };
        let mut cbs = Cbs::attach(&mut connection).await?;
        cbs.put_token(&token, limits.put_token).await?;
        let address = format!("/devices/{}/messages/events", identity.device_id);
        let doing = "attach the telemetry link";
        let model =
            LinkOptions { properties: vec![(MODEL_PROPERTY, MODEL_ID.into())], ..LinkOptions::default() };
        let sender = connection.links().attach_sender(doing, &address, model).await?;
        if let Some(limit) = sender.get(Sender::max_message_size).filter(|limit| *limit > 0) {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            self.shared.most_bytes = MOST_BYTES.min(limit.saturating_sub(64));
        }
        Ok(Link { connection, cbs, sender, identity, token, way, tls })
    }

    /// The roots are read once, and anew after a certificate was not trusted.
    fn tls(&mut self) -> Result<Tls, CloudError> {
        if let Some(tls) = &self.tls {
            return Ok(tls.clone());
        }
        let loaded = Tls::load(self.task.hub.ca_file.as_deref(), self.task.timekeeper.clone());
        let loaded = loaded.map_err(|error| CloudError::new("set TLS up", error))?;
        Ok(self.tls.insert(loaded.through(self.task.proxy.clone())).clone())
    }

    /// Asks the provisioning service, turning meanwhile; given up when the station stops.
    async fn visit(&mut self) -> Result<Identity, CloudError> {
        let tls = self.tls()?;
        let mut trouble = self.assignment.trouble();
        let visit = self.assignment.visit(tls, &self.task.timekeeper, &self.task.limits);
        tokio::pin!(visit);
        loop {
            self.shared.beat();
            tokio::select! {
                identity = &mut visit => return identity,
                Ok(()) = trouble.changed() => {
                    if let Some(trouble) = trouble.borrow_and_update().clone() {
                        self.shared.report.trouble(trouble);
                    }
                }
                () = tokio::time::sleep(self.task.limits.turn) => {}
                () = stopped(&mut self.shared.stop) => {
                    return Err(CloudError::new("get an identity", Cause::Lost("the station is ending".into())));
                }
            }
        }
    }

    async fn compare_clock(&mut self, identity: &Identity, tls: &Tls) -> Result<Compared, CloudError> {
        let (port, timekeeper) = (self.task.hub.websocket_port, &self.task.timekeeper);
        hub_time::compare(&identity.host, port, tls, timekeeper, &self.task.limits).await
    }

    /// Waits, turning; ends early when the station stops, or (true) when the page's form has put an identity in.
    async fn wait(&mut self, wait: Duration) -> bool {
        let mut provisioned = self.task.board.provisioned.subscribe();
        let until = Instant::now() + wait;
        while Instant::now() < until && !self.shared.is_stopping() {
            self.shared.beat();
            let nap = self.task.limits.turn.min(until.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = stopped(&mut self.shared.stop) => {}
                _ = provisioned.changed() => return true,
            }
        }
        false
    }
}
