//! Who may have a connection: so many from the network, so many from one address, and a few always left
//! for this machine, so that a flood from outside cannot lock out `weather-station status`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// Connections from other machines at one time.
pub const NETWORK: usize = 64;
/// Of these, from one address: a browser opens six.
pub const PER_ADDRESS: usize = 24;
/// Connections from this machine at one time.
pub const LOCAL: usize = 48;

/// Counts the connections. Cloned into each [`Ticket`].
#[derive(Clone, Default)]
pub struct Admission {
    // Held to count up or down; nobody waits while holding it.
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The right to one connection, given back when dropped.
pub struct Ticket {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    /// A ticket, unless too many are out.
    pub fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let address = address.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = open.get(&address).copied().unwrap_or(0);
        let alike: usize = open
            .iter()
            .filter(|(other, _)| other.is_loopback() == address.is_loopback())
            .map(|(_, count)| count)
            .sum();
        let (limit, per_address) =
            if address.is_loopback() { (LOCAL, LOCAL) } else { (NETWORK, PER_ADDRESS) };
        if alike >= limit || own >= per_address {
            return None;
        }
        open.insert(address, own + 1);
        Some(Ticket { admission: self.clone(), address })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_address_leaves_room_for_others_and_for_this_machine() {
        let admission = Admission::default();
        let flood: Vec<_> = (0..500).filter_map(|_| admission.admit("192.0.2.1".parse().unwrap())).collect();
        assert_eq!(flood.len(), PER_ADDRESS);
        assert!(admission.admit("192.0.2.2".parse().unwrap()).is_some());
        assert!(admission.admit("127.0.0.1".parse().unwrap()).is_some());
    }

    #[test]
    fn many_addresses_together_get_no_more_than_the_network_s_share() {
        let admission = Admission::default();
        let all: Vec<_> = (0..=255)
            .flat_map(|n| (0..4).map(move |_| IpAddr::from([192, 0, 2, n])))
            .filter_map(|address| admission.admit(address))
            .collect();
        assert_eq!(all.len(), NETWORK);
        assert!(admission.admit("::ffff:127.0.0.1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_ticket_that_is_dropped_can_be_given_again() {
        let admission = Admission::default();
        for _ in 0..500 {
            assert!(admission.admit("192.0.2.1".parse().unwrap()).is_some());
        }
        assert!(admission.open.lock().unwrap().is_empty());
    }
}
