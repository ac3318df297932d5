//! Real proxies for one test each: tinyproxy for HTTP and CONNECT, microsocks for SOCKS 5.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::process::{Group, Janitor};

/// The user and the password of a proxy that requires them.
pub const PROXY_USER: &str = "postroom";
pub const PROXY_PASSWORD: &str = "stand-proxy-password";

const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// The number of retries if another process takes the port first.
const PORT_ATTEMPTS: usize = 10;

/// A running proxy on this machine. Dropping it stops it.
pub struct ProxyServer {
    scheme: &'static str,
    port: u16,
    log: PathBuf,
    _process: Group,
    _janitor: Janitor,
    _dir: TempDir,
}

impl ProxyServer {
    /// Starts an HTTP proxy, which may require [`PROXY_USER`].
    pub fn http(with_password: bool) -> Result<Self> {
        Self::start("http", "tinyproxy", |port, log| {
            let mut config = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogFile \"{log}\"\nLogLevel Connect\nAllow 127.0.0.1\nDisableViaHeader Yes\n"
            );
            if with_password {
                let _ = writeln!(config, "BasicAuth {PROXY_USER} {PROXY_PASSWORD}");
            }
            let file = format!("{log}.conf");
            fs::write(&file, config)?;
            Ok(["-d", "-c", &file].map(str::to_owned).to_vec())
        })
    }

    /// Starts a SOCKS 5 proxy, which may require [`PROXY_USER`].
    pub fn socks(with_password: bool) -> Result<Self> {
        Self::start("socks5", "microsocks", |port, _| {
            let mut args = vec!["-i".to_owned(), "127.0.0.1".into(), "-p".into()];
            args.push(port.to_string());
            if with_password {
                args.extend(["-u", PROXY_USER, "-P", PROXY_PASSWORD].map(str::to_owned));
            }
            Ok(args)
        })
    }

    fn start(
        scheme: &'static str,
        program: &str,
        args: impl Fn(u16, &str) -> Result<Vec<String>>,
    ) -> Result<Self> {
        for _ in 0..PORT_ATTEMPTS {
            let dir = TempDir::with_prefix("postroom-proxy-")?;
            let janitor = Janitor::spawn(dir.path())?;
            let log = dir.path().join("proxy.log");
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let args = args(port, &log.to_string_lossy())?;
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut process = Group::spawn(dir.path(), "proxy", &log, program.as_ref(), &args)?;
            let deadline = Instant::now() + READY_TIMEOUT;
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                if !process.is_running()? || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if process.is_running()? {
                return Ok(Self {
                    scheme,
                    port,
                    log,
                    _process: process,
                    _janitor: janitor,
                    _dir: dir,
                });
            }
        }
        bail!("{program} did not start after {PORT_ATTEMPTS} attempts (is `make setup` done?)")
    }

    /// Returns the proxy's URL without user and password.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Returns what the proxy logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
