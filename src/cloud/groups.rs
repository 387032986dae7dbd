//! Readings that went out as one message and are not acknowledged: sent again they form the same message, because its id
//! names the first and the last. Pure.

use std::collections::VecDeque;

use crate::store::Position;

/// One message of several readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub first: Position,
    pub length: usize,
}

/// The groups on their way, oldest first: as many as a few transfers hold.
#[derive(Debug, Default)]
pub struct Groups {
    groups: VecDeque<Group>,
}

impl Groups {
    /// How many readings went together with the one at `first`.
    pub fn length(&self, first: Position) -> Option<usize> {
        self.groups.iter().find(|group| group.first == first).map(|group| group.length)
    }

    pub fn add(&mut self, group: Group) {
        if self.length(group.first).is_none() {
            self.groups.push_back(group);
        }
    }

    /// What does not fit into one message: from now on these go together, whatever went before.
    pub fn cut(&mut self, group: Group) {
        self.groups.retain(|whole| whole.first != group.first);
        self.groups.push_back(group);
    }

    /// Those that `per_message` would not make again, as they are kept in the store: they have to outlive the process.
    pub fn unusual(&self, per_message: usize) -> Option<String> {
        let texts =
            self.groups.iter().filter(|group| group.length != per_message).map(|group| group.to_text());
        Some(texts.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
    }

    /// What the process before this one had noted; what is no such text is left out.
    pub fn remember(&mut self, text: &str) {
        text.split(' ').filter_map(Group::from_text).for_each(|group| self.add(group));
    }

    /// The hub has accepted everything up to `end`.
    pub fn accepted(&mut self, end: Position) {
        self.groups.retain(|group| group.first > end);
    }

    /// A rejected transfer is taken apart: its readings, behind `before` and up to `end`, are no longer held together.
    pub fn forget(&mut self, before: Option<Position>, end: Position) {
        self.groups.retain(|group| group.first > end || before.is_some_and(|before| group.first <= before));
    }
}

impl Group {
    fn to_text(self) -> String {
        format!("{}:{}:{}", self.first.generation, self.first.row, self.length)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let generation = parts.next()?.parse().ok()?;
        let row = parts.next()?.parse().ok()?;
        let length = parts.next()?.parse().ok()?;
        Some(Self { first: Position { generation, row }, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(row: u64) -> Position {
        Position { generation: 1, row }
    }

    #[test]
    fn a_group_goes_together_until_it_is_accepted() {
        let mut groups = Groups::default();
        groups.add(Group { first: at(1), length: 5 });
        groups.add(Group { first: at(6), length: 3 });
        groups.add(Group { first: at(6), length: 9 });
        assert_eq!(
            (groups.length(at(1)), groups.length(at(6)), groups.length(at(2))),
            (Some(5), Some(3), None)
        );
        groups.cut(Group { first: at(6), length: 2 });
        assert_eq!(groups.length(at(6)), Some(2));
        groups.cut(Group { first: at(6), length: 3 });
        groups.accepted(at(5));
        assert_eq!((groups.length(at(1)), groups.length(at(6))), (None, Some(3)));
        groups.add(Group { first: at(9), length: 2 });
        groups.add(Group { first: at(11), length: 2 });
        groups.forget(Some(at(8)), at(10));
        assert_eq!([6, 9, 11].map(|row| groups.length(at(row))), [Some(3), None, Some(2)]);
        groups.forget(None, at(10));
        assert_eq!([6, 11].map(|row| groups.length(at(row))), [None, Some(2)]);
    }

    #[test]
    fn the_unusual_ones_survive_being_written_down() {
        let mut groups = Groups::default();
        for (row, length) in [(1, 10), (11, 3), (14, 10), (24, 4)] {
            groups.add(Group { first: at(row), length });
        }
        let text = groups.unusual(10).unwrap();
        let mut after = Groups::default();
        after.remember(&text);
        after.remember("1:2 nonsense");
        let lengths = [1, 11, 14, 24].map(|row| after.length(at(row)));
        assert_eq!(lengths, [None, Some(3), None, Some(4)]);
        after.remember(&groups.unusual(5).unwrap());
        assert_eq!(after.length(at(1)), Some(10), "another size: all of them are unusual");
        assert_eq!(Groups::default().unusual(10), None);
    }
}
