//! Cuts the pending readings into transfers: by count, by encoded bytes, and, where several readings go into one
//! message, by message. Knows sizes and groups; knows no link.

use std::collections::VecDeque;

use fe2o3_amqp_types::messaging::Data;
use fe2o3_amqp_types::primitives::Binary;

use super::amqp_bytes::in_batch;
use super::encode::Encoder;
use super::groups::{Group, Groups};
use super::window::{Cargo, Transfer};
use crate::reading::Reading;
use crate::store::{Event, Position};

/// IoT Hub takes 256 KB in a batch, envelopes counted; the reserve is for what the hub may count besides.
pub const MOST_BYTES: usize = 262_144 - 4_096;

/// What bounds one transfer.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Inner messages.
    pub messages: usize,
    /// Readings.
    pub items: usize,
    /// Encoded.
    pub bytes: usize,
    /// Readings in one message; 1 means a plain object, more an array.
    pub per_message: usize,
    /// Sends what there is even if the last message is not full.
    pub flush: bool,
}

/// A transfer that is ready to go.
#[derive(Debug)]
pub struct Packed {
    pub transfer: Transfer,
    pub parts: Vec<Data>,
    /// A message of several readings is among them that is not as full as it could have been: which readings go together
    /// is to be noted before they are sent.
    pub partial: bool,
}

/// Takes as many readings off the front of `queue` as fit; none if the first message is not full yet.
pub fn pack(
    queue: &mut VecDeque<(Position, Reading)>,
    encoder: &mut Encoder,
    bounds: Bounds,
    groups: &mut Groups,
) -> Option<Packed> {
    let mut parts = Vec::with_capacity(bounds.messages.min(queue.len()));
    let (mut bytes, mut items) = (0, 0);
    let mut last: Option<(Position, u64)> = None;
    let mut single = Vec::new();
    let mut partial = false;
    while parts.len() < bounds.messages && items < bounds.items && !queue.is_empty() {
        let (whole, as_array) = group(queue, bounds, groups);
        // What went together goes together, also where that is more than goes at once nowadays.
        if whole == 0 || (whole > bounds.items - items && items > 0) {
            break;
        }
        let mut group = whole;
        let part = loop {
            let encoded = if !as_array {
                encoder.reading(&queue[0].1)
            } else {
                encoder.array(queue.iter().take(group).map(|(_, reading)| reading))
            };
            // An array that would not fit into a transfer of its own is cut.
            if in_batch(encoded.len()) <= bounds.bytes || group == 1 {
                break encoded;
            }
            group = group.div_ceil(2);
        };
        let size = in_batch(part.len());
        if bytes + size > bounds.bytes && !parts.is_empty() {
            break;
        }
        bytes += size;
        items += group;
        parts.push(Data(Binary::from(part)));
        if as_array {
            groups.add(Group { first: queue[0].0, length: group });
            partial |= group != bounds.per_message;
        }
        if group < whole {
            // The other parts have waited as long as this one, and are the same ones when they are sent again.
            for at in (0..whole).step_by(group) {
                groups.cut(Group { first: queue[at].0, length: group.min(whole - at) });
            }
        }
        for (position, reading) in queue.drain(..group) {
            last = Some((position, reading.sequence));
            if parts.len() == 1 {
                single.push(position);
            }
        }
    }
    let (end, last_sequence) = last?;
    if parts.len() > 1 {
        single = Vec::new();
    }
    let cargo = Cargo::Readings { end, last_sequence, single };
    Some(Packed { transfer: Transfer { cargo, messages: parts.len(), items, bytes }, parts, partial })
}

