//! What I/O commands do: looked at first, carried out then, so that the models can step between.

use strata_memory::sigbus;
use strata_nvme_spec::command::nvm::{DatasetManagement, DatasetRange, ReadWrite, WriteZeroes};
use strata_nvme_spec::command::nvm_opcode;
use strata_nvme_spec::prp::{Pointers, walk};
use strata_nvme_spec::{Lba, NamespaceId, PageSize, Sqe, Status};
use strata_units::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use crate::dma::Space;
use crate::health::Health;
use crate::media::Media;
use crate::model::{Access, AccessKind};
use crate::namespace::Namespace;
use crate::piece::Piece;

/// A command that makes sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) access: Access,
    /// Its namespace in the list.
    index: usize,
    data: Pointers,
    /// It completes when it is on the medium.
    through: bool,
    /// Blocks may be given back.
    given: bool,
    /// Ranges of Dataset Management.
    ranges: u16,
}

/// What commands work on.
pub(crate) struct Io {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) space: Space,
    /// The host's memory page, CC.MPS.
    pub(crate) page: PageSize,
    /// The most bytes of one command.
    pub(crate) limit: u64,
    pub(crate) health: Health,
    /// Whether writes wait for the medium: the write cache is off.
    pub(crate) write_through: bool,
    /// Memory was gone while it was touched: what was done last is not to be believed. Where a namespace's was, this stays.
    pub(crate) torn: bool,
    /// Bytes that were moved or made zeroes since the start; of what takes longer than its bytes, as many as take so long.
    pub(crate) worked: u64,
    seen: u32,
}

/// What may call the system is taken for so many bytes that were moved.
const SLOW: u64 = 64 << 10;

const INVALID_FIELD: Status = Status::INVALID_FIELD.do_not_retry();
const INVALID_NAMESPACE: Status = Status::INVALID_NAMESPACE.do_not_retry();
const OUT_OF_RANGE: Status = Status::LBA_OUT_OF_RANGE.do_not_retry();
const TRANSFER: Status = Status::DATA_TRANSFER_ERROR.do_not_retry();

impl Io {
    pub(crate) fn new(namespaces: Vec<Namespace>, limit: Option<Bytes>) -> Io {
        Io {
            namespaces,
            space: Space::default(),
            page: PageSize::FOUR_KIB,
            limit: limit.map_or(u64::MAX, |bytes| bytes.0),
            health: Health::new(),
            write_through: false,
            torn: false,
            worked: 0,
            seen: sigbus::torn(),
        }
    }

    /// Whether it is a command that [`Io::transfer`] knows.
    #[inline(always)]
    pub(crate) fn transfers(sqe: &Sqe) -> bool {
        matches!(sqe.opcode, nvm_opcode::READ | nvm_opcode::WRITE)
    }

    #[inline(always)]
    fn namespace(&self, nsid: NamespaceId) -> Result<(usize, &Namespace), Status> {
        let index = (nsid.0 as usize).wrapping_sub(1);
        let namespace = self.namespaces.get(index).ok_or(INVALID_NAMESPACE)?;
        Ok((index, namespace))
    }

    /// Whether a read or write makes sense, and what it asks for.
    #[inline(always)]
    pub(crate) fn transfer(&self, sqe: &Sqe) -> Result<Request, Status> {
        plain(sqe)?;
        let asked = ReadWrite::of(sqe);
        let (index, namespace) = self.namespace(asked.nsid)?;
        let (refused, kind) = match asked.write {
            true => (namespace.no_writes, AccessKind::Write),
            false => (namespace.no_reads, AccessKind::Read),
        };
        if let Some(status) = refused {
            return Err(status);
        }
        let blocks = asked.blocks.get();
        in_range(namespace, asked.first, blocks)?;
        let bytes = u64::from(blocks) << namespace.shift;
        if bytes > self.limit {
            return Err(INVALID_FIELD);
        }
        Ok(Request {
            access: Access {
                kind,
                nsid: asked.nsid,
                first: asked.first,
                blocks,
                bytes: Bytes(bytes),
            },
            index,
            data: sqe.data(),
            through: asked.write && (asked.fua || self.write_through),
            given: false,
            ranges: 0,
        })
    }

