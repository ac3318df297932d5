//! Free loopback ports for servers that cannot choose one themselves.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;

use anyhow::{Context, Result};

/// Below the range from which Linux takes ports for outgoing connections, so that no such connection can hold one of ours
/// while its server is stopped.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Returns ports that nothing listens on at the moment.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
    let mut seed = RandomState::new().build_hasher();
    seed.write_u32(std::process::id());
    let span = u64::from(RANGE.end - RANGE.start);
    let offset = u16::try_from(seed.finish() % span)?;
    // Each stays bound until all are found, so that none is found twice.
    let mut held = Vec::new();
    let mut candidates = (RANGE.start + offset..RANGE.end).chain(RANGE.start..RANGE.start + offset);
    let mut ports = [0; N];
    for found in &mut ports {
        *found = loop {
            let port = candidates.next().context("no free port")?;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                held.push(listener);
                break port;
            }
        };
    }
    Ok(ports)
}
