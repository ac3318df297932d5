//! Connections through real proxies: tinyproxy for HTTP and CONNECT, microsocks for SOCKS 5. The proxy's own log proves what went
//! through it.

use postroom_e2e::leak::Needles;
use postroom_e2e::{Room, both, mail};
use postroom_stand::{CLIENT_ID, PASSWORD, PROXY_PASSWORD, PROXY_USER, ProxyServer, Stand};
use serde_json::Value;

/// Returns a proxy as the configuration names it, with its credentials.
fn signed_in(proxy: &ProxyServer) -> String {
    format!(
        "{{ url = {:?}, user = {PROXY_USER:?}, password = {{ env = \"PROXY_PASSWORD\" }} }}",
        proxy.url()
    )
}

/// Returns a room whose configuration ends with these lines, and whose logging is complete.
fn room<'a>(stand: &'a Stand, more: &str) -> Room<'a> {
    let mut room = Room::bare(stand);
    room.set_env("PROXY_PASSWORD", PROXY_PASSWORD);
    room.set_env("RUST_LOG", "trace");
    room.set_env("RUST_BACKTRACE", "full");
    room.write("postroom.toml", room.config(&["standard"], more));
    room
}

/// Puts the room's mailbox at Graph, opened by an application.
fn at_graph(room: &Room, more: &str) {
    let stand = room.stand;
    let profile = format!(
        "provider = \"microsoft\"\ntenant = {tenant:?}\ntoken_url = {token_url:?}\nclient_id = {CLIENT_ID:?}\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\ngrant = \"client-credentials\"",
        tenant = room.directory(),
        token_url = stand.token_url(&room.directory()),
    );
    let imap = format!(
        "protocol = \"imap\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\n",
        stand.ports().imaps
    );
    let graph = format!(
        "protocol = \"graph\"\nbase_url = {:?}\n",
        stand.graph().base_url()
    );
    let config = room.config_with(&profile, &["standard"], more);
    assert!(config.contains(&imap), "{config}");
    room.write("postroom.toml", config.replace(&imap, &graph));
}

fn tested(room: &Room, args: &[&str]) -> Vec<Value> {
    let output = room.postroom(&[args, &["--json"]].concat());
    let steps = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", both(&output))))
        .collect::<Vec<Value>>();
    assert!(!steps.is_empty(), "{}", both(&output));
    steps
}

fn step<'v>(steps: &'v [Value], part: &str, step: &str) -> &'v Value {
    steps
        .iter()
        .find(|it| it["part"] == part && it["step"] == step)
        .unwrap_or_else(|| panic!("no step {step} of {part}: {steps:#?}"))
}

/// Checks that nothing in the room's files and outputs shows the proxy's password, in any form.
fn assert_no_password(room: &Room) {
    let log = std::fs::read_to_string(room.path().join("output.log")).unwrap();
    assert!(log.contains("TRACE"), "logging was not complete");
    let pair = format!("{PROXY_USER}:{PROXY_PASSWORD}");
    let needles = Needles::new([PROXY_PASSWORD.as_bytes(), pair.as_bytes()]);
    assert_eq!(needles.found_below(room.path(), &[]), Vec::<String>::new());
}