    /// Whether another command makes sense, and what it asks for.
    pub(crate) fn other(&self, sqe: &Sqe) -> Result<Request, Status> {
        plain(sqe)?;
        let mut request = Request {
            access: Access {
                kind: AccessKind::Other,
                nsid: sqe.nsid(),
                first: Lba(0),
                blocks: 0,
                bytes: Bytes(0),
            },
            index: usize::MAX,
            data: sqe.data(),
            through: false,
            given: false,
            ranges: 0,
        };
        match sqe.opcode {
            nvm_opcode::FLUSH => {
                request.access.kind = AccessKind::Flush;
                if sqe.nsid() != NamespaceId::ALL {
                    request.index = self.namespace(sqe.nsid())?.0;
                }
            }
            nvm_opcode::WRITE_ZEROES => {
                let asked = WriteZeroes::of(sqe);
                let (index, namespace) = self.namespace(asked.nsid)?;
                namespace.no_writes.map_or(Ok(()), Err)?;
                in_range(namespace, asked.first, asked.blocks.get())?;
                request.access.kind = AccessKind::WriteZeroes;
                (request.access.first, request.access.blocks) = (asked.first, asked.blocks.get());
                (request.index, request.given) = (index, asked.deallocate);
                request.through = asked.fua || self.write_through;
            }
            nvm_opcode::DATASET_MANAGEMENT => {
                let asked = DatasetManagement::of(sqe);
                let (index, namespace) = self.namespace(asked.nsid)?;
                request.index = index;
                if asked.deallocate {
                    namespace.no_writes.map_or(Ok(()), Err)?;
                    request.access.kind = AccessKind::Deallocate;
                    request.ranges = asked.ranges;
                }
            }
            _ => return Err(Status::INVALID_OPCODE.do_not_retry()),
        }
        Ok(request)
    }

    /// Counts what is carried out without data.
    #[inline(always)]
    pub(crate) fn count(&mut self, request: &Request) {
        match request.access.kind {
            AccessKind::Read => self.health.read(request.access.bytes.0),
            AccessKind::Write => self.health.written(request.access.bytes.0),
            _ => {}
        }
    }

    /// Does what is asked for.
    pub(crate) fn carry_out(&mut self, request: &Request) -> Status {
        let status = match self.act(request) {
            Ok(()) => Status::SUCCESS,
            Err(status) => status,
        };
        if status.is_success() {
            self.count(request);
        }
        self.worked += self.weight(request);
        self.look();
        status
    }

    /// The bytes whose copying takes about as long as this does.
    #[inline(always)]
    fn weight(&self, request: &Request) -> u64 {
        let access = &request.access;
        let own = match access.kind {
            AccessKind::Read | AccessKind::Write => access.bytes.0,
            AccessKind::Flush | AccessKind::Deallocate => SLOW,
            // A block has 4 KiB at most.
            AccessKind::WriteZeroes => u64::from(access.blocks) << 12,
            AccessKind::Other => 0,
        };
        own + if request.through { SLOW } else { 0 }
    }

    /// Whether memory was found gone is looked at.
    #[inline(always)]
    pub(crate) fn look(&mut self) {
        if sigbus::torn() != self.seen {
            self.look_closer();
        }
    }

    /// Other controllers of the process have memory of their own that may be gone.
    #[cold]
    fn look_closer(&mut self) {
        self.seen = sigbus::torn();
        self.torn |= self.space.give_up() || self.lost();
    }

    /// Whether a namespace's file is gone under it, in part: what was written there since is kept nowhere.
    fn lost(&self) -> bool {
        let mut media = self.namespaces.iter().map(|namespace| &namespace.media);
        media.any(Media::is_torn)
    }

    /// As at a reset: what the client took away is given up, and what namespaces lost does not come back.
    pub(crate) fn reset(&mut self) {
        self.look();
        self.torn = self.lost();
        self.write_through = false;
    }

    /// Does it with one byte of the first block wrong.
    pub(crate) fn corrupt(&mut self, request: &Request) -> Status {
        let reads = request.access.kind == AccessKind::Read;
        if reads {
            self.flip(request);
        }
        let status = self.carry_out(request);
        // What was read is as it was; what was not written at all is nowhere to be wrong.
        let wrote = request.access.kind == AccessKind::Write && status.is_success();
        if reads || wrote {
            self.flip(request);
        }
        status
    }

    fn flip(&self, request: &Request) {
        let namespace = self.namespaces.get(request.index);
        let byte = namespace.and_then(|it| it.media.piece(request.access.first.0 << it.shift, 1));
        if let Some(byte) = byte {
            byte.flip();
        }
    }

