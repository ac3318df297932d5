//! Deliveries of several clients beside each other: a receiver that does not answer holds up its own client only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use postroom_e2e::{Room, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET};

/// Far less than a receiver may take for its answer.
const SOON: Duration = Duration::from_secs(15);

/// A receiver that answers one request after the other with these codes and tells of each; none after the last.
fn receiver(codes: &'static [u16]) -> (String, Receiver<u16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut codes = codes.iter();
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            let code = codes.next().copied().unwrap_or_default();
            if code == 0 {
                hanging.push(stream);
            } else {
                let answer =
                    format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
            if tell.send(code).is_err() {
                return;
            }
        }
    });
    (url, told)
}

fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).unwrap();
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "half a head: {text}");
            continue;
        };
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length:"));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if body.len() >= length || read == 0 {
            return;
        }
    }
}

#[test]
fn a_receiver_that_hangs_delays_no_other_clients_retry() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let (slow, slow_told) = receiver(&[]);
    let (busy, busy_told) = receiver(&[503, 200]);
    room.write("secret", WEBHOOK_SECRET);
    let mut config = String::from("data_dir = \"data\"\n");
    for (tenant, url) in [("slow", &slow), ("busy", &busy)] {
        config += &format!(
            "[tenants.{tenant}]\n[mailboxes.{tenant}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool/{tenant}\"\nevery = \"1s\"\n[sinks.{tenant}]\nkind = \"webhook\"\nurl = {url:?}\nsecret = {{ file = \"secret\" }}\ntenants = [{tenant:?}]\n"
        );
    }
    room.write("postroom.toml", config);
    // More than are under way at a time.
    for number in 0..6 {
        room.write(
            &format!("spool/slow/{number}.eml"),
            mail(&format!("slow {number}"), "…"),
        );
    }
    let running = room.start();
    for _ in 0..4 {
        assert_eq!(slow_told.recv_timeout(SOON), Ok(0));
    }
    room.write("spool/busy/1.eml", mail("busy", "…"));
    assert_eq!(busy_told.recv_timeout(SOON), Ok(503));
    assert_eq!(busy_told.recv_timeout(SOON), Ok(200));
    drop(running);
}
