//! Log lines on their way to standard error.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait to be written: some seconds of lines at full load. Lines beyond it are
/// dropped and counted, so that a reader that hangs never holds a review up.
const WAITING_BYTES: usize = 8 << 20;

/// How long the writer gathers lines after the first, so that a burst costs one write.
const GATHER: Duration = Duration::from_millis(10);

/// A bounded buffer of log lines and the thread that writes them out.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
}

impl Lines {
    /// Writes to standard error from a thread of its own. Fails where no thread can be had.
    pub fn stderr() -> io::Result<Self> {
        Self::to(io::stderr())
    }

    /// Writes to `sink` from a thread of its own. Fails where no thread can be had.
    pub fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(sink))?;
        Ok(Self(shared))
    }

    /// Queues one line, its line break included; drops it where too much is waiting.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if first {
            self.0.wake.notify_one();
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued is written, or `patience` is over.
    pub fn flush(&self, patience: Duration) {
        let state = self.0.lock();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = self.0.written.wait_timeout_while(state, patience, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut sink: impl Write) {
        let mut batch = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty();
            let state = self.wake.wait_while(self.lock(), idle);
            drop(state.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(GATHER);
            let mut state = self.lock();
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);
            // Nobody is left to tell when standard error is gone.
            let _ = sink.write_all(&batch).and_then(|()| sink.flush());
            batch.clear();
            self.lock().writing = false;
            self.written.notify_all();
        }
    }
}

/// Writes whole lines into [`Lines`].
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
