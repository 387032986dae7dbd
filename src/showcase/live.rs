//! The live stream: the status document, rendered once for all readers whenever a part has something new, and not at
//! all where nobody reads. A reader that is slow gets the newest document next, never a queue of old ones.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_stream::wrappers::WatchStream;

use super::connection::Connection;
use super::pulse::Pulse;
use super::routes::Shared;
use crate::clock::{ClockStatus, Timekeeper};
use crate::outlook::Outlook;
use crate::status::{Board, CloudStatus, IdentityStatus, SensorStatus, StoreStatus};

/// Streams at one time; more are told to come back.
pub const STREAMS: usize = 40;
/// Changes within this time become one event.
const GATHER: Duration = Duration::from_millis(200);
/// Without a change the document goes out this often: its clock part has no channel of its own.
const AT_LEAST_EVERY: Duration = Duration::from_secs(20);
/// A line without meaning that keeps proxies and phones from closing the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The readers' end.
pub struct Feed {
    newest: Arc<watch::Sender<Arc<str>>>,
    /// Somebody reads now who has not had a document yet.
    came: Arc<Notify>,
    places: Arc<Semaphore>,
}

/// The writer's end: one loop.
pub struct Publisher {
    board: Arc<Board>,
    timekeeper: Timekeeper,
    pulse: Arc<Pulse>,
    newest: Arc<watch::Sender<Arc<str>>>,
    came: Arc<Notify>,
}

/// A feed and its publisher.
pub fn channel(board: Arc<Board>, timekeeper: Timekeeper, pulse: Arc<Pulse>) -> (Feed, Publisher) {
    let newest = Arc::new(watch::Sender::new(Arc::from("")));
    let came = Arc::new(Notify::new());
    let publisher = Publisher { board, timekeeper, pulse, newest: newest.clone(), came: came.clone() };
    (Feed { newest, came, places: Arc::new(Semaphore::new(STREAMS)) }, publisher)
}

impl Publisher {
    /// Runs for ever.
    pub async fn run(self) {
        let mut sensor = self.board.sensor.subscribe();
        let mut store = self.board.store.subscribe();
        let mut cloud = self.board.cloud.subscribe();
        let mut identity = self.board.identity.subscribe();
        loop {
            self.pulse.note(&sensor.borrow_and_update(), &store.borrow_and_update());
            cloud.borrow_and_update();
            identity.borrow_and_update();
            let is_read = self.newest.receiver_count() > 0;
            if is_read {
                self.newest.send_replace(render(&self.board, &self.timekeeper));
            }
            tokio::select! {
                _ = sensor.changed() => {}
                _ = store.changed() => {}
                _ = cloud.changed() => {}
                _ = identity.changed() => {}
                () = self.came.notified() => continue,
                () = tokio::time::sleep(AT_LEAST_EVERY), if is_read => {}
            }
            if is_read {
                tokio::time::sleep(GATHER).await;
            }
        }
    }
}

/// The status document without its configuration, which the page does not show.
#[derive(Serialize)]
struct Live<'a> {
    version: &'static str,
    time: chrono::DateTime<chrono::Utc>,
    sensor: &'a SensorStatus,
    store: &'a StoreStatus,
    cloud: &'a CloudStatus,
    identity: &'a IdentityStatus,
    clock: ClockStatus,
    outlook: Option<Outlook>,
}

fn render(board: &Board, timekeeper: &Timekeeper) -> Arc<str> {
    let document = board.document(timekeeper);
    let live = Live {
        version: document.version,
        time: document.time,
        sensor: &document.sensor,
        store: &document.store,
        cloud: &document.cloud,
        identity: &document.identity,
        clock: document.clock.clone(),
        outlook: document.outlook.clone(),
    };
    // Maps with text keys and numbers: there is nothing that cannot be written.
    serde_json::to_string(&live).unwrap_or_default().into()
}

/// Server-sent events, each named `status`.
pub async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
) -> Response {
    let Ok(place) = shared.live.places.clone().try_acquire_owned() else {
        let text = format!("{STREAMS} pages are open already: try again later\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], text).into_response();
    };
    connection.mark_streaming();
    let events = WatchStream::from_changes(shared.live.newest.subscribe());
    shared.live.came.notify_one();
    let events = events.map(move |document| {
        // The place is held as long as the stream lives.
        let _held = &place;
        Ok::<_, Infallible>(Event::default().event("status").data(&*document))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_told_at_once_and_of_each_change_and_nothing_is_rendered_for_nobody() {
        let board = Arc::new(Board::default());
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
        let (feed, publisher) = channel(board.clone(), timekeeper, Arc::default());
        tokio::spawn(publisher.run());
        let take = |count| board.sensor.send_modify(|sensor| sensor.taken = count);
        tokio::time::sleep(2 * AT_LEAST_EVERY).await;
        take(1);
        tokio::time::sleep(2 * GATHER).await;
        assert_eq!(&**feed.newest.borrow(), "");
        let mut reader = feed.newest.subscribe();
        feed.came.notify_one();
        let began = Instant::now();
        let mut next = async || {
            timeout(2 * AT_LEAST_EVERY, reader.changed()).await.expect("a document").expect("a publisher");
            serde_json::from_str::<serde_json::Value>(&reader.borrow_and_update()).expect("JSON")
        };
        assert_eq!((next().await["sensor"]["taken"].as_u64(), began.elapsed()), (Some(1), Duration::ZERO));
        take(2);
        assert_eq!((next().await["sensor"]["taken"].as_u64(), began.elapsed()), (Some(2), GATHER));
        next().await;
        assert_eq!(began.elapsed(), GATHER + AT_LEAST_EVERY + GATHER, "without a change");
    }
}