#[test]
fn mail_goes_through_socks_and_connect() {
    let stand = Stand::shared().expect("the test stand");
    let ports = stand.ports();
    for proxy in [ProxyServer::socks(true), ProxyServer::http(true)] {
        let proxy = proxy.expect("a proxy");
        let more = format!("[proxy]\nloopback = true\nmail = {}\n", signed_in(&proxy));
        let room = room(stand, &more);
        room.deliver(mail("by proxy", "help"));
        room.once();
        assert_eq!(room.decision("by proxy")["outcome"], "ticket");
        let steps = tested(
            &room,
            &[
                "mailbox",
                "test",
                "support",
                "--send-to",
                "dana@acme.example",
            ],
        );
        for part in ["in", "out"] {
            let shown = step(&steps, part, "proxy");
            assert_eq!(
                (&shown["ok"], &shown["detail"]),
                (&true.into(), &proxy.url().into())
            );
            let connected = step(&steps, part, "connect")["detail"].to_string();
            assert!(connected.contains("through the proxy"), "{connected}");
        }
        assert!(steps.iter().all(|it| it["ok"] == true), "{steps:#?}");
        let log = proxy.log();
        for port in [ports.imaps, ports.submission] {
            assert!(log.contains(&format!("localhost:{port}")), "{port}: {log}");
        }
        assert_no_password(&room);

        // POP3 through the proxy of its own mailbox, which counts for this machine as well.
        let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
        let own = format!("protocol = \"pop3\"\nproxy = {}\n", signed_in(&proxy));
        let config = config
            .replace(&more, "")
            .replace("protocol = \"imap\"\n", &own)
            .replace(&ports.imaps.to_string(), &ports.pop3s.to_string())
            .replace(
                "after = { done = \"move:Processed\", failed = \"move:Failed\" }\n",
                "",
            );
        room.write("postroom.toml", config);
        let steps = tested(&room, &["mailbox", "test", "support"]);
        assert_eq!(step(&steps, "in", "proxy")["ok"], true, "{steps:#?}");
        assert_eq!(step(&steps, "in", "list")["ok"], true, "{steps:#?}");
        let log = proxy.log();
        assert!(log.contains(&format!("localhost:{}", ports.pop3s)), "{log}");
    }
}

#[test]
fn tokens_graph_and_webhooks_go_through_the_http_proxy() {
    let stand = Stand::shared().expect("the test stand");
    for proxy in [ProxyServer::http(true), ProxyServer::socks(true)] {
        let proxy = proxy.expect("a proxy");
        let more = format!("[proxy]\nloopback = true\nhttp = {}\n", signed_in(&proxy));
        let mut room = room(stand, "");
        at_graph(&room, &more);
        stand.graph().deliver(&room.user, mail("by proxy", "help"));
        room.once();
        assert_eq!(room.decision("by proxy")["outcome"], "ticket");
        assert_eq!(room.posted_once(), 1);
        let log = proxy.log();
        let port_of = |url: &str| {
            let (_, rest) = url.split_once("://").expect("a URL");
            rest.split('/').next().expect("a host").to_owned()
        };
        for url in [
            stand.token_url(&room.directory()),
            stand.graph().base_url(),
            stand.webhook().url(),
        ] {
            assert!(log.contains(&port_of(&url)), "{url}: {log}");
        }
        let steps = tested(&room, &["mailbox", "test", "support"]);
        assert_eq!(step(&steps, "in", "proxy")["detail"], proxy.url());
        let steps = tested(&room, &["target", "test", "psa", "--send-event"]);
        assert_eq!(step(&steps, "out", "proxy")["detail"], proxy.url());
        assert!(steps.iter().all(|it| it["ok"] == true), "{steps:#?}");

        // EWS, through the proxy of its own mailbox.
        let own = format!(
            "[tls]\nca = {:?}\n[tenants.acme]\n[mailboxes.support]\ntenant = \"acme\"\nprotocol = \"ews\"\nurl = {:?}\naddress = {:?}\npassword = {{ env = \"EWS_PASSWORD\" }}\nproxy = {}\n",
            stand.ca_pem(),
            stand.ews().url(),
            room.user,
            signed_in(&proxy)
        );
        room.set_env("EWS_PASSWORD", PASSWORD);
        room.write("postroom.toml", own);
        stand
            .ews()
            .deliver(&room.user, mail("by proxy", "help").as_bytes());
        let steps = tested(&room, &["mailbox", "test", "support"]);
        assert_eq!(step(&steps, "in", "proxy")["detail"], proxy.url());
        assert!(steps.iter().all(|it| it["ok"] == true), "{steps:#?}");
        let log = proxy.log();
        assert!(log.contains(&port_of(&stand.ews().url())), "{log}");
        assert_no_password(&room);
    }
}

