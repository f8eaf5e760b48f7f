//! What stands between a server and its database: it leads elsewhere, cuts connections, or forgets them without a word.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of the connections that there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Cut,
    Forgotten,
}

/// An address that leads to a port of this machine.
pub(crate) struct Forwarder {
    address: SocketAddr,
    port: Arc<AtomicU16>,
    /// How often the connections that there were have met a fate, and the last one.
    fates: watch::Sender<Fate>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// Leads to this port.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let port = Arc::new(AtomicU16::new(port));
        let (fates, _) = watch::channel(Fate::Forwarded);
        let accepting = tokio::spawn({
            let (port, fates) = (port.clone(), fates.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (port, fate) = (port.load(Ordering::SeqCst), fates.subscribe());
                    tokio::spawn(forward(client, port, fate));
                }
            }
        });
        Self {
            address,
            port,
            fates,
            accepting,
        }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Whoever comes from now on is led to this port.
    pub(crate) fn lead_to(&self, port: u16) {
        self.port.store(port, Ordering::SeqCst);
    }

    /// Cuts all connections that there are.
    pub(crate) fn cut(&self) {
        self.meet(Fate::Cut);
    }

    /// Returns when nothing comes through any connection that was cut.
    pub(crate) async fn until_cut(&self) {
        self.fates.closed().await;
    }

    /// Forgets all connections that there are: nothing comes through any more, and neither end hears of it.
    pub(crate) fn forget(&self) {
        self.meet(Fate::Forgotten);
    }

    fn meet(&self, fate: Fate) {
        self.fates.send_replace(fate);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
        self.meet(Fate::Cut);
    }
}

async fn forward(mut client: TcpStream, port: u16, mut fate: watch::Receiver<Fate>) {
    // A connection that is refused ends.
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (both, met) = (
        tokio::io::copy_bidirectional(&mut client, &mut server),
        fate.changed(),
    );
    tokio::select! {
        _ = both => return,
        _ = met => {}
    }
    // What is forgotten is cut at last.
    let is_cut = |fate: &Fate| *fate == Fate::Cut;
    let _ = fate.wait_for(is_cut).await;
}
