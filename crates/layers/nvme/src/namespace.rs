//! Namespaces, and why one cannot be used.

use std::fmt;

use strata_nvme_spec::command::admin::{Cns, Identify};
use strata_nvme_spec::identify::{Deallocated, Descriptor, IdentifyNamespace, descriptors};
use strata_nvme_spec::registers::Version;
use strata_nvme_spec::{BlockCount, NamespaceId, Status};
use strata_units::Bytes;

use crate::NvmeError;
use crate::controller::Controller;

/// A namespace that can be read, and written unless it is write protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its number.
    pub id: NamespaceId,
    /// The logical block: 512 or 4096 bytes.
    pub block: Bytes,
    /// Its size in blocks; not 0.
    pub blocks: u64,
    /// Its size: no more than 64 bits count.
    pub size: Bytes,
    /// What is allocated of it (NUSE), if the controller tells that from its size.
    pub used: Option<Bytes>,
    /// The most that one command may move: what the controller, or the number of blocks in a command, allows.
    pub most: Bytes,
    /// The boundary that a command should not cross, if there is one (NOIOB).
    pub boundary: Option<Bytes>,
    /// What a block that was never written, or was deallocated, reads as.
    pub deallocated: Deallocated,
    /// Whether it takes no writes now (NSATTR).
    pub write_protected: bool,
    /// Its identity, wherever it is attached.
    pub identity: NamespaceIdentity,
}

/// The identifiers of a namespace, big-endian; none where the controller reports none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NamespaceIdentity {
    /// IEEE extended unique identifier.
    pub eui64: Option<[u8; 8]>,
    /// Globally unique identifier.
    pub nguid: Option<[u8; 16]>,
    /// UUID.
    pub uuid: Option<[u8; 16]>,
}

/// As the kernel's `wwid` has it: `uuid.…`, else `eui.…` of the longer identifier; empty where there is none.
impl fmt::Display for NamespaceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = |prefix: &str, bytes: &[u8], dashes: &[usize]| {
            f.write_str(prefix)?;
            for (at, byte) in bytes.iter().enumerate() {
                if dashes.contains(&at) {
                    f.write_str("-")?;
                }
                write!(f, "{byte:02x}")?;
            }
            Ok(())
        };
        match (self.uuid, self.nguid, self.eui64) {
            (Some(uuid), _, _) => hex("uuid.", &uuid, &[4, 6, 8, 10]),
            (None, Some(nguid), _) => hex("eui.", &nguid, &[]),
            (None, None, Some(eui64)) => hex("eui.", &eui64, &[]),
            (None, None, None) => Ok(()),
        }
    }
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not there.
    #[error(
        "namespace {id} is not active on {name}; its active ones are {}",
        list(active)
    )]
    Inactive {
        /// The controller.
        name: String,
        /// The namespace.
        id: NamespaceId,
        /// Those that are.
        active: Vec<NamespaceId>,
    },
    /// Each block has metadata.
    #[error(
        "namespace {id} of {name} has {metadata} of metadata with each block of {block}, and formats with none can be measured; format it to one (nvme-format(1))"
    )]
    Metadata {
        /// The controller.
        name: String,
        /// The namespace.
        id: NamespaceId,
        /// Bytes of a block.
        block: Bytes,
        /// Bytes of metadata of each.
        metadata: Bytes,
    },
    /// Blocks carry protection information.
    #[error(
        "namespace {id} of {name} has protection information of type {kind}, and formats with none can be measured; format it without (nvme-format(1), --pi=0)"
    )]
    Protection {
        /// The controller.
        name: String,
        /// The namespace.
        id: NamespaceId,
        /// Its type, 1 to 3; others are reserved.
        kind: u8,
    },
    /// Its blocks are of another size.
    #[error(
        "namespace {id} of {name} has {found}, and blocks of 512B or 4KiB can be measured; format it to one of them (nvme-format(1))"
    )]
    Format {
        /// The controller.
        name: String,
        /// The namespace.
        id: NamespaceId,
        /// What it has.
        found: String,
    },
    /// It is larger than anything is.
    #[error(
        "namespace {id} of {name} has {blocks} blocks of {block}, more bytes than 64 bits count; update the firmware of the controller"
    )]
    TooLarge {
        /// The controller.
        name: String,
        /// The namespace.
        id: NamespaceId,
        /// Its blocks.
        blocks: u64,
        /// Bytes of each.
        block: Bytes,
    },
    /// Its controller does not tell.
    #[error(transparent)]
    Controller(#[from] NvmeError),
}

