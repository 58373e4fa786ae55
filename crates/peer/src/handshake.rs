//! Two sides prove to each other that they hold one key, before either says anything else.
//!
//! 1. The client's hello: its protocol's version, a nonce, and a tag under the key over both. A server that finds the tag
//!    wrong has heard a stranger, and closes without having said a byte.
//! 2. The server's answer: its version, a nonce, and a tag over these and the hello, which proves the key for this nonce of
//!    the client's. When the versions differ, both know both now, and part.
//! 3. The client's proof: a tag over hello and answer, which proves the key for this nonce of the server's; a recorded hello
//!    comes no further than here.
//!
//! Every tag has a label of its own, so that none can be sent back as another. The session's two keys, one a direction, come
//! from the key over hello and answer, so no two sessions share them. All three have a fixed length, and hello and answer
//! keep their form whatever version follows. Everything here is over bytes, without a socket.

use hmac::Mac;

use crate::key::Key;
use crate::seal::{Opener, Sealer, TAG, mac, tag};

/// Bytes of a hello and of an answer: version, nonce, tag.
pub(crate) const GREETING: usize = VERSION + TAG + TAG;
const VERSION: usize = 4;

/// The largest frame until the server has said its verdict.
pub(crate) const SMALL: u32 = 256;

/// A hello or an answer.
pub(crate) type Greeting = [u8; GREETING];

/// A side's share in what makes a session unlike any other.
pub(crate) type Nonce = [u8; TAG];

/// A nonce that nobody has seen before.
pub(crate) fn nonce() -> std::io::Result<Nonce> {
    let mut nonce = [0; TAG];
    getrandom::fill(&mut nonce).map_err(std::io::Error::from)?;
    Ok(nonce)
}

/// A tag over parts of fixed length.
fn tagged(key: &[u8], label: &str, parts: &[&[u8]]) -> hmac::Hmac<sha2::Sha256> {
    let mut mac = mac(key).chain_update(label).chain_update([0]);
    for part in parts {
        mac.update(part);
    }
    mac
}

fn holds(key: &[u8], label: &str, parts: &[&[u8]], tag: &[u8]) -> bool {
    // In constant time.
    tagged(key, label, parts).verify_slice(tag).is_ok()
}

const HELLO: &str = "strata: a client's hello";
const ANSWER: &str = "strata: a server's answer";
const PROOF: &str = "strata: a client's proof";
const SESSION: &str = "strata: a session";
const TO_SERVER: &str = "strata: from client to server";
const TO_CLIENT: &str = "strata: from server to client";

fn greeting(key: &Key, label: &str, before: &[u8], version: u32, nonce: &Nonce) -> Greeting {
    let body = [version.to_le_bytes().as_slice(), nonce].concat();
    let tag = tag(tagged(key.bytes(), label, &[before, &body]));
    let mut greeting = [0; GREETING];
    greeting[..VERSION + TAG].copy_from_slice(&body);
    greeting[VERSION + TAG..].copy_from_slice(&tag);
    greeting
}

/// The version that a greeting tells, when its sender holds the key.
fn version(key: &Key, label: &str, before: &[u8], greeting: &Greeting) -> Option<u32> {
    let (body, tag) = greeting.split_at(VERSION + TAG);
    let said = greeting.first_chunk::<VERSION>()?;
    holds(key.bytes(), label, &[before, body], tag).then(|| u32::from_le_bytes(*said))
}

/// The keys of one session, by direction.
pub(crate) struct SessionKeys {
    to_server: [u8; TAG],
    to_client: [u8; TAG],
}

impl SessionKeys {
    fn new(key: &Key, hello: &Greeting, answer: &Greeting) -> Self {
        let session = tag(tagged(key.bytes(), SESSION, &[hello, answer]));
        Self {
            to_server: tag(tagged(&session, TO_SERVER, &[])),
            to_client: tag(tagged(&session, TO_CLIENT, &[])),
        }
    }

    /// What the client makes its frames with and opens the server's; for the verdict first, and so for small ones.
    pub(crate) fn for_client(&self) -> (Sealer, Opener) {
        (
            Sealer::new(&self.to_server),
            Opener::new(&self.to_client, SMALL),
        )
    }

    /// What the server makes its frames with and opens the client's.
    pub(crate) fn for_server(&self) -> (Sealer, Opener) {
        (
            Sealer::new(&self.to_client),
            Opener::new(&self.to_server, crate::LARGEST),
        )
    }
}

/// Why a handshake ended without a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The other side does not hold the key.
    Stranger,
    /// It does, and speaks this version.
    Foreign(u32),
}

