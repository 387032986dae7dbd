//! The HTTPS port, the CONNECT proxy and the control port.

use std::sync::Arc;

use base64::Engine as _;
use fe2o3_amqp::{Connection, Session};
use hub_emulator::{Emulator, Options, Port, Proxy, ProxyOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::{Client, batch, message, send, tls, token};

/// A stream over a WebSocket by a duplex pipe and a task: nothing of the hub's own adapter.
async fn pipe(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &str,
) -> tokio::io::DuplexStream {
    use futures_util::{SinkExt as _, StreamExt as _};
    let mut request = target.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "AMQPWSB10".parse().unwrap());
    let (socket, response) = tokio_tungstenite::client_async(request, io).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "AMQPWSB10");
    let (near, far) = tokio::io::duplex(65_536);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (mut out, mut incoming) = socket.split();
    tokio::spawn(async move {
        // Seven bytes at a time: frames of AMQP and of WebSocket need not match.
        let mut bytes = [0; 7];
        while let Ok(count @ 1..) = far_read.read(&mut bytes).await {
            if out.send(Message::Binary(Bytes::copy_from_slice(&bytes[..count]))).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = incoming.next().await {
            if far_write.write_all(&message.into_data()).await.is_err() {
                return;
            }
        }
    });
    near
}

#[tokio::test]
async fn amqp_goes_over_a_websocket_in_pieces_of_any_size() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    for chunk in [0, 1, 5] {
        hub.set_behaviour(|behaviour| behaviour.websocket_chunk = chunk);
        let tls = tls(&hub, hub.https_port()).await.unwrap();
        let target = "wss://localhost/$iothub/websocket?iothub-no-client-cert=true";
        let stream = pipe(tls, target).await;
        let builder = Connection::builder().container_id("ws").hostname("localhost");
        let mut connection = builder.open_with_stream(stream).await.unwrap();
        let session = Session::begin(&mut connection).await.unwrap();
        let mut client = Client { connection, session };
        assert_eq!(client.put_token(&token(&hub, "roof", 60), "localhost%2Fdevices%2Froof").await.0, 200);
        let mut sender = client.telemetry("roof").await.unwrap();
        let messages = (0..50).map(|n| message(&format!("m-{n}"), "{}"));
        assert_eq!(send(&mut sender, batch(messages)).await, "accepted");
        assert_eq!(hub.connections().last().map(|connection| connection.port), Some(Port::Https));
    }
    assert_eq!(hub.count(), 150);
}

#[tokio::test]
async fn the_https_port_tells_the_hubs_time() {
    let hub = Emulator::start(Options::default()).unwrap();
    let date = async |ahead| {
        hub.set_clock_ahead(ahead);
        let mut tls = tls(&hub, hub.https_port()).await.unwrap();
        tls.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let head = read_head(&mut tls).await;
        let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap().to_owned();
        chrono::DateTime::parse_from_rfc2822(&date).unwrap().timestamp()
    };
    let (now, later) = (date(0).await, date(86_400).await);
    assert!((86_400..86_405).contains(&(later - now)), "{now} {later}");
}

#[tokio::test]
async fn the_proxy_lets_pass_who_has_the_password() {
    let hub = Emulator::start(Options::default()).unwrap();
    let credentials = Some(("user".to_owned(), "secret".to_owned()));
    let proxy = Proxy::start(ProxyOptions { credentials, route: Some(hub.https_port()) }).unwrap();
    let ask = async |header: String| {
        let mut tcp = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        tcp.write_all(format!("CONNECT hub.example:443 HTTP/1.1\r\n{header}\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut tcp).await;
        (head, tcp)
    };
    let (head, _) = ask(String::new()).await;
    assert!(head.starts_with("HTTP/1.1 407"), "{head}");
    let basic = base64::engine::general_purpose::STANDARD.encode("user:secret");
    let (head, tcp) = ask(format!("Proxy-Authorization: Basic {basic}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    crate::client::tls_over(&hub, tcp).await.unwrap();
    assert_eq!(proxy.requests(), ["CONNECT hub.example:443 407", "CONNECT hub.example:443 200"]);
}

#[tokio::test]
async fn the_control_port_does_what_the_handle_does() {
    let hub = Arc::new(Emulator::start(Options { control_port: Some(0), ..Options::default() }).unwrap());
    let port = hub.control_port().unwrap();
    let ask = async |line: &str, body: &str| {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), serde_json::from_str::<Value>(body).unwrap_or_else(|_| json!(body)))
    };
    let (_, key) = ask("PUT /devices/roof", "").await;
    assert_eq!(key["primaryKey"], json!(hub.registry().get("roof").unwrap().primary_text()));
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let (status, armed) =
        ask("POST /faults", r#"{"fault":"throttle","retryAfter":3,"device":"roof","times":1}"#).await;
    assert_eq!(status, "200", "{armed}");
    assert!(send(&mut sender, batch([message("a", "{}")])).await.contains("throttled"));
    assert_eq!(send(&mut sender, batch([message("b", "{\"x\":1}")])).await, "accepted");
    let (_, messages) = ask("GET /messages?since=0&limit=5", "").await;
    assert_eq!((&messages[0]["messageId"], &messages[0]["body"]), (&json!("b"), &json!("{\"x\":1}")));
    let (_, counts) = ask("GET /counts", "").await;
    assert_eq!(counts, json!({"total": 1, "perDevice": {"roof": 1}}));
    let (_, status) = ask("GET /status", "").await;
    assert_eq!(status["connections"][0]["links"][0]["kind"], "telemetry");
    let (status, _) = ask("PATCH /behaviour", r#"{"recording":false,"credit":7}"#).await;
    assert_eq!((status.as_str(), hub.behaviour().credit), ("200", 7));
    assert_eq!(ask("PATCH /behaviour", r#"{"credits":7}"#).await.0, "400");
    assert_eq!(ask("PATCH /twins/roof/desired", r#"{"a":1}"#).await.1, json!({"version": 2}));
    assert_eq!(
        ask("POST /twins/roof/methods", r#"{"methodName":"x"}"#).await,
        ("404".into(), json!({"errorCode": 404_103}))
    );
    assert_eq!(ask("POST /faults", r#"{"fault":"no-such"}"#).await.0, "400");
    ask("POST /stop", "").await;
    assert!(Client::connect(&hub, None).await.is_err());
    assert_eq!(ask("POST /start", "").await.0, "200");
    assert!(Client::connect(&hub, None).await.is_ok());
}

async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
