//! Runs a program and measures it from outside, through /proc.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postroom_stand::Stand;

/// The interval of measurements.
const LOOK: Duration = Duration::from_millis(5);
/// The unit in which Linux counts the size of a file.
const BLOCK: u64 = 512;
/// The time limit of a contender, which it exceeds only if it hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Linux counts processor time for programs in hundredths of a second (USER_HZ).
const TICKS_PER_SEC: u64 = 100;

/// The resource usage of one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub wall: Duration,
    /// The program's own processor time, user and system.
    pub cpu: Duration,
    /// The processor time of the whole machine meanwhile: the program's, its server's, and that of all others.
    pub machine_cpu: Duration,
    /// In bytes.
    pub peak_rss: u64,
}

/// Runs a program to its end, which must be a success; its output goes to `log`.
pub fn measure(command: &mut Command, log: &Path) -> Result<Usage> {
    let file = fs::File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let machine = machine_cpu()?;
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let mut usage = Usage::default();
    loop {
        // A program that has ended is read before it is reaped: then its processor time is complete.
        let (state, cpu) = stat(child.id())?;
        usage.cpu = cpu;
        if state == 'Z' {
            break;
        }
        if let Some(peak) = memory(child.id(), "VmHWM") {
            usage.peak_rss = usage.peak_rss.max(peak);
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("{:?} took longer than {PATIENCE:?}", command.get_program());
        }
        std::thread::sleep(LOOK);
    }
    usage.wall = started.elapsed();
    usage.machine_cpu = machine_cpu()?.saturating_sub(machine);
    let status = child.wait()?;
    ensure!(
        status.success(),
        "{:?} failed ({status}):\n{}",
        command.get_program(),
        fs::read_to_string(log).unwrap_or_default()
    );
    Ok(usage)
}

/// A program in the background, killed when dropped.
pub struct Background(Child);

impl Background {
    /// Starts it, and appends its output to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    /// Returns its resident memory in bytes.
    pub fn rss(&self) -> Result<u64> {
        memory(self.0.id(), "VmRSS").context("the program is gone")
    }

    /// Returns the part of its resident memory that belongs to it alone: no pages of the program's file, which the kernel
    /// can drop and shares between processes.
    pub fn own_memory(&self) -> Result<u64> {
        memory(self.0.id(), "RssAnon").context("the program is gone")
    }

    /// Counts how often its threads begin to wait meanwhile, which is how often they are woken. Looks each second: the last
    /// second of a thread that ends is not counted.
    pub fn wake_ups(&self, lasts: Duration) -> Result<u64> {
        const LOOK: Duration = Duration::from_secs(1);
        let started = Instant::now();
        let (mut last, mut count) = (self.waits()?, 0);
        while started.elapsed() < lasts {
            std::thread::sleep(LOOK.min(lasts.saturating_sub(started.elapsed())));
            let now = self.waits()?;
            // A thread that is not known yet has begun meanwhile.
            let since = |(thread, waits): (&String, &u64)| {
                waits.saturating_sub(last.get(thread).copied().unwrap_or(0))
            };
            count += now.iter().map(since).sum::<u64>();
            last = now;
        }
        Ok(count)
    }

    /// Returns how often each thread has begun to wait so far.
    fn waits(&self) -> Result<HashMap<String, u64>> {
        let mut waits = HashMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let task = task?;
            // A thread may end meanwhile.
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let count = status.lines().find_map(|line| {
                line.strip_prefix("voluntary_ctxt_switches:")?
                    .trim()
                    .parse()
                    .ok()
            });
            waits.insert(
                task.file_name().to_string_lossy().into_owned(),
                count.unwrap_or(0),
            );
        }
        Ok(waits)
    }

    /// Returns its processor time so far.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(stat(self.0.id())?.1)
    }

    /// Returns its resident memory without memory files, in bytes.
    pub fn unshared(&self) -> Result<u64> {
        let shared = memory(self.0.id(), "RssShmem").context("the program is gone")?;
        Ok(self.rss()?.saturating_sub(shared))
    }

    /// Returns the size of its open memory files in bytes, mapped or not.
    pub fn memory_files(&self) -> Result<u64> {
        let folder = format!("/proc/{}/fd", self.0.id());
        let mut bytes = 0;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // A file may be closed meanwhile.
            let is_memory = fs::read_link(&path)
                .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"));
            if is_memory {
                bytes += fs::metadata(&path).map_or(0, |about| about.blocks() * BLOCK);
            }
        }
        Ok(bytes)
    }

    /// Sends Ctrl-C, then waits for a successful end.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("not a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It fails only if the program is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a program's state letter and its processor time so far.
fn stat(pid: u32) -> Result<(char, Duration)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before may contain anything, so fields are counted from its closing parenthesis.
    let (_, rest) = text.rsplit_once(')').context("an unreadable stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let state = fields.first().and_then(|field| field.chars().next());
    match (state, ticks(11), ticks(12)) {
        (Some(state), Some(user), Some(system)) => Ok((state, from_ticks(user + system))),
        _ => bail!("an unreadable stat: {text}"),
    }
}

/// Returns the processor time of Dovecot so far: of all its processes, and of those that have ended.
pub fn dovecot_cpu(stand: &Stand) -> Result<Duration> {
    let group = fs::read_to_string(stand.dir().join("dovecot.pgid"))?;
    let group: u64 = group.trim().parse().context("Dovecot's process group")?;
    let mut ticks = 0;
    for process in fs::read_dir("/proc")? {
        // Other entries have no such file, and a process may end meanwhile.
        let Ok(text) = fs::read_to_string(process?.path().join("stat")) else {
            continue;
        };
        let Some((_, rest)) = text.rsplit_once(')') else {
            continue;
        };
        let number = |field: &str| field.parse::<u64>().ok();
        let fields: Vec<Option<u64>> = rest.split_whitespace().map(number).collect();
        if fields.get(2).copied().flatten() == Some(group) {
            // User and system time, its own and that of its ended children.
            ticks += (11..15).filter_map(|at| *fields.get(at)?).sum::<u64>();
        }
    }
    Ok(from_ticks(ticks))
}

/// Returns one of the memory lines of a program's status, in bytes; `None` once it has ended.
fn memory(pid: u32, label: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(label))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Returns the total busy time of all processors since the machine started.
fn machine_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq …
    let busy = fields.iter().take(7).sum::<u64>()
        - fields.get(3).copied().unwrap_or(0)
        - fields.get(4).copied().unwrap_or(0);
    Ok(from_ticks(busy))
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SEC)
}