#[test]
fn the_environment_names_the_proxy_unless_the_configuration_does() {
    let stand = Stand::shared().expect("the test stand");
    let (environment, configured) = (ProxyServer::http(true), ProxyServer::http(false));
    let (environment, configured) = (environment.expect("a proxy"), configured.expect("a proxy"));
    let url = environment.url();
    let url = url.replace("://", &format!("://{PROXY_USER}:{PROXY_PASSWORD}@"));
    let mut room = room(stand, "");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        room.set_env(name, &url);
    }
    let requests = |proxy: &ProxyServer| proxy.log().matches("Request").count();
    // This machine is never contacted through a proxy that only the environment names.
    room.deliver(mail("first", "help"));
    room.once();
    assert_eq!(requests(&environment), 0, "{}", environment.log());
    room.write(
        "postroom.toml",
        room.config(&["standard"], "[proxy]\nloopback = true\n"),
    );
    room.deliver(mail("second", "help"));
    room.once();
    assert!(requests(&environment) >= 1, "{}", environment.log());
    let imaps = format!("localhost:{}", stand.ports().imaps);
    assert!(!environment.log().contains(&imaps), "{}", environment.log());
    let before = requests(&environment);
    let own = format!("[proxy]\nloopback = true\nhttp = {:?}\n", configured.url());
    room.write("postroom.toml", room.config(&["standard"], &own));
    room.deliver(mail("third", "help"));
    room.once();
    assert_eq!(requests(&environment), before);
    assert!(requests(&configured) >= 1, "{}", configured.log());
    assert_eq!(room.posted_once(), 3);
    assert_no_password(&room);
}

#[test]
fn a_proxy_that_is_down_or_refuses_says_so() {
    let stand = Stand::shared().expect("the test stand");
    // Nothing listens at port 1.
    let dead = 1;
    let (http, socks) = (ProxyServer::http(true), ProxyServer::socks(true));
    let (http, socks) = (http.expect("a proxy"), socks.expect("a proxy"));
    let wrong = |url: String| {
        format!("{{ url = {url:?}, user = \"other\", password = {{ env = \"PROXY_PASSWORD\" }} }}")
    };
    for (proxy, words) in [
        (
            format!("\"socks5://127.0.0.1:{dead}\""),
            ["is unreachable", "no_proxy"],
        ),
        (
            format!("\"http://127.0.0.1:{dead}\""),
            ["is unreachable", "no_proxy"],
        ),
        (
            format!("{:?}", http.url()),
            ["requires a user and a password", "password = "],
        ),
        (
            format!("{:?}", socks.url()),
            ["requires a user and a password", "password = "],
        ),
        (
            wrong(http.url()),
            ["the user or the password", "password = "],
        ),
        (
            wrong(socks.url()),
            ["the user or the password", "password = "],
        ),
        // One kind of proxy in place of the other.
        (
            format!("{:?}", socks.url().replace("socks5", "http")),
            ["the proxy http://", "socks5:// for SOCKS"],
        ),
    ] {
        let more = format!("[proxy]\nloopback = true\nmail = {proxy}\nhttp = {proxy}\n");
        let room = room(stand, &more);
        let steps = tested(&room, &["mailbox", "test", "support"]);
        let shown = step(&steps, "in", "proxy");
        let said = format!("{} {} {}", shown["error"], shown["advice"], shown["steps"]);
        assert_eq!(shown["ok"], false, "{steps:#?}");
        for word in words {
            assert!(said.replace("\\\"", "\"").contains(word), "{word}: {said}");
        }
        at_graph(&room, &more);
        let steps = tested(&room, &["target", "test", "psa"]);
        assert_eq!(step(&steps, "out", "proxy")["ok"], false, "{steps:#?}");
        // A token request has no step of its own for the proxy: its reason names it.
        let output = room.postroom(&["run", "--once"]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() || log.contains("ERROR"),
            "{}",
            both(&output)
        );
        assert!(
            log.contains("the authorization server could not answer: the proxy "),
            "{}",
            both(&output)
        );
        assert_no_password(&room);
    }
}
