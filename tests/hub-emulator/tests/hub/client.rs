//! A small AMQP client over TLS, for the emulator's own tests: it makes its own tokens and shares nothing with the
//! hub but the engine.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sendable, Sender, Session};
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{ApplicationProperties, Data, Message, Outcome, Properties};
use fe2o3_amqp_types::primitives::{Binary, SimpleValue, Symbol, Value};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hub_emulator::Emulator;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub const LIMIT: Duration = Duration::from_secs(10);

pub struct Client {
    pub connection: ConnectionHandle<()>,
    pub session: SessionHandle<()>,
}

impl Client {
    pub async fn connect(hub: &Emulator, sasl: Option<SaslProfile>) -> Result<Self, String> {
        let tls = tls(hub, hub.port()).await?;
        let builder =
            Connection::builder().container_id("test").hostname("localhost").idle_time_out(60_000u32);
        let opened = async {
            match sasl {
                Some(profile) => builder.sasl_profile(profile).open_with_stream(tls).await,
                None => builder.open_with_stream(tls).await,
            }
        };
        let mut connection =
            timeout(LIMIT, opened).await.map_err(|_| "open timed out")?.map_err(|e| format!("{e:?}"))?;
        let session = timeout(LIMIT, Session::begin(&mut connection)).await;
        let session = session.map_err(|_| "begin timed out")?.map_err(|e| format!("{e:?}"))?;
        Ok(Self { connection, session })
    }

    /// Connects without SASL and puts a good token for `device`.
    pub async fn signed_in(hub: &Emulator, device: &str) -> Self {
        let mut client = Self::connect(hub, None).await.unwrap();
        let token = token(hub, device, 3600);
        assert_eq!(client.put_token(&token, &format!("localhost%2Fdevices%2F{device}")).await.0, 200);
        client
    }

    pub async fn put_token(&mut self, token: &str, audience: &str) -> (i32, String) {
        let unique = uuid::Uuid::new_v4();
        let mut sender = Sender::attach(&mut self.session, format!("cbs-s-{unique}"), "$cbs").await.unwrap();
        let mut receiver =
            Receiver::attach(&mut self.session, format!("cbs-r-{unique}"), "$cbs").await.unwrap();
        let application = ApplicationProperties::builder()
            .insert("operation", "put-token")
            .insert("type", "servicebus.windows.net:sastoken")
            .insert("name", audience.to_owned())
            .build();
        let message = Message::builder()
            .properties(
                Properties::builder().message_id("token-1".to_owned()).to("$cbs").reply_to("cbs").build(),
            )
            .application_properties(application)
            .value(token.to_owned())
            .build();
        timeout(LIMIT, sender.send(message)).await.unwrap().unwrap();
        let answer = timeout(LIMIT, receiver.recv::<Value>()).await.unwrap().unwrap();
        receiver.accept(&answer).await.unwrap();
        let properties = answer.message().application_properties.clone().unwrap();
        let status = match properties.0.get("status-code") {
            Some(SimpleValue::Int(status)) => *status,
            other => panic!("status-code is {other:?}"),
        };
        let text = format!("{:?}", properties.0.get("status-description"));
        drop(timeout(LIMIT, sender.close()).await);
        drop(timeout(LIMIT, receiver.close()).await);
        (status, text)
    }

    pub async fn telemetry(&mut self, device: &str) -> Result<Sender, String> {
        self.sender(&format!("/devices/{device}/messages/events")).await
    }

    pub async fn sender(&mut self, address: &str) -> Result<Sender, String> {
        let name = format!("sender-{}", uuid::Uuid::new_v4());
        timeout(LIMIT, Sender::attach(&mut self.session, name, address))
            .await
            .map_err(|_| "attach timed out".to_owned())?
            .map_err(|e| format!("{e:?}"))
    }
}

pub async fn tls(hub: &Emulator, port: u16) -> Result<TlsStream<TcpStream>, String> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
    tls_over(hub, tcp).await
}

pub async fn tls_over(hub: &Emulator, tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(hub.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), tcp).await.map_err(|e| e.to_string())
}

/// A token for a known device that lives for `seconds` from now.
pub fn token(hub: &Emulator, device: &str, seconds: i64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let expiry = i64::try_from(now).unwrap() + seconds;
    let resource = format!("localhost%2Fdevices%2F{device}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&hub.registry().get(device).unwrap().primary).unwrap();
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

/// One reading as a message.
pub fn message(id: &str, body: &str) -> Message<Data> {
    let mut properties = Properties::builder().message_id(id.to_owned()).build();
    properties.content_type = Some(Symbol::from("application/json"));
    properties.content_encoding = Some(Symbol::from("utf-8"));
    let application =
        ApplicationProperties::builder().insert("iothub-creation-time-utc", "2026-01-01T00:00:00Z").build();
    Message::builder()
        .properties(properties)
        .application_properties(application)
        .data(Binary::from(body.as_bytes().to_vec()))
        .build()
}

/// Several messages as one transfer of the batch format.
pub fn batch(
    messages: impl IntoIterator<Item = Message<Data>>,
) -> Sendable<fe2o3_amqp_types::messaging::Batch<Data>> {
    let parts =
        messages.into_iter().map(|m| Data(Binary::from(serde_amqp::to_vec(&Serializable(m)).unwrap())));
    let parts: Vec<Data> = parts.collect();
    Sendable::builder()
        .message(Message::builder().data_batch(parts).build())
        .message_format(0x8001_3700)
        .build()
}

/// Sends and gives the outcome as text: `accepted`, `rejected CONDITION`, `released`, `modified`, or the error.
pub async fn send(
    sender: &mut Sender,
    sendable: impl Into<Sendable<fe2o3_amqp_types::messaging::Batch<Data>>>,
) -> String {
    match timeout(LIMIT, sender.send(sendable.into())).await {
        Err(_) => "no answer".into(),
        Ok(Err(error)) => format!("{error:?}"),
        Ok(Ok(Outcome::Accepted(_))) => "accepted".into(),
        Ok(Ok(Outcome::Released(_))) => "released".into(),
        Ok(Ok(Outcome::Modified(_))) => "modified".into(),
        Ok(Ok(Outcome::Rejected(rejected))) => format!("rejected {:?}", rejected.error),
    }
}