fn list(ids: &[NamespaceId]) -> String {
    /// More than these say nothing to a reader.
    const SHOWN: usize = 16;
    if ids.is_empty() {
        return "none; create and attach one (nvme-create-ns(1))".to_owned();
    }
    let mut shown: Vec<String> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    if ids.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

impl Controller {
    /// A namespace, as it is now.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn namespace(&self, id: NamespaceId) -> Result<Namespace, Unusable> {
        let active = self.namespaces();
        if !active.contains(&id) {
            let name = self.name();
            return Err(Unusable::Inactive { name, id, active });
        }
        let identify = |cns| Identify { cns, nsid: id }.sqe();
        let found: IdentifyNamespace =
            self.read_one("identify a namespace", identify(Cns::Namespace))?;
        if !found.is_active() {
            let name = self.name();
            // It went since the list was read.
            let active = active.into_iter().filter(|other| *other != id).collect();
            return Err(Unusable::Inactive { name, id, active });
        }
        let mut identity = NamespaceIdentity {
            eui64: Some(found.eui64).filter(|bytes| *bytes != [0; 8]),
            nguid: Some(found.nguid).filter(|bytes| *bytes != [0; 16]),
            uuid: None,
        };
        if self.identity().version >= DESCRIPTORS {
            match self.read(
                "list a namespace's identifiers",
                identify(Cns::Descriptors),
                Identify::LEN,
            ) {
                Ok(answer) => identity.and(&answer),
                // Some controllers lack it, and all that is lost is a name.
                Err(NvmeError::Refused { status, .. }) if status.is(Status::INVALID_FIELD) => {}
                Err(why) => return Err(why.into()),
            }
        }
        usable(
            self.name(),
            id,
            &found,
            identity,
            self.identity().max_transfer,
        )
    }
}

/// The first version with identification descriptors (Base 1.3, 5.15).
const DESCRIPTORS: Version = Version::new(1, 3, 0);

impl NamespaceIdentity {
    fn and(&mut self, answer: &[u8]) {
        for descriptor in descriptors(answer) {
            match descriptor {
                Descriptor::Eui64(bytes) => self.eui64 = Some(bytes),
                Descriptor::Nguid(bytes) => self.nguid = Some(bytes),
                Descriptor::Uuid(bytes) => self.uuid = Some(bytes),
                Descriptor::CommandSet(_) | Descriptor::Other(..) => {}
            }
        }
    }
}

fn usable(
    name: String,
    id: NamespaceId,
    found: &IdentifyNamespace,
    identity: NamespaceIdentity,
    max_transfer: Option<Bytes>,
) -> Result<Namespace, Unusable> {
    let (format, block) = match found.format().map(|format| (format, format.block())) {
        Some((format, Some(block))) => (format, block),
        Some((format, None)) => {
            let found = format!("blocks of 2 to the power of {} bytes", format.lbads);
            return Err(Unusable::Format { name, id, found });
        }
        None => {
            let found = format!(
                "a format that it does not list (FLBAS {:#04x})",
                found.flbas
            );
            return Err(Unusable::Format { name, id, found });
        }
    };
    if let Some(kind) = found.protection() {
        return Err(Unusable::Protection { name, id, kind });
    }
    let metadata = format.metadata();
    if metadata.0 > 0 {
        return Err(Unusable::Metadata {
            name,
            id,
            block,
            metadata,
        });
    }
    if !matches!(block.0, 512 | 4096) {
        let found = format!("blocks of {block}");
        return Err(Unusable::Format { name, id, found });
    }
    let blocks = found.nsze.get();
    let Some(size) = found.size() else {
        return Err(Unusable::TooLarge {
            name,
            id,
            blocks,
            block,
        });
    };
    const MOST_BLOCKS: u64 = BlockCount::from_field(u16::MAX).get() as u64;
    let most = block * MOST_BLOCKS;
    Ok(Namespace {
        id,
        block,
        blocks,
        size,
        used: found.used().filter(|_| found.is_thin()),
        most: max_transfer.map_or(most, |limit| limit.min(most)),
        boundary: found.boundary(),
        deallocated: found.deallocated(),
        write_protected: found.is_write_protected(),
        identity,
    })
}
