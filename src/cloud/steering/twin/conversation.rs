//! What is asked of the hub about the twin, in which order, and what its answers lead to. Pure: no AMQP, no clock
//! but the moment that is handed in.
//!
//! # Order
//! Subscribe, then GET, then report what differs. Pushes that come before the answer to GET wait for it; those at or
//! below the fetched `$version` are dropped. A version that was skipped, and a push that cannot be read, lead to
//! another GET. So does, once and later, every burst of pushes: the desired properties may have been replaced, and what
//! a replacement removes is not in its push. One request is out at a time; one that is not answered is given up and
//! asked again later and later, for a hub that is over its quota answers nothing at all.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::difference::difference;
use super::document::{self, BadTwin, Push, Twin};
use crate::backoff::{Backoff, Range};
use crate::cloud::error::Class;
use crate::hourly::{Hourly, warn_hourly};
use crate::settings::merge;

/// Every request is billed and a silent hub is over its quota: there is no hurry. A hub that says why it does not do
/// it is asked sooner.
const AGAIN: Range = Range::seconds(5, 60, 3_600);
/// Pushes that may wait for the answer to GET; more than these are in that answer or are fetched again.
const EARLY: usize = 16;

/// What to ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To be told of changes of the desired properties.
    Subscribe,
    /// The whole twin.
    Get,
    /// A merge patch of the reported properties.
    Report(Map<String, Value>),
}

/// What the hub's words come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The twin was read.
    Whole(Twin),
    /// The desired properties were changed.
    Patch(Push),
}

/// An answer of the hub.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// 200 where the hub says nothing.
    pub status: i64,
    pub version: Option<u64>,
    pub body: &'a [u8],
}

/// The conversation on one connection.
#[derive(Debug)]
pub struct Conversation {
    limit: Duration,
    subscribed: bool,
    /// `$version` of the desired properties as we know them; none before the twin was read.
    known: Option<u64>,
    /// The reported properties as the hub has them.
    shown: Map<String, Value>,
    /// The report that the hub will never take: not sent again until it would be another.
    refused: Option<Map<String, Value>>,
    waiting: Option<Waiting>,
    early: Vec<Push>,
    /// A push was lost: GET is due even after the one that is out.
    lost: bool,
    /// When GET is due because of pushes that may have been replacements.
    read_again: Option<Instant>,
    hold_until: Instant,
    backoff: Backoff,
    told: Hourly,
}

#[derive(Debug)]
struct Waiting {
    id: Uuid,
    request: Request,
    until: Instant,
}

impl Conversation {
    /// `limit`: how long an answer may take; after as long a push is followed by another GET.
    pub fn new(limit: Duration, seed: u64, now: Instant) -> Self {
        Self {
            limit,
            subscribed: false,
            known: None,
            shown: Map::new(),
            refused: None,
            waiting: None,
            early: Vec::new(),
            lost: false,
            read_again: None,
            hold_until: now,
            backoff: Backoff::new(seed),
            told: Hourly::default(),
        }
    }

    /// The links are other ones: all is asked anew.
    pub fn begin_again(&mut self, seed: u64, now: Instant) {
        let told = std::mem::take(&mut self.told);
        *self = Self { told, ..Self::new(self.limit, seed, now) };
    }

