//! Mailboxes that wait for mail, each with its session in IDLE: their memory, how often they wake the service, and how soon a
//! mail to one of them is decided.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postroom_stand::{Stand, Wire, wait_for};

use crate::chance::Chance;
use crate::figures::{mebibytes, median, percentile, table, time};
use crate::filled::check_moved;
use crate::process::Background;
use crate::room::{Room, TEN_JS, await_sign_ins, sessions, sign_ins, tail};

/// Mails delivered to mailboxes drawn at random.
const DELIVERIES: u32 = 300;
/// The mean pause between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// Mails delivered to the mailbox of a bare client.
const BARE_DELIVERIES: u32 = 20;
/// The longest time for which the wake-ups of a service with one mailbox are counted.
const BASIC: Duration = Duration::from_secs(30);
/// The limit on inotify instances of one user.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Those of all other programs of Dovecot's user.
const INSTANCES_OF_OTHERS: u32 = 256;
/// The mailboxes of the goal.
const GOAL_MAILBOXES: f64 = 2000.0;
const PATIENCE: Duration = Duration::from_secs(180);
/// The time for which memory must not change to count as settled.
const SETTLED: Duration = Duration::from_secs(2);
/// Logs each decision, once it is committed.
const LOG: &str = "warn,postroom=info,postroom_line=info,postroom_line::event_log=debug";
const DECIDED: &str = "mail decided";

/// A service whose mailboxes have all signed in and whose memory no longer changes.
struct Idle {
    room: Room,
    users: Vec<String>,
    service: Background,
    /// The time from its start until the last mailbox had signed in.
    signed_in: Duration,
    resident: u64,
    own: u64,
}

/// Starts the service on one and on `count` idle mailboxes. Prints the memory, the wake-ups within `watched`, and the time
/// from the delivery of a mail to its decision.
pub fn run(stand: &Stand, count: u32, watched: Duration) -> Result<()> {
    println!("Idle: mailboxes that wait for mail, each with its session in IDLE");
    let notices = Notices::for_sessions(count);
    let one = Idle::start(stand, "one", 1)?;
    let (resident, own) = (one.resident, one.own);
    let basic = one.wake_ups_a_minute(watched.min(BASIC))?;
    one.service.stop()?;
    let many = Idle::start(stand, "many", count)?;
    println!(
        "  {count} mailboxes signed in within {:.1} s",
        many.signed_in.as_secs_f64()
    );
    report_memory(count, (resident, own), (many.resident, many.own));
    many.report_wake_ups(watched, basic)?;
    many.report_deliveries(stand)?;
    report_bare(stand)?;
    if notices.are_short {
        println!(
            "  the machine allows fewer inotify instances than Dovecot needs ({INSTANCES}): Dovecot notices mail to the other mailboxes every 5 s only"
        );
    }
    Ok(())
}

/// Measures how soon Dovecot tells a bare client in IDLE of a mail: the part of the time that is not Postroom's.
fn report_bare(stand: &Stand) -> Result<()> {
    let user = "idle-bare@acme.example";
    let mut wire = Wire::tls(stand.ports().imaps, stand.ca_pem())?;
    wire.line()?;
    let login = format!("LOGIN {user} {}", stand.password());
    for (tag, command) in [("a", login.as_str()), ("b", "SELECT INBOX")] {
        wire.send(format!("{tag} {command}\r\n").as_bytes())?;
        let done = format!("{tag} OK");
        while !wire.line()?.starts_with(&done) {}
    }
    wire.send(b"c IDLE\r\n")?;
    while !wire.line()?.starts_with('+') {}
    let mut taken = Vec::new();
    for number in 0..BARE_DELIVERIES {
        let started = Instant::now();
        stand.deliver(user, mail(number, user).as_bytes())?;
        while !wire.line()?.ends_with(" EXISTS") {}
        taken.push(started.elapsed());
        std::thread::sleep(PAUSE);
    }
    println!(
        "  for comparison, Dovecot tells a bare client of a mail after: median {}, slowest {}",
        time(median(&taken)),
        time(percentile(&taken, 1.0)),
    );
    Ok(())
}

