//! The SASL layer: EXTERNAL, MSSBCBS, ANONYMOUS and PLAIN, in the order in which the hub offers them. PLAIN carries a
//! whole token and is checked like one; with the others the token comes by `$cbs`. Knows tokens, not links.

use std::sync::{Arc, Mutex};

use fe2o3_amqp::acceptor::SaslAcceptor;
use fe2o3_amqp::acceptor::sasl_acceptor::SaslServerFrame;
use fe2o3_amqp_types::primitives::{Array, Binary, Symbol};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslOutcome, SaslResponse};

use crate::hub::{Hub, lock};
use crate::token::{self, Grant};

/// What a client said; the mechanism, and what PLAIN granted.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) mechanism: Option<String>,
    pub(crate) grant: Option<Grant>,
}

/// Cloned by the engine for each connection, so what was said is shared.
#[derive(Clone)]
pub(crate) struct Mechanisms {
    pub(crate) hub: Arc<Hub>,
    pub(crate) said: Arc<Mutex<Said>>,
}

impl SaslAcceptor for Mechanisms {
    fn mechanisms(&self) -> Array<Symbol> {
        Array(["EXTERNAL", "MSSBCBS", "ANONYMOUS", "PLAIN"].map(Symbol::from).to_vec())
    }

    fn on_init(&mut self, init: SaslInit) -> SaslServerFrame {
        let mechanism = init.mechanism.as_str().to_owned();
        lock(&self.said).mechanism = Some(mechanism.clone());
        let code = match mechanism.as_str() {
            "ANONYMOUS" | "MSSBCBS" | "EXTERNAL" => SaslCode::Ok,
            "PLAIN" => match self.plain(&init.initial_response.map(Binary::into_vec).unwrap_or_default()) {
                Some(grant) => {
                    lock(&self.said).grant = Some(grant);
                    SaslCode::Ok
                }
                None => SaslCode::Auth,
            },
            _ => SaslCode::Auth,
        };
        outcome(code)
    }

    fn on_response(&mut self, _response: SaslResponse) -> SaslServerFrame {
        outcome(SaslCode::Auth)
    }
}

impl Mechanisms {
    /// `authzid NUL user NUL token`, the user being `{device}@sas.{hub}` or the device id alone.
    fn plain(&self, response: &[u8]) -> Option<Grant> {
        let text = std::str::from_utf8(response).ok()?;
        let mut parts = text.splitn(3, '\0').skip(1);
        let (user, token) = (parts.next()?, parts.next()?);
        let hub = &self.hub;
        let checked = token::check(token, None, &hub.names, &hub.registry, hub.wall.now(), hub.skew());
        let detail = match &checked {
            Ok(_) => serde_json::json!({ "user": user, "status": 200 }),
            Err(refusal) => serde_json::json!({ "user": user, "status": 401, "reason": refusal.to_string() }),
        };
        hub.event(None, None, "sasl-plain", detail);
        let device = user.rsplit_once("@sas.").map_or(user, |(device, _)| device);
        checked.ok().filter(|grant| grant.device == device)
    }
}

fn outcome(code: SaslCode) -> SaslServerFrame {
    let welcome = (code == SaslCode::Ok).then(|| Binary::from(b"Welcome!".to_vec()));
    SaslServerFrame::Outcome(SaslOutcome { code, additional_data: welcome })
}
