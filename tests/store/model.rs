//! Random histories against a plain model: whatever is appended, handed out, accepted, refused, pruned and reopened, the
//! store hands out exactly what the model says.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use weather_station::store::Position;

use crate::support::{Place, sequences};

#[derive(Debug, Clone)]
enum Action {
    Append(u64),
    /// Reads a page of so many, and accepts so many of it.
    Accept {
        page: usize,
        accepted: usize,
    },
    /// Refuses the reading at this place of the next page.
    Reject(usize),
    Days(u8),
    Reopen,
    Kill,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (1..60_u64).prop_map(Action::Append),
        4 => (1..80_usize, 0..80_usize).prop_map(|(page, accepted)| Action::Accept { page, accepted }),
        1 => (0..20_usize).prop_map(Action::Reject),
        1 => (0..20_u8).prop_map(Action::Days),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
    ];
    proptest::collection::vec(action, 1..25)
}

/// What the store should know.
#[derive(Default)]
struct Model {
    last: u64,
    acknowledged: u64,
    refused: BTreeSet<u64>,
    deaths: u64,
}

impl Model {
    fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        (self.acknowledged + 1..=self.last).filter(|sequence| !self.refused.contains(sequence))
    }

    /// A page counts refused ones too: it reads rows.
    fn page(&self, limit: usize) -> Vec<u64> {
        let rows = (self.acknowledged + 1..=self.last).take(limit);
        rows.filter(|sequence| !self.refused.contains(sequence)).collect()
    }
}

async fn run(actions: Vec<Action>) {
    let mut place = Place::new();
    place.config.keep = Duration::from_secs(10 * 86_400);
    let mut store = place.start();
    let mut model = Model::default();
    for action in actions {
        match action {
            Action::Append(count) => {
                store.send(count).await;
                model.last += count;
                store.synced(model.last).await;
                place.clock.advance(Duration::from_secs(60));
            }
            Action::Accept { page, accepted } => {
                let found = store.handle.pending(None, page).await.unwrap();
                assert_eq!(sequences(&found), model.page(page));
                if let Some((position, reading)) =
                    found.readings.get(accepted.min(found.readings.len()).wrapping_sub(1))
                {
                    store.handle.acknowledge(*position).await.unwrap();
                    model.acknowledged = reading.sequence;
                }
            }
            Action::Reject(index) => {
                let found = store.handle.pending(None, 20).await.unwrap();
                if let Some((position, reading)) = found.readings.get(index) {
                    store.handle.dead_letter(vec![*position], "amqp:not-allowed".into()).await.unwrap();
                    model.refused.insert(reading.sequence);
                    model.deaths += 1;
                }
            }
            Action::Days(days) => {
                place.clock.advance(Duration::from_secs(u64::from(days) * 86_400));
                // The house is kept, and prunes.
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
            Action::Reopen => {
                store.stop().await;
                store = place.start_as("again").unwrap();
            }
            Action::Kill => {
                // Nothing is under way once a question was answered.
                store.handle.value("nothing").await.unwrap();
                let copy = place.copy();
                store.stop().await;
                place = copy;
                store = place.start_as("again").unwrap();
                // The watermark may be behind, by less than a hundred: those are sent once more.
                let behind = model.acknowledged.saturating_sub(99)..=model.acknowledged;
                let found = store.handle.pending(None, 1).await.unwrap();
                let none = found.end == Position::default();
                let first = if none { model.last + 1 } else { found.end.row };
                assert!(behind.contains(&(first - 1)), "{first} is the first after {}", model.acknowledged);
                model.acknowledged = first - 1;
            }
        }
        let pending = model.pending().count() as u64;
        store
            .status(|status| {
                (status.last_sequence, status.pending, status.dead_letters)
                    == (model.last, pending, model.deaths)
            })
            .await;
    }
    let mut left = Vec::new();
    let mut after = None;
    loop {
        let page = store.handle.pending(after, 37).await.unwrap();
        if page.end == after.unwrap_or(Position { generation: 1, row: model.acknowledged })
            || page.end == Position::default()
        {
            break;
        }
        after = Some(page.end);
        left.extend(sequences(&page));
    }
    assert_eq!(left, model.pending().collect::<Vec<_>>());
    let events = store.handle.pending_events(1_000).await.unwrap();
    assert_eq!(events.len() as u64, model.deaths, "only refusals make events");
    store.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(actions));
    }
}
