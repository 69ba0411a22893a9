//! Splices between pairs of pipes and sockets.

use std::io::ErrorKind;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// A pipe that remembers whether it was aborted.
struct Pipe(DuplexStream, Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Abort for Pipe {
    fn abort(self) {
        self.1.lock().unwrap().push(self.2);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<(Direction, Vec<u8>)>>);

impl Tap for Recorder {
    fn pass(&self, direction: Direction, bytes: &[u8]) {
        self.0.lock().unwrap().push((direction, bytes.to_vec()));
    }
}

type Aborted = Arc<Mutex<Vec<&'static str>>>;

fn ends() -> (DuplexStream, DuplexStream, Pipe, Pipe, Aborted) {
    let aborted = Aborted::default();
    let ((a, outside), (b, session)) = (duplex(1000), duplex(1000));
    let pipe = |io, name| Pipe(io, aborted.clone(), name);
    (a, b, pipe(outside, "outside"), pipe(session, "session"), aborted.clone())
}

fn context(tap: Option<Arc<dyn Tap>>) -> SpliceContext {
    SpliceContext { buffers: BufferPool::new(4), tap }
}

#[tokio::test(start_paused = true)]
async fn half_close_is_passed_on_and_the_tap_sees_plain_bytes() {
    let (mut a, mut b, outside, session, aborted) = ends();
    let recorder = Arc::new(Recorder::default());
    let context = context(Some(recorder.clone()));
    let spliced = tokio::spawn(async move { splice(outside, session, &context).await });
    a.write_all(b"the text").await.unwrap();
    a.shutdown().await.unwrap();
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"the text");
    b.write_all(b"an answer").await.unwrap();
    b.shutdown().await.unwrap();
    got.clear();
    a.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"an answer");
    let spliced = spliced.await.unwrap();
    assert!(matches!(spliced.end, SpliceEnd::Finished));
    assert_eq!((spliced.inward, spliced.outward), (8, 9));
    assert!(aborted.lock().unwrap().is_empty());
    let seen = recorder.0.lock().unwrap();
    assert_eq!(
        *seen,
        [(Direction::Inward, b"the text".to_vec()), (Direction::Outward, b"an answer".to_vec())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_gives_both_up_after_a_minute_and_a_slow_one_does_not() {
    let (mut a, b, outside, session, aborted) = ends();
    let context = context(None);
    let start = Instant::now();
    let spliced = tokio::spawn(async move { splice(outside, session, &context).await });
    let mut b = b;
    let slow = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            b.read_exact(&mut [0; 1000]).await.unwrap();
        }
    };
    let _ = tokio::join!(timeout(Duration::from_secs(200), a.write_all(&[0; 10_000])), slow);
    let spliced = spliced.await.unwrap();
    assert!(matches!(spliced.end, SpliceEnd::Stalled));
    assert!((260..=262).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(aborted.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_cancellation_aborts_both() {
    let (a, b, outside, session, aborted) = ends();
    let context = context(None);
    let spliced = tokio::spawn(async move { splice(outside, session, &context).await });
    tokio::task::yield_now().await;
    spliced.abort();
    assert!(spliced.await.unwrap_err().is_cancelled());
    assert_eq!(aborted.lock().unwrap().len(), 2);
    drop((a, b));
}

/// Gives its bytes, and fails when it is asked for more, without waiting in between.
struct Breaking(&'static [u8]);

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Abort for Breaking {
    fn abort(self) {}
}

#[tokio::test]
async fn what_came_before_a_failure_goes_out_before_it() {
    let (_, mut b, _, session, aborted) = ends();
    let spliced = splice(Breaking(b"the last words"), session, &context(None)).await;
    assert!(matches!(&spliced.end, SpliceEnd::Cut(error) if error.kind() == ErrorKind::ConnectionReset));
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!((got.as_slice(), spliced.inward), (&b"the last words"[..], 14));
    assert_eq!(*aborted.lock().unwrap(), ["session"], "not ended as if that were all");
}

#[tokio::test]
async fn an_aborted_socket_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    listener.accept().await.unwrap().0.abort();
    let read = timeout(Duration::from_secs(10), visitor.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn idle_splices_hold_no_buffers() {
    let context = context(None);
    let mut splices = tokio::task::JoinSet::new();
    let mut others = Vec::new();
    for _ in 0..10 {
        let (a, b, outside, session, _) = ends();
        others.push((a, b));
        let context = context.clone();
        splices.spawn(async move { splice(outside, session, &context).await });
    }
    for (a, b) in &mut others {
        a.write_all(b"x").await.unwrap();
        b.read_exact(&mut [0]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One buffer served all of them, one after the other.
    assert_eq!(context.buffers.free(), 1);
}
