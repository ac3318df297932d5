//! Entry points for the fuzz targets (`tests/fuzz`) into functions that are otherwise private.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::list::numbered;
use super::reply::Reply;
use super::wire::{Body, Reading, Wire};
use crate::sent::Sent;

/// Parses a server's bytes as replies, with a mail after each `+OK` that has a text, and lines of a listing in between. Returns
/// what was found and the error that ends it, as text. Keeps `keep` bytes of each mail. The result must not depend on `chunk`.
pub fn session(bytes: &[u8], chunk: usize, keep: u64) -> Vec<String> {
    let mut wire = Wire::new(Box::new(Sent::new(bytes, chunk)), None);
    let mut shown = Vec::new();
    let mut body: Option<Body> = None;
    loop {
        if let Some(mail) = &mut body {
            match wire.body(mail) {
                Reading::More if fill(&mut wire) => {}
                Reading::Ended => {
                    shown.push(format!("{} bytes, {:?}", mail.len, mail.bytes));
                    body = None;
                }
                // How much had arrived by then depends on the chunks.
                Reading::More | Reading::Overrun => return shown,
            }
            continue;
        }
        match wire.line() {
            Ok(Some(line)) => {
                let reply = Reply::read(&line);
                if reply
                    .as_ref()
                    .is_some_and(|it| it.is_ok && !it.text.is_empty())
                {
                    body = Some(Body::new(bytes.len() as u64, keep, keep.saturating_mul(2)));
                }
                shown.push(format!("{reply:?} {:?}", numbered(&line).ok()));
            }
            Ok(None) if fill(&mut wire) => {}
            Ok(None) => return shown,
            Err(error) => {
                shown.push(error.to_string());
                return shown;
            }
        }
    }
}

/// Returns whether more bytes arrived.
fn fill(wire: &mut Wire) -> bool {
    let fill = pin!(wire.fill()).poll(&mut Context::from_waker(Waker::noop()));
    matches!(fill, Poll::Ready(Ok(())))
}
