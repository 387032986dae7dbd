//! The service's three requests over HTTPS: register without a token (a challenge), register with one, ask
//! after an operation. Forms and codes as azure-iot-sdk-csharp and aziot-identity-service read them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rand::RngCore as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::credential::activation_blob;
use super::enrollment::{Enrollment, Hub, Operation, Session};
use super::tpm_public::TpmPublic;
use super::{DpsFault, DpsOptions, Seen, Shared, State, signature};

/// Until the runtime ends.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let serve = service_fn(|request| answer(Arc::clone(&shared), request));
            // An error of the connection is the client's to notice.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), serve).await;
        });
    }
}

/// Status, `Retry-After`, body.
type Answer = (u16, Option<u32>, Value);

/// Breaks the connection instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped on command")]
struct Dropped;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let slow = shared.lock().take(|fault| matches!(fault, DpsFault::Slow { .. }));
    if let Some(DpsFault::Slow { milliseconds }) = slow {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if shared.lock().take(|fault| *fault == DpsFault::Drop).is_some() {
        return Err(Dropped);
    }
    let (head, body) = request.into_parts();
    let body = Limited::new(body, 64 * 1024).collect().await.map_err(|_| Dropped)?.to_bytes();
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (status, retry_after, body) = shared.lock().route(
        &shared.options,
        &head.method,
        head.uri.path(),
        head.uri.query(),
        authorization,
        &body,
    );
    let mut response =
        Response::builder().status(status).header(CONTENT_TYPE, "application/json; charset=utf-8");
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    Ok(response.body(Full::new(Bytes::from(body.to_string()))).expect("status and headers are well formed"))
}

impl State {
    fn route(
        &mut self,
        options: &DpsOptions,
        method: &Method,
        path: &str,
        query: Option<&str>,
        authorization: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let path: Vec<String> = path
            .split('/')
            .skip(1)
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let version =
            query.is_some_and(|query| query.split('&').any(|part| part.starts_with("api-version=20")));
        let (id, kind) = match (method, &path[..]) {
            (&Method::PUT, [_, "registrations", id, "register"]) if authorization.is_none() => {
                (*id, "register")
            }
            (&Method::PUT, [_, "registrations", id, "register"]) => (*id, "register-signed"),
            (&Method::GET, [_, "registrations", id, "operations", _]) => (*id, "operation"),
            _ => return error(404, 404_000, "no such resource"),
        };
        let answer = if !version {
            error(400, 400_001, "api-version is missing")
        } else if path[0] != options.id_scope {
            error(404, 404_202, "no such ID scope")
        } else {
            self.answer(options, id, kind, path.last().unwrap_or(&""), authorization, body)
        };
        self.seen.push(Seen { registration_id: id.to_ascii_lowercase(), kind, status: answer.0 });
        answer
    }

    fn answer(
        &mut self,
        options: &DpsOptions,
        id: &str,
        kind: &str,
        operation: &str,
        authorization: Option<&str>,
        body: &[u8],
    ) -> Answer {
        match self.take(|fault| matches!(fault, DpsFault::Throttle { .. } | DpsFault::ServerError)) {
            Some(DpsFault::Throttle { after }) => {
                return (429, Some(after), json!({"errorCode": 429_001, "message": "too many requests"}));
            }
            Some(_) => return error(500, 500_001, "an internal error"),
            None => {}
        }
        if kind == "register" {
            let damage =
                self.take(|fault| matches!(fault, DpsFault::CorruptBlob { .. } | DpsFault::ForAnotherTpm));
            let Some(enrollment) = self.enrollments.get(id) else {
                return error(404, 404_201, "no such registration");
            };
            return challenge(enrollment, body, damage);
        }
        let hub = self.hub.clone();
        let damage = self.take(|fault| matches!(fault, DpsFault::CorruptBlob { .. }));
        let Some(enrollment) = self.enrollments.get(id) else {
            return error(404, 404_201, "no such registration");
        };
        let Some(session) = &enrollment.session else {
            return error(401, 401_002, "no challenge was asked for");
        };
        let refused = signature::refusal(
            authorization.unwrap_or_default(),
            &session.key,
            &options.id_scope,
            id,
            crate::wall::machine_now(),
        );
        if let Some(why) = refused {
            return error(401, 401_002, why);
        }
        if !enrollment.enabled {
            let state = json!({"registrationId": id, "status": "disabled"});
            return (200, None, json!({"operationId": "", "status": "disabled", "registrationState": state}));
        }
        if kind == "register-signed" {
            let operation =
                Operation { id: format!("4.{:016x}", rand::thread_rng().next_u64()), left: options.steps };
            let id = operation.id.clone();
            enrollment.operation = Some(operation);
            return (202, Some(options.retry_after), json!({"operationId": id, "status": "assigning"}));
        }
        match &mut enrollment.operation {
            Some(running) if running.id == operation => {
                if running.left > 0 {
                    running.left -= 1;
                    let body = json!({"operationId": operation, "status": "assigning"});
                    return (202, Some(options.retry_after), body);
                }
            }
            _ => return error(404, 404_203, "no such operation"),
        }
        let Some(hub) = hub else {
            let state = json!({
                "registrationId": id, "status": "failed", "errorCode": 400_208, "errorMessage": "no hub is linked",
            });
            return (
                200,
                None,
                json!({"operationId": operation, "status": "failed", "registrationState": state}),
            );
        };
        assigned(options, enrollment, &hub, id, operation, damage)
    }
}

