//! A front before pebble with what real certificate authorities have and this one lacks: limits, renewal information,
//! profiles, bad days. Passes everything else on and counts.
//!
//! The edge's tests include this file with `#[path]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the front does beside passing on.
#[derive(Debug, Default)]
pub struct Conduct {
    /// New orders are refused with 429 and this `Retry-After` in seconds.
    pub limit: Option<u64>,
    /// Profiles that the directory offers.
    pub profiles: Vec<&'static str>,
    /// Offers renewal information: this many different certificates are to be renewed at once, others much later.
    pub replace: Option<usize>,
    /// Bodies of the new orders, as the client signed them.
    pub orders: Vec<Value>,
    /// Every connection is closed without a word.
    pub down: bool,
    /// Every second signed request is refused for its nonce.
    pub rejects_nonces: bool,
    /// Connections so far, those turned away too.
    pub connections: usize,
    /// Signed requests while nonces are rejected.
    pub signed: usize,
    /// Certificates whose renewal information was asked for.
    asked: BTreeMap<String, bool>,
}

/// PEM files of pebble's own HTTPS.
#[derive(Clone, Debug)]
pub struct ApiFiles {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The root that it ends at.
    pub root: PathBuf,
}

/// The running front.
#[derive(Clone)]
pub struct Front {
    conduct: Arc<Mutex<Conduct>>,
    ca: SocketAddr,
    tls: TlsConnector,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Front {
    /// Serves at `listener` with pebble's certificate; pebble is at `ca`.
    ///
    /// # Panics
    /// When the files are not what they should be.
    pub fn start(listener: TcpListener, files: &ApiFiles, ca: SocketAddr) -> Self {
        let chain = CertificateDer::pem_file_iter(&files.chain).unwrap();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files.root).unwrap()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let front = Self { conduct: Arc::default(), ca, tls: TlsConnector::from(Arc::new(client)) };
        let serving = front.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(server));
            while let Ok((tcp, _)) = listener.accept().await {
                let (front, acceptor) = (serving.clone(), acceptor.clone());
                if front.is_turned_away() {
                    continue;
                }
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(tcp).await?;
                    let (head, body) = read_request(&mut stream).await?;
                    let answer = if front.spoils(&head) {
                        front.bad_nonce(&head).await?
                    } else if let Some(answer) = front.answer(&head, &body) {
                        answer
                    } else {
                        front.pass_on(&head, &body).await?
                    };
                    stream.write_all(&answer).await?;
                    stream.shutdown().await
                });
            }
        });
        front
    }

    /// What it does, for as long as nobody else asks.
    ///
    /// # Panics
    /// When somebody panicked with it.
    pub fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.conduct.lock().unwrap()
    }

    fn is_turned_away(&self) -> bool {
        let mut conduct = self.conduct();
        conduct.connections += 1;
        conduct.down
    }

    /// Whether this is one of the requests whose nonce is refused.
    fn spoils(&self, head: &str) -> bool {
        let mut conduct = self.conduct();
        if !conduct.rejects_nonces || !head.starts_with("POST ") {
            return false;
        }
        conduct.signed += 1;
        conduct.signed % 2 == 1
    }

    /// A refusal with a nonce that is good (RFC 8555, section 6.5).
    async fn bad_nonce(&self, head: &str) -> std::io::Result<Vec<u8>> {
        let host = head.lines().find(|line| line.starts_with("host: ")).unwrap_or_default();
        let fresh = self.pass_on(&format!("HEAD /nonce-plz HTTP/1.1\r\n{host}\r\n\r\n"), &[]).await?;
        let fresh = String::from_utf8_lossy(&fresh).into_owned();
        let nonce = fresh.lines().find(|line| line.to_ascii_lowercase().starts_with("replay-nonce: "));
        let header = format!("{}\r\n", nonce.unwrap_or_default());
        let problem =
            json!({ "type": "urn:ietf:params:acme:error:badNonce", "detail": "not today", "status": 400 });
        Ok(document("400 Bad Request", &header, &problem))
    }

    /// What the front says itself.
    fn answer(&self, head: &str, body: &[u8]) -> Option<Vec<u8>> {
        let path = head.split(' ').nth(1)?;
        let mut conduct = self.conduct();
        if let Some(certificate) = path.strip_prefix("/ari/") {
            let already = conduct.asked.len();
            let at_once = conduct.replace.is_some_and(|first| already < first);
            let at_once = *conduct.asked.entry(certificate.to_owned()).or_insert(at_once);
            return Some(document("200 OK", "Retry-After: 3600\r\n", &window(at_once)));
        }
        if path != "/order-plz" {
            return None;
        }
        let signed: Value = serde_json::from_slice(body).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
        conduct.orders.push(serde_json::from_slice(&payload).ok()?);
        let seconds = conduct.limit?;
        let problem =
            json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many", "status": 429 });
        let header = format!("Retry-After: {seconds}\r\nReplay-Nonce: none\r\n");
        Some(document("429 Too Many Requests", &header, &problem))
    }

    async fn pass_on(&self, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
        let tcp = TcpStream::connect(self.ca).await?;
        let mut ca = self.tls.connect("localhost".try_into().unwrap(), tcp).await?;
        let head = head.trim_end().replace("\r\nconnection: keep-alive", "");
        ca.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        ca.write_all(body).await?;
        let mut answer = Vec::new();
        // Go's servers end TLS without a farewell.
        let _ = ca.read_to_end(&mut answer).await;
        Ok(if head.contains(" /dir ") { self.extend(&head, &answer) } else { answer })
    }

    /// The directory with what this front adds.
    fn extend(&self, head: &str, answer: &[u8]) -> Vec<u8> {
        let start = answer.iter().position(|byte| *byte == b'{').unwrap();
        let mut directory: Value =
            serde_json::Deserializer::from_slice(&answer[start..]).into_iter().next().unwrap().unwrap();
        let conduct = self.conduct();
        if conduct.replace.is_some() {
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            directory["renewalInfo"] = format!("https://{host}/ari").into();
        }
        if !conduct.profiles.is_empty() {
            let profiles: BTreeMap<_, _> = conduct.profiles.iter().map(|name| (*name, "words")).collect();
            directory["meta"]["profiles"] = json!(profiles);
        }
        document("200 OK", "", &directory)
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        bytes.push(stream.read_u8().await?);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).map_err(std::io::Error::other)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok((head, body))
}

fn document(status: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A renewal window (RFC 9773, section 4.2) that has just begun, or one far away.
fn window(at_once: bool) -> Value {
    let day = 24 * 3600;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (start, end) = if at_once { (now - 20, now - 10) } else { (now + 300 * day, now + 301 * day) };
    json!({ "suggestedWindow": { "start": rfc3339(start), "end": rfc3339(end) } })
}

/// Seconds as a date (Howard Hinnant's civil-from-days).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + carry;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
