//! The TPM configuration form, as the predecessor's device portal had it: host name, device id, primary key,
//! Save. Afterwards host and id can be read and the key cannot. For this machine only, with the setup code.
//! Decides; `configure_page` words it, `identity` does it, `desk` has one visitor at a time do it.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::configure_page::{self, Notice};
use super::connection::Connection;
use super::desk::{Desk, Turn};
use super::origin;
use super::routes::Shared;
use super::secret_form::{self, FormError, SecretForm};
use super::setup_code::Verdict;
use crate::chain::chain;
use crate::config;
use crate::hourly::warn_hourly;
use crate::identity::Identity;
use crate::identity::provision::{Credentials, Shown, provision, show as look};
use crate::status::Board;

/// A form that is not whole by then is given up.
const READING: Duration = Duration::from_secs(15);
/// Where the browser is sent after Save: a reload sends no form again.
const SAVED: &str = "saved";

/// What is being saved: it goes on without the browser that asked for it, and ends with the page. Locked to add one;
/// nobody waits while holding it.
pub type Saving = std::sync::Mutex<JoinSet<()>>;

/// Shows the form, or why it is not for this visitor.
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(refusal) = origin::check_place(&connection, &headers) {
        return configure_page::closed(&refusal);
    }
    if !has_tpm(&shared.desk) {
        return configure_page::key_file(&shared.desk, StatusCode::OK);
    }
    let Some(turn) = shared.desk.turn_soon().await else { return configure_page::busy() };
    let notice = if query.as_deref() == Some(SAVED) { Notice::Saved } else { Notice::None };
    form(&shared.desk, turn, StatusCode::OK, &notice, &SecretForm::default()).await
}

/// Takes the form.
pub async fn save(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut response = match origin::check(&connection, &headers, origin::Sender::Browser) {
        Err(refusal) => {
            // Whoever sees the page can send as many of them as they like, from as many addresses.
            let first = {
                let mut told = shared.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                told.first_this_hour(refusal.to_string())
            };
            warn_hourly!(first, peer = %connection.peer, %refusal, "a TPM configuration form was refused");
            configure_page::closed(&refusal)
        }
        Ok(()) => match tokio::time::timeout(READING, secret_form::read(&connection, &headers, body)).await {
            Ok(Ok(filled)) => decide(&shared, &connection, filled).await,
            Ok(Err(error)) => unreadable(&error),
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time\n").into_response(),
        },
    };
    // The memory that the form came in is wiped when the connection ends: so it ends now.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn has_tpm(desk: &Desk) -> bool {
    desk.identity.source == config::IdentitySource::Tpm
}

async fn decide(shared: &Shared, connection: &Connection, filled: SecretForm) -> Response {
    let desk = shared.desk.clone();
    if !has_tpm(&desk) {
        return configure_page::key_file(&desk, StatusCode::CONFLICT);
    }
    let Some(turn) = desk.turn() else {
        return (StatusCode::CONFLICT, "the TPM is busy for another visitor at this moment: try again\n")
            .into_response();
    };
    if let Err((status, pause, problem)) = let_in(&desk, connection, &filled.code) {
        let mut response = configure_page::without_tpm(&desk, status, &Notice::Problem(problem), &filled);
        if let Some(pause) = pause {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs() + 1));
        }
        return response;
    }
    // A browser that leaves takes the handler with it. What the TPM was told goes on all the same: the code and the
    // rest of the station have to know how it ended.
    let (answer, answered) = oneshot::channel();
    let board = shared.board.clone();
    let saving = async move {
        let response = save_and_tell(&desk, &board, turn, &filled).await;
        drop(filled);
        // Nobody may be there any more to be told.
        let _gone = answer.send(response);
    };
    {
        let mut tasks = shared.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(saving);
    }
    answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn save_and_tell(desk: &Desk, board: &Board, turn: Turn, filled: &SecretForm) -> Response {
    let credentials = match Credentials::new(&filled.host, &filled.device_id, &filled.key) {
        Ok(credentials) => credentials,
        Err(error) => {
            let notice = Notice::Problem(chain(&error));
            return form(desk, turn, StatusCode::UNPROCESSABLE_ENTITY, &notice, filled).await;
        }
    };
    let (saved, replace) = (credentials.identity.clone(), filled.replace);
    // In one turn: a refusal is shown together with what is in the way.
    let save = move |tcti: &str, slot| {
        let refused = put(tcti, slot, &credentials, replace).err()?;
        Some((refused, look(tcti, slot).map_err(|error| chain(&error))))
    };
    match desk.ask(turn, save).await {
        Ok(None) => {}
        Ok(Some(((status, problem), there))) => {
            return configure_page::open(desk, status, &Notice::Problem(problem), &there, filled);
        }
        // The call may go on: the TPM is not asked again.
        Err(problem) => {
            tracing::warn!(error = problem, "the form's identity could not be put into the TPM");
            let notice = Notice::Problem(problem);
            return configure_page::without_tpm(desk, StatusCode::BAD_GATEWAY, &notice, filled);
        }
    }
    tracing::info!(host = saved.host, device_id = saved.device_id, "the form put an identity into the TPM");
    // A code works until something has been saved with it.
    if let Err(error) = desk.code.renew() {
        tracing::warn!(%error, "could not write a new setup code: the TPM form is closed");
    }
    board.provisioned.send_modify(|times| *times += 1);
    Redirect::to(&format!("/configuration?{SAVED}")).into_response()
}

