//! One question at a time and its answer, each within a deadline: what a client speaks through.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use strata_units::Nanos;

use crate::error::{Asked, ClientError, Left, Refusal};
use crate::folder::socket;
use crate::frame::{Frame, Message};
use crate::link::{Link, any_ready};
use crate::reply::Wrong;
use crate::wire::{ERROR, Header, NO_REPLY};

/// How soon a full queue at the server's door is tried again.
const AGAIN: Duration = Duration::from_millis(1);

/// A connection to a server.
pub(crate) struct Line {
    link: Link,
    pub(crate) path: PathBuf,
    within: Nanos,
    next: u16,
    failed: bool,
}

impl Line {
    /// Connects to the socket of a folder; that, and each question later, may take so long.
    pub(crate) fn connect(folder: &Path, within: Nanos) -> Result<Line, ClientError> {
        let path = socket(folder);
        match reach(&path, within).and_then(Link::new) {
            Ok(link) => Ok(Line {
                link,
                path,
                within,
                next: 0,
                failed: false,
            }),
            Err(why) => Err(ClientError::Unreachable {
                path,
                why: Arc::new(why),
            }),
        }
    }

    /// One question and its answer, within the deadline.
    pub(crate) fn ask(
        &mut self,
        asked: Asked,
        command: u16,
        body: &[&[u8]],
        fds: Vec<Arc<OwnedFd>>,
    ) -> Result<Message, ClientError> {
        if self.failed {
            let path = self.path.clone();
            return Err(ClientError::Failed { path, asked });
        }
        let begun = Instant::now();
        self.next = self.next.wrapping_add(1);
        let len = body.iter().map(|part| part.len()).sum();
        let header = Header::request(self.next, command, len);
        let frame = Frame {
            fds,
            ..Frame::new(header, body)
        };
        let sent = self.link.send(frame);
        sent.map_err(|why| self.lost(asked, why))?;
        let reply = loop {
            self.wait(asked, begun)?;
            if self.link.sends() {
                let sent = self.link.flush();
                sent.map_err(|why| self.lost(asked, why))?;
                continue;
            }
            let got = self.link.receive();
            let Some(message) = got.map_err(|why| self.lost(asked, why))? else {
                continue;
            };
            if message.header.is_reply() {
                break message;
            }
            if !message.header.has(NO_REPLY) {
                let refusal = Frame::refusal(&message.header, Refusal::Unsupported);
                let sent = self.link.send(refusal);
                sent.map_err(|why| self.lost(asked, why))?;
            }
        };
        let (id, what) = (reply.header.id, reply.header.command);
        if (id, what) != (header.id, header.command) {
            let found = format!("a reply to command {what}, id {id}");
            return Err(self.garbled(asked, (found, "the reply to what was asked")));
        }
        if reply.header.has(ERROR) {
            return Err(ClientError::Refused {
                path: self.path.clone(),
                asked,
                why: in_words(reply.header.error.get()),
            });
        }
        if reply.too_long || reply.too_many {
            let found = format!("{} bytes or many descriptors", reply.header.size);
            return Err(self.garbled(asked, (found, "1 MiB of data and 16 descriptors at most")));
        }
        Ok(reply)
    }

    /// Waits until the connection gets on, no longer than the deadline.
    fn wait(&mut self, asked: Asked, begun: Instant) -> Result<(), ClientError> {
        let left = self.within.as_duration().saturating_sub(begun.elapsed());
        match any_ready(&mut [self.link.waits()], left) {
            Ok(ready) if ready > 0 && !left.is_zero() => Ok(()),
            Ok(_) => {
                self.failed = true;
                Err(ClientError::Silent {
                    path: self.path.clone(),
                    asked,
                    within: self.within,
                })
            }
            Err(why) => {
                self.failed = true;
                Err(self.system(asked, why))
            }
        }
    }

    fn lost(&mut self, asked: Asked, why: Left) -> ClientError {
        self.failed = true;
        match why {
            Left::Garbled { size } => {
                let wrong = (format!("a message of {size} bytes"), "16 or more");
                self.garbled(asked, wrong)
            }
            Left::Broken(why) => self.system(asked, why),
            _ => ClientError::Gone {
                path: self.path.clone(),
                asked,
            },
        }
    }

    /// It answered something else, and is not asked any more.
    pub(crate) fn garbled(&mut self, asked: Asked, (found, expected): Wrong) -> ClientError {
        self.failed = true;
        ClientError::Garbled {
            path: self.path.clone(),
            asked,
            found,
            expected,
        }
    }

    pub(crate) fn system(&self, asked: Asked, why: io::Error) -> ClientError {
        ClientError::System {
            path: self.path.clone(),
            asked,
            why: Arc::new(why),
        }
    }
}

fn in_words(errno: u32) -> String {
    match i32::try_from(errno) {
        Ok(0) | Err(_) => "it gives no reason".to_owned(),
        Ok(errno) if errno == Errno::BUSY.raw_os_error() => {
            "another client has the device (EBUSY); end that one first".to_owned()
        }
        Ok(errno) => io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// Connects without waiting longer than so for a place in the queue at the server's door.
fn reach(path: &Path, within: Nanos) -> io::Result<UnixStream> {
    let begun = Instant::now();
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(stream.as_fd(), &address) {
            Ok(()) => return Ok(stream.into()),
            Err(Errno::AGAIN) if begun.elapsed() < within.as_duration() => {
                std::thread::sleep(AGAIN);
            }
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}
