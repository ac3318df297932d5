//! A real browser, Chromium without a window, driven through chromedriver (W3C WebDriver): for sign-ins as a person
//! makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::process::Group;
use crate::wire::Wire;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for an element that is not there yet.
const ELEMENT_TIMEOUT_MS: u64 = 10_000;
/// The key under which WebDriver names an element (W3C WebDriver section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one window and a fresh profile. Dropping it ends the browser.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Group,
}

impl Browser {
    /// Starts chromedriver and Chromium; profile and logs lie in `dir`, a folder of the stand.
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
            "timeouts": { "implicit": ELEMENT_TIMEOUT_MS },
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

    /// Opens an address and waits until the page is loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": url })).map(drop)
    }

    /// Types a text into the element of a CSS selector, in place of what is there.
    pub fn fill(&self, css: &str, text: &str) -> Result<()> {
        let element = self.element(css)?;
        self.call("POST", &format!("/element/{element}/clear"), &json!({}))?;
        self.call(
            "POST",
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        )
        .map(drop)
    }

    /// Clicks the element of a CSS selector.
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.element(css)?;
        self.call("POST", &format!("/element/{element}/click"), &json!({}))
            .map(drop)
    }

    /// The page's text, as a person sees it.
    pub fn text(&self) -> Result<String> {
        let element = self.element("body")?;
        self.string(&format!("/element/{element}/text"))
    }

    /// The address the browser is at.
    pub fn url(&self) -> Result<String> {
        self.string("/url")
    }

    fn string(&self, path: &str) -> Result<String> {
        let value = self.call("GET", path, &Value::Null)?;
        Ok(value.as_str().context("no text")?.to_owned())
    }

    fn element(&self, css: &str) -> Result<String> {
        let question = json!({ "using": "css selector", "value": css });
        let found = self.call("POST", "/element", &question)?;
        Ok(found[ELEMENT].as_str().context("no element")?.to_owned())
    }

    /// One WebDriver command; without a session it asks for one.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let path = if self.session.is_empty() {
            "/session".to_owned()
        } else {
            format!("/session/{}{path}", self.session)
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, answer) = Wire::plain(self.port)?.http(
            method,
            &path,
            "application/json; charset=utf-8",
            body.as_bytes(),
        )?;
        let mut answer: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("chromedriver answered {status} without JSON"))?;
        let value = answer["value"].take();
        if status == 200 {
            return Ok(value);
        }
        Err(anyhow!(
            "{path}: {}: {}",
            value["error"].as_str().unwrap_or("unknown error"),
            value["message"].as_str().unwrap_or_default()
        ))
    }
}

/// The port chromedriver says it listens on.
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
