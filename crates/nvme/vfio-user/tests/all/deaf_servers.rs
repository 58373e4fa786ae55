//! Servers that stall, die or lie, against our client: an error within the deadline, which names what was asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use strata_units::{ByteOffset, Nanos};
use strata_vfio_user::{Asked, Client, ClientError};
use tempfile::TempDir;

use crate::raw::{header, longs, words};
use crate::rig::{LONG, folder};

const SHORT: Nanos = Nanos(150_000_000);

/// A server that does to its first client what it is told to.
struct Fake {
    folder: TempDir,
    thread: JoinHandle<()>,
}

impl Fake {
    fn new(plays: impl FnOnce(&mut UnixStream) + Send + 'static) -> Fake {
        let folder = folder();
        let listener = UnixListener::bind(folder.path().join("cntrl")).expect("bound");
        let thread = spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            plays(&mut stream);
        });
        Fake { folder, thread }
    }

    fn client(&self, within: Nanos) -> Result<Client, ClientError> {
        Client::connect(self.folder.path(), within)
    }

    fn end(self) {
        self.thread.join().expect("no panic");
    }
}

/// The next request: its header and what stands behind it.
fn request(stream: &mut UnixStream) -> (Vec<u8>, Vec<u8>) {
    let mut head = vec![0; 16];
    stream.read_exact(&mut head).expect("a request");
    let size = u32::from_le_bytes(head[4..8].try_into().expect("four"));
    let mut body = vec![0; size as usize - 16];
    stream.read_exact(&mut body).expect("the rest");
    (head, body)
}

/// The reply to a request.
fn reply(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes[4..8].copy_from_slice(&(16 + body.len() as u32).to_le_bytes());
    bytes[8] = 1;
    [&bytes, body].concat()
}

fn greet(stream: &mut UnixStream, json: &str) {
    let (head, _) = request(stream);
    let body = [&[0, 0, 1, 0], json.as_bytes(), &[0]].concat();
    stream.write_all(&reply(&head, &body)).expect("greeted");
}

/// Until the client goes.
fn linger(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.read(&mut [0; 4096]);
}

#[test]
fn a_server_that_stalls_is_an_error_within_the_deadline() {
    let fake = Fake::new(linger);
    let begun = Instant::now();
    let silent = fake.client(SHORT).expect_err("no answer");
    assert!(
        matches!(
            silent,
            ClientError::Silent {
                asked: Asked::Version,
                ..
            }
        ),
        "{silent}"
    );
    assert!(begun.elapsed() >= SHORT.as_duration());
    fake.end();

    let fake = Fake::new(|stream| {
        greet(stream, "");
        // Half of an answer is none.
        let (head, _) = request(stream);
        stream
            .write_all(&reply(&head, &[0; 20])[..30])
            .expect("half");
        linger(stream);
    });
    let mut client = fake.client(SHORT).expect("greeted");
    let silent = client
        .read(0, ByteOffset(0x1c), &mut [0; 4])
        .expect_err("half an answer");
    let told = silent.to_string();
    assert!(
        told.contains("asked to read 4B at 0x1c of region 0"),
        "{told}"
    );
    assert!(told.contains("said nothing for 150ms"), "{told}");
    // Its late answer would be the next one's.
    let failed = client.reset().expect_err("no more questions");
    assert!(
        matches!(
            failed,
            ClientError::Failed {
                asked: Asked::Reset,
                ..
            }
        ),
        "{failed}"
    );
    drop(client);
    fake.end();
}

#[test]
fn a_server_that_dies_is_gone_at_once() {
    for half in [0, 10, 20] {
        let fake = Fake::new(move |stream| {
            greet(stream, "");
            let (head, body) = request(stream);
            stream
                .write_all(&reply(&head, &body)[..half])
                .expect("half");
        });
        let mut client = fake.client(LONG).expect("greeted");
        let begun = Instant::now();
        let gone = client.region(0).expect_err("it is dead");
        assert!(
            matches!(
                gone,
                ClientError::Gone {
                    asked: Asked::Region(0),
                    ..
                }
            ),
            "{gone}"
        );
        assert!(begun.elapsed() < LONG.as_duration());
        let failed = client.vectors().expect_err("no more questions");
        assert!(matches!(failed, ClientError::Failed { .. }), "{failed}");
        fake.end();
    }
}

