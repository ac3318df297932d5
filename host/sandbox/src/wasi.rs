//! A deterministic environment for components that expect WASI: no files, network or environment variables, and a clock
//! that is fixed at the mail's time.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::host::Host;
use crate::log::Log;

/// Streams, pollables and similar objects that an instance may hold at a time.
const RESOURCES: usize = 1000;
/// Bytes of one write to an output stream.
const WRITE_BYTES: usize = 64 << 10;
/// Random bytes in one call.
const RANDOM_BYTES: u64 = 64 << 10;
/// The number of bytes after which the random numbers repeat.
const RANDOM_CYCLE: usize = 4096;

/// The WASI side of one instance.
pub(crate) struct DeterministicWasi {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl DeterministicWasi {
    /// Creates the environment. `now` is RFC 3339; the same `seed` gives the same random numbers.
    pub(crate) fn new(now: &str, seed: &str, log: &Log) -> Self {
        let since_epoch = now
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|now| Duration::try_from(now.as_duration()).ok())
            .unwrap_or_default();
        let random = random_bytes(seed);
        let mut fixed = [0; 16];
        fixed.copy_from_slice(&random[..16]);
        let wasi = WasiCtx::builder()
            .stdout(Output(log.clone()))
            .stderr(Output(log.clone()))
            .wall_clock(Fixed(since_epoch))
            .monotonic_clock(Fixed(since_epoch))
            .secure_random(Deterministic::new(random.clone()))
            .insecure_random(Deterministic::new(random))
            .insecure_random_seed(u128::from_le_bytes(fixed))
            .max_random_size(RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self { wasi, table }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let still = self.still();
        WasiCtxView {
            ctx: &mut still.wasi,
            table: &mut still.table,
        }
    }
}

/// Links WASI 0.2 to an empty environment.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // A sleep would block one of our threads for as long as the rule likes, and no epoch interrupts it. Since the clock is
    // fixed, every wait ends at once.
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<Host, Standing>(linker, |host| {
        StandingView(&mut host.still().table)
    })?;
    poll::add_to_linker::<Host, Standing>(linker, |host| StandingView(&mut host.still().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Standing;

struct StandingView<'a>(&'a mut ResourceTable);

impl HasData for Standing {
    type Data<'a> = StandingView<'a>;
}

/// A pollable that is always ready.
struct Now;

#[async_trait]
impl Pollable for Now {
    async fn ready(&mut self) {}
}

impl monotonic_clock::Host for StandingView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.0.push(Now)?;
        subscribe(self.0, now)
    }

    fn subscribe_duration(&mut self, _for: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.0.push(Now)?;
        subscribe(self.0, now)
    }
}

impl poll::Host for StandingView<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Ok((0..).take(pollables.len()).collect())
    }
}

impl poll::HostPollable for StandingView<'_> {
    fn ready(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    fn block(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.0, pollable)
    }
}

struct Fixed(Duration);

impl HostWallClock for Fixed {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Fixed {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// Writes stdout and stderr to the rule's log.
#[derive(Clone)]
struct Output(Log);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Only WASI 0.3 calls this one, which is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        MemoryOutputPipe::new(0).async_stream()
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

fn random_bytes(seed: &str) -> Vec<u8> {
    (0u32..)
        .flat_map(|block| -> [u8; 32] {
            Sha256::new()
                .chain_update(block.to_le_bytes())
                .chain_update(seed)
                .finalize()
                .into()
        })
        .take(RANDOM_CYCLE)
        .collect()
}
