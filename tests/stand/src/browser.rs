//! A real browser, Chromium without a window, driven through chromedriver (W3C WebDriver), for sign-ins as a person does
//! them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::Group;
use crate::wait_for;
use crate::wire::Wire;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for an element to appear.
const ELEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The key under which WebDriver names an element (W3C WebDriver section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// WebDriver's error for an element of a page that is no longer shown (section 6.6).
const STALE: &str = "stale element reference";

/// chromedriver's response to a command that failed.
#[derive(Debug)]
struct Refusal {
    error: String,
    message: String,
}

/// A running browser with one window and a fresh profile. Dropping it ends the browser.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Group,
}

impl Browser {
    /// Starts chromedriver and Chromium; profile and logs are in `dir`, a folder of the stand.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("browser-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let profile = dir.join(&name);
        fs::create_dir(&profile)?;
        let log = dir.join(format!("{name}.log"));
        let mut driver = Group::spawn(
            dir,
            &name,
            &log,
            &binary("chromedriver")?,
            &["--port=0", "--allowed-ips=127.0.0.1"],
        )?;
        let deadline = Instant::now() + READY_TIMEOUT;
        let port = loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(port) = port_in(&said) {
                break port;
            }
            ensure!(
                driver.is_running()? && Instant::now() < deadline,
                "chromedriver did not start:\n{said}"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut browser = Self {
            port,
            session: String::new(),
            _driver: driver,
        };
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "timeouts": { "implicit": ELEMENT_TIMEOUT.as_millis() },
            "goog:chromeOptions": {
                "binary": binary("chromium")?,
                "args": [
                    "--headless=new",
                    // Tests may run as root, in containers with a small /dev/shm.
                    "--no-sandbox",
                    "--disable-dev-shm-usage",
                    "--disable-gpu",
                    "--no-first-run",
                    "--disable-background-networking",
                    format!("--user-data-dir={}", profile.display()),
                ],
            },
        }}});
        let started = browser.call("POST", "", &capabilities)?;
        browser.session = started["sessionId"]
            .as_str()
            .context("chromedriver started no session")?
            .to_owned();
        Ok(browser)
    }

    /// Opens a URL and waits until the page is loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": url }))?;
        Ok(())
    }

    /// Types a text into the element of a CSS selector, replacing its content.
    pub fn fill(&self, css: &str, text: &str) -> Result<()> {
        self.act(css, "clear", &json!({}))?;
        self.act(css, "value", &json!({ "text": text }))
    }

    /// Clicks the element of a CSS selector.
    pub fn click(&self, css: &str) -> Result<()> {
        self.act(css, "click", &json!({}))
    }

    /// Returns the page's text, as a person sees it.
    pub fn text(&self) -> Result<String> {
        let script = json!({
            "script": "return document.body?.innerText ?? ''", "args": [],
        });
        let value = self.call("POST", "/execute/sync", &script)?;
        Ok(value.as_str().context("no text")?.to_owned())
    }

    /// Returns the browser's current URL.
    pub fn url(&self) -> Result<String> {
        let value = self.call("GET", "/url", &Value::Null)?;
        Ok(value.as_str().context("no address")?.to_owned())
    }

    /// Waits until the page shows a text: a click returns before the next page is loaded.
    pub fn see(&self, text: &str) -> Result<()> {
        let shown = || self.text().is_ok_and(|page| page.contains(text));
        ensure!(
            wait_for(PAGE_TIMEOUT, shown),
            "the page does not show {text:?}, but {:?}",
            self.text()
        );
        Ok(())
    }

    /// Waits until the browser's URL has this prefix, whether or not a server responds there, and returns the whole URL.
    pub fn arrive(&self, prefix: &str) -> Result<String> {
        let there = || self.url().is_ok_and(|url| url.starts_with(prefix));
        ensure!(
            wait_for(PAGE_TIMEOUT, there),
            "the browser is not at {prefix}, but at {:?}",
            self.url()
        );
        self.url()
    }

    /// Performs an action on an element, which is searched for again if the page changed meanwhile.
    fn act(&self, css: &str, action: &str, body: &Value) -> Result<()> {
        let deadline = Instant::now() + ELEMENT_TIMEOUT;
        loop {
            let question = json!({ "using": "css selector", "value": css });
            let found = self.call("POST", "/element", &question)?;
            let element = found[ELEMENT].as_str().context("no element")?;
            match self.call("POST", &format!("/element/{element}/{action}"), body) {
                Err(refusal) if refusal.error == STALE && Instant::now() < deadline => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }

    /// Sends one WebDriver command; without a session it requests one.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let path = if self.session.is_empty() {
            "/session".to_owned()
        } else {
            format!("/session/{}{path}", self.session)
        };
        let (status, mut answer) = self
            .exchange(method, &path, body)
            .map_err(|error| Refusal {
                error: "no answer".into(),
                message: format!("{path}: {error:#}"),
            })?;
        let value = answer["value"].take();
        if status == 200 {
            return Ok(value);
        }
        let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Err(Refusal {
            error: word("error"),
            message: format!("{path}: {}", word("message")),
        })
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, answer) = Wire::plain(self.port)?.http(
            method,
            path,
            "application/json; charset=utf-8",
            body.as_bytes(),
        )?;
        Ok((status, serde_json::from_slice(&answer)?))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.message)
    }
}

impl std::error::Error for Refusal {}

/// Returns the port that chromedriver reports.
fn port_in(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("started successfully on port ")?;
    rest.split_once('.')?.0.parse().ok()
}

fn binary(name: &str) -> Result<PathBuf> {
    for folder in ["/usr/bin", "/usr/local/bin"] {
        let path = Path::new(folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{name} is missing: run `make setup`")
}