/// Enough inotify instances for Dovecot, which uses one for each session in IDLE. The limit is put back when dropped.
struct Notices {
    before: Option<String>,
    are_short: bool,
}

impl Notices {
    /// Raises the limit if it is too low and this process may do so.
    fn for_sessions(count: u32) -> Self {
        let before = fs::read_to_string(INSTANCES).unwrap_or_default();
        let wanted = count + INSTANCES_OF_OTHERS;
        // A machine without the file needs no instances.
        let is_enough = before
            .trim()
            .parse::<u32>()
            .map_or(true, |limit| limit >= wanted);
        let is_raised = !is_enough && fs::write(INSTANCES, wanted.to_string()).is_ok();
        Self {
            before: is_raised.then_some(before),
            are_short: !is_enough && !is_raised,
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(INSTANCES, before)
        {
            println!("  {INSTANCES} stays raised: {error}");
        }
    }
}

fn report_memory(count: u32, one: (u64, u64), many: (u64, u64)) {
    let row =
        |name: String, (resident, own): (u64, u64)| vec![name, mebibytes(resident), mebibytes(own)];
    table(
        &["memory", "resident", "without the program's file"],
        &[
            row("1 mailbox".into(), one),
            row(format!("{count} mailboxes"), many),
        ],
    );
    let each = many.0.saturating_sub(one.0) as f64 / f64::from(count.max(2) - 1);
    println!(
        "  {:.0} KiB each, so {:.0} MiB for {GOAL_MAILBOXES} (goal: <= 150 MiB)",
        each / 1024.0,
        (one.0 as f64 + each * GOAL_MAILBOXES) / f64::from(1 << 20),
    );
}

impl Idle {
    fn start(stand: &Stand, tag: &str, count: u32) -> Result<Self> {
        let users: Vec<String> = (0..count)
            .map(|number| format!("idle-{tag}-{number}@acme.example"))
            .collect();
        let room = Room::new(stand, &users, "ten.js", TEN_JS.as_bytes())?;
        let before = sign_ins(stand);
        let started = Instant::now();
        let log = room.path().join("run.log");
        let service = Background::start(room.postroom(&["run"])?.env("RUST_LOG", LOG), &log)?;
        await_sign_ins(stand, before + count as usize, &log)?;
        let signed_in = started.elapsed();
        let mut resident = service.rss()?;
        let mut since = Instant::now();
        while since.elapsed() < SETTLED {
            std::thread::sleep(Duration::from_millis(100));
            let now = service.rss()?;
            if now != resident {
                (resident, since) = (now, Instant::now());
            }
            ensure!(started.elapsed() < PATIENCE, "the memory does not settle");
        }
        Ok(Self {
            own: service.own_memory()?,
            room,
            users,
            service,
            signed_in,
            resident,
        })
    }

    fn wake_ups_a_minute(&self, watched: Duration) -> Result<f64> {
        Ok(self.service.wake_ups(watched)? as f64 * 60.0 / watched.as_secs_f64())
    }

    /// Prints the wake-ups, and each mailbox's share beyond `basic`, those of a service with one mailbox.
    fn report_wake_ups(&self, watched: Duration, basic: f64) -> Result<()> {
        let cpu = self.service.cpu()?;
        let all = self.wake_ups_a_minute(watched)?;
        let cpu = self.service.cpu()?.saturating_sub(cpu);
        let more = (self.users.len().max(2) - 1) as f64;
        println!(
            "  without mail: {all:.0} wake-ups a minute ({basic:.0} with 1 mailbox), {:.1} for each mailbox; {} of processor time a minute",
            (all - basic).max(0.0) / more,
            time(cpu.div_f64(watched.as_secs_f64() / 60.0)),
        );
        Ok(())
    }

