//! A session with the other side on another host (or this one, over loopback), kept alive by a thread of its own.
//!
//! Each side says every second that it is there, and gives the other up after four seconds without one whole frame. So a
//! side that died, was stopped, was cut off or lies is noticed while nobody waits for its words, and [`Session::lost`] tells
//! it to those who measure.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::PeerError;
use crate::error::{DONE, gone};
use crate::seal::{Frame, Opener, Sealer};
use crate::wait::ready;

/// How often a side shows that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// How long no whole frame may come, and how long one may take to be sent. A frame of the largest size so needs a wire that
/// leaves 34 Mb/s to it.
pub(crate) const SILENCE: Duration = Duration::from_secs(4);

/// How often a side that waits to send looks whether the session is over.
const LOOK: Duration = Duration::from_millis(50);

/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// How many messages may lie unread, and their bytes. Both sides speak in turns, so more are a lie.
const MESSAGES: usize = 64;
const BYTES: usize = 32 << 20;

/// An authenticated conversation with the other side. Dropping it ends it, on both sides.
///
/// The side that asked is the one that ends a session; who answered stays until then, since an end that comes from it while
/// something is measured counts as a loss.
pub struct Session {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    here: SocketAddr,
    there: SocketAddr,
}

impl Session {
    /// Over a connection whose handshake is done.
    pub(crate) fn begin(
        stream: TcpStream,
        sealer: Sealer,
        opener: Opener,
    ) -> Result<Session, PeerError> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
        let shared = Arc::new(Shared {
            stream,
            saying: Mutex::new(Saying {
                sealer,
                broken: false,
            }),
            heard: Mutex::new(Heard::default()),
            arrived: Condvar::new(),
            lost: Arc::new(AtomicBool::new(false)),
        });
        let keeping = Arc::clone(&shared);
        let keeper = thread::Builder::new()
            .name("strata-peer".to_owned())
            .spawn(move || keeping.keep(opener))?;
        Ok(Session {
            shared,
            keeper: Some(keeper),
            here,
            there,
        })
    }

    /// This side's address of the control channel: where the other side reaches this host.
    pub fn here(&self) -> SocketAddr {
        self.here
    }

    /// The other side's address.
    pub fn there(&self) -> SocketAddr {
        self.there
    }

    /// True from the moment on that the session is over, for whatever reason, within five seconds of its cause.
    pub fn lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.lost)
    }

    /// Why the session is over, once it is.
    pub fn why_lost(&self) -> Option<PeerError> {
        self.shared.heard().over.clone()
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Why the session is over; [`PeerError::Stalled`] when the other side takes nothing for four seconds. A message above 16
    /// MiB is garbled.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        let text = serde_json::to_vec(message).map_err(|e| PeerError::Garbled(e.to_string()))?;
        self.shared.send(text)
    }

    /// Waits for one message, at most so long. What came before the session ended is still given.
    ///
    /// # Errors
    /// Why the session is over; [`PeerError::Silent`] when none comes in time: the other side is there and has not said
    /// anything, and may be waited for again. Anything else than such a message ends the session.
    pub fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        let text = self.shared.receive(span)?;
        serde_json::from_slice(&text).map_err(|e| {
            let why = PeerError::Garbled(format!("something else ({e})"));
            self.shared.finish(why.clone(), &why.to_string());
            why
        })
    }

    /// Ends the session and tells the other side why, in words.
    pub fn end(self, why: &str) {
        self.shared.finish(PeerError::Ended(why.to_owned()), why);
    }

    /// What can end this session from another thread.
    pub(crate) fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.shared))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let why = match thread::panicking() {
            true => "the other side panicked; this is a bug of strata",
            false => DONE,
        };
        self.shared
            .finish(PeerError::Ended("by this side".to_owned()), why);
        // It ends by the closed connection. One that panicked has nothing to tell any more.
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Ends a session that another thread holds.
pub(crate) struct Ender(Arc<Shared>);

impl Ender {
    pub(crate) fn end(&self, why: &str) {
        self.0.finish(PeerError::Ended(why.to_owned()), why);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }
}

struct Shared {
    stream: TcpStream,
    saying: Mutex<Saying>,
    heard: Mutex<Heard>,
    arrived: Condvar,
    lost: Arc<AtomicBool>,
}

