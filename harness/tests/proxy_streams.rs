//! What the proxy carries arrives as it was sent, whatever the ends do, and its buffers are bounded.

use std::net::SocketAddr;
use std::time::Duration;

use flowproof::live::proxy::{self, Heard, Upstream};
use flowproof::live::trace::End;
use flowproof::live::trace::{Event, Happening};
use flowproof::live::tracer::Tracer;
use flowproof_reference::machine::Time;
use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::WebSocketConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

/// Whoever waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;

/// A proxy before a server of the test.
struct Place {
    server: TcpListener,
    address: SocketAddr,
    ears: mpsc::Receiver<Heard>,
}

async fn place() -> Place {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let upstream = server.local_addr().expect("a socket of ours");
    let (address, ears) = before(upstream).await;
    Place { server, address, ears }
}

/// A proxy before an address.
async fn before(upstream: SocketAddr) -> (SocketAddr, mpsc::Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a socket of ours");
    let (ears, heard) = proxy::ears();
    tokio::spawn(proxy::streams(listener, Upstream { address: upstream, tls: None }, ears));
    (address, heard)
}

impl Place {
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).await.expect("the proxy listens");
        let (server, _) = self.server.accept().await.expect("the proxy connects");
        (client, server)
    }

    /// Everything that is heard from now on, until all senders are gone or nothing comes for a while.
    fn listen(self) -> (TcpListener, SocketAddr, tokio::task::JoinHandle<Vec<Heard>>) {
        let Place { server, address, mut ears } = self;
        let heard = tokio::spawn(async move {
            let mut all = Vec::new();
            let mut ended = 0;
            while let Some(heard) = ears.recv().await {
                ended += usize::from(matches!(heard, Heard::Ended(..)));
                all.push(heard);
                if ended == 2 {
                    break;
                }
            }
            all
        });
        (server, address, heard)
    }
}

/// Bytes that are nowhere alike.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}

/// Writes in pieces of many sizes, and ends the direction.
async fn write_in_pieces(mut to: impl tokio::io::AsyncWrite + Unpin, bytes: Vec<u8>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let piece = rng.usize(1..=rest.len().min(100_000));
        to.write_all(&rest[..piece]).await.expect("the other end reads");
        rest = &rest[piece..];
    }
    to.shutdown().await.expect("the other end is there");
}

