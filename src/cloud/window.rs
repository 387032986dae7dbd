//! The transfers in flight, in the order they were sent, and how far the hub has accepted them without a hole.
//! Pure: the watermark of the store may move exactly as far as [`Window::take_accepted`] says.

use std::collections::VecDeque;

use crate::store::Position;

/// What a transfer carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cargo {
    Readings {
        end: Position,
        /// Of the last reading, for people.
        last_sequence: u64,
        /// Each reading's place, kept only where the transfer is a single message.
        single: Vec<Position>,
    },
    Events {
        upto: u64,
    },
}

/// One transfer: its weight and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub cargo: Cargo,
    /// Inner messages.
    pub messages: usize,
    /// Readings (or events) in them.
    pub items: usize,
    /// Encoded.
    pub bytes: usize,
}

/// How far everything is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    pub readings: Option<(Position, u64)>,
    pub events: Option<u64>,
    pub messages: usize,
    pub readings_count: usize,
}

impl Accepted {
    /// Whether there is anything to tell the store.
    pub fn is_some(&self) -> bool {
        self.readings.is_some() || self.events.is_some()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Window {
    slots: VecDeque<Slot>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    transfer: Transfer,
    accepted: bool,
}

impl Window {
    /// A transfer goes out; the number names it until its outcome is known.
    pub fn push(&mut self, transfer: Transfer) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += transfer.bytes;
        self.slots.push_back(Slot { number, transfer, accepted: false });
        number
    }

    pub fn accept(&mut self, number: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            slot.accepted = true;
        }
    }

    /// Takes a transfer that was not accepted out. Those behind it can no longer be acknowledged, so they are
    /// forgotten with it: they will be sent again, under the same message-ids.
    pub fn fail(&mut self, number: u64) -> Option<Transfer> {
        let place = self.slots.iter().position(|slot| slot.number == number)?;
        let mut behind = self.slots.split_off(place);
        self.bytes = self.slots.iter().map(|slot| slot.transfer.bytes).sum();
        behind.pop_front().map(|slot| slot.transfer)
    }

    /// The last reading in front of a transfer, where one is on its way there.
    pub fn end_before(&self, number: u64) -> Option<Position> {
        let in_front = self.slots.iter().take_while(|slot| slot.number < number);
        let ends = in_front.filter_map(|slot| match slot.transfer.cargo {
            Cargo::Readings { end, .. } => Some(end),
            Cargo::Events { .. } => None,
        });
        ends.last()
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Readings (or events) in a transfer that is on its way.
    pub fn items(&self, number: u64) -> Option<usize> {
        self.slots.iter().find(|slot| slot.number == number).map(|slot| slot.transfer.items)
    }

    /// The one in front.
    pub fn oldest(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.number)
    }

    /// Takes the accepted transfers off the front.
    pub fn take_accepted(&mut self) -> Accepted {
        let mut accepted = Accepted::default();
        while self.slots.front().is_some_and(|slot| slot.accepted) {
            let Some(slot) = self.slots.pop_front() else { break };
            self.bytes -= slot.transfer.bytes;
            accepted.messages += slot.transfer.messages;
            match slot.transfer.cargo {
                Cargo::Readings { end, last_sequence, .. } => {
                    accepted.readings = Some((end, last_sequence));
                    accepted.readings_count += slot.transfer.items;
                }
                Cargo::Events { upto } => accepted.events = Some(upto),
            }
        }
        accepted
    }

    /// Encoded bytes in flight.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn carries_events(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.transfer.cargo, Cargo::Events { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(row: u64) -> Transfer {
        let end = Position { generation: 1, row };
        let cargo = Cargo::Readings { end, last_sequence: row, single: Vec::new() };
        Transfer { cargo, messages: 10, items: 10, bytes: 1000 }
    }

    #[test]
    fn the_watermark_waits_for_the_oldest_transfer() {
        let mut window = Window::default();
        let numbers: Vec<_> = (1..=4).map(|n| window.push(transfer(n * 10))).collect();
        window.accept(numbers[1]);
        window.accept(numbers[2]);
        assert_eq!(window.take_accepted(), Accepted::default());
        window.accept(numbers[0]);
        let accepted = window.take_accepted();
        assert_eq!(accepted.readings, Some((Position { generation: 1, row: 30 }, 30)));
        assert_eq!((accepted.messages, window.bytes()), (30, 1000));
    }

    #[test]
    fn nothing_behind_a_failed_transfer_is_acknowledged() {
        let mut window = Window::default();
        let numbers: Vec<_> = (1..=3).map(|n| window.push(transfer(n * 10))).collect();
        window.accept(numbers[2]);
        assert_eq!(window.fail(numbers[1]).map(|failed| failed.items), Some(10));
        window.accept(numbers[0]);
        assert_eq!(window.take_accepted().readings, Some((Position { generation: 1, row: 10 }, 10)));
        assert_eq!(window.bytes(), 0);
    }
}