/// The client's part.
pub(crate) struct Asker<'k> {
    key: &'k Key,
    version: u32,
    hello: Greeting,
}

impl<'k> Asker<'k> {
    pub(crate) fn new(key: &'k Key, version: u32, nonce: &Nonce) -> Self {
        Self {
            key,
            version,
            hello: greeting(key, HELLO, &[], version, nonce),
        }
    }

    /// What to say first.
    pub(crate) fn hello(&self) -> &Greeting {
        &self.hello
    }

    /// What to say to the server's answer, and the keys from there on.
    pub(crate) fn prove(self, answer: &Greeting) -> Result<([u8; TAG], SessionKeys), Refusal> {
        let theirs = version(self.key, ANSWER, &self.hello, answer).ok_or(Refusal::Stranger)?;
        if theirs != self.version {
            return Err(Refusal::Foreign(theirs));
        }
        let proof = tag(tagged(self.key.bytes(), PROOF, &[&self.hello, answer]));
        Ok((proof, SessionKeys::new(self.key, &self.hello, answer)))
    }
}

/// What the server does next.
pub(crate) enum Step {
    /// Reads on.
    Read,
    /// Says this, and reads on.
    Say(Greeting),
    /// Trusts the client.
    Trust(SessionKeys),
    /// Says this, if it has anything to say, and closes.
    Close(Option<Greeting>, Refusal),
}

enum Stage {
    Hello,
    Proof { hello: Greeting, answer: Greeting },
    Over,
}

/// The server's part, fed with what comes.
pub(crate) struct Answerer {
    version: u32,
    nonce: Nonce,
    stage: Stage,
    held: Vec<u8>,
}

impl Answerer {
    pub(crate) fn new(version: u32, nonce: Nonce) -> Self {
        Self {
            version,
            nonce,
            stage: Stage::Hello,
            held: Vec::new(),
        }
    }

    /// How many bytes may be read next; more belong to what follows the handshake.
    pub(crate) fn wanted(&self) -> usize {
        let whole = match self.stage {
            Stage::Hello => GREETING,
            Stage::Proof { .. } => TAG,
            Stage::Over => 0,
        };
        whole.saturating_sub(self.held.len())
    }

