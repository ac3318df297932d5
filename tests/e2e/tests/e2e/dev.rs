//! `postroom dev` on a terminal: what it shows of saves and mails, in `tests/cases/dev`, and that it serves like `run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, Session, Terminal, both, cases, mail, mail_from, root};
use postroom_stand::{Stand, wait_for};
use serde::Deserialize;

const RULE: &str = "rules/first.js";
/// With `UPDATE=1` a step is over when nothing was shown for this long.
const SETTLED: Duration = Duration::from_millis(1000);

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The purpose of the case, for a reader of a failure.
    about: String,
    #[serde(default = "usual_columns")]
    columns: u16,
    #[serde(default = "yes")]
    terminal: bool,
    #[serde(default)]
    args: Vec<String>,
}

fn usual_columns() -> u16 {
    80
}

fn yes() -> bool {
    true
}

/// The place where `postroom dev` writes its view.
enum Shown<'r, 's> {
    Terminal(Terminal),
    Pipe(Session<'r, 's>),
}

impl Shown<'_, '_> {
    fn text(&self) -> String {
        let text = match self {
            Self::Terminal(terminal) => terminal.text(),
            Self::Pipe(session) => session.stdout_so_far(),
        };
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        normal(lines.join("\n").trim_end())
    }
}

/// Every save and mail of a case shows the text of its `screen.txt`, and no line is wider than the terminal.
#[test]
fn each_case_shows_its_screen() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for folder in cases("tests/cases/dev") {
        if let Err(reason) = run(&folder, update) {
            wrong.push(reason);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The screen in the manual is that of the case `save`.
#[test]
fn the_manual_shows_a_true_screen() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let manual = normal(&read("docs/dev.md"));
    let mut screen = String::new();
    for line in read("tests/cases/dev/save/screen.txt").lines() {
        let is_second_blank = line.is_empty() && screen.ends_with("\n\n");
        if !line.starts_with("=== ") && !is_second_blank {
            screen.push_str(line);
            screen.push('\n');
        }
    }
    assert!(
        manual.contains(&screen),
        "docs/dev.md does not show\n{screen}"
    );
}

fn run(folder: &Path, update: bool) -> Result<(), String> {
    let name = folder.file_name().unwrap().to_string_lossy();
    let case = std::fs::read_to_string(folder.join("case.toml")).unwrap();
    let case: Case = toml::from_str(&case).unwrap();
    let room = Room::bare(stand());
    put(&room, &folder.join("room"));
    std::fs::create_dir_all(room.path().join("spool")).unwrap();
    let recorded = folder.join("recorded");
    if recorded.is_dir() {
        room.ok(&[
            "mail",
            "import",
            "--mailbox",
            "drop",
            recorded.to_str().unwrap(),
        ]);
    }
    let mut args = vec!["dev"];
    args.extend(case.args.iter().map(String::as_str));
    let shown = match case.terminal {
        true => Shown::Terminal(Terminal::start(&room.command(&args), case.columns)),
        false => Shown::Pipe(room.talk(&args)),
    };

    let file = folder.join("screen.txt");
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let mut expected = expected
        .split("\n\n=== ")
        .enumerate()
        .map(|(number, part)| {
            // The first line of later steps names the step.
            match number {
                0 => part,
                _ => part.split_once('\n').map_or("", |(_, part)| part),
            }
        });
    let steps = in_order(&folder.join("steps"));
    let mut story = String::new();
    let mut so_far = String::new();
    for step in std::iter::once(None).chain(steps.iter().map(Some)) {
        if let Some(step) = step {
            put(&room, step);
            let name = step.file_name().unwrap().to_string_lossy();
            story.push_str(&format!("\n\n=== {name}\n"));
        }
        let more = match update {
            true => settled(&shown, &so_far),
            false => {
                let more = expected.next().unwrap_or_default().trim_end();
                let all = format!("{so_far}{more}");
                if !wait_for(PATIENCE / 4, || shown.text() == all.trim_end()) {
                    return Err(format!(
                        "{name}: {}\nis not what is shown{}:\n{more}\nis shown:\n{}",
                        case.about,
                        step.map_or(String::new(), |step| format!(" after {}", step.display())),
                        shown.text().strip_prefix(&so_far).unwrap_or(&shown.text())
                    ));
                }
                more.to_owned()
            }
        };
        so_far.push_str(&more);
        story.push_str(more.trim_end());
        so_far = shown.text();
    }
    if let Shown::Terminal(terminal) = &shown {
        assert!(
            terminal.overlong().is_empty(),
            "{name}: {:#?}",
            terminal.overlong()
        );
    } else {
        assert!(!shown.text().contains('\u{1b}'), "{name}: {}", shown.text());
    }
    if update {
        std::fs::write(file, story + "\n").unwrap();
    }
    Ok(())
}

/// Returns the further output, once no more comes.
fn settled(shown: &Shown<'_, '_>, so_far: &str) -> String {
    let mut last = shown.text();
    loop {
        std::thread::sleep(SETTLED);
        let now = shown.text();
        if now == last && now != so_far {
            return now.strip_prefix(so_far).unwrap_or(&now).to_owned();
        }
        last = now;
    }
}

/// Saves the files of a folder in the room, each by renaming, as editors do.
fn put(room: &Room<'_>, folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for path in in_order(&at) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let target = room.path().join(path.strip_prefix(folder).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let fresh = target.with_extension("tmp");
            std::fs::copy(&path, &fresh).unwrap();
            std::fs::rename(&fresh, &target).unwrap();
        }
    }
}

