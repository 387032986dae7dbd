//! Taking what the hub sends, and settling it: two steps, for the first is given up whenever something else happens
//! meanwhile, and nothing may be lost with it. Knows no meaning.

use std::time::Duration;

use fe2o3_amqp::Delivery;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp_types::definitions::{AmqpError, Error};
use fe2o3_amqp_types::messaging::Body;
use serde_amqp::Value;

use super::super::error::{Cause, CloudError};
use super::links::{Attached, Group, Kind};

/// The longest wait for silence.
const TURN: Duration = Duration::from_secs(5);
/// Settling what came.
const SETTLE: Duration = Duration::from_secs(15);

/// What came over a link.
pub type Received = Result<Delivery<Body<Value>>, RecvError>;

/// A message of it.
pub type Heard = Result<Delivery<Body<Value>>, Missed>;

/// Why there is none.
pub enum Missed {
    /// It cannot be decoded.
    Unreadable,
    /// The links are gone.
    Links,
}

/// The next delivery, or never where the group is not attached. May be given up without losing anything: once the
/// library has taken a delivery that it does not accept by itself, it waits for nothing.
pub async fn receive(attached: &mut Option<Attached>) -> Received {
    let Some(attached) = attached else { return std::future::pending().await };
    loop {
        let listened = attached.receiver.listen(TURN, async |receiver| receiver.recv::<Body<Value>>().await);
        if let Some(received) = listened.await {
            return received;
        }
    }
}

/// Accepts what came, but for a message to the device, which is settled when it is on disk; rejects what cannot be
/// decoded. Credit comes back with each delivery that is settled, and with no other.
pub async fn settle(group: &mut Group, received: &Received) -> Result<(), CloudError> {
    let Some(Attached { receiver, .. }) = &mut group.attached else { return Ok(()) };
    let doing = "settle what the hub sent";
    match received {
        Ok(delivery) if group.kind != Kind::Messages => {
            receiver.within(doing, SETTLE, async |link| link.accept(delivery).await).await
        }
        Err(RecvError::MessageDecode(unreadable)) => {
            let (info, error) = (unreadable.info.clone(), Error::new(AmqpError::DecodeError, None, None));
            receiver.within(doing, SETTLE, async |link| link.reject(info, error).await).await
        }
        _ => Ok(()),
    }
}

/// A message that cannot be decoded costs itself; any other error costs the links.
pub fn hear(group: &mut Group, received: Received) -> Heard {
    match received {
        Ok(delivery) => Ok(delivery),
        Err(RecvError::MessageDecode(error)) => {
            let error = CloudError::new("hear from the hub", Cause::Lost(error.source.to_string()));
            group.outage.tell(&error, None, "the hub sent a message that cannot be decoded");
            Err(Missed::Unreadable)
        }
        Err(error) => {
            group.lost(&CloudError::new("hear from the hub", Cause::from(error)));
            Err(Missed::Links)
        }
    }
}

#[cfg(test)]
mod tests;
