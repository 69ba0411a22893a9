//! The visitors of a measurement: many keep-alive connections that ask again and again, one big body, or one new
//! connection after the other. Without TLS wrk asks; the rest speaks just enough HTTP/1.1 that the visitor's own cost stays
//! small.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

/// Bytes of a bulk transfer.
pub const BULK: usize = 256 << 20;
/// No measurement may take longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where visitors come in.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// The address.
    pub address: SocketAddr,
    /// The host to name in TLS; without one, no TLS.
    pub host: Option<String>,
}

/// What keep-alive connections got.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    /// Answers a second.
    pub per_second: f64,
    /// Median time of an answer in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
}

/// Which way a big body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the visitor.
    Down,
    /// From the visitor.
    Up,
}

/// A visitor's connection.
type Connection = Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>;

impl Entrance {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, host: None }
    }

    /// With TLS for `host`.
    pub fn tls(address: SocketAddr, host: impl Into<String>) -> Self {
        Self { address, host: Some(host.into()) }
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("bench.test")
    }

    fn connector(&self) -> TlsConnector {
        // Any certificate, TLS 1.3, never resumed: the same visitor for everybody.
        TlsConnector::from(tunnler_transport::tls::client_config(None).0)
    }

    /// Opens one connection.
    pub async fn connect(&self) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        self.connect_with(&self.connector()).await
    }

    async fn connect_with(&self, connector: &TlsConnector) -> Result<Connection> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let Some(host) = &self.host else { return Ok(Either::Left(tcp)) };
        let name = ServerName::try_from(host.clone())?;
        Ok(Either::Right(Box::new(connector.connect(name, tcp).await?)))
    }

    /// Asks for `path` over `connections` connections for `duration`.
    pub fn requests(&self, path: &str, connections: usize, duration: Duration) -> Result<Requests> {
        match self.host {
            None => self.wrk(path, connections, duration),
            Some(_) => self.ask(path, connections, duration),
        }
    }

    fn wrk(&self, path: &str, connections: usize, duration: Duration) -> Result<Requests> {
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--connections", &connections.to_string(), "--latency"]);
        // Who is slow is to be measured, not refused: rathole's WebSocket makes one of 256 wait 2 s now and then.
        wrk.args(["--timeout", "10"]);
        // Whole seconds are all it understands.
        wrk.args(["--duration", &duration.as_secs_f64().ceil().to_string()]);
        let said = wrk.arg(format!("http://{}{path}", self.address)).output().context("cannot start wrk")?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let after = |word: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(word));
            line.with_context(|| format!("wrk says no {word:?}:\n{said}")).map(str::trim)
        };
        ensure!(
            !said.contains("Non-2xx") && !said.contains("Socket errors"),
            "not every answer came:\n{said}"
        );
        Ok(Requests {
            per_second: after("Requests/sec:")?.parse()?,
            p50_ms: milliseconds(after("50%")?)?,
            p99_ms: milliseconds(after("99%")?)?,
        })
    }

    fn ask(&self, path: &str, connections: usize, duration: Duration) -> Result<Requests> {
        alone(async {
            let (connector, mut tasks) = (self.connector(), JoinSet::new());
            let mut ready = Vec::new();
            for _ in 0..connections {
                ready.push(self.connect_with(&connector).await?);
            }
            let request: Arc<[u8]> =
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host()).into_bytes().into();
            let begun = Instant::now();
            for mut connection in ready {
                let request = request.clone();
                tasks.spawn(async move {
                    let (mut times, mut buffer) = (Vec::new(), Vec::with_capacity(4096));
                    while begun.elapsed() < duration {
                        let asked = Instant::now();
                        connection.write_all(&request).await?;
                        connection.flush().await?;
                        answer(&mut connection, &mut buffer).await?;
                        times.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    anyhow::Ok(times)
                });
            }
            let mut times = Vec::new();
            while let Some(done) = tasks.join_next().await {
                times.extend(done??);
            }
            let elapsed = begun.elapsed().as_secs_f64();
            times.sort_by(f64::total_cmp);
            let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
            Ok(Requests { per_second: times.len() as f64 / elapsed, p50_ms: at(0.5), p99_ms: at(0.99) })
        })
    }

    /// Moves [`BULK`] bytes; returns 10⁶ bytes per second.
    pub fn bulk(&self, way: Way) -> Result<f64> {
        alone(async {
            let mut connection = self.connect().await?;
            let mut buffer = vec![0; 256 * 1024];
            let begun = Instant::now();
            let host = self.host();
            match way {
                Way::Down => {
                    let request = format!("GET /down HTTP/1.1\r\nHost: {host}\r\n\r\n");
                    connection.write_all(request.as_bytes()).await?;
                    connection.flush().await?;
                    let mut head = Vec::with_capacity(4096);
                    let (mut left, ahead) = head_of(&mut connection, &mut head).await?;
                    ensure!(left == BULK, "an answer of {left} bytes");
                    left -= ahead;
                    while left > 0 {
                        let n = connection.read(&mut buffer).await?;
                        ensure!(n > 0, "the body broke off {left} bytes before its end");
                        left -= n;
                    }
                }
                Way::Up => {
                    let request =
                        format!("PUT /up HTTP/1.1\r\nHost: {host}\r\nContent-Length: {BULK}\r\n\r\n");
                    connection.write_all(request.as_bytes()).await?;
                    let mut left = BULK;
                    while left > 0 {
                        let n = left.min(buffer.len());
                        connection.write_all(&buffer[..n]).await?;
                        left -= n;
                    }
                    connection.flush().await?;
                    answer(&mut connection, &mut Vec::with_capacity(4096)).await?;
                }
            }
            Ok(BULK as f64 / 1e6 / begun.elapsed().as_secs_f64())
        })
    }

    /// Opens one connection after the other, `at_once` at a time, each for one answer; returns how many a second.
    pub fn connections(&self, at_once: usize, duration: Duration) -> Result<f64> {
        alone(async {
            let (connector, mut tasks) = (self.connector(), JoinSet::new());
            let begun = Instant::now();
            for _ in 0..at_once {
                let (entrance, connector) = (self.clone(), connector.clone());
                tasks.spawn(async move {
                    let request =
                        format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", entrance.host());
                    let (mut made, mut buffer) = (0_usize, Vec::with_capacity(4096));
                    while begun.elapsed() < duration {
                        let mut connection = entrance.connect_with(&connector).await?;
                        connection.write_all(request.as_bytes()).await?;
                        connection.flush().await?;
                        buffer.clear();
                        answer(&mut connection, &mut buffer).await?;
                        made += 1;
                    }
                    anyhow::Ok(made)
                });
            }
            let mut made = 0;
            while let Some(done) = tasks.join_next().await {
                made += done??;
            }
            Ok(made as f64 / begun.elapsed().as_secs_f64())
        })
    }
}

