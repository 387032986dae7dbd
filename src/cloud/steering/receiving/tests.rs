//! A hub in memory, and a loop that gives up each wait as soon as it has something else to do.

use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, SaslAnonymousMechanism, SessionAcceptor,
};
use fe2o3_amqp_types::messaging::AmqpValue;
use serde_amqp::lazy::LazyValue;
use tokio::io::DuplexStream;
use tokio::task::coop::consume_budget;

use super::super::super::connection::Connection;
use super::super::super::deadline::Limits;
use super::super::links::attach;
use super::*;

/// What a task may do before the runtime takes its turn away, and more.
const STEPS: u32 = 200;

/// Takes the two links of the methods and sends so many calls (`None`: bytes that are no message); ends with the
/// connection.
async fn hub(stream: DuplexStream, calls: impl IntoIterator<Item = Option<u32>>) {
    let acceptor = ConnectionAcceptor::builder().container_id("hub").sasl_acceptor(SaslAnonymousMechanism {});
    let mut connection = acceptor.build().accept(stream).await.unwrap();
    let mut session = SessionAcceptor::new().accept(&mut connection).await.unwrap();
    let accepting = LinkAcceptor::new();
    let answers = accepting.accept(&mut session).await.unwrap();
    let LinkEndpoint::Sender(mut sender) = accepting.accept(&mut session).await.unwrap() else {
        panic!("the second link is the one to the device")
    };
    // A boolean that is neither true nor false.
    let unreadable: LazyValue = serde_amqp::from_slice(&[0x56, 7]).unwrap();
    for call in calls {
        match call {
            Some(call) => drop(sender.send_batchable(call).await.unwrap()),
            None => drop(sender.send_batchable(AmqpValue(unreadable.clone())).await.unwrap()),
        }
    }
    let _closed = connection.on_close().await;
    drop(answers);
}

/// The station's end of the same.
async fn station(stream: DuplexStream) -> (Connection, Group) {
    let mut connection = Connection::open("hub", Box::new(stream), &Limits::default()).await.unwrap();
    let mut group = Group::new(Kind::Methods, 1);
    let attached = attach(Kind::Methods, connection.links(), "roof").await.unwrap();
    group.attached(Ok(Box::new(attached))).unwrap();
    (connection, group)
}

#[tokio::test]
async fn a_delivery_survives_that_the_wait_for_it_is_given_up_at_any_point() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let calls = 5 * STEPS;
    let hub = tokio::spawn(hub(far, (0..calls).map(Some)));
    let (connection, mut group) = station(near).await;
    let mut taken = 0;
    // More turns than there are calls.
    for spent in (0..STEPS).cycle().take(50 * usize::try_from(STEPS).unwrap()) {
        // The hub's turn, and the library's; then a turn of which only the rest is left.
        tokio::task::yield_now().await;
        for _ in 0..spent {
            consume_budget().await;
        }
        tokio::select! {
            biased;
            received = receive(&mut group.attached) => {
                settle(&mut group, &received).await.unwrap();
                received.unwrap();
                taken += 1;
            }
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(taken, calls, "calls were lost");
    connection.close().await;
    hub.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_uses_up_no_credit() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let hub = tokio::spawn(hub(far, std::iter::repeat_n(None, 500).chain([Some(1)])));
    let (connection, mut group) = station(near).await;
    let mut unreadable = 0;
    let readable = async {
        loop {
            let received = receive(&mut group.attached).await;
            settle(&mut group, &received).await.unwrap();
            match received {
                Err(RecvError::MessageDecode(_)) => unreadable += 1,
                other => return other,
            }
        }
    };
    let readable = tokio::time::timeout(SETTLE, readable).await.expect("the link stands still");
    assert!(readable.is_ok(), "{readable:?}");
    assert_eq!(unreadable, 500);
    connection.close().await;
    hub.await.unwrap();
}
