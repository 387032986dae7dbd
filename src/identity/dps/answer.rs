//! Reads the service's answers: one function from status and body to what follows. Knows the JSON; does
//! nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::https::Answer;

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A key for this TPM; the next request has to be signed with it.
    Challenge { blob: Vec<u8> },
    /// Not yet: ask after the operation.
    Assigning { operation: String, after: Option<Duration> },
    /// There: host, device id, and the hub's key if it is another one.
    Assigned { host: String, device_id: String, blob: Option<Vec<u8>> },
    /// Busy or broken: the same again later.
    Later { after: Option<Duration>, why: String },
    /// The service does not know this registration, or not with this endorsement key.
    Unknown(String),
    /// 401 without a challenge. To an unsigned request: the registration is not known; to a signed one: its token is
    /// not taken.
    Refused(String),
    /// Known, and switched off by a person.
    Disabled(String),
    /// Anything else: a person has to look.
    Failed(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    authentication_key: Option<String>,
    operation_id: Option<String>,
    status: Option<String>,
    registration_state: Option<State>,
    error_code: Option<serde_json::Value>,
    message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct State {
    assigned_hub: Option<String>,
    device_id: Option<String>,
    status: Option<String>,
    error_code: Option<serde_json::Value>,
    error_message: Option<String>,
    tpm: Option<TpmPart>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TpmPart {
    authentication_key: Option<String>,
}

/// What follows from an answer.
pub fn meaning(answer: &Answer) -> Meaning {
    let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
    let after = answer.retry_after;
    let said = |body: &Body| {
        let code = body.error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        format!("{}{code} {}", answer.status, body.message.as_deref().unwrap_or(""))
            .trim_end()
            .chars()
            .take(300)
            .collect::<String>()
    };
    match (answer.status, body) {
        (429 | 500.., body) => {
            Meaning::Later { after, why: body.as_ref().map_or_else(|| answer.status.to_string(), said) }
        }
        (_, None) => Meaning::Failed(format!("{} without a body in JSON", answer.status)),
        (401, Some(body)) => match body.authentication_key.as_deref().map(|key| STANDARD.decode(key)) {
            Some(Ok(blob)) => Meaning::Challenge { blob },
            Some(Err(_)) => Meaning::Failed("the authentication key is not base64".into()),
            None => Meaning::Refused(said(&body)),
        },
        (404, Some(body)) => Meaning::Unknown(said(&body)),
        (403, Some(body)) => Meaning::Disabled(said(&body)),
        (200..300, Some(body)) => progress(body, after),
        (_, Some(body)) => Meaning::Failed(said(&body)),
    }
}

fn progress(body: Body, after: Option<Duration>) -> Meaning {
    let state = body.registration_state.unwrap_or_default();
    // Some answers carry the state alone.
    let status = body.status.or(state.status).unwrap_or_default();
    match status.as_str() {
        "assigned" => {
            let (Some(host), Some(device_id)) = (state.assigned_hub, state.device_id) else {
                return Meaning::Failed("it says assigned, but names no hub or no device".into());
            };
            let blob = match state.tpm.and_then(|tpm| tpm.authentication_key).map(|key| STANDARD.decode(key))
            {
                None => None,
                Some(Ok(blob)) => Some(blob),
                Some(Err(_)) => return Meaning::Failed("the hub's key is not base64".into()),
            };
            Meaning::Assigned { host, device_id, blob }
        }
        "disabled" | "blacklisted" => Meaning::Disabled("the enrollment is disabled".into()),
        "failed" => {
            let code = state.error_code.map(|code| format!("{code} ")).unwrap_or_default();
            Meaning::Failed(
                format!("{code}{}", state.error_message.unwrap_or_default()).chars().take(300).collect(),
            )
        }
        _ => match body.operation_id {
            Some(operation) => Meaning::Assigning { operation, after },
            None => Meaning::Later { after, why: format!("status {status:?} without an operation") },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Meaning {
        let retry_after = Some(Duration::from_secs(3));
        meaning(&Answer { status, retry_after, body: body.as_bytes().to_vec().into() })
    }

    #[test]
    fn every_answer_of_the_service_has_one_meaning() {
        let after = Some(Duration::from_secs(3));
        let assigned = |blob| Meaning::Assigned { host: "h".into(), device_id: "d".into(), blob };
        for (status, body, meaning) in [
            (401, r#"{"authenticationKey":"AQI="}"#, Meaning::Challenge { blob: vec![1, 2] }),
            (401, r#"{"errorCode":401002,"message":"no"}"#, Meaning::Refused("401 401002 no".into())),
            (
                401,
                r#"{"authenticationKey":"*"}"#,
                Meaning::Failed("the authentication key is not base64".into()),
            ),
            (404, r#"{"errorCode":404201}"#, Meaning::Unknown("404 404201".into())),
            (403, r#"{"message":"off"}"#, Meaning::Disabled("403 off".into())),
            (400, r#"{"errorCode":400004}"#, Meaning::Failed("400 400004".into())),
            (429, "", Meaning::Later { after, why: "429".into() }),
            (503, r#"{"message":"busy"}"#, Meaning::Later { after, why: "503 busy".into() }),
            (
                202,
                r#"{"operationId":"o","status":"assigning"}"#,
                Meaning::Assigning { operation: "o".into(), after },
            ),
            (
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d"}}"#,
                assigned(None),
            ),
            (
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d","tpm":{"authenticationKey":"Aw=="}}}"#,
                assigned(Some(vec![3])),
            ),
            (
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h"}}"#,
                Meaning::Failed("it says assigned, but names no hub or no device".into()),
            ),
            (
                200,
                r#"{"status":"failed","registrationState":{"errorCode":400208,"errorMessage":"no hub"}}"#,
                Meaning::Failed("400208 no hub".into()),
            ),
            (200, r#"{"status":"disabled"}"#, Meaning::Disabled("the enrollment is disabled".into())),
            (
                200,
                r#"{"registrationState":{"status":"disabled"}}"#,
                Meaning::Disabled("the enrollment is disabled".into()),
            ),
            (200, "<html>", Meaning::Failed("200 without a body in JSON".into())),
            (200, "{}", Meaning::Later { after, why: "status \"\" without an operation".into() }),
        ] {
            assert_eq!(of(status, body), meaning, "{status} {body}");
        }
    }
}