/// 401 with a key that only the enrolled TPM can activate.
fn challenge(enrollment: &mut Enrollment, body: &[u8], damage: Option<DpsFault>) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let key =
        |name: &str| STANDARD.decode(body["tpm"][name].as_str().unwrap_or_default()).unwrap_or_default();
    if key("endorsementKey") != enrollment.endorsement_key {
        return error(401, 401_002, "the endorsement key is not the enrolled one");
    }
    let Some(srk) = TpmPublic::parse(&key("storageRootKey")) else {
        return error(400, 400_002, "the storage root key cannot be read");
    };
    // Encrypted to the SRK instead of the EK: no TPM opens it.
    let ek = if damage == Some(DpsFault::ForAnotherTpm) { &srk } else { &enrollment.ek };
    let session_key = random_key();
    let Some(mut blob) = activation_blob(ek, &srk, &session_key) else {
        return error(500, 500_002, "no blob could be made");
    };
    corrupt(&mut blob, damage);
    enrollment.session = Some(Session { key: session_key, srk });
    let blob = STANDARD.encode(blob);
    (
        401,
        None,
        json!({"message": "Authorization required", "authenticationKey": blob, "keyName": "registration"}),
    )
}

fn assigned(
    options: &DpsOptions,
    enrollment: &mut Enrollment,
    hub: &Hub,
    id: &str,
    operation: &str,
    damage: Option<DpsFault>,
) -> Answer {
    let Some(session) = &enrollment.session else { return error(401, 401_002, "no challenge was asked for") };
    let mut state = json!({
        "registrationId": id,
        "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
        "assignedHub": hub.host,
        "deviceId": enrollment.device_id,
        "status": "assigned",
        "substatus": if enrollment.hub.is_some() { "deviceDataMigrated" } else { "initialAssignment" },
    });
    let mut key = session.key.clone();
    if options.second_key {
        key = random_key();
        let Some(mut blob) = activation_blob(&enrollment.ek, &session.srk, &key) else {
            return error(500, 500_002, "no blob could be made");
        };
        corrupt(&mut blob, damage);
        state["tpm"] = json!({"authenticationKey": STANDARD.encode(blob)});
    }
    enrollment.assign(hub, &key);
    (200, None, json!({"operationId": operation, "status": "assigned", "registrationState": state}))
}

fn corrupt(blob: &mut [u8], damage: Option<DpsFault>) {
    if let Some(DpsFault::CorruptBlob { byte }) = damage
        && let Some(byte) = blob.get_mut(byte)
    {
        *byte ^= 1;
    }
}

fn random_key() -> Vec<u8> {
    let mut key = vec![0; 32];
    rand::thread_rng().fill_bytes(&mut key);
    key
}

fn error(status: u16, code: u32, message: &str) -> Answer {
    (
        status,
        None,
        json!({"errorCode": code, "message": message, "trackingId": "00000000-0000-0000-0000-000000000000"}),
    )
}
