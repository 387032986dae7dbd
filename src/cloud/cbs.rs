//! Claims-based security: puts a SAS token on the connection (`put-token` on the `$cbs` node) and renews it there.
//! Written by hand because the library's own extension takes only status 202 for a success, and IoT Hub sends 200.
//! Knows the token's text and forgets it.

use std::time::Duration;

use fe2o3_amqp::{Delivery, Receiver, Sender};
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Body, Message, MessageId, Outcome, Properties, Rejected,
};
use fe2o3_amqp_types::primitives::SimpleValue;
use serde_amqp::Value;
use uuid::Uuid;

use super::connection::{Connection, LinkOptions};
use super::deadline::Bounded;
use super::error::{Cause, CloudError};
use crate::identity::sas_token::SasToken;

/// Messages that the hub may send to one of our receivers before we have taken one: more would only lie in memory.
pub const CREDIT: u32 = 16;

/// The two links of the `$cbs` node. Other links of the connection are not touched by a renewal.
#[derive(Debug)]
pub struct Cbs {
    sender: Bounded<Sender>,
    receiver: Bounded<Receiver>,
}

impl Cbs {
    /// Attaches both; needs no authorisation.
    pub async fn attach(connection: &mut Connection) -> Result<Self, CloudError> {
        let sender =
            connection.links().attach_sender("attach to $cbs", "$cbs", LinkOptions::default()).await?;
        let receiver =
            connection.links().attach_receiver("attach to $cbs", "$cbs", LinkOptions::default()).await?;
        Ok(Self { sender, receiver })
    }

    /// Gives the hub a token; it holds for every link of this connection until it expires.
    pub async fn put_token(&mut self, token: &SasToken, limit: Duration) -> Result<(), CloudError> {
        let id = Uuid::new_v4().to_string();
        let request = request(&id, token);
        let Self { sender, receiver } = self;
        sender
            .within("have the token accepted", limit, async |sender| {
                let outcome = sender.send_batchable(request).await?;
                // The outcome alone is never waited for: it does not come when the connection is lost.
                tokio::pin!(outcome);
                let mut settled = false;
                loop {
                    tokio::select! {
                        biased;
                        answer = receiver.within("read the answer", limit, async |r| r.recv::<Body<Value>>().await) => {
                            let answer = answer.map_err(|error| error.cause)?;
                            let accepted = receiver.within("accept the answer", limit, async |r| r.accept(&answer).await);
                            accepted.await.map_err(|error| error.cause)?;
                            if is_for(&answer, &id) {
                                return judge(&answer);
                            }
                        }
                        outcome = &mut outcome, if !settled => {
                            settled = true;
                            taken(outcome?)?;
                        }
                    }
                }
            })
            .await
    }

    /// Lets something flow, so that no box on the way forgets an idle connection.
    pub async fn keep_alive(&mut self, limit: Duration) -> Result<(), CloudError> {
        self.receiver.within("keep the link alive", limit, async |r| r.set_credit(CREDIT).await).await
    }
}

/// Whether the hub has taken the request: to one that it gives back there is no answer.
fn taken(outcome: Outcome) -> Result<(), Cause> {
    match outcome {
        Outcome::Accepted(_) => Ok(()),
        Outcome::Rejected(Rejected { error: Some(error) }) => Err(error.into()),
        Outcome::Rejected(Rejected { error: None }) => {
            Err(Cause::Misbehaved("the hub rejected the request".into()))
        }
        Outcome::Released(_) | Outcome::Modified(_) => {
            Err(Cause::Misbehaved("the hub gave the request back unprocessed".into()))
        }
    }
}

/// `name` is the resource as it stands in the token, encoded, as Microsoft's Node SDK sends it.
fn request(id: &str, token: &SasToken) -> Message<fe2o3_amqp_types::messaging::AmqpValue<String>> {
    let properties = Properties::builder()
        .message_id(id.to_owned())
        .to("$cbs".to_owned())
        .reply_to("cbs".to_owned())
        .build();
    let application = ApplicationProperties::builder()
        .insert("operation", "put-token")
        .insert("type", "servicebus.windows.net:sastoken")
        .insert("name", token.resource.as_str())
        .build();
    Message::builder()
        .properties(properties)
        .application_properties(application)
        .value(token.secret_text().to_owned())
        .build()
}

/// The late answer to a request that was given up is not ours. A missing correlation id is: only one is out.
fn is_for(answer: &Delivery<Body<Value>>, id: &str) -> bool {
    let properties = answer.message().properties.as_ref();
    match properties.and_then(|properties| properties.correlation_id.as_ref()) {
        None => true,
        Some(MessageId::String(text)) => text == id,
        Some(MessageId::Binary(bytes)) => bytes.as_ref() == id.as_bytes(),
        Some(MessageId::Uuid(uuid)) => Uuid::from_slice(uuid.as_ref()).is_ok_and(|u| u.to_string() == id),
        Some(MessageId::Ulong(_)) => true,
    }
}

/// 200 from IoT Hub, 202 from other services of the same family.
fn judge(answer: &Delivery<Body<Value>>) -> Result<(), Cause> {
    let application = answer.message().application_properties.as_ref();
    let field = |name: &str| application.and_then(|application| application.0.get(name));
    let status = match field("status-code") {
        Some(SimpleValue::Int(status)) => *status,
        Some(SimpleValue::Uint(status)) => i32::try_from(*status).unwrap_or(0),
        Some(SimpleValue::Long(status)) => i32::try_from(*status).unwrap_or(0),
        Some(SimpleValue::Ulong(status)) => i32::try_from(*status).unwrap_or(0),
        Some(SimpleValue::Ushort(status)) => i32::from(*status),
        Some(SimpleValue::Short(status)) => i32::from(*status),
        _ => 0,
    };
    if matches!(status, 200 | 202) {
        return Ok(());
    }
    let description = match field("status-description") {
        Some(SimpleValue::String(text)) => text.chars().filter(|c| !c.is_control()).take(300).collect(),
        _ => String::from("without a description"),
    };
    Err(Cause::Token { status, description })
}