fn in_order(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Replaces times of day and durations, which differ each time.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let is_time = |it: &str| {
            it.len() == 8
                && it.char_indices().all(|(at, c)| match at {
                    2 | 5 => c == ':',
                    _ => c.is_ascii_digit(),
                })
        };
        let line = match line.get(..8).filter(|begin| is_time(begin)) {
            Some(_) => format!("hh:mm:ss{}", &line[8..]),
            None => line.to_owned(),
        };
        let line = match line.split_once(" ms after the save") {
            Some((before, after)) => {
                let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
                format!("{before}N ms after the save{after}")
            }
            None => line,
        };
        out.push_str(&line);
        out.push('\n');
    }
    out.trim_end().to_owned()
}

/// Returns a room with one spool mailbox with this rule, and with this many recorded mails.
fn spooled(rule: &str, recorded: usize) -> Room<'static> {
    let room = Room::bare(stand());
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n\n[tenants.acme]\ndomains = [\"acme.example\"]\n\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\naddress = \"help@acme.example\"\nrules = [\"rules/first.js\", \"standard\"]\n",
    );
    room.write(RULE, rule);
    std::fs::create_dir_all(room.path().join("spool")).unwrap();
    for number in 0..recorded {
        room.write(
            &format!("recorded/{number:03}.eml"),
            mail(&format!("recorded {number}"), "…"),
        );
    }
    if recorded > 0 {
        room.ok(&["mail", "import", "--mailbox", "drop", "recorded"]);
    }
    room
}

fn queueing(queue: &str) -> String {
    format!("export function decide(mail) {{\n  return ticket({{ queue: \"{queue}\" }});\n}}\n")
}

/// A rule that never ends.
const ENDLESS: &str = "export function decide(mail) {\n  for (;;) {}\n}\n";

fn save(room: &Room<'_>, rule: &str) {
    room.write("rules/.first.js.swp", rule);
    std::fs::rename(
        room.path().join("rules/.first.js.swp"),
        room.path().join(RULE),
    )
    .unwrap();
}

fn drop_in(room: &Room<'_>, number: usize) {
    room.write(
        &format!("spool/{number:04}.tmp"),
        mail_from(
            &format!("Ann <ann@sender{number}.example>"),
            &format!("flow {number}"),
            "…",
            "",
        ),
    );
    let at = |ending: &str| room.path().join(format!("spool/{number:04}.{ending}"));
    std::fs::rename(at("tmp"), at("eml")).unwrap();
}

fn on_terminal(room: &Room<'_>, args: &[&str]) -> Terminal {
    let terminal = Terminal::start(&room.command(args), 80);
    terminal.await_text("Ctrl-C ends.");
    terminal
}

