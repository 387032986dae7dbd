//! The telemetry link: takes transfers, unpacks batches, records, settles; gives credit. Faults on transfers strike
//! here. Knows messages as the hub sees them, not what a weather station means by them.

use std::time::Duration;

use fe2o3_amqp::Receiver;
use fe2o3_amqp::acceptor::LinkEndpoint;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::link::delivery::{Delivery, DeliveryInfo};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp_types::messaging::{Body, Modified};
use fe2o3_amqp_types::primitives::Value;
use serde_json::json;
use tokio::sync::mpsc;

use crate::behaviour::Behaviour;
use crate::error::HubError;
use crate::fault::{Fault, millis};
use crate::frames::ENGINE_CREDIT;
use crate::session::{self, Link};
use crate::unpack::{self, Transfer};
use crate::wire::Cut;

/// Dispositions that wait, at most.
const DELAYED: usize = 8192;

/// How a transfer is answered.
enum Outcome {
    Accept,
    Reject(HubError),
    Release,
    Modify,
}

/// What the faults in force make of a transfer.
struct Plan {
    record: bool,
    outcome: Outcome,
    /// None: never.
    delay: Option<Duration>,
    cut: Option<Cut>,
}

/// Serves the link until it ends.
pub(crate) async fn run(mut link: Link, mut receiver: Receiver) {
    receiver.set_credit_mode(CreditMode::Manual);
    let (delayed, mut due) = mpsc::channel::<(DeliveryInfo, Outcome)>(DELAYED);
    let mut faults = link.hub.faults.changes();
    // Deliveries since the last credit; at the start all of it is spent.
    let mut spent = u32::MAX;
    if top_up(&link, &mut receiver, &mut spent).await.is_err() {
        return;
    }
    if spent == 0 {
        link.hub.event(Some(&link.conn), Some(link.device()), "first-credit", json!({}));
    }
    loop {
        tokio::select! {
            biased;
            delivery = receiver.recv::<Body<Value>>() => match delivery {
                Ok(delivery) => {
                    spent = spent.saturating_add(1);
                    if on_delivery(&link, &mut receiver, &delayed, delivery).await.is_none()
                        || top_up(&link, &mut receiver, &mut spent).await.is_err()
                    {
                        return;
                    }
                }
                Err(RecvError::MessageDecode(error)) => {
                    let reason = format!("{error:?}");
                    link.hub.event(Some(&link.conn), Some(link.device()), "undecodable", json!({ "reason": reason }));
                    let error = HubError::new("amqp:decode-error").describe("the message cannot be decoded");
                    return session::close(LinkEndpoint::Receiver(receiver), error).await;
                }
                Err(_) => return,
            },
            command = link.commands.recv() => {
                let error = command
                    .ok()
                    .and_then(|command| command.detaches(link.info.kind, link.info.device.as_deref()).cloned());
                if let Some(error) = error {
                    return session::close(LinkEndpoint::Receiver(receiver), error).await;
                }
            }
            Some((info, outcome)) = due.recv() => {
                if dispose(&receiver, info, outcome).await.is_none() {
                    return;
                }
            }
            Ok(()) = faults.changed() => {
                if top_up(&link, &mut receiver, &mut spent).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The credit to give now; 0 while a fault holds it back.
fn credit(link: &Link) -> u32 {
    let faults = &link.hub.faults;
    if !faults.none() && faults.holds(Some(link.device()), |fault| matches!(fault, Fault::NoCredit)) {
        return 0;
    }
    match link.hub.behaviour().credit {
        // The filter takes the engine's own number out.
        ENGINE_CREDIT => ENGINE_CREDIT + 1,
        credit => credit,
    }
}

/// Gives new credit when half of it is spent. Credit is never lowered: a transfer on its way would end the link.
async fn top_up(link: &Link, receiver: &mut Receiver, spent: &mut u32) -> Result<(), ()> {
    let credit = credit(link);
    if credit == 0 || *spent < credit.div_ceil(2) {
        return Ok(());
    }
    *spent = 0;
    receiver.set_credit(credit).await.map_err(drop)
}

/// None: the link is over.
async fn on_delivery(
    link: &Link,
    receiver: &mut Receiver,
    delayed: &mpsc::Sender<(DeliveryInfo, Outcome)>,
    delivery: Delivery<Body<Value>>,
) -> Option<()> {
    let hub = &link.hub;
    let behaviour = hub.behaviour();
    let info = DeliveryInfo::from(&delivery);
    let unpacked = unpack::unpack(delivery, behaviour.recording || !hub.faults.none());
    let plan = match &unpacked {
        Ok(transfer) if transfer.size > behaviour.service_limit => {
            Plan::reject(HubError::too_large(transfer.size, behaviour.service_limit))
        }
        Ok(transfer) => plan(link, &behaviour, transfer),
        Err(reason) => Plan::reject(HubError::new("amqp:decode-error").describe(reason)),
    };
    if plan.record
        && let Ok(transfer) = unpacked
    {
        if behaviour.recording {
            let number = hub.record.next_transfer();
            let received = hub.wall.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            let mut messages = transfer.messages;
            for message in &mut messages {
                message.device = link.device().to_owned();
                message.connection = link.conn.id;
                message.transfer = number;
                message.received.clone_from(&received);
            }
            hub.record.add(messages);
        } else {
            hub.record.count(link.device(), u64::from(transfer.count));
        }
    }
    if let Some(how) = plan.cut {
        hub.event(
            Some(&link.conn),
            Some(link.device()),
            "fault",
            json!({ "cut": how, "recorded": plan.record }),
        );
        link.conn.switch.cut(how);
        return None;
    }
    if let Outcome::Reject(error) = &plan.outcome {
        let detail = json!({ "condition": error.condition, "description": error.description });
        hub.event(Some(&link.conn), Some(link.device()), "rejected", detail);
    }
    if matches!(plan.outcome, Outcome::Release | Outcome::Modify) {
        hub.event(Some(&link.conn), Some(link.device()), "given-back", json!({}));
    }
    match plan.delay {
        Some(Duration::ZERO) => dispose(receiver, info, plan.outcome).await,
        Some(delay) => {
            let delayed = delayed.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                // The link may have gone meanwhile.
                drop(delayed.send((info, plan.outcome)).await);
            });
            Some(())
        }
        None => Some(()),
    }
}

async fn dispose(receiver: &Receiver, info: DeliveryInfo, outcome: Outcome) -> Option<()> {
    let sent = match outcome {
        Outcome::Accept => receiver.accept(info).await,
        Outcome::Reject(error) => receiver.reject(info, error.to_amqp()).await,
        Outcome::Release => receiver.release(info).await,
        Outcome::Modify => {
            let modified =
                Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None };
            receiver.modify(info, modified).await
        }
    };
    sent.ok()
}

fn plan(link: &Link, behaviour: &Behaviour, transfer: &Transfer) -> Plan {
    if link.hub.faults.none() {
        return metered(link, behaviour, transfer);
    }
    let strikes = link.hub.faults.strike(Some(link.device()), |fault| {
        Some(match fault {
            Fault::AckLost { how } => Plan { cut: Some(*how), ..Plan::accept() },
            Fault::CutOnTransfer { how } => Plan { cut: Some(*how), record: false, ..Plan::accept() },
            Fault::DispositionLate { millis: late } => Plan { delay: Some(millis(*late)), ..Plan::accept() },
            Fault::DispositionNever => Plan { delay: None, ..Plan::accept() },
            Fault::Release => Plan { record: false, outcome: Outcome::Release, ..Plan::accept() },
            Fault::Modify => Plan { record: false, outcome: Outcome::Modify, ..Plan::accept() },
            Fault::Reject { error } => Plan::reject(error.clone()),
            Fault::Throttle { retry_after } => Plan::reject(HubError::throttled(*retry_after)),
            Fault::QuotaSpent => Plan::reject(HubError::quota()),
            Fault::Poison { text, error } => {
                let poisoned = transfer.messages.iter().any(|message| message.text().contains(text.as_str()));
                return poisoned.then(|| Plan::reject(error.clone()));
            }
            _ => return None,
        })
    });
    strikes.unwrap_or_else(|| metered(link, behaviour, transfer))
}

fn metered(link: &Link, behaviour: &Behaviour, transfer: &Transfer) -> Plan {
    link.hub.meter.admit(behaviour, transfer.count, &transfer.sizes).map_or_else(Plan::accept, Plan::reject)
}

impl Plan {
    fn accept() -> Self {
        Self { record: true, outcome: Outcome::Accept, delay: Some(Duration::ZERO), cut: None }
    }

    fn reject(error: HubError) -> Self {
        Self { record: false, outcome: Outcome::Reject(error), ..Self::accept() }
    }
}
