//! Where a request that changes something must come from: this machine, under one of its loopback names, and
//! from a page of this station. Host is checked against a name that somebody points at 127.0.0.1 (DNS
//! rebinding), Origin against another site's form.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};

use super::connection::Connection;

/// Who sends the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A browser says where its page came from: an absent Origin is refused.
    Browser,
    /// A program says nothing; a browser that pretends to be one still says it.
    Program,
}

/// Why a request is refused, for people.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    #[error(
        "this works on the station itself only: log in there, or forward the port with `ssh -L 8080:localhost:8080`; \
         for the TPM form `showcase.listen` has to include loopback (127.0.0.1, 0.0.0.0 or [::])"
    )]
    NotLocal,
    #[error("the address has to begin with http://localhost, http://127.0.0.1 or http://[::1]")]
    WrongHost,
    #[error("the request did not come from a page of this station")]
    WrongOrigin,
}

/// Refuses what does not come from this machine's own page or programs.
pub fn check(connection: &Connection, headers: &HeaderMap, sender: Sender) -> Result<(), Refusal> {
    let host = match sender {
        Sender::Program if connection.is_local() && !connection.is_loopback() => {
            let host = single(headers, header::HOST).filter(|host| is_address(host, connection.here));
            host.ok_or(Refusal::WrongHost)?
        }
        _ => check_place(connection, headers)?,
    };
    if !headers.contains_key(header::ORIGIN) {
        return if sender == Sender::Program { Ok(()) } else { Err(Refusal::WrongOrigin) };
    }
    let origin = single(headers, header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    if origin == Some(host) { Ok(()) } else { Err(Refusal::WrongOrigin) }
}

/// The part that holds for a mere look as well: this machine, under a loopback name, which is returned.
pub fn check_place<'a>(connection: &Connection, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
    if !connection.is_loopback() {
        return Err(Refusal::NotLocal);
    }
    single(headers, header::HOST).filter(|host| is_loopback_name(host)).ok_or(Refusal::WrongHost)
}

/// A header that occurs exactly once.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// The address itself: a name that somebody points at it is none.
fn is_address(host: &str, address: SocketAddr) -> bool {
    host.parse::<SocketAddr>().is_ok_and(|host| host.ip().to_canonical() == address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(peer: &str, host: &str, origin: Option<&str>, sender: Sender) -> Result<(), Refusal> {
        let connection = Connection::new(peer.parse().unwrap(), LAN.parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(&connection, &headers, sender)
    }

    const HERE: &str = "127.0.0.1:50000";
    /// Where the station listens.
    const LAN: &str = "192.0.2.1:8080";

    #[test]
    fn the_station_s_own_page_is_let_in_by_each_loopback_name() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
            let origin = format!("http://{host}");
            assert_eq!(verdict(HERE, host, Some(&origin), Sender::Browser), Ok(()), "{host}");
        }
        assert_eq!(verdict("[::ffff:127.0.0.1]:5", "localhost", None, Sender::Program), Ok(()));
    }

    #[test]
    fn another_machine_is_refused() {
        let refused = verdict("192.0.2.7:50000", "127.0.0.1:8080", None, Sender::Program);
        assert_eq!(refused, Err(Refusal::NotLocal));
    }

    #[test]
    fn a_program_may_come_by_the_machine_s_own_address_and_a_browser_may_not() {
        let own = "192.0.2.1:50000";
        assert_eq!(verdict(own, LAN, None, Sender::Program), Ok(()));
        assert_eq!(verdict(own, "rebound.example:8080", None, Sender::Program), Err(Refusal::WrongHost));
        let foreign = verdict(own, LAN, Some("http://evil.example"), Sender::Program);
        assert_eq!(foreign, Err(Refusal::WrongOrigin));
        let origin = format!("http://{LAN}");
        let refused = verdict(own, LAN, Some(&origin), Sender::Browser).unwrap_err();
        assert_eq!(refused, Refusal::NotLocal);
        // A station that listens on this address alone has no form at all: the text says so.
        assert!(refused.to_string().contains("`showcase.listen` has to include loopback"), "{refused}");
    }

    #[test]
    fn a_name_that_points_at_loopback_is_refused() {
        for host in ["rebound.example:8080", "127.0.0.1.example", "localhost.example:8080", "", "8080"] {
            assert_eq!(verdict(HERE, host, None, Sender::Program), Err(Refusal::WrongHost), "{host}");
        }
    }

    #[test]
    fn another_site_another_port_and_a_silent_browser_are_refused() {
        let host = "127.0.0.1:8080";
        for origin in ["http://evil.example", "http://127.0.0.1:8081", "null", "https://127.0.0.1:8080"] {
            for sender in [Sender::Browser, Sender::Program] {
                assert_eq!(verdict(HERE, host, Some(origin), sender), Err(Refusal::WrongOrigin), "{origin}");
            }
        }
        assert_eq!(verdict(HERE, host, None, Sender::Browser), Err(Refusal::WrongOrigin));
    }

    #[test]
    fn two_hosts_are_none() {
        let connection = Connection::new(HERE.parse().unwrap(), LAN.parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost".parse().unwrap());
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(check(&connection, &headers, Sender::Program), Err(Refusal::WrongHost));
    }
}