/// The replay of a rule that hangs on every mail ends after its time, and the save goes live; with enough time all mails
/// are replayed.
#[test]
fn a_slow_rule_keeps_no_save_from_going_live() {
    let room = spooled(&queueing("one"), 20);
    let mut terminal = on_terminal(&room, &["dev", "--within", "300ms"]);
    save(&room, ENDLESS);
    terminal.await_text("generation 2,");
    let text = terminal.text();
    assert!(
        text.contains("of the last 20 mails within the time, compared with generation 1"),
        "{text}"
    );
    assert!(!text.contains("20 new failures"), "{text}");
    terminal.interrupt();
    assert!(terminal.end().success(), "{}", terminal.text());

    save(&room, &queueing("one"));
    let mut terminal = on_terminal(&room, &["dev", "--within", "50s"]);
    save(&room, ENDLESS);
    terminal.await_text("20 new failures");
    terminal.await_text("the last 20 mails, compared with generation 3");
    terminal.await_text("live  generation 4,");
    // Twenty failures would be enough to roll it back, but those of a rehearsal do not count against the live version.
    drop_in(&room, 0);
    terminal.await_text("trouble  rules/first.js: deadline");
    terminal.interrupt();
    assert!(terminal.end().success(), "{}", terminal.text());
}

/// A replay covers only the last mails, and only those of the named mailboxes.
#[test]
fn so_many_mails_are_replayed_as_are_asked_for() {
    let room = spooled(&queueing("one"), 9);
    let terminal = on_terminal(&room, &["dev", "--mails", "4"]);
    terminal.await_text("4 same");
    save(&room, &queueing("two"));
    terminal.await_text("0 same · 4 changed (4 queue)");
    terminal.await_text("… 1 more; against the record, all: postroom replay --limit 4 --all");
    drop(terminal);

    let wrong = room.postroom(&["dev", "--mailbox", "drpo"]);
    assert!(!wrong.status.success());
    let told = both(&wrong);
    assert!(told.contains("did you mean `drop`?"), "{told}");
    for (option, value) in [("--mails", "0"), ("--mails", "2001"), ("--within", "1ms")] {
        let wrong = room.postroom(&["dev", option, value]);
        assert_eq!(
            wrong.status.code(),
            Some(2),
            "{option} {value}: {}",
            both(&wrong)
        );
    }
}

#[test]
fn a_resized_terminal_is_written_as_wide_as_it_is_now() {
    let room = spooled(&queueing("one"), 3);
    let terminal = on_terminal(&room, &["dev"]);
    for (number, columns) in [40, 120, 20, 80].into_iter().enumerate() {
        terminal.resize(columns);
        let queue =
            format!("{number} and a name that is far too long for most terminals there are");
        save(&room, &queueing(&queue));
        // As much of it as the narrowest terminal shows.
        terminal.await_times("    live  generation", number + 2);
        drop_in(&room, number);
        let shown = if columns == 20 { "ticket" } else { "flow" };
        terminal.await_times(shown, 1);
    }
    assert!(terminal.overlong().is_empty(), "{:#?}", terminal.overlong());
}

#[test]
fn colours_are_for_terminals_whose_owner_wants_them() {
    let mut room = spooled(&queueing("one"), 2);
    let mut terminal = on_terminal(&room, &["dev"]);
    save(&room, "export function decide( {}\n");
    terminal.await_text("not live");
    let red = b"\x1b[31m";
    let shows = |terminal: &Terminal| terminal.raw().windows(red.len()).any(|it| it == red);
    assert!(shows(&terminal), "{}", terminal.text());
    terminal.interrupt();
    assert!(terminal.end().success());
    assert!(wait_for(PATIENCE, || terminal
        .text()
        .contains("ended: 0 mails decided, 0 saves went live")));
    assert!(terminal.is_as_before(), "{}", terminal.text());

    room.set_env("NO_COLOR", "1");
    save(&room, &queueing("one"));
    let terminal = on_terminal(&room, &["dev"]);
    save(&room, "export function decide( {}\n");
    terminal.await_text("not live");
    assert!(!terminal.raw().contains(&0x1b), "{}", terminal.text());
}

