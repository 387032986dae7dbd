//! The twin, direct methods and messages to the device.

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::{DEVICE, is};

fn address(tail: &str) -> String {
    format!("/devices/{DEVICE}/{tail}")
}

/// The first messages about the twin: desired changes are subscribed to, the twin is read, then reported.
pub async fn twin(peer: &Peer) {
    let (subscribe, body) = request(peer, "PUT", |_| true).await;
    assert_eq!(subscribe, json!({ "string": "/notifications/twin/properties/desired" }));
    assert_eq!(body, " ");
    let (get, body) = request(peer, "GET", |_| true).await;
    assert_eq!((get, body.as_str()), (Value::Null, " "));
    let (report, body) = request(peer, "PATCH", |_| true).await;
    assert_eq!(report, json!({ "string": "/properties/reported" }));
    let reported: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(reported["softwareVersion"], env!("CARGO_PKG_VERSION"));
    let operations: Vec<_> = peer
        .told()
        .iter()
        .filter(|line| is(line, "transfer", &address("twin")))
        .map(|line| operation(line)["string"].clone())
        .take(3)
        .collect();
    assert_eq!(operations, ["PUT", "GET", "PATCH"]);
}

/// A desired property is answered among the reported ones, with the version that it came with.
pub async fn desired(peer: &mut Peer) {
    peer.ask(&json!({ "link": address("twin"), "desire": { "readingsPerMessage": 3 } }));
    let (_, body) = request(peer, "PATCH", |body| {
        serde_json::from_str::<Value>(body).is_ok_and(|body| body["readingsPerMessage"]["av"] == 2)
    })
    .await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let answer = &body["readingsPerMessage"];
    assert_eq!(
        (&answer["value"], &answer["ac"], &answer["av"]),
        (&json!(3), &json!(200), &json!(2)),
        "{body}"
    );
}

/// The answer has the id of the call with its type, and the status as an int.
pub async fn methods(peer: &mut Peer) {
    let link = address("methods/devicebound");
    let ids = [
        (json!({ "uuid": "7d8a2c0f5b1e4c6d9e0f1a2b3c4d5e6f" }), "getStatus", 200),
        (json!({ "string": "call-2" }), "getStatus", 200),
        (json!({ "ulong": 7 }), "getStatus", 200),
        (json!({ "binary": "call-4" }), "makeRain", 404),
    ];
    peer.until("the method links", |line| is(line, "flow", &link)).await;
    for (id, name, status) in ids {
        peer.ask(&json!({ "link": link, "call": { "id": id, "name": name, "payload": null } }));
        let is_answer = |line: &Value| {
            is(line, "transfer", &link) && line["sections"][0]["properties"]["correlation_id"] == id
        };
        let answer = peer.until(&format!("the answer to {id}"), is_answer).await;
        settled(&answer);
        let [properties, application, data] = answer["sections"].as_array().unwrap().as_slice() else {
            panic!("three sections: {answer}")
        };
        assert_eq!(properties["properties"], json!({ "correlation_id": id }));
        let expected = json!({ "string IoThub-status": { "int": status } });
        assert_eq!(application["application_properties"]["map"], expected);
        let body: Value = serde_json::from_str(data["data"]["binary"].as_str().unwrap()).unwrap();
        assert!(body[if status == 200 { "version" } else { "error" }].is_string(), "{body}");
    }
}

/// A message to the device is accepted, and settled with it.
pub async fn message(peer: &mut Peer) {
    let link = address("messages/devicebound");
    peer.until("the link for messages", |line| is(line, "flow", &link)).await;
    let before = peer.told().len();
    peer.ask(&json!({ "link": link, "say": { "id": "m-1", "body": { "hello": "roof" } } }));
    peer.until("the acceptance", |line| line["outcome"] == "accepted" && line["link"] == link.as_str()).await;
    let told = peer.told();
    let disposition = told[before..]
        .iter()
        .find(|line| line["frame"] == "disposition" && line["fields"]["role"] == json!({ "boolean": true }));
    let fields = &disposition.expect("a disposition")["fields"];
    assert_eq!(fields["state"], json!({ "0x24": { "list": [] } }));
    assert_eq!(fields["settled"], json!({ "boolean": true }));
}

/// The first request with this operation and a body as wanted: its resource and its body, its form checked.
async fn request(peer: &Peer, wanted: &str, body: impl Fn(&str) -> bool) -> (Value, String) {
    let link = address("twin");
    let line = peer
        .until(&format!("{wanted} of the twin"), |line| {
            is(line, "transfer", &link)
                && operation(line)["string"] == wanted
                && line["sections"][2]["data"]["binary"].as_str().is_some_and(&body)
        })
        .await;
    settled(&line);
    let [annotations, properties, data] = line["sections"].as_array().unwrap().as_slice() else {
        panic!("three sections: {line}")
    };
    let annotations = annotations["message_annotations"]["map"].as_object().unwrap();
    let resource = annotations.get("symbol resource").cloned().unwrap_or_default();
    assert_eq!(annotations.len(), if resource.is_null() { 1 } else { 2 }, "{line}");
    let id = properties["properties"]["correlation_id"]["string"].as_str().expect("the id is a string");
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{id}");
    assert_eq!(properties["properties"].as_object().unwrap().len(), 1);
    (resource, data["data"]["binary"].as_str().unwrap().to_owned())
}

fn operation(line: &Value) -> Value {
    line["sections"][0]["message_annotations"]["map"]["symbol operation"].clone()
}

/// On a link whose sender settles, each transfer says so.
fn settled(transfer: &Value) {
    assert_eq!(transfer["fields"]["settled"], json!({ "boolean": true }), "{transfer}");
    assert_eq!(transfer["fields"]["message_format"], json!({ "uint": 0 }), "{transfer}");
}
