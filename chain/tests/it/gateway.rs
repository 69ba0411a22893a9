//! An endpoint in front of a localnet's that answers some calls in its own way: what servers of busy or older networks
//! do and a localnet never does. Whatever it does not answer itself is passed on unchanged.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::State;
use axum::{Json, Router};
use jsonrpsee_core::client::ClientT;
use jsonrpsee_core::params::ObjectParams;
use serde_json::{Value, json};
use stellar_rpc_client::Client;
use stellar_xdr::{Limits, ReadXdr, TransactionEnvelope, TransactionExt};
use tokio::task::JoinHandle;
use tunnler_protocol::network::Network;

/// An own answer in the making; `None` passes the call on.
pub type Answer = Pin<Box<dyn Future<Output = Option<Value>> + Send>>;

/// One call of a client.
#[derive(Clone)]
pub struct Call {
    pub method: String,
    pub params: Value,
    upstream: Arc<Client>,
}

/// A running gateway. Dropping it ends it.
pub struct Gateway {
    url: String,
    task: JoinHandle<()>,
}

struct Desk {
    upstream: Arc<Client>,
    answer: Box<dyn Fn(Call) -> Answer + Send + Sync>,
}

impl Gateway {
    /// Listens in front of the first endpoint of `network`.
    pub async fn start(network: &Network, answer: impl Fn(Call) -> Answer + Send + Sync + 'static) -> Self {
        let upstream = Arc::new(Client::new(&network.rpc[0]).expect("a URL"));
        let desk = Arc::new(Desk { upstream, answer: Box::new(answer) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let router = Router::new().fallback(handle).with_state(desk);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, task }
    }

    /// `network` as seen through this gateway alone.
    pub fn network(&self, network: &Network) -> Network {
        Network { rpc: vec![self.url.clone()], quorum: 1, ..network.clone() }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Call {
    /// What the endpoint behind says to another call.
    pub async fn ask(&self, method: &str, params: &Value) -> Value {
        let mut object = ObjectParams::new();
        for (name, value) in params.as_object().into_iter().flatten() {
            object.insert(name, value).expect("JSON");
        }
        self.upstream.client().request(method, object).await.expect("the localnet answers")
    }

    /// What the endpoint behind says to this call.
    pub async fn pass(&self) -> Value {
        self.ask(&self.method, &self.params).await
    }

    /// The transaction of a `sendTransaction` or `simulateTransaction`.
    pub fn envelope(&self) -> TransactionEnvelope {
        let text = self.params["transaction"].as_str().expect("a transaction");
        TransactionEnvelope::from_xdr_base64(text, Limits::depth(500)).expect("XDR")
    }

    /// What this `sendTransaction` bids for inclusion, in stroops; `None` for other calls.
    pub fn bid(&self) -> Option<u32> {
        if self.method != "sendTransaction" {
            return None;
        }
        let TransactionEnvelope::Tx(envelope) = self.envelope() else { panic!("no other kind is sent") };
        let resources = match &envelope.tx.ext {
            TransactionExt::V0 => 0,
            TransactionExt::V1(data) => u32::try_from(data.resource_fee).expect("a fee"),
        };
        Some(envelope.tx.fee - resources)
    }
}

async fn handle(State(desk): State<Arc<Desk>>, Json(request): Json<Value>) -> Json<Value> {
    let call = Call {
        method: request["method"].as_str().expect("a method").to_owned(),
        params: request["params"].clone(),
        upstream: desk.upstream.clone(),
    };
    let result = match (desk.answer)(call.clone()).await {
        Some(result) => result,
        None => call.pass().await,
    };
    Json(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
}