async fn read_all(mut from: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("the other end writes");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_arrive_as_they_were_sent_and_are_heard_as_they_arrive() {
    let (server, address, heard) = place().await.listen();
    let client = TcpStream::connect(address).await.expect("the proxy listens");
    let (server, _) = server.accept().await.expect("the proxy connects");
    // More than any message may be.
    let (there, back) = (noise(1, 17 * MIB), noise(2, 16 * MIB));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (_, _, at_server, at_client) = in_time(async {
        tokio::join!(
            write_in_pieces(client_writes, there.clone(), 3),
            write_in_pieces(server_writes, back.clone(), 4),
            read_all(server_reads),
            read_all(client_reads),
        )
    })
    .await;
    assert!(at_server == there && at_client == back, "bytes were changed");
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    for heard in in_time(heard).await.expect("the listener does not panic") {
        match heard {
            Heard::Bytes(_, _, End::Client, bytes) => from_client.extend(bytes),
            Heard::Bytes(_, _, End::Server, bytes) => from_server.extend(bytes),
            Heard::Link(_) | Heard::Peer(..) | Heard::Ended(..) => {}
            Heard::Unreachable(_, why) => panic!("{why}"),
        }
    }
    assert!(from_client == there && from_server == back, "other bytes were heard than passed");
}

#[tokio::test]
async fn a_direction_may_end_before_the_other() {
    let place = place().await;
    let (mut client, mut server) = place.connect().await;
    client.shutdown().await.expect("ends what it says");
    in_time(async {
        assert_eq!(read_all(&mut server).await, b"");
        server.write_all(b"farewell").await.expect("the client still listens");
        drop(server);
        assert_eq!(read_all(&mut client).await, b"farewell");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_the_client_sees_its_connection_end() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("a socket of ours");
    drop(nobody);
    let (proxy, mut ears) = before(address).await;
    for _ in 0..2 {
        let mut client = TcpStream::connect(proxy).await.expect("the proxy listens");
        let mut buffer = [0; 1];
        let ended = in_time(client.read(&mut buffer)).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "the connection ends");
        assert!(matches!(in_time(ears.recv()).await, Some(Heard::Link(_))));
        assert!(matches!(in_time(ears.recv()).await, Some(Heard::Unreachable(..))));
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_a_message_is_passed_on_up_to_there() {
    let place = place().await;
    let (mut client, mut server) = place.connect().await;
    // The beginning of a text frame of 100 bytes.
    server.write_all(&[0x81, 100, b'{', b'"']).await.expect("the proxy reads");
    drop(server);
    assert_eq!(in_time(read_all(&mut client)).await, [0x81, 100, b'{', b'"']);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_slows_the_sender_down_and_loses_nothing() {
    let place = place().await;
    let (client, mut server) = place.connect().await;
    let mut ears = place.ears;
    tokio::spawn(async move { while ears.recv().await.is_some() {} });
    let piece = noise(5, MIB);
    let mut sent = Vec::new();
    // Nobody reads: sooner or later nothing more goes in, for every buffer on the way is bounded.
    let stalled = in_time(async {
        loop {
            let written = tokio::time::timeout(Duration::from_secs(2), server.write(&piece)).await;
            match written {
                Ok(count) => sent.extend_from_slice(&piece[..count.expect("the proxy is there")]),
                Err(_) => return true,
            }
            if sent.len() > 256 * MIB {
                return false;
            }
        }
    })
    .await;
    assert!(stalled, "{} MiB went into buffers", sent.len() / MIB);
    let (reads, _writes) = client.into_split();
    let (_, got) = in_time(async { tokio::join!(server.shutdown(), read_all(reads)) }).await;
    assert!(got == sent, "{} of {} bytes arrived, or others", got.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reader_that_does_not_read_is_no_harm_to_others() {
    let place = place().await;
    let (_mute, mut flooding) = place.connect().await;
    let (mut client, mut server) = place.connect().await;
    let mut ears = place.ears;
    tokio::spawn(async move { while ears.recv().await.is_some() {} });
    let flood = tokio::spawn(async move {
        let piece = vec![0; MIB];
        while flooding.write_all(&piece).await.is_ok() {}
    });
    in_time(async {
        for round in 0..200_u32 {
            client.write_all(&round.to_be_bytes()).await.expect("the proxy reads");
            assert_eq!(server.read_u32().await.expect("the proxy writes"), round);
        }
    })
    .await;
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_carried_at_once() {
    let place = place().await;
    let Place { server, address, mut ears } = place;
    tokio::spawn(async move { while ears.recv().await.is_some() {} });
    tokio::spawn(async move {
        while let Ok((mut one, _)) = server.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 8];
                while one.read_exact(&mut bytes).await.is_ok() && one.write_all(&bytes).await.is_ok() {}
            });
        }
    });
    in_time(async {
        let mut clients = Vec::new();
        for _ in 0..1000 {
            clients.push(TcpStream::connect(address).await.expect("the proxy listens"));
        }
        for round in 0..2_u64 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_u64(number as u64 + round).await.expect("the proxy reads");
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.read_u64().await.expect("the proxy writes"), number as u64 + round);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn datagrams_arrive_whole_and_each_client_is_told_apart() {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let upstream = server.local_addr().expect("a socket of ours");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = socket.local_addr().expect("a socket of ours");
    let (ears, mut heard) = proxy::ears();
    tokio::spawn(proxy::datagrams(socket, upstream, ears));
    in_time(async {
        let mut buffer = vec![0; 65_536];
        let mut behind = Vec::new();
        for number in 0..3_u8 {
            let client = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            client.connect(proxy).await.expect("an address");
            let sent = noise(u64::from(number), 1200 + usize::from(number));
            client.send(&sent).await.expect("it goes out");
            let (count, from) = server.recv_from(&mut buffer).await.expect("it arrives");
            assert!(buffer[..count] == sent, "the datagram was changed");
            assert!(!behind.contains(&from), "two clients look alike");
            behind.push(from);
            server.send_to(&sent[..7], from).await.expect("it goes out");
            let count = client.recv(&mut buffer).await.expect("it arrives");
            assert!(buffer[..count] == sent[..7], "the answer was changed");
            assert!(matches!(heard.recv().await, Some(Heard::Peer(link, ..)) if link == u64::from(number)));
            for end in [End::Client, End::Server] {
                let next = heard.recv().await;
                assert!(matches!(&next, Some(Heard::Bytes(_, _, from, _)) if *from == end), "{next:?}");
            }
        }
    })
    .await;
}

/// Text frames of a server, cut into fragments with a Ping between them.
fn fragmented() -> Vec<u8> {
    let mut bytes = vec![0x01, 3, b'{', b'"', b'a'];
    bytes.extend([0x89, 2, b'h', b'i']);
    bytes.extend([0x00, 0]);
    bytes.extend([0x80, 4, b'"', b':', b'1', b'}']);
    bytes
}

#[test]
fn fragments_are_heard_as_one_message() {
    let mut tracer = Tracer::stream(1, Framing::WebSocket(WebSocketConfig::default()));
    let mut events: Vec<Event> = Vec::new();
    let request = "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for byte in request.as_bytes() {
        tracer.bytes(Time::ZERO, End::Client, &[*byte], &mut events);
    }
    for byte in answer.as_bytes().iter().chain(&fragmented()) {
        tracer.bytes(Time::ZERO, End::Server, &[*byte], &mut events);
    }
    let heard: Vec<&Happening> = events.iter().map(|event| &event.what).collect();
    assert_eq!(
        heard,
        [
            &Happening::Opened { target: "/x".to_owned(), subprotocols: Vec::new() },
            &Happening::Ping { hex: "6869".to_owned() },
            &Happening::Text { text: "{\"a\":1}".to_owned() },
        ]
    );
}
