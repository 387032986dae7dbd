//! Twin, methods and cloud-to-device messages, as a device sees them.

use std::time::Duration;

use crate::client::{Client, LIMIT};
use fe2o3_amqp::{Receiver, Sender};
use fe2o3_amqp_types::definitions::ReceiverSettleMode;
use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageAnnotations, MessageId, Properties,
};
use fe2o3_amqp_types::primitives::{Binary, Value};
use hub_emulator::{C2dState, Correlation, Emulator, Fault, MethodError, Options};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

struct Pair {
    sender: Sender,
    receiver: Receiver,
}

impl Pair {
    async fn attach(client: &mut Client, address: &str) -> Self {
        let sender = client.sender(address).await.unwrap();
        let name = format!("receiver-{}", uuid::Uuid::new_v4());
        let receiver = Receiver::attach(&mut client.session, name, address).await.unwrap();
        Self { sender, receiver }
    }

    /// One twin request; the status, the version and the body of its answer.
    async fn ask(
        &mut self,
        operation: &str,
        resource: Option<&str>,
        body: &str,
    ) -> Option<(i32, Option<i64>, String)> {
        let mut annotations = MessageAnnotations::builder().insert("operation", operation.to_owned());
        if let Some(resource) = resource {
            annotations = annotations.insert("resource", resource.to_owned());
        }
        let mut properties = Properties::new();
        properties.correlation_id = Some(format!("{operation}-1").into());
        let message = Message::builder()
            .message_annotations(annotations.build())
            .properties(properties)
            .data(Binary::from(body.as_bytes().to_vec()))
            .build();
        self.sender.send(message).await.unwrap();
        let (answer, text) = self.next().await?;
        assert_eq!(answer.properties.unwrap().correlation_id, Some(format!("{operation}-1").into()));
        let annotations = answer.message_annotations.unwrap().0;
        let Some(Value::Int(status)) = annotations.get(&OwnedKey::from("status")).cloned() else {
            panic!("no status")
        };
        let version = match annotations.get(&OwnedKey::from("version")) {
            Some(Value::Long(version)) => Some(*version),
            _ => None,
        };
        Some((status, version, text))
    }

    async fn next(&mut self) -> Option<(Message<()>, String)> {
        let delivery =
            timeout(Duration::from_secs(2), self.receiver.recv::<Body<Value>>()).await.ok()?.unwrap();
        self.receiver.accept(&delivery).await.unwrap();
        let message = delivery.into_message();
        let text = match &message.body {
            Body::Data(sections) => {
                sections.iter().map(|section| String::from_utf8_lossy(&section.0).into_owned()).collect()
            }
            _ => String::new(),
        };
        Some((message.map_body(|_| ()), text))
    }
}

const REPORTED: Option<&str> = Some("/properties/reported");
const DESIRED: Option<&str> = Some("/notifications/twin/properties/desired");

