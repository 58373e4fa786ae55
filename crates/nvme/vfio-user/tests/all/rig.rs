//! A device whose every use is written down, and a server of it in a thread.

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, spawn};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use strata_units::{ByteOffset, Bytes, Iova, Nanos};
use strata_vfio_user::{
    Area, Client, Device, Dma, Left, Mapping, Refusal, Region, Server, Share, region,
};
use tempfile::TempDir;

/// Long enough for a busy machine; nobody waits for it where all is well.
pub(crate) const LONG: Nanos = Nanos(20_000_000_000);

pub(crate) fn memory(len: u64) -> OwnedFd {
    let fd = memfd_create("rig", MemfdFlags::CLOEXEC).expect("a memory object");
    ftruncate(&fd, len).expect("a length");
    fd
}

/// A folder that nobody else enters.
pub(crate) fn folder() -> TempDir {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().permissions(private).tempdir();
    made.expect("a folder")
}

/// A function with registers in the first page of BAR0 and doorbells in the second, and configuration space.
pub(crate) struct Board {
    regions: Vec<Region>,
    registers: Vec<u8>,
    config: Vec<u8>,
    pub(crate) doorbells: Mapping,
    pub(crate) memory: Vec<(Iova, Mapping)>,
    pub(crate) vectors: Vec<Option<OwnedFd>>,
    pub(crate) resets: u32,
    pub(crate) gone: u32,
    pub(crate) writes: Vec<(u32, u64, Vec<u8>)>,
}

impl Board {
    pub(crate) fn new() -> Board {
        let file = Arc::new(memory(4096));
        let mut regions = vec![Region::default(); region::COUNT];
        // The second page of the region is the first of the file.
        regions[0] = Region {
            size: Bytes(8192),
            share: Some(Share {
                file: Arc::clone(&file),
                offset: ByteOffset(0),
                areas: vec![DOORBELLS],
            }),
            ..Region::plain(Bytes(8192))
        };
        regions[7] = Region::plain(Bytes(256));
        // Mapped areas lie at the region's offset plus their own, so the file needs two pages too.
        ftruncate(&*file, 8192).expect("a length");
        let doorbells = Mapping::new(file.as_fd(), DOORBELLS.at, DOORBELLS.len, true);
        Board {
            regions,
            registers: (0..4096u32).map(|n| (n % 251) as u8).collect(),
            config: vec![0; 256],
            doorbells: doorbells.expect("mapped"),
            memory: Vec::new(),
            vectors: (0..40).map(|_| None).collect(),
            resets: 0,
            gone: 0,
            writes: Vec::new(),
        }
    }

    /// What lies at `iova` is there 8 bytes further on too, one more.
    fn copy(&self, iova: u64) -> Result<(), Refusal> {
        let (_, mapping) = self
            .memory
            .iter()
            .find(|(at, _)| at.0 == iova)
            .ok_or(Refusal::Absent)?;
        let found = mapping.load_u64(ByteOffset(0)).ok_or(Refusal::Failed)?;
        let stored = mapping.store_u64(ByteOffset(8), found + 1);
        stored.ok_or(Refusal::Failed)
    }

    fn signal(&self, vector: u64) -> Result<(), Refusal> {
        let slot = usize::try_from(vector)
            .ok()
            .and_then(|n| self.vectors.get(n)?.as_ref());
        let eventfd = slot.ok_or(Refusal::Absent)?;
        rustix::io::write(eventfd, &1u64.to_le_bytes()).map_err(|_| Refusal::Failed)?;
        Ok(())
    }

    fn place(&mut self, region: u32) -> &mut [u8] {
        match region {
            region::BAR0 => &mut self.registers,
            _ => &mut self.config,
        }
    }
}

pub(crate) const DOORBELLS: Area = Area {
    at: ByteOffset(4096),
    len: Bytes(4096),
};

/// Registers of 8 bytes: from where memory is copied, and which interrupt is signalled.
pub(crate) const COPY: ByteOffset = ByteOffset(0x100);
pub(crate) const SIGNAL: ByteOffset = ByteOffset(0x108);

impl Device for Board {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn vectors(&self) -> u32 {
        40
    }

    fn read(&mut self, region: u32, at: ByteOffset, into: &mut [u8]) -> Result<(), Refusal> {
        let at = at.0 as usize;
        let from = self.place(region).get(at..at + into.len());
        into.copy_from_slice(from.ok_or(Refusal::Failed)?);
        Ok(())
    }

    fn write(&mut self, region: u32, at: ByteOffset, from: &[u8]) -> Result<(), Refusal> {
        match (region, at, <[u8; 8]>::try_from(from)) {
            (region::BAR0, COPY, Ok(iova)) => return self.copy(u64::from_le_bytes(iova)),
            (region::BAR0, SIGNAL, Ok(n)) => return self.signal(u64::from_le_bytes(n)),
            _ => {}
        }
        self.writes.push((region, at.0, from.to_vec()));
        let at = at.0 as usize;
        let into = self.place(region).get_mut(at..at + from.len());
        into.ok_or(Refusal::Failed)?.copy_from_slice(from);
        Ok(())
    }

    fn map(&mut self, dma: Dma) -> Result<(), Refusal> {
        let mapping = dma.map().map_err(|_| Refusal::Invalid)?;
        self.memory.push((dma.iova, mapping));
        Ok(())
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) {
        self.memory
            .retain(|(at, mapping)| (*at, mapping.len()) != (iova, len));
    }

    fn set_vectors(&mut self, first: u32, eventfds: Vec<Option<OwnedFd>>) {
        let first = first as usize;
        for (slot, eventfd) in self.vectors[first..].iter_mut().zip(eventfds) {
            *slot = eventfd;
        }
    }

    fn reset(&mut self) -> Result<(), Refusal> {
        self.resets += 1;
        Ok(())
    }

    fn gone(&mut self) {
        assert!(self.memory.is_empty() && self.vectors.iter().all(Option::is_none));
        self.gone += 1;
    }
}

/// A board that is served, one client after the other, until this is ended.
pub(crate) struct Served {
    pub(crate) folder: TempDir,
    stop: Arc<AtomicBool>,
    left: Receiver<Left>,
    thread: JoinHandle<Board>,
}

impl Served {
    pub(crate) fn new() -> Served {
        Served::with_patience(LONG)
    }

    pub(crate) fn with_patience(patience: Nanos) -> Served {
        let folder = folder();
        let server = Server::bind(folder.path()).expect("served");
        let mut server = server.with_patience(patience);
        let stop = Arc::new(AtomicBool::new(false));
        let (leave, left) = channel();
        let stopped = Arc::clone(&stop);
        let mut board = Board::new();
        let thread = spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let why = server.serve(&mut board, &stopped).expect("served");
                let _ = leave.send(why);
            }
            board
        });
        Served {
            folder,
            stop,
            left,
            thread,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("cntrl")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.path(), LONG).expect("connected")
    }

    /// How the client that is served leaves.
    pub(crate) fn left(&self) -> Left {
        self.left
            .recv_timeout(LONG.as_duration())
            .expect("it leaves")
    }

    /// The board as it is when nobody is served any more.
    pub(crate) fn end(self) -> Board {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}
