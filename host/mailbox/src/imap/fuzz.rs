//! Entry points for the fuzz targets (`tests/fuzz`) to private functions.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::response::{self, Response, Untagged};
use super::wire::Wire;
use crate::sent::Sent;

/// Returns each response in a server's bytes, and the error that ends them, as text. Literals up to `keep` bytes are kept
/// complete. The result must not depend on `chunk`.
pub fn responses(bytes: &[u8], chunk: usize, keep: u64) -> Vec<String> {
    let mut wire = Wire::new(Box::new(Sent::new(bytes, chunk)), None);
    wire.keep_literals(keep);
    let mut shown = Vec::new();
    loop {
        match wire.response() {
            Ok(Some(pieces)) => {
                let read = response::read(&pieces);
                if let Some(Response::Untagged(Untagged::Search(ids))) = &read {
                    shown.push(format!("{} ids", ids.iter().count()));
                }
                shown.push(format!("{read:?}"));
            }
            Ok(None) => {
                let fill = pin!(wire.fill()).poll(&mut Context::from_waker(Waker::noop()));
                if !matches!(fill, Poll::Ready(Ok(()))) {
                    return shown;
                }
            }
            Err(error) => {
                shown.push(error.to_string());
                return shown;
            }
        }
    }
}