/// How many readings at the front of the queue make the next message (0 if it has to wait for more), and whether it
/// is an array. An array holds readings of one store and one run, without a hole, because its id names only the first
/// and the last; what went together before goes together again.
fn group(queue: &VecDeque<(Position, Reading)>, bounds: Bounds, groups: &Groups) -> (usize, bool) {
    let together = groups.length(queue[0].0);
    if bounds.per_message == 1 && together.is_none() {
        return (1, false);
    }
    let most = together.unwrap_or(bounds.per_message.min(bounds.items));
    let mut length = 1;
    let mut complete = false;
    for (before, after) in queue.iter().zip(queue.iter().skip(1)) {
        if length == most {
            break;
        }
        let (next, before, after) = (after.0, &before.1, &after.1);
        let same = before.store_id == after.store_id && before.run == after.run;
        let begins_another = together.is_none() && groups.length(next).is_some();
        if !same || begins_another || after.sequence != before.sequence + 1 {
            complete = true;
            break;
        }
        length += 1;
    }
    (if length == most || complete || bounds.flush { length } else { 0 }, true)
}

/// All of `events` that fit.
pub fn pack_events(
    events: &[Event],
    encoder: &mut Encoder,
    most: usize,
    most_bytes: usize,
) -> Option<Packed> {
    let (mut parts, mut bytes, mut upto) = (Vec::new(), 0, None);
    for event in events.iter().take(most) {
        let part = encoder.event(event);
        let size = in_batch(part.len());
        if bytes + size > most_bytes && !parts.is_empty() {
            break;
        }
        bytes += size;
        parts.push(Data(Binary::from(part)));
        upto = Some(event.event_sequence);
    }
    let cargo = Cargo::Events { upto: upto? };
    let items = parts.len();
    Some(Packed { transfer: Transfer { cargo, messages: items, items, bytes }, parts, partial: false })
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::reading::{
        BootId, Celsius, Hectopascal, Measurement, Percent, Quality, Sample, Stamp, TimeQuality,
    };

    fn queue(sequences: impl IntoIterator<Item = u64>) -> VecDeque<(Position, Reading)> {
        sequences
            .into_iter()
            .map(|sequence| (Position { generation: 1, row: sequence }, reading(sequence)))
            .collect()
    }

    pub fn reading(sequence: u64) -> Reading {
        let stamp = Stamp {
            boot: BootId(1),
            since_boot: Duration::ZERO,
            time: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            time_quality: TimeQuality::Synchronised,
        };
        let measurement = Measurement {
            air_temperature: Celsius(20.0),
            relative_humidity: Percent(50.0),
            station_pressure: Hectopascal(1000.0),
        };
        let sample = Sample { stamp, measurement, quality: Quality::Good };
        Reading { store_id: Arc::from("store"), run: Arc::from("run"), sequence, sample }
    }

    fn bounds(items: usize, per_message: usize) -> Bounds {
        Bounds { messages: 500, items, bytes: MOST_BYTES, per_message, flush: false }
    }

    fn encoder() -> Encoder {
        Encoder::new("roof", None)
    }

    #[test]
    fn a_transfer_is_cut_by_count() {
        let mut queue = queue(1..=1200);
        let packed = pack(&mut queue, &mut encoder(), bounds(500, 1), &mut Groups::default()).unwrap();
        assert_eq!((packed.transfer.messages, packed.transfer.items, queue.len()), (500, 500, 700));
        let Cargo::Readings { end, last_sequence, single } = packed.transfer.cargo else {
            panic!("readings")
        };
        assert_eq!((end.row, last_sequence, single.len()), (500, 500, 0));
    }

    #[test]
    fn every_byte_of_the_envelope_is_counted() {
        let mut queue = queue(1..=3000);
        let wide = Bounds { messages: 10_000, ..bounds(10_000, 1) };
        let packed = pack(&mut queue, &mut encoder(), wide, &mut Groups::default()).unwrap();
        let body = fe2o3_amqp_types::messaging::Message::builder().data_batch(packed.parts).build();
        let encoded =
            serde_amqp::to_vec(&fe2o3_amqp_types::messaging::message::__private::Serializable(body));
        let length = encoded.unwrap().len();
        assert_eq!(length, packed.transfer.bytes);
        assert!(length <= MOST_BYTES && length > MOST_BYTES - 1000, "{length}");
    }

    #[test]
    fn messages_of_several_readings_wait_until_they_are_full() {
        let mut queue = queue(1..=25);
        let packed = pack(&mut queue, &mut encoder(), bounds(500, 10), &mut Groups::default()).unwrap();
        assert_eq!((packed.transfer.messages, packed.transfer.items, queue.len()), (2, 20, 5));
        assert!(pack(&mut queue, &mut encoder(), bounds(500, 10), &mut Groups::default()).is_none());
        let flush = Bounds { flush: true, ..bounds(500, 10) };
        assert_eq!(
            pack(&mut queue, &mut encoder(), flush, &mut Groups::default()).unwrap().transfer.items,
            5
        );
    }

    #[test]
    fn a_message_never_spans_a_hole() {
        let mut queue = queue([1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let packed = pack(&mut queue, &mut encoder(), bounds(500, 10), &mut Groups::default()).unwrap();
        assert_eq!((packed.transfer.messages, packed.transfer.items), (2, 13));
    }

    #[test]
    fn what_went_together_goes_together_again() {
        let mut groups = Groups::default();
        let flush = Bounds { flush: true, ..bounds(500, 10) };
        let first = pack(&mut queue(1..=3), &mut encoder(), flush, &mut groups).unwrap();
        assert!(first.partial);
        let mut more = queue(1..=25);
        let again = pack(&mut more, &mut encoder(), bounds(500, 10), &mut groups).unwrap();
        assert_eq!((again.transfer.messages, again.transfer.items), (3, 23));
        assert_eq!(again.parts[0], first.parts[0]);
        let smaller = pack(&mut queue(1..=25), &mut encoder(), bounds(2, 2), &mut groups).unwrap();
        assert_eq!(smaller.parts, first.parts, "also where fewer go at once by now");
    }

    #[test]
    fn what_did_not_go_together_stops_before_what_did() {
        let mut groups = Groups::default();
        groups.add(Group { first: Position { generation: 1, row: 11 }, length: 10 });
        let mut readings = queue(8..=20);
        let packed = pack(&mut readings, &mut encoder(), bounds(500, 10), &mut groups).unwrap();
        assert_eq!((packed.transfer.messages, packed.transfer.items), (2, 13), "8 to 10, 11 to 20");
        assert_eq!(groups.length(Position { generation: 1, row: 8 }), Some(3));
    }

    #[test]
    fn an_array_that_is_too_large_is_cut() {
        let mut queue = queue(1..=1000);
        let small = Bounds { bytes: 20_000, ..bounds(5000, 1000) };
        let packed = pack(&mut queue, &mut encoder(), small, &mut Groups::default()).unwrap();
        assert!(packed.transfer.bytes <= 20_000);
        assert!(packed.transfer.items > 50 && !queue.is_empty());
    }

    #[test]
    fn the_parts_of_an_array_that_was_cut_do_not_wait_and_are_the_same_ones_again() {
        let small = Bounds { bytes: 20_000, ..bounds(5000, 1000) };
        let mut groups = Groups::default();
        // The last two of them would have to wait until their message is full.
        let pending = || queue(1..=1002);
        let send_all = |groups: &mut Groups| {
            let mut queue = pending();
            let sent: Vec<_> =
                std::iter::from_fn(|| pack(&mut queue, &mut encoder(), small, groups)).collect();
            (sent.into_iter().flat_map(|packed| packed.parts).collect::<Vec<_>>(), queue.len())
        };
        let (first, left) = send_all(&mut groups);
        assert_eq!(left, 2);
        let mut after = Groups::default();
        after.remember(&groups.unusual(1000).unwrap());
        assert_eq!(send_all(&mut groups), (first.clone(), 2));
        assert_eq!(send_all(&mut after), (first, 2), "by another process");
    }
}
