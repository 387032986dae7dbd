//! Direct methods: what the cloud may ask the station to do now. Each answers within a few seconds, asks the other
//! tasks by their channels and waits for nobody else; knows no AMQP.
//!
//! # Answers
//! Status 200 with what was asked for; 400 for a payload that is not what the method takes; 404 for a method that
//! there is not; 429 when too many run already; 500 and above when the station could not do it. Every answer that is
//! not 200 is `{"error": "..."}`.

mod report;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::json;
use crate::clock::Timekeeper;
use crate::observation::Observation;
use crate::reading::SensorRequest;
use crate::settings::Settings;
use crate::status::Board;
use crate::store::StoreHandle;

/// IoT Hub's limit of a payload ("direct methods", 128 KB).
const LARGEST: usize = 128 << 10;
/// The service's shortest time-out is 5 s, and the answer has a way to go.
const LIMIT: Duration = Duration::from_secs(4);

/// The methods, by the names of the model in `deploy/model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Takes a reading, besides the schedule; it is stored and sent like any other.
    ReadNow,
    /// The status document.
    GetStatus,
    /// Least, greatest and mean value of each quantity since a time.
    GetReport,
    /// Sends what waits, also a message that is not full.
    Flush,
    /// Initialises the chip anew before the next sample.
    RestartSensor,
}

/// An answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// In the manner of HTTP.
    pub status: i32,
    pub body: Value,
}

/// Whom the methods ask.
#[derive(Debug)]
pub struct Desk {
    pub board: Arc<Board>,
    pub timekeeper: Timekeeper,
    pub store: StoreHandle,
    pub sensor: mpsc::Sender<SensorRequest>,
    pub settings: watch::Receiver<Settings>,
    pub flush: Arc<Notify>,
}

impl Method {
    pub const ALL: [Self; 5] =
        [Self::ReadNow, Self::GetStatus, Self::GetReport, Self::Flush, Self::RestartSensor];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadNow => "readNow",
            Self::GetStatus => "getStatus",
            Self::GetReport => "getReport",
            Self::Flush => "flush",
            Self::RestartSensor => "restartSensor",
        }
    }
}

impl Answer {
    fn done(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(super) fn error(status: i32, text: impl Into<String>) -> Self {
        Self { status, body: json!({ "error": text.into() }) }
    }
}

/// Does what is asked. `payload` is JSON, or nothing.
pub async fn call(name: &str, payload: &[u8], desk: &Desk) -> Answer {
    let Some(method) = Method::ALL.into_iter().find(|method| method.name() == name) else {
        let names = Method::ALL.map(Method::name).join(", ");
        return Answer::error(404, format!("there is no method {}; there are {names}", brief_name(name)));
    };
    let payload = match parse(payload) {
        Ok(payload) => payload,
        Err(reason) => return Answer::error(400, format!("the payload of {name} is wrong: {reason}")),
    };
    match tokio::time::timeout(LIMIT, carry_out(method, &payload, desk)).await {
        Ok(answer) => answer,
        Err(_) => Answer::error(504, format!("{name} was not done within {} s", LIMIT.as_secs())),
    }
}

/// An empty payload is null, as some tools send it.
fn parse(payload: &[u8]) -> Result<Value, json::BadJson> {
    if payload.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    json::parse(payload, LARGEST)
}

async fn carry_out(method: Method, payload: &Value, desk: &Desk) -> Answer {
    if method != Method::GetReport && !is_nothing(payload) {
        let (name, got) = (method.name(), json::kind(payload));
        return Answer::error(400, format!("{name} takes no payload and got {got}, expected null or {{}}"));
    }
    match method {
        Method::ReadNow => read_now(desk).await,
        Method::GetStatus => get_status(desk),
        Method::GetReport => report::get(payload, desk).await,
        Method::Flush => {
            desk.flush.notify_one();
            Answer::done(json!({ "pending": desk.board.store.borrow().pending }))
        }
        Method::RestartSensor => restart_sensor(desk).await,
    }
}

async fn read_now(desk: &Desk) -> Answer {
    match ask_sensor(desk, SensorRequest::ReadNow).await {
        Ok(sample) => {
            let altitude = desk.settings.borrow().altitude;
            written(&Observation::of_sample(&sample, &desk.board.device_id(), altitude))
        }
        Err(answer) => answer,
    }
}

fn get_status(desk: &Desk) -> Answer {
    written(&desk.board.document(&desk.timekeeper))
}

async fn restart_sensor(desk: &Desk) -> Answer {
    match ask_sensor(desk, SensorRequest::Restart).await {
        Ok(()) => Answer::done(json!({ "restarted": true })),
        Err(answer) => answer,
    }
}

async fn ask_sensor<T>(
    desk: &Desk,
    request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> SensorRequest,
) -> Result<T, Answer> {
    let (reply, answer) = oneshot::channel();
    if desk.sensor.try_send(request(reply)).is_err() {
        return Err(Answer::error(503, "the sensor is busy with other requests, or the station is ending"));
    }
    match answer.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(reason)) => Err(Answer::error(500, reason)),
        Err(_) => Err(Answer::error(503, "the station is ending")),
    }
}

fn written(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_value(value) {
        Ok(body) => Answer::done(body),
        Err(error) => Answer::error(500, format!("could not write the answer: {error}")),
    }
}

/// What tools send when there is nothing to say.
fn is_nothing(payload: &Value) -> bool {
    match payload {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn brief_name(name: &str) -> String {
    if name.len() <= 64 && !name.contains(char::is_control) {
        format!("{name:?}")
    } else {
        "of that name".into()
    }
}

#[cfg(test)]
pub use self::tests::bench;
#[cfg(test)]
mod tests;
