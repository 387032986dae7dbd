//! AMQP over a WebSocket, for firewalls that let only HTTPS out: `wss://{host}/$iothub/websocket` with the
//! sub-protocol AMQPWSB10, as IoT Hub wants it (the library's own adapter asks for another name). A plain byte stream
//! on top: AMQP frames and WebSocket frames need not match in any way. Knows nothing of AMQP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::tls;

const SUB_PROTOCOL: &str = "AMQPWSB10";

/// Bytes in one outgoing message, at most.
const CHUNK: usize = 64 * 1024;

/// Bytes that wait to be written, at most: a dead peer holds no more.
const MOST_UNWRITTEN: usize = 4 * CHUNK;

/// The byte stream.
#[derive(Debug)]
pub struct ByteStream<Io> {
    socket: WebSocketStream<Io>,
    /// Read, and not taken yet.
    unread: Bytes,
}

/// The opening handshake, over a stream that is already encrypted.
pub async fn connect<Io>(host: &str, port: u16, io: Io) -> io::Result<ByteStream<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let address = format!("wss://{}:{port}/$iothub/websocket", tls::bracketed(host));
    let mut request = address.into_client_request().map_err(to_io)?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUB_PROTOCOL));
    let config = WebSocketConfig::default()
        .read_buffer_size(CHUNK)
        .write_buffer_size(CHUNK)
        .max_write_buffer_size(MOST_UNWRITTEN);
    let connecting = tokio_tungstenite::client_async_with_config(request, io, Some(config));
    let (socket, _answer) = connecting.await.map_err(to_io)?;
    Ok(ByteStream { socket, unread: Bytes::new() })
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    let text = "the hub sent text where AMQP was expected";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                // The library answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(to_io)?;
        let count = bytes.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(to_io)
    }
}

/// What is refused at the handshake is told with the status that came.
fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::Http(answer) => io::Error::other(format!("the hub answered {}", answer.status())),
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// A peer that gets and sends messages, over a stream that passes a few bytes at a time.
    async fn pair() -> (ByteStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(100);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (ByteStream { socket: near, unread: Bytes::new() }, far)
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_however_the_frames_are_cut() {
        use futures_util::SinkExt as _;
        for size in [1, 3, 8, 100, 1000] {
            let (mut near, mut far) = pair().await;
            let bytes: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let sending = async {
                for chunk in bytes.chunks(size) {
                    far.send(Message::Binary(Bytes::copy_from_slice(chunk))).await.unwrap();
                    far.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
                }
                far
            };
            let mut read = vec![0; bytes.len()];
            let (result, _far) = tokio::join!(near.read_exact(&mut read), sending);
            result.unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[tokio::test]
    async fn what_is_written_goes_out_in_binary_messages() {
        use futures_util::StreamExt as _;
        let (mut near, mut far) = pair().await;
        let writing = async {
            near.write_all(&[7; 200_000]).await.unwrap();
            near.flush().await.unwrap();
        };
        let reading = async {
            let mut count = 0;
            while count < 200_000 {
                let Some(Ok(Message::Binary(bytes))) = far.next().await else { panic!("no binary message") };
                assert!(bytes.len() <= CHUNK && bytes.iter().all(|byte| *byte == 7));
                count += bytes.len();
            }
            count
        };
        let ((), count) = tokio::join!(writing, reading);
        assert_eq!(count, 200_000);
    }

    #[tokio::test]
    async fn a_hub_without_a_name_is_asked_by_its_address() {
        for (host, named) in
            [("::1", "[::1]"), ("[::1]", "[::1]"), ("192.0.2.7", "192.0.2.7"), ("hub", "hub")]
        {
            let (near, mut far) = tokio::io::duplex(4096);
            let reading = async {
                let mut head = Vec::new();
                far.read_buf(&mut head).await.unwrap();
                drop(far);
                String::from_utf8(head).unwrap()
            };
            let (refused, head) = tokio::join!(connect(host, 8443, near), reading);
            assert!(head.starts_with("GET /$iothub/websocket HTTP/1.1\r\n"), "{head:?} {refused:?}");
            assert!(head.contains(&format!("\r\nHost: {named}:8443\r\n")), "{head}");
        }
    }

    #[tokio::test]
    async fn text_is_an_error_and_a_close_is_the_end() {
        use futures_util::SinkExt as _;
        let (mut near, mut far) = pair().await;
        far.send(Message::text("hello")).await.unwrap();
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "the hub sent text where AMQP was expected");
        let (mut near, mut far) = pair().await;
        let mut rest = Vec::new();
        let (read, _) = tokio::join!(near.read_to_end(&mut rest), far.close(None));
        assert_eq!(read.unwrap(), 0);
    }
}
