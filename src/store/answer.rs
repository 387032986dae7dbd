//! Each question of a handle, put to the keeper. Knows who is asked, not how it is done.

use super::StoreError;
use super::database::Database;
use super::handle::{Reply, Request};
use super::keeper::Keeper;
use super::{event_time, values};

/// Answers one. Whoever asked may have gone: what they asked for is done all the same, but nothing is read for nobody.
pub(crate) fn answer(keeper: &mut Keeper, request: Request) {
    if request.is_moot() {
        return;
    }
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
            send(reply, keeper.ask(|database| database.value(&key)));
        }
        Request::SetValue { key, value, reply } => {
            let write = |database: &mut Database| {
                // What is noted about readings that are on their way fits the watermark that lies beside it.
                database.write_down()?;
                values::write(&database.connection, &key, value.as_deref())
            };
            send(reply, keeper.ask(write));
        }
        Request::History { since, until, step, reply } => {
            send(reply, keeper.ask(|database| database.history(since, until, step)));
        }
        Request::Newest { count, reply } => send(reply, keeper.ask(|database| database.newest(count))),
        Request::Report { since, reply } => send(reply, keeper.ask(|database| database.report(since))),
        Request::Close { reply } => send(reply, Ok(())),
    }
}

/// Answers what is known without the disk; everything else comes back, to be answered where blocking is allowed.
pub(crate) fn answer_at_once(keeper: &mut Keeper, request: Request) -> Result<(), Request> {
    let Some(database) = &mut keeper.database else { return Err(request) };
    match request {
        Request::Pending { after, limit, reply } => match database.pending_at_once(after, limit) {
            Some(page) => send(reply, Ok(page)),
            None => return Err(Request::Pending { after, limit, reply }),
        },
        Request::PendingEvents { reply, .. } if database.has_no_events() => send(reply, Ok(Vec::new())),
        Request::Acknowledge { upto, reply } => match database.acknowledge_at_once(upto) {
            true => send(reply, Ok(())),
            false => return Err(Request::Acknowledge { upto, reply }),
        },
        other => return Err(other),
    }
    Ok(())
}

fn send<T>(reply: Reply<T>, answer: Result<T, StoreError>) {
    drop(reply.send(answer));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn nothing_is_read_for_those_who_have_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = Keeper::in_folder(folder.path());
        // Whoever reads these finds a damaged store, and another takes its place.
        let database = keeper.database.as_ref().expect("open");
        database.connection.execute_batch("DROP TABLE rollup; DROP TABLE reading").expect("dropped");
        let generation = |keeper: &Keeper| keeper.database.as_ref().expect("open").watermark.generation;
        let (since, until) = (DateTime::UNIX_EPOCH, keeper.timekeeper.now());
        answer(&mut keeper, Request::History { since, until, step: Duration::from_secs(300), reply: gone() });
        answer(&mut keeper, Request::Report { since, reply: gone() });
        answer(&mut keeper, Request::Newest { count: 10, reply: gone() });
        assert_eq!(generation(&keeper), 1);
        let (reply, _asker) = oneshot::channel();
        answer(&mut keeper, Request::Newest { count: 10, reply });
        assert_eq!(generation(&keeper), 2, "the trap works");
    }

    fn gone<T>() -> Reply<T> {
        oneshot::channel().0
    }
}
