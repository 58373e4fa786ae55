//! Reading and writing a namespace one request at a time: to fill it, to sample it, to check it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strata_memory::{Huge, Lock, Region, Want};
use strata_units::{ByteOffset, Bytes, Nanos};

use crate::requests::{Failure, Requests, Shape, Unposted, explain, fits};
use crate::{Controller, Namespace, NvmeError};

/// The largest request.
pub const LARGEST: Bytes = Bytes::MIB;

/// How long one may take.
const DEADLINE: Nanos = Nanos::from_millis(5000);

/// A queue pair with a buffer, for one request at a time; of one thread at a time, as its queue pair is:
///
/// ```
/// fn moves<T: Send>() {}
/// moves::<strata_nvme::Blocking>();
/// ```
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<strata_nvme::Blocking>();
/// ```
pub struct Blocking {
    requests: Requests<Region>,
    /// The buffer: [`LARGEST`] where the controller's queues hold as many commands as that may need, else a part of it.
    part: Bytes,
}

impl Blocking {
    /// On a namespace.
    ///
    /// # Errors
    /// No queue or no memory.
    pub fn new(controller: &Arc<Controller>, namespace: Namespace) -> Result<Blocking, NvmeError> {
        let of = |part: Bytes| Shape {
            depth: 1,
            len: part,
            align: namespace.block,
            stride: part,
            node: None,
            deadline: DEADLINE,
            whole: true,
        };
        let mut part = LARGEST;
        while part > namespace.block && fits(controller, &namespace, &of(part)).is_err() {
            part = Bytes(part.0 / 2);
        }
        let shape = of(part);
        let region = Region::shared(&Want {
            bytes: part,
            node: None,
            huge: Huge::Never,
            lock: Lock::Prefer,
        });
        let region = region.map_err(|why| NvmeError::Data {
            name: controller.name(),
            why: Box::new(why),
        })?;
        let memory = controller.function().map(region)?;
        Ok(Blocking {
            requests: Requests::new(controller, namespace, memory, shape)?,
            part,
        })
    }

    /// Reads whole blocks, at most [`LARGEST`] of bytes.
    ///
    /// # Errors
    /// The controller's status or what became of the queue, in words; [`io::ErrorKind::InvalidInput`] for what is no whole
    /// blocks of the namespace.
    pub fn read(&mut self, at: ByteOffset, into: &mut [u8]) -> io::Result<()> {
        self.check(at, into.len())?;
        for (at, part) in starts(at, self.part).zip(into.chunks_mut(self.part.as_usize())) {
            let len = Bytes(part.len() as u64);
            self.one(|requests| requests.post(0, false, at, len))?;
            self.requests.memory().copy_out(Bytes(0), part);
        }
        Ok(())
    }

    /// Writes as [`Blocking::read`] reads.
    ///
    /// # Errors
    /// As [`Blocking::read`].
    pub fn write(&mut self, at: ByteOffset, from: &[u8]) -> io::Result<()> {
        self.check(at, from.len())?;
        for (at, part) in starts(at, self.part).zip(from.chunks(self.part.as_usize())) {
            let len = Bytes(part.len() as u64);
            self.requests.memory().copy_in(Bytes(0), part);
            self.one(|requests| requests.post(0, true, at, len))?;
        }
        Ok(())
    }

    /// Whether it can be done, before the first part of it is.
    fn check(&self, at: ByteOffset, len: usize) -> io::Result<()> {
        let len = Bytes(len as u64);
        if len > LARGEST || !self.requests.is_placed(at, len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }

    /// What was written before is on the medium when this returns.
    ///
    /// # Errors
    /// As [`Blocking::read`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.one(|requests| requests.flush(0))
    }

    fn one(
        &mut self,
        post: impl FnOnce(&mut Requests<Region>) -> Result<(), Unposted>,
    ) -> io::Result<()> {
        let requests = &mut self.requests;
        if let Some(why) = requests.ended() {
            return Err(io::Error::other(why.to_owned()));
        }
        match post(requests) {
            Ok(()) => {}
            Err(Unposted::Misplaced) => return Err(io::ErrorKind::InvalidInput.into()),
            Err(Unposted::Full) => {
                let why = requests.ended().unwrap_or("the queue is full");
                return Err(io::Error::other(why.to_owned()));
            }
        }
        requests.ring().map_err(io::Error::other)?;
        let mut found = None;
        let asked = Instant::now();
        while found.is_none() {
            let done = |_, answer: Result<(), Failure>| found = Some(answer);
            let reaped = requests.reap(done).map_err(io::Error::other)?;
            // A slow drive is not spun for.
            if reaped == 0 && asked.elapsed() > Duration::from_millis(1) {
                std::thread::sleep(Duration::from_micros(50));
                requests.hurry();
            }
        }
        match found {
            Some(Err(failure)) => Err(io::Error::other(explain(failure.code()))),
            _ => Ok(()),
        }
    }
}

/// Where the parts of a request begin that is placed well.
fn starts(at: ByteOffset, part: Bytes) -> impl Iterator<Item = ByteOffset> {
    (at.0..).step_by(part.as_usize()).map(ByteOffset)
}
