//! An IMAP server that follows a script, for the behaviour of servers that cannot be installed here.
//!
//! A script is a text file. `C: PATTERN` names a command of the client, without its tag; `*` at its end stands for any rest,
//! and `(connect)` for a new connection. The lines `S: …` below it are the response: `{tag}` is the command's tag, and
//! `{mail:NAME}` a literal with the content of `NAME.eml`. `S: (close)` ends the connection. If a pattern occurs several
//! times, its responses are given in turn, and the last one from then on. `C after WORD: PATTERN` applies only once the client
//! has sent a command that begins with WORD on that connection; it takes precedence. `session` begins the script of the next
//! process. Lines that begin with `#` are comments. A command without a pattern gets an ordinary response.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The capabilities unless the script says otherwise.
const CAPABILITY: &str =
    "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE UIDPLUS MOVE\r\n{tag} OK done\r\n";
/// The command that stands for a new connection.
pub const CONNECT: &str = "(connect)";
const CLOSE: &str = "(close)";

/// The server; it ends when dropped.
pub struct ScriptedImap {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// How often each pattern was used.
    used: HashMap<(Option<String>, String), usize>,
    /// Every command of the session, and [`CONNECT`] for each connection.
    commands: Vec<String>,
}

/// A command of the client and its response.
#[derive(Clone)]
struct Rule {
    after: Option<String>,
    pattern: String,
    response: String,
}

/// The sessions of a script.
pub struct Script(Vec<Vec<Rule>>);

impl Script {
    /// Reads `server.txt` and the mails next to it.
    pub fn read(folder: &Path) -> Self {
        let file = folder.join("server.txt");
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::parse(&text, folder)
    }

    /// Reads a script whose mails are in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Self {
        let mut sessions: Vec<Vec<Rule>> = vec![Vec::new()];
        for line in text.lines() {
            let rules = sessions.last_mut().expect("a session");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "session" {
                if !rules.is_empty() {
                    sessions.push(Vec::new());
                }
                continue;
            }
            if let Some(said) = line.strip_prefix("S: ") {
                let rule = rules.last_mut().expect("a C: line first");
                rule.response.push_str(&with_mails(said, folder));
                rule.response.push_str("\r\n");
                continue;
            }
            let command = line
                .strip_prefix('C')
                .and_then(|rest| rest.split_once(": "));
            let (condition, pattern) = command.unwrap_or_else(|| panic!("not C: or S: {line}"));
            rules.push(Rule {
                after: condition.strip_prefix(" after ").map(str::to_owned),
                pattern: pattern.to_owned(),
                response: String::new(),
            });
        }
        Self(sessions)
    }

    /// Returns the number of sessions.
    pub fn sessions(&self) -> usize {
        self.0.len()
    }
}

fn with_mails(line: &str, folder: &Path) -> String {
    let Some((before, rest)) = line.split_once("{mail:") else {
        return line.to_owned();
    };
    let (name, after) = rest.split_once('}').expect("{mail:NAME}");
    let file = folder.join(format!("{name}.eml"));
    let mail = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mail = mail.replace("\r\n", "\n").replace('\n', "\r\n");
    format!(
        "{before}{{{}}}\r\n{mail}{}",
        mail.len(),
        with_mails(after, folder)
    )
}

impl ScriptedImap {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let serving = serving.clone();
                // A client's disconnect is not the server's concern.
                std::thread::spawn(move || serving.serve(stream).ok());
            }
        });
        Self {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Follows this session of a script from now on, and forgets the commands so far.
    pub fn follow(&self, script: &Script, session: usize) {
        *self.shared.state.lock().expect("the script") = State {
            rules: script.0[session].clone(),
            ..State::default()
        };
    }

    /// Returns the commands of the session so far.
    pub fn commands(&self) -> Vec<String> {
        let state = self.shared.state.lock().expect("the script");
        state.commands.clone()
    }
}

impl Drop for ScriptedImap {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut say = stream.try_clone()?;
        let mut sent = Vec::new();
        let mut lines = BufReader::new(stream).lines();
        let (mut command, mut tag) = (CONNECT.to_owned(), String::new());
        loop {
            let response = self.respond(&command, &sent).replace("{tag}", &tag);
            let (response, ends) = match response.split_once(CLOSE) {
                Some((before, _)) => (before, true),
                None => (response.as_str(), command == "LOGOUT"),
            };
            say.write_all(response.as_bytes())?;
            if ends {
                return Ok(());
            }
            sent.push(std::mem::take(&mut command));
            let Some(line) = lines.next() else {
                return Ok(());
            };
            let line = line?;
            // DONE has no tag: it ends the IDLE before it.
            match line.split_once(' ') {
                Some((new, rest)) => (tag, command) = (new.to_owned(), rest.to_owned()),
                None => command = line,
            }
        }
    }

    fn respond(&self, command: &str, sent: &[String]) -> String {
        let mut state = self.state.lock().expect("the script");
        state.commands.push(command.to_owned());
        let was_sent = |word: &str| sent.iter().any(|it| it.starts_with(word));
        let applies = |rule: &&Rule| {
            let matches = match rule.pattern.strip_suffix('*') {
                Some(beginning) => command.starts_with(beginning),
                None => command == rule.pattern,
            };
            matches && rule.after.as_deref().is_none_or(was_sent)
        };
        let fitting: Vec<&Rule> = state.rules.iter().filter(applies).collect();
        let chosen = fitting.iter().find(|it| it.after.is_some());
        let Some(first) = chosen.or(fitting.first()) else {
            return usual(command);
        };
        let key = (first.after.clone(), first.pattern.clone());
        let alike: Vec<&&Rule> = fitting
            .iter()
            .filter(|it| (&it.after, &it.pattern) == (&key.0, &key.1))
            .collect();
        let used = state.used.get(&key).copied().unwrap_or(0);
        let response = alike[used.min(alike.len() - 1)].response.clone();
        *state.used.entry(key).or_default() += 1;
        response
    }
}

/// Returns the response of an ordinary server whose folder is empty.
fn usual(command: &str) -> String {
    match command.split(' ').next().unwrap_or_default() {
        CONNECT => "* OK ready\r\n".into(),
        "CAPABILITY" => CAPABILITY.into(),
        "SELECT" => {
            "* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n{tag} OK done\r\n"
                .into()
        }
        "IDLE" => "+ idling\r\n".into(),
        "LOGOUT" => "* BYE\r\n{tag} OK done\r\n".into(),
        _ => "{tag} OK done\r\n".into(),
    }
}