    fn act(&self, request: &Request) -> Result<(), Status> {
        let access = &request.access;
        let Some(namespace) = self.namespaces.get(request.index) else {
            return self.flush_all();
        };
        let media = &namespace.media;
        let at = access.first.0 << namespace.shift;
        let len = u64::from(access.blocks) << namespace.shift;
        match access.kind {
            AccessKind::Read => self.pieces(
                request,
                len,
                |offset, client| {
                    media.piece(at + offset, client.1)?.copy_to(client.0);
                    Some(())
                },
                true,
            )?,
            AccessKind::Write => self.pieces(
                request,
                len,
                |offset, client| {
                    client.0.copy_to(media.piece(at + offset, client.1)?);
                    Some(())
                },
                false,
            )?,
            AccessKind::WriteZeroes => media
                .zero(at, len, request.given)
                .ok_or(Status::INTERNAL_ERROR)?,
            AccessKind::Deallocate => self.deallocate(namespace, request)?,
            AccessKind::Flush => media.sync_all().map_err(|_| Status::WRITE_FAULT)?,
            AccessKind::Other => {}
        }
        if request.through {
            media.sync(at, len).map_err(|_| Status::WRITE_FAULT)?;
        }
        Ok(())
    }

    fn flush_all(&self) -> Result<(), Status> {
        let mut media = self.namespaces.iter().map(|namespace| &namespace.media);
        let synced = media.try_for_each(|media| media.sync_all());
        synced.map_err(|_| Status::WRITE_FAULT)
    }

    /// Gives each piece of a command's data in the client's memory, with its length and its place in the data.
    #[inline(always)]
    fn pieces(
        &self,
        request: &Request,
        len: u64,
        mut each: impl FnMut(u64, (Piece<'_>, u64)) -> Option<()>,
        write: bool,
    ) -> Result<(), Status> {
        let mut done = 0;
        for piece in walk(self.page, request.data, Bytes(len), |at| {
            self.space.entry(at)
        }) {
            let (at, len) = piece.map_err(|fault| fault.status())?;
            let client = match write {
                true => self.space.writable(at, len),
                false => self.space.readable(at, len),
            };
            let client = client.ok_or(TRANSFER)?;
            each(done, (client, len.0)).ok_or(Status::INTERNAL_ERROR)?;
            done += len.0;
        }
        Ok(())
    }

    fn deallocate(&self, namespace: &Namespace, request: &Request) -> Result<(), Status> {
        let mut ranges = [DatasetRange::new_zeroed(); 256];
        let ranges = &mut ranges[..usize::from(request.ranges).min(256)];
        self.load(request.data, ranges.as_mut_bytes())?;
        // All are looked at before the first is done.
        for range in &*ranges {
            let (first, blocks) = (range.first.get(), u64::from(range.blocks.get()));
            if first > namespace.blocks || blocks > namespace.blocks - first {
                return Err(OUT_OF_RANGE);
            }
        }
        for range in &*ranges {
            let at = range.first.get() << namespace.shift;
            let len = u64::from(range.blocks.get()) << namespace.shift;
            let done = namespace.media.zero(at, len, true);
            done.ok_or(Status::INTERNAL_ERROR)?;
        }
        Ok(())
    }

    /// Copies what a command's data pointer points to.
    fn load(&self, data: Pointers, into: &mut [u8]) -> Result<(), Status> {
        let len = Bytes(into.len() as u64);
        let mut left = into;
        for piece in walk(self.page, data, len, |at| self.space.entry(at)) {
            let (at, len) = piece.map_err(|fault| fault.status())?;
            let client = self.space.readable(at, len).ok_or(TRANSFER)?;
            let (now, rest) = left.split_at_mut(len.as_usize().min(left.len()));
            client.load(now);
            left = rest;
        }
        Ok(())
    }

    /// Copies `from` to where a command's data pointer points.
    pub(crate) fn store(&self, data: Pointers, from: &[u8]) -> Result<(), Status> {
        let len = Bytes(from.len() as u64);
        let mut left = from;
        for piece in walk(self.page, data, len, |at| self.space.entry(at)) {
            let (at, len) = piece.map_err(|fault| fault.status())?;
            let client = self.space.writable(at, len).ok_or(TRANSFER)?;
            let (now, rest) = left.split_at(len.as_usize().min(left.len()));
            client.store(now);
            left = rest;
        }
        Ok(())
    }
}

/// Neither one of a pair of fused commands nor with a scatter-gather list.
#[inline(always)]
fn plain(sqe: &Sqe) -> Result<(), Status> {
    if sqe.is_fused() || !sqe.uses_prp() {
        return Err(INVALID_FIELD);
    }
    Ok(())
}

#[inline(always)]
fn in_range(namespace: &Namespace, first: Lba, blocks: u32) -> Result<(), Status> {
    let blocks = u64::from(blocks);
    if blocks > namespace.blocks || first.0 > namespace.blocks - blocks {
        return Err(OUT_OF_RANGE);
    }
    Ok(())
}
