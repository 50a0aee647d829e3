//! A sinner's rules on real sockets, between a program under test and the flows that judge it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use flowproof_reference::driver::host::Host;
use flowproof_reference::driver::run_loop::{self, Place};
use flowproof_reference::transport::Framing;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::sinner::Sinner;
use crate::sinner::passage::{OneSide, Passage};

/// A passage that is open until this is dropped.
#[derive(Debug)]
pub struct Passing {
    /// Where it waits for those that connect.
    pub address: SocketAddr,
    _until_dropped: oneshot::Sender<()>,
}

impl Passing {
    /// Opens a passage to `onward`, with the rules of `sinner` on the side of the testers: that of strangers when the
    /// program under test `listens`, the far one when it connects.
    pub async fn open(
        sinner: &Sinner,
        listens: bool,
        framing: Framing,
        onward: SocketAddr,
    ) -> io::Result<Passing> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?.into_std()?;
        let address = listener.local_addr()?;
        let (until_dropped, dropped) = oneshot::channel();
        let rules = OneSide::new(sinner, listens);
        // A station stays on one thread; the thread ends soon after the passage is closed.
        std::thread::Builder::new().name("passage".to_owned()).spawn(move || {
            let dropped = async {
                // The sender says nothing: it is gone.
                let _ = dropped.await;
            };
            // Where it fails, connections to it fail, and the flow says so.
            let _ = pass(rules, framing, listener, onward, dropped);
        })?;
        Ok(Passing { address, _until_dropped: until_dropped })
    }
}

fn pass(
    rules: OneSide,
    framing: Framing,
    listener: std::net::TcpListener,
    onward: SocketAddr,
    dropped: impl Future<Output = ()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut host = Host::new(Passage::default(), framing, onward.to_string()).with_filter(Box::new(rules));
    runtime.block_on(async {
        let place = Place::Between(TcpListener::from_std(listener)?, onward);
        let (_orders, nothing_to_do) = mpsc::channel(1);
        run_loop::run(&mut host, place, nothing_to_do, dropped, |_| {}).await
    })
}