#[test]
fn answers_to_something_else_are_told() {
    type Lie = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;
    let lies: [(Lie, &str); 8] = [
        (
            |head, body| reply(&[&[9, 9], &head[2..]].concat(), &body),
            "id 2313",
        ),
        (
            |head, body| reply(&[&head[..2], &[4, 0], &head[4..]].concat(), &body),
            "command 4",
        ),
        (
            |head, _| header(u16::from_le_bytes([head[0], head[1]]), 9, 3, 1),
            "a message of 3 bytes",
        ),
        (|head, _| reply(&head, &[0; 7]), "7 bytes"),
        (
            |head, _| reply(&head, &[longs(&[1]), words(&[0, 4]), vec![0; 4]].concat()),
            "4 bytes at 0x1 of",
        ),
        (
            |head, body| reply(&head, &[&body[..], &[0; 3]].concat()),
            "3 bytes of data",
        ),
        (
            |head, body| reply(&head, &[&body[..], &[0; 5]].concat()),
            "5 bytes of data",
        ),
        (|head, _| reply(&head, &vec![0; 2 << 20]), "2097168 bytes"),
    ];
    for (lie, found) in lies {
        let fake = Fake::new(move |stream| {
            greet(stream, "");
            let (head, body) = request(stream);
            // The client may go before it has taken all of it.
            let _ = stream.write_all(&lie(head, body));
            linger(stream);
        });
        let mut client = fake.client(LONG).expect("greeted");
        let garbled = client
            .read(0, ByteOffset(0), &mut [0; 4])
            .expect_err("a lie");
        assert!(matches!(garbled, ClientError::Garbled { .. }), "{garbled}");
        assert!(garbled.to_string().contains(found), "{found}: {garbled}");
        drop(client);
        fake.end();
    }
}

#[test]
fn versions_that_are_none_are_told() {
    for (body, found) in [(vec![1, 0, 0, 0], "version 1.x"), (vec![0], "1 bytes")] {
        let fake = Fake::new(move |stream| {
            let (head, _) = request(stream);
            stream.write_all(&reply(&head, &body)).expect("told");
            linger(stream);
        });
        let garbled = fake.client(LONG).expect_err("another version");
        assert!(garbled.to_string().contains(found), "{garbled}");
        fake.end();
    }
}

#[test]
fn no_more_is_asked_at_once_than_the_server_takes() {
    let fake = Fake::new(|stream| {
        greet(stream, r#"{"capabilities":{"max_data_xfer_size":8}}"#);
        for (at, count) in [(4, 8), (12, 8), (20, 4)] {
            let (head, body) = request(stream);
            assert_eq!(body, [longs(&[at]), words(&[0, count])].concat());
            let data: Vec<u8> = (at..at + u64::from(count)).map(|n| n as u8).collect();
            stream
                .write_all(&reply(&head, &[body, data].concat()))
                .expect("told");
        }
        linger(stream);
    });
    let mut client = fake.client(LONG).expect("greeted");
    let mut bytes = [0; 20];
    client.read(0, ByteOffset(4), &mut bytes).expect("read");
    assert_eq!(bytes.to_vec(), (4..24).collect::<Vec<u8>>());
    drop(client);
    fake.end();
}

#[test]
fn what_a_server_asks_is_refused_and_does_not_disturb() {
    let fake = Fake::new(|stream| {
        greet(stream, "");
        let (head, _) = request(stream);
        for command in [11, 12] {
            let ask = [header(77, command, 32, 0), longs(&[0, 4096])].concat();
            stream.write_all(&ask).expect("asked");
            let mut refusal = [0; 16];
            stream.read_exact(&mut refusal).expect("answered");
            assert_eq!(refusal[..2], [77, 0]);
            assert_eq!(refusal[4..], words(&[16, 0x21, 95]), "ENOTSUP");
        }
        // One that wants no answer gets none.
        stream.write_all(&header(78, 11, 16, 0x10)).expect("asked");
        stream.write_all(&reply(&head, &[])).expect("answered");
        linger(stream);
    });
    let mut client = fake.client(LONG).expect("greeted");
    client.reset().expect("reset");
    drop(client);
    fake.end();
}

#[test]
fn a_full_queue_at_the_door_has_a_deadline() {
    let folder = folder();
    let path = folder.path().join("cntrl");
    let _listener = UnixListener::bind(&path).expect("bound");
    // Until the next one would have to wait, which a thread finds out.
    let (tell, told) = std::sync::mpsc::channel();
    let crowd = spawn(move || {
        let mut crowd = Vec::new();
        while crowd.len() < 5000 {
            let Ok(stream) = UnixStream::connect(&path) else {
                break;
            };
            crowd.push(stream);
            if tell.send(()).is_err() {
                break;
            }
        }
    });
    while told.recv_timeout(Duration::from_millis(500)).is_ok() {}
    let begun = Instant::now();
    let why = Client::connect(folder.path(), SHORT).expect_err("no place, or no answer");
    assert!(begun.elapsed() < LONG.as_duration(), "{why}");
    assert!(
        matches!(
            why,
            ClientError::Unreachable { .. } | ClientError::Silent { .. }
        ),
        "{why}"
    );
    drop(_listener);
    drop(told);
    crowd.join().expect("no panic");
}