struct Saying {
    sealer: Sealer,
    /// A frame was sent in part, so that none can follow.
    broken: bool,
}

#[derive(Default)]
struct Heard {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    over: Option<PeerError>,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saying(&self) -> MutexGuard<'_, Saying> {
        self.saying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Ends the session, once, and tells the other side if it can still hear.
    fn finish(&self, why: PeerError, words: &str) {
        {
            let mut heard = self.heard();
            if heard.over.is_some() {
                return;
            }
            heard.over = Some(why);
        }
        self.lost.store(true, Ordering::Relaxed);
        self.arrived.notify_all();
        // Who holds this sees the end within a look.
        let mut saying = self.saying();
        if let (false, Ok(end)) = (
            saying.broken,
            saying.sealer.seal(&Frame::End(words.to_owned())),
        ) {
            // In one piece or not at all; who does not read is not waited for.
            let _ = (&self.stream).write(&end);
        }
        saying.broken = true;
        drop(saying);
        // Wakes the keeper. An error means that it is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn send(&self, text: Vec<u8>) -> Result<(), PeerError> {
        let result = {
            let mut saying = self.saying();
            let frame = saying
                .sealer
                .seal(&Frame::Message(text))
                .map_err(PeerError::Garbled)?;
            self.write(&mut saying, &frame, Instant::now() + SILENCE)
        };
        result.map_err(|why| {
            self.finish(why.clone(), "a message could not be sent whole");
            // The first reason is the true one: this may be its consequence.
            self.heard().over.clone().unwrap_or(why)
        })
    }