/// A time as wrk prints it: `850.00us`, `1.62ms`, `1.20s`.
fn milliseconds(text: &str) -> Result<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)];
    let number = |(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor);
    units.into_iter().find_map(number).with_context(|| format!("{text:?} is not a time"))
}

/// Reads one whole answer; leaves nothing behind, because nothing is asked ahead.
async fn answer(connection: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<()> {
    let (length, ahead) = head_of(connection, buffer).await?;
    let mut left = length - ahead;
    while left > 0 {
        buffer.clear();
        let n = connection.read_buf(buffer).await?;
        ensure!(n > 0, "the answer broke off");
        left = left.checked_sub(n).context("more than was announced")?;
    }
    buffer.clear();
    Ok(())
}

/// Reads an answer's head: the body's length, and how much of it came along.
async fn head_of(connection: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(usize, usize)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end])?;
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap_or_default();
            ensure!(status.starts_with("HTTP/1.1 200"), "{status}");
            for line in lines {
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    return Ok((value.trim().parse()?, buffer.len() - end - 4));
                }
            }
            bail!("an answer without content-length");
        }
        ensure!(connection.read_buf(buffer).await? > 0, "closed before the answer");
    }
}

/// Runs visitors on a thread of their own, as another program would be.
fn alone<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.context("took too long")? })
        });
        thread.join().expect("a measurement does not panic")
    })
}
