//! Who may have a connection: so many from the network, so many from one address, and a few always left
//! for this machine, so that a flood from outside cannot lock out `weather-station status`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::connection::Connection;

/// Connections from other machines at one time.
const NETWORK: usize = 64;
/// Of these, from one address: a browser opens six.
const PER_ADDRESS: usize = 24;
/// Connections from this machine at one time.
const LOCAL: usize = 48;

/// Counts the connections. Cloned into each [`Ticket`].
#[derive(Clone, Default)]
pub struct Admission {
    // Held to count up or down; nobody waits while holding it.
    open: Arc<Mutex<HashMap<Place, usize>>>,
}

/// Where connections come from: another machine, or `None` for this one, by whichever of its addresses.
type Place = Option<IpAddr>;

/// The right to one connection, given back when dropped.
pub struct Ticket {
    admission: Admission,
    place: Place,
}

impl Admission {
    /// A ticket, unless too many are out.
    pub fn admit(&self, connection: &Connection) -> Option<Ticket> {
        let place = (!connection.is_local()).then(|| connection.peer.ip().to_canonical());
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = open.get(&place).copied().unwrap_or(0);
        let room = match place {
            None => own < LOCAL,
            Some(_) => {
                let network: usize =
                    open.iter().filter(|(other, _)| other.is_some()).map(|(_, count)| count).sum();
                own < PER_ADDRESS && network < NETWORK
            }
        };
        if !room {
            return None;
        }
        open.insert(place, own + 1);
        Some(Ticket { admission: self.clone(), place })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection to the station, which listens on the network.
    fn from(peer: &str) -> Connection {
        Connection::new((peer.parse::<IpAddr>().unwrap(), 50_000).into(), "192.168.1.5:8080".parse().unwrap())
    }

    #[test]
    fn a_flood_from_one_address_leaves_room_for_others_and_for_this_machine() {
        let admission = Admission::default();
        let flood: Vec<_> = (0..500).filter_map(|_| admission.admit(&from("192.0.2.1"))).collect();
        assert_eq!(flood.len(), PER_ADDRESS);
        assert!(admission.admit(&from("192.0.2.2")).is_some());
        assert!(admission.admit(&from("127.0.0.1")).is_some());
    }

    #[test]
    fn many_addresses_together_get_no_more_than_the_network_s_share() {
        let admission = Admission::default();
        let all: Vec<_> = (0..=255)
            .flat_map(|n| (0..4).map(move |_| format!("192.0.2.{n}")))
            .filter_map(|address| admission.admit(&from(&address)))
            .collect();
        assert_eq!(all.len(), NETWORK);
        // By loopback, or by the address that the station listens on.
        assert!(admission.admit(&from("::ffff:127.0.0.1")).is_some());
        assert!(admission.admit(&from("192.168.1.5")).is_some());
        assert!(admission.admit(&from("::ffff:192.168.1.5")).is_some());
    }

    #[test]
    fn this_machine_has_one_share_by_whichever_address() {
        let admission = Admission::default();
        let addresses = ["127.0.0.1", "127.0.0.2", "::1", "192.168.1.5"];
        let all: Vec<_> = addresses
            .iter()
            .cycle()
            .take(4 * LOCAL)
            .filter_map(|address| admission.admit(&from(address)))
            .collect();
        assert_eq!(all.len(), LOCAL);
        assert!(admission.admit(&from("192.0.2.1")).is_some());
    }

    #[test]
    fn a_ticket_that_is_dropped_can_be_given_again() {
        let admission = Admission::default();
        for _ in 0..500 {
            assert!(admission.admit(&from("192.0.2.1")).is_some());
        }
        assert!(admission.open.lock().unwrap().is_empty());
    }
}
