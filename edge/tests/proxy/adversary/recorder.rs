//! An upstream that takes HTTP/1.1 literally: it records each request it sees, and what it would not have understood as
//! one.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    /// The values of a header, by its lower-case name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<Recorded>,
    odd: Vec<String>,
}

/// The running upstream; it ends with this value.
#[derive(Debug)]
pub struct Recorder {
    pub address: SocketAddr,
    record: Arc<Mutex<Record>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    /// Starts one whose every answer is `body`.
    pub async fn start(body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Mutex<Record>>::default();
        let kept = record.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, kept.clone(), body));
            }
        });
        Self { address, record, task }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record.lock().unwrap().requests.clone()
    }

    /// The targets seen that begin with `prefix`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let requests = self.requests();
        requests
            .into_iter()
            .map(|request| request.target)
            .filter(|target| target.starts_with(prefix))
            .collect()
    }

    /// What was not understood as a request.
    pub fn odd(&self) -> Vec<String> {
        self.record.lock().unwrap().odd.clone()
    }
}

async fn converse(stream: TcpStream, record: Arc<Mutex<Record>>, body: &str) {
    let mut stream = BufReader::new(stream);
    loop {
        match request(&mut stream).await {
            Ok(Some(request)) => {
                let head = request.method == "HEAD";
                record.lock().unwrap().requests.push(request);
                let length = body.len();
                let text = if head { "" } else { body };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            // A request that was broken off is none.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return,
            Err(error) => {
                record.lock().unwrap().odd.push(error.to_string());
                return;
            }
        }
    }
}

fn odd<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, what.into()))
}

/// One line without its CRLF; `None` at the end of the stream.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some(text) = bytes.strip_suffix(b"\r\n") else { return odd(format!("bare LF after {bytes:?}")) };
    if text.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
        return odd(format!("control characters in {:?}", String::from_utf8_lossy(text)));
    }
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}

async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Recorded>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return odd(format!("request line {first:?}"));
    };
    let headers = fields(stream).await?;
    let request = Recorded { method: method.into(), target: target.into(), headers, body: Vec::new() };
    if request.values("host").len() != 1 {
        return odd(format!("hosts {:?} for {first:?}", request.values("host")));
    }
    let body = match (
        request.values("content-length")[..].as_ref(),
        request.values("transfer-encoding")[..].as_ref(),
    ) {
        ([], []) => Vec::new(),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let mut body = vec![0; length.parse().unwrap_or(0)];
            stream.read_exact(&mut body).await?;
            body
        }
        ([], ["chunked"]) => chunks(stream).await?,
        framing => return odd(format!("framing {framing:?} for {first:?}")),
    };
    Ok(Some(Recorded { body, ..request }))
}

/// Header lines up to the empty one.
async fn fields(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let text = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if text.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = text.split_once(':') else { return odd(format!("header {text:?}")) };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return odd(format!("header {text:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let text = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return odd(format!("chunk size {text:?}"));
        }
        let size = usize::from_str_radix(&text, 16).map_err(|_| io::Error::other("a huge chunk"))?;
        if size == 0 {
            let forbidden =
                ["content-length", "transfer-encoding", "host", "x-forwarded-for", "authorization"];
            let trailers = fields(stream).await?;
            let wrong = trailers.iter().find(|(name, _)| forbidden.contains(&name.as_str()));
            return wrong.map_or(Ok(body), |wrong| odd(format!("trailer {wrong:?}")));
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        if line(stream).await?.as_deref() != Some("") {
            return odd("a chunk without its CRLF");
        }
    }
}