    /// Delivers mails one by one, and measures the time until the log says that each is decided, which it does after the commit.
    /// The time begins before the delivery does.
    fn report_deliveries(self, stand: &Stand) -> Result<()> {
        let before = sessions(stand)?;
        ensure!(
            before.len() == self.users.len(),
            "{} sessions are open for {} mailboxes",
            before.len(),
            self.users.len()
        );
        let log = self.room.path().join("run.log");
        let mut chance = Chance::new(29);
        let mut sent: Vec<(usize, Timestamp)> = Vec::new();
        for number in 0..DELIVERIES {
            let to = chance.below(self.users.len() as u64) as usize;
            sent.push((to, Timestamp::now()));
            stand.deliver(&self.users[to], mail(number, &self.users[to]).as_bytes())?;
            std::thread::sleep(
                PAUSE / 2 + Duration::from_micros(chance.below(PAUSE.as_micros() as u64)),
            );
        }
        let all_decided = || decided(&log).is_ok_and(|mails| mails.len() == sent.len());
        ensure!(
            wait_for(PATIENCE, all_decided),
            "mails stay undecided:\n{}",
            tail(&log)
        );
        let decided = decided(&log)?;
        let mut taken = Vec::new();
        let mut received: BTreeMap<usize, u32> = BTreeMap::new();
        for (number, (to, at)) in sent.iter().enumerate() {
            let (mailbox, decided) = decided
                .get(&message_id(number as u32))
                .with_context(|| format!("mail {number} is not decided"))?;
            ensure!(
                *mailbox == format!("box{to}"),
                "mail {number} to box{to} was decided in {mailbox}"
            );
            taken.push(Duration::try_from(decided.duration_since(*at))?);
            *received.entry(*to).or_default() += 1;
        }
        for (to, count) in &received {
            let user = &self.users[*to];
            // The acknowledgement follows the commit.
            let is_moved = || check_moved(stand, user, *count).is_ok();
            if !wait_for(PATIENCE, is_moved) {
                check_moved(stand, user, *count).with_context(|| user.clone())?;
            }
        }
        let lost = before.difference(&sessions(stand)?).count();
        ensure!(lost == 0, "{lost} sessions ended meanwhile");
        self.service.stop()?;
        self.room.check_ledger(u64::from(DELIVERIES))?;
        println!(
            "  {DELIVERIES} mails to {} of them, from before the delivery to the committed decision: median {}, p99 {}, slowest {} (goal: p99 <= 1 s)",
            received.len(),
            time(median(&taken)),
            time(percentile(&taken, 0.99)),
            time(percentile(&taken, 1.0)),
        );
        println!("  every mail decided once and moved in its own mailbox; no session ended");
        Ok(())
    }
}

/// Returns the mailbox of each decided mail and the time at which the log says so, by Message-ID.
fn decided(log: &Path) -> Result<HashMap<String, (String, Timestamp)>> {
    let text = fs::read_to_string(log)?;
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let mut mails = HashMap::new();
    for line in complete.lines().filter(|line| line.contains(DECIDED)) {
        let field = |name: &str| {
            let value = line.split_whitespace().find_map(|it| it.strip_prefix(name));
            value.map(|it| it.trim_matches('"').to_owned())
        };
        let at: Timestamp = line.split_whitespace().next().unwrap_or_default().parse()?;
        let (Some(id), Some(mailbox)) = (field("message_id="), field("mailbox=")) else {
            continue;
        };
        ensure!(
            mails.insert(id.clone(), (mailbox, at)).is_none(),
            "{id} was decided twice"
        );
    }
    Ok(mails)
}

fn message_id(number: u32) -> String {
    format!("{number}.idle@mail.acme.example")
}

fn mail(number: u32, to: &str) -> String {
    format!(
        "From: dana@acme.example\r\nTo: {to}\r\nSubject: Screen {number} stays black\r\nMessage-ID: <{}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nCould somebody come by?\r\n",
        message_id(number)
    )
}