    /// Takes at most as many bytes as are wanted. A stranger is told by whole hellos and proofs only, so that nobody learns
    /// by the byte what is expected.
    pub(crate) fn take(&mut self, key: &Key, bytes: &[u8]) -> Step {
        if bytes.len() > self.wanted() {
            self.stage = Stage::Over;
            return Step::Close(None, Refusal::Stranger);
        }
        self.held.extend_from_slice(bytes);
        if self.wanted() > 0 {
            return Step::Read;
        }
        let said = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Hello => self.answer(key, &said),
            Stage::Proof { hello, answer }
                if holds(key.bytes(), PROOF, &[&hello, &answer], &said) =>
            {
                Step::Trust(SessionKeys::new(key, &hello, &answer))
            }
            Stage::Proof { .. } | Stage::Over => Step::Close(None, Refusal::Stranger),
        }
    }

    fn answer(&mut self, key: &Key, said: &[u8]) -> Step {
        let heard = Greeting::try_from(said)
            .ok()
            .and_then(|hello| Some((version(key, HELLO, &[], &hello)?, hello)));
        let Some((theirs, hello)) = heard else {
            return Step::Close(None, Refusal::Stranger);
        };
        let answer = greeting(key, ANSWER, &hello, self.version, &self.nonce);
        if theirs != self.version {
            return Step::Close(Some(answer), Refusal::Foreign(theirs));
        }
        self.stage = Stage::Proof { hello, answer };
        Step::Say(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Frame;
    use proptest::prelude::*;

    fn key() -> Key {
        Key::known()
    }

    fn server() -> Answerer {
        Answerer::new(1, [2; TAG])
    }

    fn client(key: &Key) -> Asker<'_> {
        Asker::new(key, 1, &[1; TAG])
    }

    fn said(step: Step) -> Greeting {
        match step {
            Step::Say(answer) => answer,
            _ => panic!("no answer"),
        }
    }

    fn is_stranger(step: &Step) -> bool {
        matches!(step, Step::Close(None, Refusal::Stranger))
    }

    #[test]
    fn those_who_hold_the_key_understand_each_other() {
        let key = key();
        let (mut server, client) = (server(), client(&key));
        let answer = said(server.take(&key, client.hello()));
        let (proof, ours) = client.prove(&answer).expect("one key");
        // By the byte, as a slow wire brings it.
        for byte in &proof[..TAG - 1] {
            assert!(matches!(server.take(&key, &[*byte]), Step::Read));
        }
        let Step::Trust(theirs) = server.take(&key, &proof[TAG - 1..]) else {
            panic!("not trusted");
        };
        assert_eq!(server.wanted(), 0);
        let ((mut c_seal, mut c_open), (mut s_seal, mut s_open)) =
            (ours.for_client(), theirs.for_server());
        let frame = Frame::Message(b"7".to_vec());
        let up = c_seal.seal(&frame).expect("small");
        s_open.push(&up);
        assert_eq!(s_open.next(), Ok(Some(frame.clone())));
        let down = s_seal.seal(&frame).expect("small");
        assert_ne!(up, down);
        // A frame of the client's, reflected, is none of the server's.
        c_open.push(&up);
        assert!(c_open.next().is_err());
        let (_, mut c_open) = ours.for_client();
        c_open.push(&down);
        assert_eq!(c_open.next(), Ok(Some(frame)));
    }

    #[test]
    fn versions_are_told_to_who_holds_the_key_only() {
        let key = key();
        let newer = Asker::new(&key, 9, &[1; TAG]);
        let Step::Close(Some(answer), Refusal::Foreign(9)) = server().take(&key, newer.hello())
        else {
            panic!("not told");
        };
        assert_eq!(newer.prove(&answer).err(), Some(Refusal::Foreign(1)));
    }

    #[test]
    fn a_recorded_client_and_a_recorded_server_come_no_further() {
        let key = key();
        let first = client(&key);
        let hello = *first.hello();
        let answer = said(server().take(&key, &hello));
        let (proof, _) = first.prove(&answer).expect("one key");
        let mut another = Answerer::new(1, [3; TAG]);
        said(another.take(&key, &hello));
        assert!(is_stranger(&another.take(&key, &proof)));
        let later = Asker::new(&key, 1, &[4; TAG]);
        assert_eq!(later.prove(&answer).err(), Some(Refusal::Stranger));
    }

    #[test]
    fn nothing_said_can_be_sent_back_as_something_else() {
        let key = key();
        let client = client(&key);
        let hello = *client.hello();
        let mut server = server();
        let answer = said(server.take(&key, &hello));
        assert!(is_stranger(&server.take(&key, &answer[GREETING - TAG..])));
        assert!(is_stranger(&self::server().take(&key, &answer)));
        assert_eq!(client.prove(&hello).err(), Some(Refusal::Stranger));
    }

    #[test]
    fn another_key_is_a_strangers() {
        let (ours, dir) = (key(), tempfile::tempdir().expect("a folder"));
        let path = dir.path().join("key");
        std::fs::write(&path, "fedcba98765432100123456789abcdef").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("set");
        let theirs = Key::read(&path).expect("a key");
        assert!(is_stranger(&server().take(&theirs, client(&ours).hello())));
        let answer = said(server().take(&ours, client(&ours).hello()));
        assert_eq!(
            client(&theirs).prove(&answer).err(),
            Some(Refusal::Stranger)
        );
    }

    #[test]
    fn every_single_bit_counts() {
        let key = key();
        let hello = *client(&key).hello();
        let answer = said(server().take(&key, &hello));
        let (proof, _) = client(&key).prove(&answer).expect("one key");
        for bit in 0..GREETING * 8 {
            let mut wrong = hello;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(
                is_stranger(&server().take(&key, &wrong)),
                "bit {bit} of the hello"
            );
            let mut wrong = answer;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let refused = client(&key).prove(&wrong).err();
            assert_eq!(refused, Some(Refusal::Stranger), "bit {bit} of the answer");
        }
        for bit in 0..TAG * 8 {
            let mut server = server();
            said(server.take(&key, &hello));
            let mut wrong = proof;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(
                is_stranger(&server.take(&key, &wrong)),
                "bit {bit} of the proof"
            );
        }
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce().expect("random"), nonce().expect("random"));
    }

    proptest! {
        #[test]
        fn no_bytes_get_in(bytes in proptest::collection::vec(any::<u8>(), 0..400), whole in any::<bool>()) {
            prop_assert!(!crate::fuzz::strangers(&bytes));
            // After a hello that is right, too.
            let key = key();
            let mut server = server();
            if whole {
                said(server.take(&key, client(&key).hello()));
            }
            for piece in bytes.chunks(7) {
                let wanted = server.wanted().min(piece.len());
                prop_assert!(!matches!(server.take(&key, &piece[..wanted]), Step::Trust(_)));
            }
        }
    }
}
