//! TCP services: a port for each, the same on all relays of a client (DESIGN §9). Whatever arrives there goes to the
//! client as it is; who may read it is for the service to say.

mod book;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tunnler_protocol::control::PortGrant;
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_protocol::{Address, ServiceName};
use tunnler_transport::Abort;

use self::book::Book;
use crate::clock;
use crate::ingress::visitor::{Visitor, canonical};
use crate::ingress::{VISITOR, deliver};
use crate::limits::shares::Origin;
use crate::memory::HeldPort;
use crate::relay::{Shared, bind};
use crate::route::{Claimed, Wanted};
use crate::sessions::Picked;

/// Pause after the system could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The ports that are open, and for whom.
#[derive(Debug, Default)]
pub struct TcpPorts(Mutex<Book<CancellationToken>>);

impl Shared {
    /// Grants, of the ports a client asks for, at most one to each service that `may_serve` lists: the first that is
    /// free or already its own.
    pub fn grant_ports(
        self: &Arc<Self>,
        client: Address,
        asked: &[PortGrant],
        may_serve: &[ServiceName],
    ) -> Vec<PortGrant> {
        let mut granted: Vec<PortGrant> = Vec::new();
        for wish in asked.iter().filter(|wish| may_serve.contains(&wish.service)) {
            if granted.iter().any(|grant| grant.service == wish.service) {
                continue;
            }
            let open = || self.open_port(wish.port);
            if self.tcp_ports.lock().grant(client, &wish.service, wish.port, clock::seconds(), open) {
                granted.push(wish.clone());
            }
        }
        // At once: a port that was promised must still be held after a crash.
        self.write_memory();
        granted
    }

    /// Forgets ports that nobody has used for a week.
    pub fn sweep_ports(&self) {
        for token in self.tcp_ports.lock().sweep(clock::seconds()) {
            token.cancel();
        }
    }

    /// Opens the ports that were held before a restart; one that cannot be opened is given up.
    pub fn reopen_ports(self: &Arc<Self>, held: Vec<HeldPort>) {
        let mut book = self.tcp_ports.lock();
        for port in held {
            let open = || self.open_port(port.port);
            if !book.grant(port.client, &port.service, port.port, port.asked_at, open) {
                tracing::warn!(port = port.port, client = %port.client, "a port held before the restart is taken");
            }
        }
    }

    /// Every port that is held, if that changed since the last call.
    pub fn changed_ports(&self) -> Option<Vec<HeldPort>> {
        self.tcp_ports.lock().changed()
    }

    fn open_port(self: &Arc<Self>, port: u16) -> io::Result<CancellationToken> {
        let listener = bind(SocketAddr::new(self.ingress_ip, port))?;
        let closed = CancellationToken::new();
        self.tasks.spawn(serve(self.clone(), listener, port, closed.clone()));
        Ok(closed)
    }
}

impl TcpPorts {
    fn lock(&self) -> MutexGuard<'_, Book<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, port: u16, closed: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.cancelled() => return,
            () = shared.stopping.cancelled() => return,
        };
        let Ok((tcp, visitor)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some((client, service)) = shared.tcp_ports.lock().holder(port) else { return };
        receive(&shared, tcp, visitor, (client, service));
    }
}

/// Has a visitor carried where the session that serves it lives.
fn receive(shared: &Arc<Shared>, tcp: TcpStream, visitor: SocketAddr, holder: (Address, ServiceName)) {
    tunnler_transport::tcp::prepare(&tcp, VISITOR);
    let (client, service) = holder;
    let name = Claimed::Account(client);
    let wanted = Wanted { client, name, service: Some(service) };
    let authorised = shared.authorises(&client, &wanted.name);
    let origin = Origin::Direct(visitor.ip());
    let picked = shared.sessions.pick(&wanted, origin, clock::millis()).ok().filter(|_| authorised);
    let (Some(picked), Ok(ingress)) = (picked, tcp.local_addr()) else { return tcp.abort() };
    if picked.service.kind != ServiceKind::Tcp {
        return tcp.abort();
    }
    let Ok(share) = shared.admit(&wanted, origin) else { return tcp.abort() };
    let Picked { connection, service, .. } = picked;
    let header = StreamHeader {
        visitor: canonical(visitor),
        ingress: canonical(ingress),
        host: None,
        service: service.name,
        kind: service.kind,
        forwarder: None,
        payload: Payload::Untouched,
    };
    let (worker, carrier) = (connection.worker.clone(), shared.clone());
    worker.spawn(&shared.tasks, tcp, move |io| async move {
        let visitor = Visitor { io, address: visitor, ingress, forwarder: None };
        match connection.open(&header, origin, CancellationToken::new()).await {
            Ok(stream) => deliver(&carrier, visitor, stream, &wanted, share).await,
            Err(_) => visitor.io.abort(),
        }
    });
}
