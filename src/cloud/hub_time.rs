//! The way out of a wrong clock: the `Date` header of an HTTPS request to the hub, or to the provisioning service. The
//! TLS handshake checks everything about the certificate but its dates; those are checked against the answer, which
//! must also not lie before the floor (the build date, or the newest reading taken with a right clock). Knows nothing
//! of AMQP.

use std::convert::Infallible;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::deadline::{Limits, within};
use super::error::{Cause, CloudError};
use super::outage::Outage;
use super::tls::{self, Tls};
use crate::backoff::{Backoff, Range};
use crate::clock::{ClockState, Timekeeper};

/// More than any answer's head needs.
const MOST: usize = 16 * 1024;

const DOING: &str = "ask for the time by HTTPS";

/// A clock this far off makes tokens that are taken for expired (the hub allows five minutes).
const SKEW: TimeDelta = TimeDelta::minutes(2);

/// Between two attempts to put a clock right beside a connection that stands.
const AGAIN: Range = Range::seconds(30, 60, 600);

/// What a comparison of the clock with a host's time came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The clock is right.
    Right,
    /// The clock was off: the host's time is used now.
    Taken,
    /// The clock is this far ahead (negative: behind), and the kernel vouches for it: its word stands.
    Disputed(TimeDelta),
}

/// Compares the clock with the time of `host`, and takes that where the clock is off and nobody vouches for it.
pub async fn compare(
    host: &str,
    port: u16,
    tls: &Tls,
    timekeeper: &Timekeeper,
    limits: &Limits,
) -> Result<Compared, CloudError> {
    let time = ask(host, port, tls, timekeeper, limits).await?;
    let off = timekeeper.now() - time;
    match timekeeper.state() {
        ClockState::Synchronised | ClockState::Plausible if off.abs() <= SKEW => Ok(Compared::Right),
        ClockState::Synchronised => Ok(Compared::Disputed(off)),
        ClockState::Plausible | ClockState::Wrong => {
            tracing::warn!(
                off_by_seconds = off.num_seconds(),
                "the clock is wrong: the time of {host} is used"
            );
            timekeeper.take_hub_time(time);
            Ok(Compared::Taken)
        }
    }
}

/// Beside a connection: a clock that becomes wrong is put right, for the readings wait for as long as it is not. Never
/// returns.
pub async fn keep_right(
    host: &str,
    port: u16,
    tls: &Tls,
    timekeeper: &Timekeeper,
    limits: &Limits,
    seed: u64,
) -> Infallible {
    let (mut backoff, mut outage) = (Backoff::new(seed), Outage::default());
    loop {
        tokio::time::sleep_until(timekeeper.end_of_turn(limits.turn, None)).await;
        if timekeeper.state() != ClockState::Wrong {
            continue;
        }
        match compare(host, port, tls, timekeeper, limits).await {
            Ok(_) => backoff.reset(),
            Err(error) => {
                let wait = backoff.after_failure(AGAIN) / limits.hurry;
                outage.tell(&error, Some(wait), "the clock is wrong, and readings wait until it is not");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Asks `host` for the time, to the second.
pub async fn ask(
    host: &str,
    port: u16,
    tls: &Tls,
    timekeeper: &Timekeeper,
    limits: &Limits,
) -> Result<DateTime<Utc>, CloudError> {
    let tcp = within(DOING, limits.connect * 4, tls.reach(host, port, limits.connect)).await?;
    let (mut stream, certificate) =
        within(DOING, limits.handshake, tls.connect_without_clock(host, tcp)).await?;
    let host = tls::bracketed(host);
    let request = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MOST {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(head)
    };
    let head = within(DOING, limits.open, exchange).await?;
    let refuse = |why: &str| CloudError::new(DOING, Cause::Clock(why.into()));
    let date = date(&head).ok_or_else(|| refuse("is wrong, and the hub's answer has no Date"))?;
    if date < timekeeper.least_answer() {
        return Err(refuse("is wrong, and the hub's Date lies before what this station knows to be past"));
    }
    if !certificate.holds_at(tls::unix(date)) {
        return Err(refuse("is wrong, and the hub's certificate is not valid at the hub's own Date"));
    }
    Ok(date)
}

/// The `Date` header (RFC 9110, section 6.6.1) of an answer's head.
fn date(head: &[u8]) -> Option<DateTime<Utc>> {
    let head = String::from_utf8_lossy(head);
    let value = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    })?;
    DateTime::parse_from_rfc2822(value).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_whatever_the_case_of_its_name() {
        let head =
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\ndAtE: Tue, 24 Nov 2026 08:49:37 GMT\r\n\r\n";
        assert_eq!(date(head).unwrap().to_rfc3339(), "2026-11-24T08:49:37+00:00");
    }

    #[test]
    fn an_answer_without_a_date_gives_none() {
        assert_eq!(date(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"), None);
        assert_eq!(date(b"HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n"), None);
        assert_eq!(date(b""), None);
    }
}