    /// Writes one frame whole, until then at the latest.
    fn write(&self, saying: &mut Saying, frame: &[u8], until: Instant) -> Result<(), PeerError> {
        if saying.broken {
            return Err(PeerError::Gone);
        }
        let mut rest = frame;
        while !rest.is_empty() {
            let result = match (&self.stream).write(rest) {
                Ok(n) => {
                    rest = &rest[n..];
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(gone(e)),
                Err(_) if self.is_over() => Err(PeerError::Gone),
                Err(_) if Instant::now() >= until => Err(PeerError::Stalled(SILENCE.into())),
                Err(_) => ready(self.stream.as_fd(), PollFlags::POLLOUT, LOOK).map_err(Into::into),
            };
            if let Err(why) = result {
                saying.broken = true;
                return Err(why);
            }
        }
        Ok(())
    }

    fn receive(&self, span: Nanos) -> Result<Vec<u8>, PeerError> {
        let begun = Instant::now();
        let mut heard = self.heard();
        loop {
            if let Some(text) = heard.messages.pop_front() {
                heard.bytes -= text.len();
                return Ok(text);
            }
            if let Some(why) = &heard.over {
                return Err(why.clone());
            }
            let left = span.as_duration().saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(PeerError::Silent(span));
            }
            (heard, _) = self
                .arrived
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Shows that this side is there and sees whether the other one is, until the session is over.
    fn keep(&self, mut opener: Opener) {
        let mut piece = vec![0; PIECE];
        let mut whole = Instant::now();
        let mut beat = whole + BEAT;
        // What came right behind the handshake.
        if let Err(why) = self.take(&mut opener) {
            self.give_up(why);
        }
        while !self.is_over() {
            let silent = whole + SILENCE;
            if Instant::now() >= beat {
                self.show_life(silent);
                beat = Instant::now() + BEAT;
            }
            let span = beat.min(silent).saturating_duration_since(Instant::now());
            let heard = match ready(self.stream.as_fd(), PollFlags::POLLIN, span) {
                Ok(false) => Ok(false),
                // What has come is heard before anybody is given up: it may be this side that was stopped.
                Ok(true) => self.hear(&mut opener, &mut piece),
                Err(e) => Err(e.into()),
            };
            let why = match heard {
                Ok(true) => {
                    whole = Instant::now();
                    continue;
                }
                Ok(false) if Instant::now() < silent => continue,
                Ok(false) => PeerError::Stalled(SILENCE.into()),
                Err(why) => why,
            };
            self.give_up(why);
        }
    }

    fn give_up(&self, why: PeerError) {
        let words = format!("on the other side: {why}");
        self.finish(why, &words);
    }

    fn show_life(&self, until: Instant) {
        // Who holds this is sending, which is as good a sign; and who takes nothing will be known by its silence.
        let Ok(mut saying) = self.saying.try_lock() else {
            return;
        };
        if let (Ok(true), Ok(alive)) = (
            ready(self.stream.as_fd(), PollFlags::POLLOUT, Duration::ZERO),
            saying.sealer.seal(&Frame::Alive),
        ) {
            // What the other side said last may still lie there to be read, and tells more than this error.
            let _ = self.write(&mut saying, &alive, until);
        }
    }

    /// Reads what has come; whether a frame was whole with it.
    fn hear(&self, opener: &mut Opener, piece: &mut [u8]) -> Result<bool, PeerError> {
        match (&self.stream).read(piece) {
            Ok(0) => return Err(PeerError::Gone),
            Ok(n) => opener.push(&piece[..n]),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(gone(e)),
        }
        self.take(opener)
    }

    /// Takes the frames that are whole; whether there was one.
    fn take(&self, opener: &mut Opener) -> Result<bool, PeerError> {
        let mut any = false;
        while let Some(frame) = opener.next().map_err(PeerError::Garbled)? {
            any = true;
            match frame {
                Frame::Alive => {}
                Frame::End(why) => return Err(PeerError::Ended(why)),
                Frame::Message(text) => {
                    let mut heard = self.heard();
                    heard.bytes += text.len();
                    heard.messages.push_back(text);
                    if heard.messages.len() > MESSAGES || heard.bytes > BYTES {
                        return Err(PeerError::Garbled("more than it was asked for".to_owned()));
                    }
                    self.arrived.notify_all();
                }
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::LARGEST;
    use crate::seal::TAG;

    const UP: [u8; TAG] = [1; TAG];
    const DOWN: [u8; TAG] = [2; TAG];

    /// What a busy machine may add to four seconds.
    const NOTICED: Duration = Duration::from_secs(8);

    /// A session, and the other side by hand, which holds the keys and need not be honest.
    struct Liar {
        stream: TcpStream,
        sealer: Sealer,
        opener: Opener,
    }

    fn pair() -> (Session, Liar) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (ours, _) = listener.accept().expect("accepted");
        let session = Session::begin(ours, Sealer::new(&DOWN), Opener::new(&UP, LARGEST));
        let liar = Liar {
            stream,
            sealer: Sealer::new(&UP),
            opener: Opener::new(&DOWN, LARGEST),
        };
        (session.expect("begun"), liar)
    }

    impl Liar {
        fn say(&mut self, frame: &Frame) -> Vec<u8> {
            let bytes = self.sealer.seal(frame).expect("small");
            self.stream.write_all(&bytes).expect("sent");
            bytes
        }

        /// All that the session says until it closes, its signs of life left out.
        fn hear(&mut self) -> Vec<Frame> {
            let mut bytes = Vec::new();
            self.stream.set_read_timeout(Some(NOTICED)).expect("set");
            // Reset, when it closed with something unread.
            let _ = self.stream.read_to_end(&mut bytes);
            self.opener.push(&bytes);
            let mut frames = Vec::new();
            while let Some(frame) = self.opener.next().expect("honest") {
                frames.push(frame);
            }
            frames.retain(|frame| *frame != Frame::Alive);
            frames
        }
    }

    /// Waits without listening, as those do who measure.
    fn over(session: &Session) -> PeerError {
        let (begun, lost) = (Instant::now(), session.lost());
        while !lost.load(Ordering::Relaxed) {
            assert!(begun.elapsed() < NOTICED, "not noticed");
            thread::sleep(Duration::from_millis(5));
        }
        session.why_lost().expect("over")
    }

    fn message(text: &str) -> Frame {
        Frame::Message(text.as_bytes().to_vec())
    }

    #[test]
    fn what_was_said_before_the_end_is_heard() {
        let (mut session, mut liar) = pair();
        liar.say(&message("7"));
        liar.say(&message("8"));
        liar.say(&Frame::End("enough".to_owned()));
        over(&session);
        let span = Nanos::SECOND;
        assert_eq!(session.receive_within::<u8>(span).expect("the first"), 7);
        assert_eq!(session.receive_within::<u8>(span).expect("the second"), 8);
        for why in [
            session.receive_within::<u8>(span).err(),
            session.send(&9).err(),
        ] {
            assert!(
                matches!(&why, Some(PeerError::Ended(w)) if w == "enough"),
                "{why:?}"
            );
        }
    }

    #[test]
    fn an_end_is_told_in_words() {
        let (mut session, mut liar) = pair();
        session.send(&"last").expect("sent");
        session.end("the disk is gone");
        let end = Frame::End("the disk is gone".to_owned());
        assert_eq!(liar.hear(), [message("\"last\""), end]);
    }

    #[test]
    fn lies_end_the_session_on_both_sides() {
        type Lie = fn(&mut Liar);
        let lies: [(&str, Lie); 7] = [
            ("session's key", |liar| {
                let again = liar.say(&Frame::Alive);
                liar.stream.write_all(&again).expect("sent");
            }),
            ("session's key", |liar| {
                let own = Sealer::new(&DOWN).seal(&Frame::Alive).expect("small");
                liar.stream.write_all(&own).expect("sent");
            }),
            ("session's key", |liar| {
                let mut bytes = liar.sealer.seal(&message("7")).expect("small");
                bytes[5] ^= 1;
                liar.stream.write_all(&bytes).expect("sent");
            }),
            ("frame of 16777217 bytes", |liar| {
                liar.stream
                    .write_all(&(LARGEST + 1).to_le_bytes())
                    .expect("sent");
            }),
            ("frame of kind 77", |liar| {
                let bytes = liar.sealer.seal_content(&[77]).expect("small");
                liar.stream.write_all(&bytes).expect("sent");
            }),
            ("more than it was asked for", |liar| {
                for _ in 0..=MESSAGES {
                    liar.say(&message("7"));
                }
            }),
            ("GET / HTTP", |liar| {
                liar.say(&message("\"GET / HTTP\""));
            }),
        ];
        for (what, lie) in lies {
            let (mut session, mut liar) = pair();
            lie(&mut liar);
            let why = match what.starts_with("GET") {
                // Rightly sealed, and not what is waited for.
                true => session
                    .receive_within::<u8>(Nanos::SECOND * 8)
                    .expect_err("no number"),
                false => over(&session),
            };
            assert!(matches!(why, PeerError::Garbled(_)), "{why:?}");
            let told = liar.hear();
            let [Frame::End(words)] = told.as_slice() else {
                panic!("{told:?}");
            };
            let expected = if what.starts_with("GET") {
                "something else"
            } else {
                what
            };
            assert!(words.contains(expected), "{words}");
        }
    }

    #[test]
    fn who_says_nothing_or_never_a_whole_frame_is_given_up() {
        let begun = Instant::now();
        let (silent, _liar) = pair();
        let (dripping, mut liar) = pair();
        let drip = thread::spawn(move || {
            let frame = liar
                .sealer
                .seal(&message(&"x".repeat(4096)))
                .expect("small");
            for byte in frame {
                if liar.stream.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        for session in [&silent, &dripping] {
            let why = over(session);
            assert!(matches!(why, PeerError::Stalled(_)), "{why:?}");
        }
        assert!(begun.elapsed() >= SILENCE, "given up too early");
        drop((silent, dripping));
        drip.join().expect("no panic");
    }

    #[test]
    fn who_takes_nothing_is_given_up() {
        let (session, mut liar) = pair();
        let mut alive = liar.stream.try_clone().expect("a second handle");
        let lives = thread::spawn(move || {
            for _ in 0..80 {
                let bytes = liar.sealer.seal(&Frame::Alive).expect("small");
                if alive.write_all(&bytes).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            liar
        });
        // More than the buffers of a connection hold.
        let long = vec![b'x'; 12 << 20];
        let begun = Instant::now();
        let why = session.shared.send(long).expect_err("nobody reads");
        assert!(matches!(why, PeerError::Stalled(_)), "{why:?}");
        assert!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
        let lost = session.lost();
        assert!(lost.load(Ordering::Relaxed));
        drop(session);
        lives.join().expect("no panic");
    }
}
