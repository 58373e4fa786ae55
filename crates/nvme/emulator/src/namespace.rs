//! Namespaces as the host sees them.

use strata_nvme_spec::identify::{Descriptor, IdentifyNamespace, write_descriptors};
use strata_nvme_spec::{PageSize, Status};
use strata_units::Bytes;
use zerocopy::FromZeros;

use crate::config::{Config, NamespaceConfig};
use crate::error::EmulatorError;
use crate::media::Media;

/// A namespace.
pub(crate) struct Namespace {
    /// Its size in blocks.
    pub(crate) blocks: u64,
    /// The block's size as a power of two.
    pub(crate) shift: u32,
    /// What each read is answered with, if it is not done.
    pub(crate) no_reads: Option<Status>,
    /// What each write is answered with, if it is not done.
    pub(crate) no_writes: Option<Status>,
    pub(crate) media: Media,
    identity: Box<IdentifyNamespace>,
    uuid: [u8; 16],
}

impl Namespace {
    pub(crate) fn new(
        config: &Config,
        nsid: u32,
        it: &NamespaceConfig,
    ) -> Result<Namespace, EmulatorError> {
        let shift = it.block.trailing_zeros();
        let no_reads = if it.metadata > 0 {
            Some(Status::INVALID_NAMESPACE.do_not_retry())
        } else if it.locked {
            Some(Status::ACCESS_DENIED.do_not_retry())
        } else {
            None
        };
        let no_writes = no_reads.or(it
            .write_protected
            .then_some(Status::WRITE_PROTECTED.do_not_retry()));
        let size = it.size.0;
        let media = match config.moves_data {
            true => Media::new(nsid, &it.memory, size)?,
            false => Media::none(),
        };
        Ok(Namespace {
            blocks: size.0 >> shift,
            shift,
            no_reads,
            no_writes,
            media,
            identity: Box::new(identity(config, it)),
            uuid: uuid(&format!("{} {nsid}", config.serial)),
        })
    }

    /// Identify's answer for CNS 00h.
    pub(crate) fn identify(&self) -> &IdentifyNamespace {
        &self.identity
    }

    /// Identify's answer for CNS 03h.
    pub(crate) fn descriptors(&self) -> Option<[u8; 4096]> {
        write_descriptors(&[Descriptor::Uuid(self.uuid)])
    }
}

fn identity(config: &Config, it: &NamespaceConfig) -> IdentifyNamespace {
    let mut id = IdentifyNamespace::new_zeroed();
    let blocks = it.size.0.0 / it.block;
    id.nsze = blocks.into();
    id.ncap = blocks.into();
    // Not thin: every block counts as allocated, whether it was written or not.
    id.nuse = blocks.into();
    id.lbaf[0].lbads = 9;
    id.lbaf[1].lbads = 12;
    let plain = u8::from(it.block == 4096);
    (id.nlbaf, id.flbas) = (1, plain);
    if it.metadata > 0 {
        id.lbaf[2] = id.lbaf[usize::from(plain)];
        id.lbaf[2].ms = it.metadata.into();
        // Formats 0 to 2; of the third one, the metadata lies in a buffer of its own.
        (id.nlbaf, id.flbas, id.mc) = (2, 2, 0b10);
    }
    if it.protection > 0 {
        (id.dpc, id.dps) = (1 << (it.protection - 1), it.protection);
    }
    // Deallocated blocks read as zeroes, those of Write Zeroes too.
    id.dlfeat = 0b1001;
    id.nsattr = u8::from(it.write_protected);
    let boundary = config
        .boundary
        .map_or(0, |boundary| boundary.0.0 / it.block);
    id.noiob = u16::try_from(boundary).unwrap_or(0).into();
    id
}

/// A UUID that follows from a text (version 8, RFC 9562), so that a namespace is the same one after the process was started
/// anew.
pub(crate) fn uuid(text: &str) -> [u8; 16] {
    // FNV-1a of 128 bits.
    let hash = text.bytes().fold(
        0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128,
        |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        },
    );
    let mut bytes = hash.to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// The largest transfer as a power of two of the smallest memory page (MDTS); 0 is none.
pub(crate) fn transfer_power(limit: Option<Bytes>, smallest: PageSize) -> u8 {
    limit.map_or(0, |bytes| {
        (bytes.0.trailing_zeros().saturating_sub(smallest.shift())) as u8
    })
}
