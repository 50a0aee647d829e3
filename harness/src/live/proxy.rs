//! Stands between real clients and a real server: passes their bytes on untouched, and tells the judges what passed.
//! Every buffer is bounded; where the judges or a reader fall behind, the senders are slowed down, nothing is dropped.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::trace::End;
use crate::world::network::Tls;

/// Chunks that the judges may be behind, all links together.
const BEHIND: usize = 1024;
/// The buffer of a direction: it grows while chunks fill it, so that thousands of idle links cost little.
const SMALLEST: usize = 2 << 10;
const LARGEST: usize = 64 << 10;
/// How long the server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// Datagram peers that are kept apart.
const PEERS: usize = 4096;

/// Something that passed.
#[derive(Debug)]
pub enum Heard {
    /// A client has come.
    Link(u64),
    /// A client has come that exchanges datagrams: its address, as the server sees it, and that of the server.
    Peer(u64, Instant, SocketAddr, SocketAddr),
    /// Bytes that one end sent; for datagrams, one whole datagram.
    Bytes(u64, Instant, End, Vec<u8>),
    /// The stream of one end has ended.
    Ended(u64, Instant, End),
    /// The server could not be reached for a client.
    Unreachable(u64, String),
}

/// Where everything is passed on to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The address.
    pub address: SocketAddr,
    /// For a server behind TLS.
    pub tls: Option<Tls>,
}

/// What passed, for whoever judges it.
pub fn ears() -> (mpsc::Sender<Heard>, mpsc::Receiver<Heard>) {
    mpsc::channel(BEHIND)
}

/// Carries streams between clients of `listener` and the server, until dropped.
pub async fn streams(listener: TcpListener, upstream: Upstream, ears: mpsc::Sender<Heard>) -> io::Result<()> {
    let next = AtomicU64::new(0);
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            // One client that fails to come in is no reason to stop carrying for the others.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let link = next.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(link, client, upstream.clone(), ears.clone()));
    }
}

async fn carry(link: u64, client: TcpStream, upstream: Upstream, ears: mpsc::Sender<Heard>) {
    if ears.send(Heard::Link(link)).await.is_err() {
        return;
    }
    // Where it fails, small messages only travel later.
    let _ = client.set_nodelay(true);
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(upstream.address)).await;
    let server = match connected {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return unreachable(link, error.to_string(), &ears).await,
        Err(_) => return unreachable(link, format!("no answer within {} s", CONNECT.as_secs()), &ears).await,
    };
    let _ = server.set_nodelay(true);
    match upstream.tls {
        None => {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            both(link, (from_client, to_client), (from_server, to_server), ears).await;
        }
        Some(tls) => match tokio_rustls::TlsConnector::from(tls.config).connect(tls.name, server).await {
            Ok(server) => both(link, client.into_split(), tokio::io::split(server), ears).await,
            Err(error) => unreachable(link, format!("TLS: {error}"), &ears).await,
        },
    }
}

/// The client sees its connection end, as it would without us.
async fn unreachable(link: u64, why: String, ears: &mpsc::Sender<Heard>) {
    // The run may be over already.
    let _ = ears.send(Heard::Unreachable(link, why)).await;
}

async fn both<CR, CW, SR, SW>(link: u64, client: (CR, CW), server: (SR, SW), ears: mpsc::Sender<Heard>)
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let there = pump(link, End::Client, client.0, server.1, &ears);
    let back = pump(link, End::Server, server.0, client.1, &ears);
    tokio::join!(there, back);
}

/// Carries one direction until it ends, then ends it at the other side too.
async fn pump(
    link: u64,
    from: End,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    ears: &mpsc::Sender<Heard>,
) {
    let mut buffer = vec![0; SMALLEST];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        // Told first, so that an answer is never heard before its question.
        let heard = Heard::Bytes(link, Instant::now(), from, buffer[..count].to_vec());
        if ears.send(heard).await.is_err() || writer.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        if count == buffer.len() && count < LARGEST {
            buffer.resize(count * 2, 0);
        } else if count < buffer.len() / 8 && buffer.len() > SMALLEST {
            buffer = vec![0; SMALLEST];
        }
    }
    // The judges or the other side may be gone already.
    let _ = ears.send(Heard::Ended(link, Instant::now(), from)).await;
    let _ = writer.shutdown().await;
}

/// Carries datagrams between whoever sends to `socket` and the server: each client has a socket of ours towards the
/// server, as behind a NAT.
pub async fn datagrams(socket: UdpSocket, upstream: SocketAddr, ears: mpsc::Sender<Heard>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, (u64, Arc<UdpSocket>)> = HashMap::new();
    let mut next = 0;
    let mut buffer = vec![0; 65_536];
    loop {
        let (count, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier datagram was refused by its receiver; the socket goes on.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let known = peers.get(&client).map(|(link, outward)| (*link, Arc::clone(outward)));
        let (link, outward) = match known {
            Some(known) => known,
            // Whoever forges thousands of addresses is not served any more; those who are known still are.
            None if peers.len() >= PEERS => continue,
            None => {
                let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let outward = Arc::new(UdpSocket::bind(any).await?);
                outward.connect(upstream).await?;
                let link = next;
                next += 1;
                let came = Heard::Peer(link, Instant::now(), outward.local_addr()?, upstream);
                if ears.send(came).await.is_err() {
                    return Ok(());
                }
                peers.insert(client, (link, Arc::clone(&outward)));
                tokio::spawn(answers(link, Arc::clone(&outward), Arc::clone(&socket), client, ears.clone()));
                (link, outward)
            }
        };
        let heard = Heard::Bytes(link, Instant::now(), End::Client, buffer[..count].to_vec());
        if ears.send(heard).await.is_err() {
            return Ok(());
        }
        // A datagram that does not get away is one more that was lost.
        let _ = outward.send(&buffer[..count]).await;
    }
}

async fn answers(
    link: u64,
    outward: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    ears: mpsc::Sender<Heard>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        match outward.recv(&mut buffer).await {
            Ok(count) => {
                let heard = Heard::Bytes(link, Instant::now(), End::Server, buffer[..count].to_vec());
                if ears.send(heard).await.is_err() {
                    return;
                }
                let _ = socket.send_to(&buffer[..count], client).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
