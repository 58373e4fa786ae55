//! Lists: active namespaces, CNS 02h, and a namespace's identifiers, CNS 03h.

use std::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::NamespaceId;

/// The Active Namespace ID list (Base 5.1.13.2.2; Base 4.6.2): up to 1024 numbers, ascending, ended by a 0.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ActiveNamespaces {
    entries: [U32; 1024],
}

const _: () =
    assert!(size_of::<ActiveNamespaces>() == 4096 && offset_of!(ActiveNamespaces, entries) == 0);

impl ActiveNamespaces {
    /// Namespaces that one list holds; of more, the list from the last one on must be asked for.
    pub const MOST: usize = 1024;

    /// The answer to a request for the numbers above `after`: the first of `active`, which ascends.
    pub fn after(after: NamespaceId, active: impl IntoIterator<Item = NamespaceId>) -> Self {
        let mut entries = [U32::ZERO; Self::MOST];
        let above = active.into_iter().filter(|nsid| *nsid > after);
        for (entry, nsid) in entries.iter_mut().zip(above) {
            *entry = nsid.0.into();
        }
        ActiveNamespaces { entries }
    }

    /// The numbers, up to the first 0.
    pub fn iter(&self) -> impl Iterator<Item = NamespaceId> + '_ {
        self.entries
            .iter()
            .map(|entry| NamespaceId(entry.get()))
            .take_while(|nsid| *nsid != NamespaceId::NONE)
    }

    /// Whether there may be more behind it.
    pub fn is_full(&self) -> bool {
        self.iter().count() == Self::MOST
    }
}

/// One of a namespace's identifiers (Base 5.1.13.2.3, "Namespace Identification Descriptor").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptor<'a> {
    /// 1h: IEEE extended unique identifier, big-endian.
    Eui64([u8; 8]),
    /// 2h: globally unique identifier, big-endian.
    Nguid([u8; 16]),
    /// 3h: UUID as RFC 4122 lays it out.
    Uuid([u8; 16]),
    /// 4h: the I/O command set, CSI; 0 is NVM.
    CommandSet(u8),
    /// A type, or a length for its type, that is not among these.
    Other(u8, &'a [u8]),
}

impl Descriptor<'_> {
    fn kind(&self) -> u8 {
        match self {
            Descriptor::Eui64(_) => 1,
            Descriptor::Nguid(_) => 2,
            Descriptor::Uuid(_) => 3,
            Descriptor::CommandSet(_) => 4,
            Descriptor::Other(kind, _) => *kind,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Descriptor::Eui64(bytes) => bytes,
            Descriptor::Nguid(bytes) | Descriptor::Uuid(bytes) => bytes,
            Descriptor::CommandSet(set) => std::slice::from_ref(set),
            Descriptor::Other(_, bytes) => bytes,
        }
    }
}

/// The descriptors of an answer of 4096 bytes: a type, a length, two reserved bytes, the identifier, and so on until a
/// length of 0. One that reaches beyond the answer ends them.
pub fn descriptors(mut answer: &[u8]) -> impl Iterator<Item = Descriptor<'_>> {
    std::iter::from_fn(move || {
        let (&[kind, len, _, _], rest) = answer.split_first_chunk::<4>()?;
        if len == 0 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(len.into())?;
        answer = rest;
        let other = Descriptor::Other(kind, bytes);
        Some(match kind {
            1 => bytes.try_into().map_or(other, Descriptor::Eui64),
            2 => bytes.try_into().map_or(other, Descriptor::Nguid),
            3 => bytes.try_into().map_or(other, Descriptor::Uuid),
            4 => match bytes {
                [set] => Descriptor::CommandSet(*set),
                _ => other,
            },
            _ => other,
        })
    })
}

/// An answer with these descriptors; `None` when they do not fit, or one has no bytes or more than 255.
pub fn write_descriptors(list: &[Descriptor<'_>]) -> Option<[u8; 4096]> {
    let mut answer = [0; 4096];
    let mut at = 0;
    for descriptor in list {
        let bytes = descriptor.bytes();
        let len = u8::try_from(bytes.len()).ok().filter(|len| *len > 0)?;
        let end = at + 4 + bytes.len();
        let place = answer.get_mut(at..end)?;
        place[..4].copy_from_slice(&[descriptor.kind(), len, 0, 0]);
        place[4..].copy_from_slice(bytes);
        at = end;
    }
    Some(answer)
}
