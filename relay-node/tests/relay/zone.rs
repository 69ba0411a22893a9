//! A server of the zone: says over TCP what it is told to say, and counts who asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Answers A with the same addresses for every name, and everything else with nothing.
pub struct ZoneServer {
    pub address: SocketAddr,
    answers: Arc<Answers>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Answers {
    addresses: Mutex<Vec<Ipv4Addr>>,
    connections: AtomicUsize,
}

impl ZoneServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::<Answers>::default();
        let answering = answers.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                answering.connections.fetch_add(1, Ordering::Relaxed);
                let answering = answering.clone();
                connections.spawn(async move { converse(tcp, &answering).await });
            }
        });
        Self { address, answers, task }
    }

    /// From now on every name is there.
    pub fn say(&self, addresses: &[Ipv4Addr]) {
        *self.answers.addresses.lock().unwrap() = addresses.to_vec();
    }

    /// How often somebody came to ask.
    pub fn asked(&self) -> usize {
        self.answers.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ZoneServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut tcp: TcpStream, answers: &Answers) -> std::io::Result<()> {
    loop {
        let mut question = vec![0; usize::from(tcp.read_u16().await?)];
        tcp.read_exact(&mut question).await?;
        let mut message = Message::from_vec(&question).map_err(std::io::Error::other)?;
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = ResponseCode::NoError;
        let query = message.queries[0].clone();
        if query.query_type() == RecordType::A {
            for address in answers.addresses.lock().unwrap().iter() {
                let data = RData::A((*address).into());
                message.add_answer(Record::from_rdata(query.name().clone(), 30, data));
            }
        }
        let bytes = message.to_vec().map_err(std::io::Error::other)?;
        tcp.write_u16(bytes.len() as u16).await?;
        tcp.write_all(&bytes).await?;
    }
}
