//! Putting contracts on a network: for tests, the demo and a zone's first hour. Shipped programs do not use it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest, Sha256};
use stellar_xdr::{
    Asset, BytesM, ContractExecutable, ContractIdPreimage, ContractIdPreimageFromAddress,
    CreateContractArgsV2, Hash, HashIdPreimage, HashIdPreimageContractId, HostFunction, Limits, ScVal,
    Uint256, VecM, WriteXdr,
};
use tunnler_protocol::Address;
use tunnler_protocol::directory::AccountHosts;
use tunnler_protocol::name::{HostName, Zone};

use crate::contract::{namespace, registry};
use crate::error::{ChainError, WriteError};
use crate::value::{address_value, sc_account, sc_contract, string};
use crate::writer::{Writer, invoke};

/// Configuration of a new TunnelRegistry. Its token is the native one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Least stake, in stroops.
    pub min_stake: i128,
    /// From `deregister` to `withdraw`, at most 30 days.
    pub unbonding: Duration,
    /// A relay without a heartbeat for this long counts as inactive, 1 h to 7 days.
    pub heartbeat_ttl: Duration,
    /// Relays one operator may have, 1–1,000.
    pub per_operator: u32,
}

/// Configuration of a new TunnelNamespace. Its token is the native one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// The zone.
    pub zone: Zone,
    /// Yearly fees in stroops for labels of 3, 4 and more characters.
    pub fees: [i128; 3],
    /// Grace after expiry, at most 90 days.
    pub grace: Duration,
    /// Whether a registration needs a commitment.
    pub commit_reveal: bool,
    /// Names one owner may hold, 1–64.
    pub per_owner: u32,
    /// For whom `ADDRESS.ZONE` is answered.
    pub account_hosts: AccountHosts,
    /// CAA issuer domains the zone allows, at most 4.
    pub issuers: Vec<String>,
    /// The zone's servers, at most 5.
    pub servers: Vec<Server>,
}

/// An authoritative server of a new zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its host name.
    pub host: HostName,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The key that feeds know it by.
    pub key: Address,
}

/// How long friendbot may take.
const FRIENDBOT_TIMEOUT: Duration = Duration::from_secs(30);
/// What friendbot says of an account that exists.
const ALREADY_FUNDED: &str = "account already funded to starting balance";

/// Asks `friendbot` to fund `address`. An account that has been funded before is fine.
pub async fn fund(friendbot: &str, address: &Address) -> Result<(), WriteError> {
    let failed = |problem: String| {
        WriteError::Chain(ChainError::Endpoint {
            url: friendbot.into(),
            problem: format!("friendbot: {problem}"),
        })
    };
    let uri: Uri = format!("{friendbot}?addr={address}")
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| failed(error.to_string()))?;
    let exchange = async {
        let response = client()?.get(uri).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), 1 << 20).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answer: Result<(StatusCode, String), String> =
        tokio::time::timeout(FRIENDBOT_TIMEOUT, exchange).await.unwrap_or_else(|_| Err("no answer".into()));
    match answer.map_err(failed)? {
        (status, _) if status.is_success() => Ok(()),
        (_, body) if body.contains(ALREADY_FUNDED) => Ok(()),
        (status, body) => Err(failed(format!("{status}: {body}"))),
    }
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Uploads `wasm` and creates a TunnelRegistry of it with the writer's account as admin. Returns its id (`C…`).
pub async fn deploy_registry(
    writer: &Writer,
    wasm: &[u8],
    config: &RegistryConfig,
) -> Result<String, WriteError> {
    let token = sc_contract(native_token(writer));
    let args = vec![address_value(&writer.address()), registry::config_value(config, token)];
    deploy_contract(writer, wasm, args).await
}

/// Uploads `wasm` and creates a TunnelNamespace of it with the writer's account as admin. Returns its id (`C…`).
pub async fn deploy_namespace(
    writer: &Writer,
    wasm: &[u8],
    config: &NamespaceConfig,
) -> Result<String, WriteError> {
    let token = sc_contract(native_token(writer));
    let zone = string(config.zone.as_str());
    let args = vec![address_value(&writer.address()), zone, namespace::config_value(config, token)];
    deploy_contract(writer, wasm, args).await
}

async fn deploy_contract(writer: &Writer, wasm: &[u8], args: Vec<ScVal>) -> Result<String, WriteError> {
    let code = BytesM::try_from(wasm.to_vec()).map_err(|_| WriteError::Argument("wasm too large".into()))?;
    writer.draft(invoke(HostFunction::UploadContractWasm(code))).send().await?;
    let salt: [u8; 32] = rand::random();
    let preimage = ContractIdPreimage::Address(ContractIdPreimageFromAddress {
        address: sc_account(&writer.address()),
        salt: Uint256(salt),
    });
    let create = CreateContractArgsV2 {
        contract_id_preimage: preimage.clone(),
        executable: ContractExecutable::Wasm(Hash(Sha256::digest(wasm).into())),
        constructor_args: VecM::try_from(args).expect("few arguments"),
    };
    writer.draft(invoke(HostFunction::CreateContractV2(create))).send().await?;
    let id = contract_id(writer, preimage);
    Ok(stellar_strkey::Contract(id).to_string().as_str().to_owned())
}

/// The contract of the native token, which every network has.
fn native_token(writer: &Writer) -> [u8; 32] {
    contract_id(writer, ContractIdPreimage::Asset(Asset::Native))
}

fn contract_id(writer: &Writer, contract_id_preimage: ContractIdPreimage) -> [u8; 32] {
    let network_id = Hash(writer.network_id());
    let preimage = HashIdPreimage::ContractId(HashIdPreimageContractId { network_id, contract_id_preimage });
    Sha256::digest(preimage.to_xdr(Limits::none()).expect("a built value encodes")).into()
}
