//! Each question of a handle, put to the keeper. Knows who is asked, not how it is done.

use super::StoreError;
use super::handle::{Reply, Request};
use super::keeper::Keeper;
use super::{event_time, values};

/// Answers one. Whoever asked may have gone; then nobody wants the answer.
pub(crate) fn answer(keeper: &mut Keeper, request: Request) {
    let now = keeper.timekeeper.now();
    match request {
        Request::Pending { after, limit, reply } => {
            send(reply, keeper.ask(|database| database.pending(after, limit.clamp(1, 10_000))));
        }
        Request::Acknowledge { upto, reply } => {
            send(reply, keeper.ask(|database| database.acknowledge(upto)))
        }
        Request::DeadLetter { positions, condition, reply } => {
            send(reply, keeper.ask(|database| database.dead_letter(&positions, &condition, now)));
        }
        Request::RecordEvent { kind, mut fields, reply } => {
            event_time::mark(&mut fields, &keeper.timekeeper.stamp());
            send(reply, keeper.ask(|database| database.record_event(&kind, fields, now)));
        }
        Request::PendingEvents { limit, reply } => {
            send(reply, keeper.ask(|database| database.pending_events(limit)));
        }
        Request::AcknowledgeEvents { upto, reply } => {
            send(reply, keeper.ask(|database| database.acknowledge_events(upto)));
        }
        Request::GetValue { key, reply } => {
            send(reply, keeper.ask(|database| values::read(&database.connection, &key)));
        }
        Request::SetValue { key, value, reply } => {
            send(reply, keeper.ask(|database| values::write(&database.connection, &key, value.as_deref())));
        }
        Request::History { since, until, step, reply } => {
            send(reply, keeper.ask(|database| database.history(since, until, step)));
        }
        Request::Newest { count, reply } => send(reply, keeper.ask(|database| database.newest(count))),
        Request::Report { since, reply } => send(reply, keeper.ask(|database| database.report(since))),
        Request::Close { reply } => send(reply, Ok(())),
    }
}

fn send<T>(reply: Reply<T>, answer: Result<T, StoreError>) {
    drop(reply.send(answer));
}
