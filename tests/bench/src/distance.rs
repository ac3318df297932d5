//! A server at a distance: a port that forwards to another one and delays every byte.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The number of pieces on their way at a time in one direction; then the sender waits.
const ON_THEIR_WAY: usize = 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// The forwarding port. It accepts no more connections when dropped.
pub struct Distance {
    pub port: u16,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Distance {
    /// Forwards to a port of this machine; a byte needs half of `round_trip` in each direction.
    pub fn to(port: u16, round_trip: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let own = listener.local_addr()?.port();
        let is_over = Arc::new(AtomicBool::new(false));
        let accepting = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                for client in listener.incoming() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection that fails is the client's concern.
                    let _ = client.and_then(|client| connect(client, port, round_trip / 2));
                }
            }
        });
        Ok(Self {
            port: own,
            is_over,
            accepting: Some(accepting),
        })
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread; without a listener it has already ended.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Starts four threads, which end with the connection.
fn connect(client: TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (sender, receiver) = sync_channel(ON_THEIR_WAY);
        std::thread::spawn(move || read(from, &sender, delay));
        std::thread::spawn(move || write(to, &receiver));
    }
    Ok(())
}

fn read(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + delay;
        if sender.send((due, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (due, piece) in receiver {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // The other side has ended, or this one is gone already.
    let _ = to.shutdown(Shutdown::Write);
}