type Problem = (StatusCode, Option<Duration>, String);

/// The setup code: wrong ones slow down and are logged.
fn let_in(desk: &Desk, connection: &Connection, code: &str) -> Result<(), Problem> {
    match desk.code.try_code(code) {
        Verdict::Right => Ok(()),
        Verdict::Wrong { tries, pause } => {
            tracing::warn!(peer = %connection.peer, tries, "wrong setup code in the TPM configuration form");
            let text = format!("That is not the setup code. Wait {} before the next try.", seconds(pause));
            Err((StatusCode::FORBIDDEN, Some(pause), text))
        }
        Verdict::TooSoon(left) => {
            let text = format!("Too soon after a wrong setup code. Wait {}.", seconds(left));
            Err((StatusCode::TOO_MANY_REQUESTS, Some(left), text))
        }
        Verdict::NoCode => {
            let text =
                format!("The station has no setup code: it could not write {}.", desk.code.path().display());
            Err((StatusCode::SERVICE_UNAVAILABLE, None, text))
        }
    }
}

/// Blocks on the TPM. The texts are for people and hold no key (the errors of `identity` promise that).
fn put(tcti: &str, slot: u8, credentials: &Credentials, replace: bool) -> Result<(), (StatusCode, String)> {
    if !replace
        && let Ok(there) = look(tcti, slot)
        && let Some(occupant) = in_the_way(&there, &credentials.identity)
    {
        let text = format!("The TPM holds {occupant}.");
        return Err((
            StatusCode::CONFLICT,
            text + " Tick \u{201c}Replace\u{201d} to put this one in its place.",
        ));
    }
    provision(tcti, slot, credentials, replace).map_err(|error| {
        let text = chain(&error);
        tracing::warn!(error = text, "the form's identity could not be put into the TPM");
        (StatusCode::BAD_GATEWAY, text)
    })
}

/// What would be lost.
fn in_the_way(there: &Shown, wanted: &Identity) -> Option<String> {
    if let Some(foreign) = there.foreign {
        return Some(foreign.into());
    }
    let another = there.identity.as_ref().filter(|identity| *identity != wanted)?;
    Some(format!("{} at {}", another.device_id, another.host))
}

async fn form(desk: &Desk, turn: Turn, status: StatusCode, notice: &Notice, filled: &SecretForm) -> Response {
    let asked = desk.ask(turn, |tcti, slot| look(tcti, slot).map_err(|error| chain(&error))).await;
    configure_page::open(desk, status, notice, &asked.and_then(|shown| shown), filled)
}

fn unreadable(error: &FormError) -> Response {
    let status = match error {
        FormError::WrongType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        FormError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        FormError::Unreadable => StatusCode::BAD_REQUEST,
    };
    (status, format!("{error}\n")).into_response()
}

fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64().ceil() as u64 {
        1 => "1 second".into(),
        n => format!("{n} seconds"),
    }
}