/// Stopping the terminal to read stops no mail, and nothing is missing from the view.
#[test]
fn a_terminal_that_takes_nothing_holds_no_mail_up() {
    const CTRL_S: u8 = 0x13;
    const CTRL_Q: u8 = 0x11;
    let room = spooled(&queueing("one"), 1);
    let mut terminal = on_terminal(&room, &["dev"]);
    terminal.press(CTRL_S);
    for number in 0..30 {
        drop_in(&room, number);
    }
    assert!(
        wait_for(PATIENCE, || room.decisions().len() == 31),
        "{}",
        terminal.text()
    );
    assert!(!terminal.text().contains("flow"), "{}", terminal.text());
    terminal.press(CTRL_Q);
    terminal.await_times("flow ", 30);
    terminal.press(CTRL_S);
    terminal.interrupt();
    assert!(terminal.end().success(), "{}", terminal.text());
}

#[test]
fn one_service_at_a_time_and_the_hint_what_works_beside_it() {
    let room = spooled(&queueing("one"), 1);
    let _terminal = on_terminal(&room, &["dev"]);
    let second = room.postroom(&["dev"]);
    assert!(!second.status.success());
    let told = both(&second);
    assert!(told.contains("dev is a service, and another one"), "{told}");
    assert!(told.contains("already runs on"), "{told}");
    assert!(room.postroom(&["replay"]).status.success());
}

/// A rollback by another process and an automatic rollback are both shown.
#[test]
fn what_goes_back_is_told() {
    let room = spooled(&queueing("one"), 2);
    let terminal = on_terminal(&room, &["dev"]);
    save(&room, &queueing("two"));
    terminal.await_text("generation 2,");
    room.ok(&["rules", "rollback"]);
    terminal.await_text("rules/first.js went back");
    terminal.await_text("this version was rolled back to generation 1");
    terminal.await_text("rolled back to the previous version");
    save(
        &room,
        "export function decide(mail) {\n  return pass(mail.no.thing);\n}\n",
    );
    terminal.await_text("2 new failures");
    for number in 0..6 {
        drop_in(&room, number);
    }
    terminal.await_text("this version was rolled back: it failed for");
    assert!(terminal.overlong().is_empty(), "{:#?}", terminal.overlong());
}

/// The log lines of `run` are shown in the view, as wide as the terminal, and a save works as usual.
#[test]
fn troubles_of_mailboxes_are_shown_and_do_not_garble_the_rest() {
    let room = Room::bare(stand());
    room.write(RULE, queueing("one"));
    let port = format!("port = {}\n", room.stand.ports().imaps);
    let config = room.config(&[RULE, "standard"], "");
    assert!(config.contains(&port), "{config}");
    room.write("postroom.toml", config.replace(&port, "port = 1\n"));
    let terminal = on_terminal(&room, &["dev"]);
    terminal.await_text("error: mailbox paused: ");
    terminal.await_text("mailbox=support");
    save(&room, &queueing("two"));
    terminal.await_text("live  generation 2,");
    assert!(terminal.overlong().is_empty(), "{:#?}", terminal.overlong());
}

#[test]
fn while_mail_flows_no_mail_is_lost_or_decided_twice() {
    const MAILS: usize = 120;
    let room = spooled(&queueing("q0"), 50);
    let mut terminal = on_terminal(&room, &["dev"]);
    for number in 0..MAILS {
        drop_in(&room, number);
        if number % 15 == 7 {
            let rule = match number % 2 {
                0 => ENDLESS.to_owned(),
                _ => queueing(&format!("q{number}")),
            };
            save(&room, &rule);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    terminal.await_text(&format!("flow {}", MAILS - 1));
    assert!(
        wait_for(PATIENCE, || room.decisions().len() >= 50 + MAILS),
        "{}",
        terminal.text()
    );
    terminal.interrupt();
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(wait_for(PATIENCE, || terminal.text().contains("ended: ")));
    let text = terminal.text();
    for number in 0..MAILS {
        let line = format!("flow {number}");
        let shown = text
            .lines()
            .filter(|it| it.trim_end().ends_with(&line))
            .count();
        assert_eq!(shown, 1, "{line}\n{text}");
    }
    assert_eq!(room.decisions().len(), 50 + MAILS);
    room.assert_balanced((50 + MAILS) as u64);
    assert!(terminal.overlong().is_empty(), "{:#?}", terminal.overlong());
}