#[tokio::test]
async fn the_twin_answers_pushes_refuses_and_can_be_silent() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut twin = Pair::attach(&mut client, "/devices/roof/twin").await;

    hub.set_desired("roof", &json!({"sampleInterval": 5})).unwrap();
    assert_eq!(twin.ask("PUT", DESIRED, " ").await.unwrap().0, 200);
    let (status, _, body) = twin.ask("GET", None, " ").await.unwrap();
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["desired"]), (200, &json!({"sampleInterval": 5, "$version": 2})));

    assert_eq!(hub.set_desired("roof", &json!({"sampleInterval": null, "altitude": 3})), Ok(3));
    let (push, text) = twin.next().await.unwrap();
    assert!(push.properties.is_none_or(|properties| properties.correlation_id.is_none()));
    let text: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(text, json!({"sampleInterval": null, "altitude": 3, "$version": 3}));

    assert_eq!(twin.ask("PATCH", REPORTED, r#"{"a":{"b":1}}"#).await.unwrap(), (200, Some(2), String::new()));
    assert_eq!(hub.twin("roof")["reported"], json!({"a": {"b": 1}, "$version": 2}));
    let (status, _, text) = twin.ask("PATCH", REPORTED, "nonsense").await.unwrap();
    assert_eq!(status, 400);
    assert!(text.contains("not JSON"), "{text}");

    hub.set_behaviour(|b| (b.twin_version, b.twin_empty_body, b.twin_patch_status) = (false, false, 204));
    assert_eq!(twin.ask("PATCH", REPORTED, r#"{"a":null}"#).await.unwrap(), (204, None, String::new()));
    hub.fault(Fault::TwinError { status: 429, body: "{}".into() }.times(1));
    assert_eq!(twin.ask("GET", None, " ").await.unwrap(), (429, None, "{}".into()));

    let id = hub.fault(Fault::TwinSilent);
    assert_eq!(twin.ask("GET", None, " ").await, None);
    hub.clear_fault(id);
    assert_eq!(twin.ask("DELETE", DESIRED, " ").await.unwrap().0, 200);
    assert!(!hub.push_raw("roof", "{", None));
}

#[tokio::test]
async fn a_method_call_is_matched_in_every_type_of_correlation_id() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let payload = json!({"a": 1});
    let call = |name: &'static str| hub.invoke("roof", name, &payload, Duration::from_millis(1500));
    assert_eq!(call("readNow").await, Err(MethodError::NotOnline));
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut methods = Pair::attach(&mut client, "/devices/roof/methods/devicebound").await;
    for (kind, as_text) in [
        (Correlation::Uuid, false),
        (Correlation::Uuid, true),
        (Correlation::String, false),
        (Correlation::Binary, false),
        (Correlation::Ulong, false),
    ] {
        hub.set_behaviour(|behaviour| behaviour.correlation = kind);
        let device = async {
            let (request, text) = methods.next().await.unwrap();
            assert_eq!(text, r#"{"a":1}"#);
            let mut id = request.properties.unwrap().correlation_id.unwrap();
            if let (MessageId::Uuid(uuid), true) = (&id, as_text) {
                id = MessageId::String(uuid::Uuid::from_bytes(*uuid.as_inner()).to_string());
            }
            let mut properties = Properties::new();
            properties.correlation_id = Some(id);
            let application = ApplicationProperties::builder().insert("IoThub-status", 200).build();
            let body = Data(Binary::from(b"{\"b\":2}".to_vec()));
            let answer: Message<Data> = Message::builder()
                .properties(properties)
                .application_properties(application)
                .data(body)
                .build();
            methods.sender.send(answer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(call("readNow"), device);
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.payload), (Some(200), json!({"b": 2})), "{kind:?} {as_text}");
    }
    assert_eq!(call("readNow").await, Err(MethodError::TimedOut));
}

#[tokio::test]
async fn a_message_to_the_device_is_completed_abandoned_or_rejected() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut client = Client::signed_in(&hub, "roof").await;
    // The C# SDK receives with the mode `second`: it waits for the hub to settle.
    for mode in [ReceiverSettleMode::First, ReceiverSettleMode::Second] {
        let first = hub.send_c2d("roof", b"hello", [("k".to_owned(), "v".to_owned())]).unwrap();
        let second = hub.send_c2d("roof", b"no", []).unwrap();
        let mut receiver = Receiver::builder()
            .name(format!("c2d-{mode:?}"))
            .source("/devices/roof/messages/devicebound")
            .receiver_settle_mode(mode)
            .attach(&mut client.session)
            .await
            .unwrap();
        let delivery = timeout(LIMIT, receiver.recv::<Body<Value>>()).await.unwrap().unwrap();
        receiver.release(&delivery).await.unwrap();
        let delivery = timeout(LIMIT, receiver.recv::<Body<Value>>()).await.unwrap().unwrap();
        receiver.reject(&delivery, None).await.unwrap();
        assert_eq!(
            hub.wait_for_c2d(second, LIMIT).await.unwrap().state,
            C2dState::Rejected { condition: None }
        );
        let delivery = timeout(LIMIT, receiver.recv::<Body<Value>>()).await.unwrap().unwrap();
        receiver.accept(&delivery).await.unwrap();
        let settled = hub.wait_for_c2d(first, LIMIT).await.unwrap();
        assert_eq!((settled.state, settled.delivery_count), (C2dState::Completed, 1));
        timeout(LIMIT, receiver.close()).await.unwrap().unwrap();
    }
}
