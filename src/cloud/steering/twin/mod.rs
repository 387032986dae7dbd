//! The device twin: what the cloud wants of the station, and what the station says of itself.

mod conversation;
mod desired;
mod difference;
mod document;
mod reported;

pub use self::conversation::{Answer, Change, Conversation, Request};
pub use self::desired::{Desired, Written};
#[cfg(test)]
pub use self::document::Twin;
pub use self::reported::{OWN, Reported};
