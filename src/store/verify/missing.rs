//! Which sequences of a store are missing, which of them an event explains, and under which name of the store that is
//! told. Knows numbers, not messages.

use std::collections::BTreeMap;

use super::report::{Explained, Span, StoreReport};
use super::seen::Seen;

/// A report for each name that the store has sent under.
pub(super) fn account(store: &str, devices: BTreeMap<String, Seen>) -> Vec<StoreReport> {
    let (names, mut seen): (Vec<String>, Vec<Seen>) = devices.into_iter().unzip();
    let apart = (1..seen.len()).any(|one| seen[..one].iter().any(|other| other.contradicts(&seen[one])));
    let found = if apart {
        seen.iter_mut().flat_map(|alone| missing(std::slice::from_mut(alone))).collect()
    } else {
        missing(&mut seen)
    };
    let reports = names.into_iter().zip(seen).zip(found).map(|((device_id, mut seen), found)| {
        let sequences = seen.sequences();
        let (duplicates, duplicated) = seen.duplicates();
        StoreReport {
            device_id,
            store_id: store.to_owned(),
            readings: sequences.len() as u64,
            first: sequences.first().copied(),
            last: sequences.last().copied(),
            holes: found.holes,
            explained: found.explained,
            duplicates,
            duplicated,
            rolled_back: seen.rolled_back(),
            replaces: seen.replaced,
        }
    });
    reports.collect()
}

#[derive(Default)]
struct Found {
    holes: Vec<Span>,
    explained: Vec<Explained>,
}

/// For each of them what is missing of all of them together: it is told by the one that has the next reading.
fn missing(seen: &mut [Seen]) -> Vec<Found> {
    let mut sequences: Vec<(u64, usize)> = Vec::new();
    let mut told: Vec<Explained> = Vec::new();
    // The readings behind the last one here were lost by whoever says so.
    let mut end = (0, 0);
    for (index, one) in seen.iter_mut().enumerate() {
        sequences.extend(one.sequences().into_iter().map(|sequence| (sequence, index)));
        end = one.explained.iter().map(|gap| (gap.last, index)).fold(end, Ord::max);
        told.append(&mut one.explained);
    }
    sequences.sort_unstable();
    let told = apart(told);
    let mut found: Vec<Found> = seen.iter().map(|_| Found::default()).collect();
    let mut next = 1;
    for (sequence, index) in sequences {
        if sequence > next {
            split(Span { first: next, last: sequence - 1 }, &told, &mut found[index]);
        }
        next = next.max(sequence + 1);
    }
    if end.0 >= next {
        split(Span { first: next, last: end.0 }, &told, &mut found[end.1]);
    }
    found
}

/// In turn, and of those that overlap each without what the ones before it tell.
fn apart(mut told: Vec<Explained>) -> Vec<Explained> {
    told.sort_by_key(|gap| (gap.first, gap.last));
    let mut next = 1;
    told.retain_mut(|gap| {
        gap.first = gap.first.max(next);
        next = next.max(gap.last + 1);
        gap.first <= gap.last
    });
    told
}

/// The parts of a missing stretch that events explain, and those that nothing does.
fn split(span: Span, told: &[Explained], into: &mut Found) {
    let mut next = span.first;
    // Many thousands of either are nothing unusual: each looks at its own only.
    let begin = told.partition_point(|gap| gap.last < span.first);
    for gap in told[begin..].iter().take_while(|gap| gap.first <= span.last) {
        if gap.first > next {
            into.holes.push(Span { first: next, last: gap.first - 1 });
        }
        let last = gap.last.min(span.last);
        into.explained.push(Explained { first: gap.first.max(next), last, reason: gap.reason.clone() });
        next = last + 1;
    }
    if next <= span.last {
        into.holes.push(Span { first: next, last: span.last });
    }
}