    /// The request to send now, if one is due. `wanted`: what the reported properties should be; `own`: the names
    /// among them that are ours to remove.
    pub fn next(
        &mut self,
        now: Instant,
        wanted: &Map<String, Value>,
        own: &[&str],
    ) -> Option<(Uuid, Request)> {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.until <= now) {
            let again_in = self.hold(now, AGAIN);
            let request = waiting.request.name();
            let first = self.told.first_this_hour(format!("no answer: {request}"));
            warn_hourly!(first, request, ?again_in, "the hub did not answer about the twin");
        }
        if self.waiting.is_some() || now < self.hold_until {
            return None;
        }
        let request = if !self.subscribed {
            Request::Subscribe
        } else if self.known.is_none() || self.read_again.is_some_and(|at| at <= now) {
            Request::Get
        } else {
            let patch = difference(&self.shown, wanted, own);
            if patch.is_empty() || self.refused.as_ref() == Some(&patch) {
                return None;
            }
            Request::Report(patch)
        };
        let id = Uuid::new_v4();
        self.waiting = Some(Waiting { id, request: request.clone(), until: now + self.limit });
        Some((id, request))
    }

    /// When [`Conversation::next`] has to be asked again though nothing happened.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match &self.waiting {
            Some(waiting) => Some(waiting.until),
            None => {
                [Some(self.hold_until), self.read_again].into_iter().flatten().filter(|at| *at > now).min()
            }
        }
    }

    /// An answer to the request `id`; one that nobody waits for (any more) means nothing.
    pub fn answered(&mut self, now: Instant, id: Uuid, answer: Answer<'_>) -> Vec<Change> {
        let Some(Waiting { request, .. }) = self.waiting.take_if(|waiting| waiting.id == id) else {
            tracing::debug!(%id, "an answer about the twin that nobody waits for");
            return Vec::new();
        };
        if !(200..300).contains(&answer.status) {
            self.declined(now, request, answer.status);
            return Vec::new();
        }
        match request {
            Request::Subscribe => {
                self.subscribed = true;
                Vec::new()
            }
            Request::Get => match document::twin(answer.body, answer.version) {
                Ok(twin) => self.fetched(now, twin),
                Err(error) => {
                    self.unreadable(now, &error);
                    Vec::new()
                }
            },
            Request::Report(patch) => {
                let mut shown = Value::Object(std::mem::take(&mut self.shown));
                merge(&mut shown, &Value::Object(patch));
                if let Value::Object(members) = shown {
                    self.shown = members;
                }
                self.refused = None;
                self.backoff.reset();
                Vec::new()
            }
        }
    }

    /// A change that the hub pushed.
    pub fn pushed(&mut self, now: Instant, body: &[u8], annotated: Option<u64>) -> Vec<Change> {
        let push = match document::push(body, annotated) {
            Ok(push) => push,
            Err(error) => {
                self.unreadable(now, &error);
                return Vec::new();
            }
        };
        match self.known {
            None if self.early.len() < EARLY => self.early.push(push),
            None => self.lost = true,
            Some(known) if push.version <= known => {
                tracing::debug!(version = push.version, known, "a change of the twin that is known already");
            }
            Some(known) if push.version == known + 1 => {
                self.known = Some(push.version);
                self.read_again.get_or_insert(now + self.limit);
                return vec![Change::Patch(push)];
            }
            Some(known) => {
                tracing::info!(
                    version = push.version,
                    known,
                    "a change of the twin was missed: reading it again"
                );
                self.known = None;
                self.early.push(push);
            }
        }
        Vec::new()
    }

    fn fetched(&mut self, now: Instant, twin: Twin) -> Vec<Change> {
        self.backoff.reset();
        // Read again after a push: the hub would refuse it again.
        if self.known.is_none() || self.shown != twin.reported {
            self.refused = None;
        }
        self.shown.clone_from(&twin.reported);
        if self.known.is_some_and(|known| twin.version < known) {
            // A push has overtaken it.
            self.read_again = Some(now + self.limit);
            return Vec::new();
        }
        self.read_again = None;
        let mut known = twin.version;
        let mut changes = vec![Change::Whole(twin)];
        self.early.sort_by_key(|push| push.version);
        for push in self.early.drain(..).filter(|push| push.version > known).collect::<Vec<_>>() {
            if push.version == known + 1 {
                known = push.version;
                self.read_again = Some(now + self.limit);
                changes.push(Change::Patch(push));
            } else if push.version > known {
                self.lost = true;
            }
        }
        self.known = (!std::mem::take(&mut self.lost)).then_some(known);
        changes
    }

    fn unreadable(&mut self, now: Instant, error: &BadTwin) {
        self.known = None;
        let again_in = self.hold(now, AGAIN);
        let first = self.told.first_this_hour(error.to_string());
        warn_hourly!(first, %error, ?again_in, "the hub sent a twin that cannot be read");
    }

    /// Throttled or failing hubs are asked again; a report that is wrong is not.
    fn declined(&mut self, now: Instant, request: Request, status: i64) {
        let again_in = self.hold(
            now,
            match status {
                429 | 500..600 => Class::Slowly.range(),
                // The hub's status for a quota that is spent, too.
                401 | 403 => Class::Quota.range(),
                _ => AGAIN,
            },
        );
        let name = request.name();
        let first = self.told.first_this_hour(format!("{status}: {name}"));
        warn_hourly!(first, status, request = name, ?again_in, "the hub refused a request about the twin");
        if let (Request::Report(patch), 400 | 404 | 412 | 413) = (request, status) {
            self.refused = Some(patch);
        }
    }

    fn hold(&mut self, now: Instant, range: Range) -> Duration {
        let wait = self.backoff.after_failure(range);
        self.hold_until = now + wait;
        wait
    }
}

impl Request {
    /// For the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe to changes",
            Self::Get => "read the twin",
            Self::Report(_) => "report properties",
        }
    }
}

#[cfg(test)]
mod tests;
