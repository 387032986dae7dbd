//! From the first byte to the links, and the end: SASL, open, begin, attach, put-token, close.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::{DEVICE, is};

/// What an attach says, as far as it matters: settle modes (absent ones are the defaults) and properties.
type Attach = (u64, u64, BTreeMap<String, String>);

pub async fn connection(peer: &Peer) {
    let init = peer.until("the SASL mechanism", |line| line["frame"] == "sasl_init").await;
    assert_eq!(init["fields"]["mechanism"], json!({ "symbol": "ANONYMOUS" }));
    let open = peer.until("open", |line| line["frame"] == "open").await;
    let fields = &open["fields"];
    assert_eq!(fields["hostname"], json!({ "string": "localhost" }));
    let container = fields["container_id"]["string"].as_str().unwrap();
    assert!(uuid::Uuid::try_parse(container).is_ok(), "{container}");
    assert_eq!(fields["max_frame_size"], json!({ "uint": 65_536 }));
    let idle = fields["idle_time_out"]["uint"].as_u64().unwrap();
    assert!((1_000..=240_000).contains(&idle), "an idle time-out of {idle} ms");
    let begin = peer.until("begin", |line| line["frame"] == "begin").await;
    for field in ["next_outgoing_id", "incoming_window", "outgoing_window"] {
        assert!(begin["fields"][field]["uint"].is_u64(), "{begin}");
    }
}

pub async fn token(peer: &Peer) {
    let request = peer.until("put-token", |line| is(line, "transfer", "$cbs")).await;
    let [properties, application, body] = request["sections"].as_array().unwrap().as_slice() else {
        panic!("three sections: {request}")
    };
    let properties = &properties["properties"];
    assert!(properties["message_id"]["string"].is_string(), "{properties}");
    assert_eq!(properties["to"], json!({ "string": "$cbs" }));
    assert_eq!(properties["reply_to"], json!({ "string": "cbs" }));
    assert_eq!(properties.as_object().unwrap().len(), 3);
    let resource = "localhost%2Fdevices%2Froof%2B1";
    let expected = json!({
        "string operation": { "string": "put-token" },
        "string type": { "string": "servicebus.windows.net:sastoken" },
        "string name": { "string": resource },
    });
    assert_eq!(application["application_properties"]["map"], expected);
    let token = body["value"]["string"].as_str().unwrap();
    let rest = token.strip_prefix(&format!("SharedAccessSignature sr={resource}&sig=")).expect(token);
    let (signature, expiry) = rest.split_once("&se=").unwrap();
    assert!(signature.ends_with("%3D") && expiry.parse::<u64>().is_ok(), "{token}");
}

/// Each link once, with exactly these properties; the token went before all that need it.
pub fn links(told: &[Value]) {
    let mut found: BTreeMap<(String, bool), Attach> = BTreeMap::new();
    let mut names = Vec::new();
    for attach in told.iter().filter(|line| line["frame"] == "attach") {
        let fields = &attach["fields"];
        let mode =
            |name: &str, default| fields[name].get("ubyte").map_or(default, |mode| mode.as_u64().unwrap());
        let properties = fields["properties"]["map"].as_object().unwrap().iter();
        let properties = properties
            .map(|(key, value)| (key.clone(), value["string"].as_str().expect("a string").to_owned()))
            .collect();
        names.push(fields["name"]["string"].as_str().unwrap().to_owned());
        let receives = fields["role"]["boolean"].as_bool().unwrap();
        let address = attach["link"].as_str().unwrap().to_owned();
        let said = (mode("snd_settle_mode", 2), mode("rcv_settle_mode", 0), properties);
        assert!(found.insert((address.clone(), receives), said).is_none(), "{address} is attached twice");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "link names are unique");

    let device = format!("/devices/{DEVICE}");
    let telemetry = format!("{device}/messages/events");
    let (twin, methods) = (format!("{device}/twin"), format!("{device}/methods/devicebound"));
    // Address, whether the station receives, sender's and receiver's settle mode, the word of the pair, the model.
    let expected = [
        ("$cbs", false, 2, 0, None, false),
        ("$cbs", true, 2, 0, None, false),
        (telemetry.as_str(), false, 2, 0, None, true),
        (&twin, false, 1, 0, Some("twin:"), true),
        (&twin, true, 1, 0, Some("twin:"), false),
        (&methods, false, 1, 0, Some("methods:"), true),
        (&methods, true, 2, 0, Some("methods:"), false),
        (&format!("{device}/messages/devicebound"), true, 2, 0, None, false),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    let version = concat!("weather-station/", env!("CARGO_PKG_VERSION"));
    for (address, receives, sender_settles, receiver_settles, word, model) in expected {
        let said = found.get(&(address.to_owned(), receives)).expect(address);
        let mut properties = BTreeMap::from([("client-version", version.to_owned())]);
        if model {
            properties.insert("model-id", "dtmi:weatherstation:WeatherStation;1".into());
        }
        if let Some(word) = word {
            let pair = [false, true].map(|receives| {
                found[&(address.to_owned(), receives)].2["symbol com.microsoft:channel-correlation-id"]
                    .clone()
            });
            assert_eq!(pair[0], pair[1], "the two links of {address} have one word");
            let uuid = pair[0].strip_prefix(word).expect(address);
            assert!(uuid::Uuid::try_parse(uuid).is_ok(), "{uuid}");
            properties.insert("channel-correlation-id", pair[0].clone());
            properties.insert("api-version", "2021-04-12".into());
        }
        let properties = properties
            .into_iter()
            .map(|(key, value)| (format!("symbol com.microsoft:{key}"), value))
            .collect();
        assert_eq!(*said, (sender_settles, receiver_settles, properties), "{address}");
    }

    let order = |what: &dyn Fn(&Value) -> bool| told.iter().position(what).unwrap();
    let token = order(&|line| is(line, "transfer", "$cbs"));
    for (address, ..) in expected.iter().filter(|(address, ..)| *address != "$cbs") {
        assert!(token < order(&|line| is(line, "attach", address)), "the token goes before {address}");
    }
}

/// The last word is a close without an error.
pub async fn goodbye(peer: &Peer) {
    let close = peer.until("close", |line| line["frame"] == "close").await;
    assert_eq!(close["fields"], json!({}), "{close}");
    let opened = peer.told().iter().filter(|line| line["frame"] == "open").count();
    assert_eq!(opened, 1, "it was one connection");
}
