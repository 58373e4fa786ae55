//! What is measured: a region of a namespace.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use strata_measure::storage::{Seen, WrittenState, fill};
use strata_measure::{Buffers, Engine};
use strata_nvme_spec::NamespaceId;
use strata_units::{ByteOffset, Bytes, Nanos, NodeId, QueueDepth};

use crate::ends::signed;
use crate::native::Native;
use crate::requests::{Requests, Shape};
use crate::{Blocking, Controller, Namespace, NvmeError, Stands, Unusable};

/// Why a namespace cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The driver cannot use it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The controller fails.
    #[error(transparent)]
    Controller(#[from] NvmeError),
    /// It cannot be read or written.
    #[error("cannot {what} {name}: {source}; look at its error log and health")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It is too short.
    #[error("{name} holds {found} from --offset {} on, and {wanted} are asked for; give a smaller --size or --bs, or another --target", Bytes(from.0))]
    TooShort {
        /// The namespace.
        name: String,
        /// Where the region begins.
        from: ByteOffset,
        /// How much there is from there on.
        found: Bytes,
        /// What is asked for.
        wanted: Bytes,
    },
    /// Its region does not begin at a block.
    #[error("an --offset of {} is no multiple of the block of {block}; give one that is", Bytes(from.0))]
    Unaligned {
        /// The offset.
        from: ByteOffset,
        /// The largest block that is asked for.
        block: Bytes,
    },
    /// Its blocks are larger than the ones that are asked for.
    #[error(
        "{name} has blocks of {logical}, and a --bs of {block} is no multiple of that; give one that is"
    )]
    SmallBlock {
        /// The namespace.
        name: String,
        /// Its logical block.
        logical: Bytes,
        /// The smallest block that is asked for.
        block: Bytes,
    },
    /// It takes no writes.
    #[error(
        "{name} is write protected; measure reads, or take the protection away first (nvme set-feature -f 0x84)"
    )]
    Protected {
        /// The namespace.
        name: String,
    },
    /// A write to a drive that was not told apart from all others.
    #[error(
        "writing to {name} destroys what it holds, and is only done when --destroy names it by its serial number"
    )]
    NotNamed {
        /// The namespace.
        name: String,
    },
    /// The typed serial number is another drive's.
    #[error(
        "{name} is left alone: {typed:?} is not its serial number (with /nN behind it, N the namespace, where it has several); type that of the drive that may be lost"
    )]
    Another {
        /// The namespace.
        name: String,
        /// What was typed.
        typed: String,
    },
    /// Another host may have it reserved.
    #[error(
        "{name} is left alone: it knows reservations, and whether another host has one was not asked; write to a drive without, or through the kernel's driver (strata block)"
    )]
    Reservable {
        /// The namespace.
        name: String,
    },
    /// It holds somebody's data.
    #[error(
        "{name} is left alone: it carries {found}; wipe it first (wipefs -a, nvme format), if nobody needs that"
    )]
    Signed {
        /// The namespace.
        name: String,
        /// What was recognised.
        found: String,
    },
    /// The user stopped the filling.
    #[error("interrupted while filling {name}")]
    Interrupted {
        /// The namespace.
        name: String,
    },
}

impl TargetError {
    /// Whether it can be mended by typing something else.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            TargetError::TooShort { .. }
                | TargetError::Unaligned { .. }
                | TargetError::SmallBlock { .. }
                | TargetError::Protected { .. }
                | TargetError::NotNamed { .. }
                | TargetError::Another { .. }
                | TargetError::Unusable(_)
        )
    }
}

/// Whose data a namespace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The suite's, made for this run: it is filled and may be written.
    Ours,
    /// Somebody's: it is only read, unless this is its drive's serial number, typed out by the user.
    Theirs(Option<&'a str>),
}

/// What is wanted of a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which one.
    pub namespace: NamespaceId,
    /// The part that is used; all of it when none.
    pub size: Option<Bytes>,
    /// Where that begins.
    pub from: ByteOffset,
    /// The largest operation.
    pub block: Bytes,
    /// The smallest.
    pub smallest: Bytes,
    /// Whether any of them writes.
    pub writes: bool,
    /// Whose it is.
    pub whose: Whose<'a>,
    /// Seed of what it is filled with.
    pub seed: u64,
}

/// A namespace, and the region of it that is measured.
#[derive(Clone)]
pub struct NvmeTarget {
    /// Its controller.
    pub controller: Arc<Controller>,
    /// The namespace.
    pub namespace: Namespace,
    /// What its user calls it.
    pub name: String,
    /// Where the region begins.
    pub from: ByteOffset,
    /// How much of it is used: whole blocks.
    pub region: Bytes,
    /// What is known of its blocks.
    pub state: WrittenState,
    /// What could not be read of them, in words, if anything.
    pub unreadable: Option<String>,
    /// Whether the controller moves data at all; the null controller only answers.
    pub moves: bool,
    /// Whether it may be written.
    pub(crate) writable: bool,
}

impl NvmeTarget {
    /// Looks at a namespace, and fills its region where it is ours; `name` is what its user calls it.
    ///
    /// # Errors
    /// [`TargetError`], when it cannot be used, is too short, or is to be written and may not be.
    pub fn prepare(
        controller: &Arc<Controller>,
        name: &str,
        wanted: &Wanted<'_>,
        interrupted: &AtomicBool,
    ) -> Result<NvmeTarget, TargetError> {
        let namespace = controller.namespace(wanted.namespace)?;
        let name = name.to_owned();
        if !wanted.smallest.is_multiple_of(namespace.block) {
            return Err(TargetError::SmallBlock {
                name,
                logical: namespace.block,
                block: wanted.smallest,
            });
        }
        let block = wanted.block.0.max(1);
        if !wanted.from.0.is_multiple_of(block) {
            return Err(TargetError::Unaligned {
                from: wanted.from,
                block: wanted.block,
            });
        }
        let rest = Bytes(namespace.size.0.saturating_sub(wanted.from.0));
        let asked = wanted.size.unwrap_or(rest);
        let region = Bytes(asked.0 / block * block);
        if asked > rest || region.0 == 0 {
            return Err(TargetError::TooShort {
                name,
                from: wanted.from,
                found: rest,
                wanted: asked.max(wanted.block),
            });
        }
        if wanted.writes && namespace.write_protected {
            return Err(TargetError::Protected { name });
        }
        let mut target = NvmeTarget {
            moves: controller.stands()? != Stands::Null,
            controller: Arc::clone(controller),
            namespace,
            name,
            from: wanted.from,
            region,
            state: WrittenState::Written,
            unreadable: None,
            writable: wanted.writes,
        };
        if target.moves {
            let blocking = Blocking::new(controller, target.namespace.clone())?;
            (target.state, target.unreadable) = target.look(blocking, wanted, interrupted)?;
        }
        Ok(target)
    }

    /// What its blocks hold, after they were filled where they are ours.
    fn look(
        &self,
        mut blocking: Blocking,
        wanted: &Wanted<'_>,
        interrupted: &AtomicBool,
    ) -> Result<(WrittenState, Option<String>), TargetError> {
        let io = |what| {
            move |source| TargetError::Io {
                what,
                name: self.name.clone(),
                source,
            }
        };
        match wanted.whose {
            Whose::Ours => {
                let write = |at, bytes: &[u8]| blocking.write(at, bytes);
                let filled = fill(write, self.from, self.region, wanted.seed, interrupted);
                if !filled.map_err(io("fill"))? {
                    return Err(TargetError::Interrupted {
                        name: self.name.clone(),
                    });
                }
                blocking.flush().map_err(io("flush"))?;
                return Ok((WrittenState::Ours, None));
            }
            Whose::Theirs(typed) if wanted.writes => self.guard(&mut blocking, typed)?,
            Whose::Theirs(_) => {}
        }
        let read = |at, into: &mut [u8]| blocking.read(at, into);
        let seen = Seen::sample(read, self.namespace.block, self.from, self.region);
        let seen = seen.map_err(io("read"))?;
        Ok((seen.state(false), seen.unreadable()))
    }

    /// Whether somebody else's drive may be written: it was named, and carries nothing that is known.
    fn guard(&self, blocking: &mut Blocking, typed: Option<&str>) -> Result<(), TargetError> {
        let name = || self.name.clone();
        let Some(typed) = typed else {
            return Err(TargetError::NotNamed { name: name() });
        };
        let identity = self.controller.identity();
        let serial = identity.serial.trim();
        let several = self.controller.namespaces().len() > 1;
        let expected = match several {
            true => format!("{serial}/n{}", self.namespace.id),
            false => serial.to_owned(),
        };
        if identity.reserves {
            return Err(TargetError::Reservable { name: name() });
        }
        // One without a serial number cannot be told from others.
        if serial.is_empty() || typed.trim() != expected {
            return Err(TargetError::Another {
                name: name(),
                typed: typed.to_owned(),
            });
        }
        let found = signed(blocking, &self.namespace).map_err(|source| TargetError::Io {
            what: "read the ends of",
            name: name(),
            source,
        })?;
        match &found[..] {
            [] => Ok(()),
            found => Err(TargetError::Signed {
                name: name(),
                found: found
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// An engine of so many operations in flight, each with its buffer of `buffers`, which lie in a shared region; its queues
    /// lie on `node`. A command that takes longer than `deadline` is aborted. `whole`: all that has completed is taken at a look,
    /// for a loop that stamps or checks what it moves.
    ///
    /// # Errors
    /// No memory or no queue of the controller's for it.
    pub fn engine(
        &self,
        buffers: Buffers,
        depth: QueueDepth,
        node: Option<NodeId>,
        deadline: Nanos,
        whole: bool,
    ) -> Result<impl Engine + use<>, NvmeError> {
        let shape = Shape {
            whole,
            ..self.shape(depth, buffers.size(), node, deadline)
        };
        let memory = self.controller.function().map(buffers)?;
        let requests = Requests::new(&self.controller, self.namespace.clone(), memory, shape)?;
        Ok(Native::new(requests, depth.get(), self.moves))
    }

    /// So many requests of one size, each at a multiple of it in its region.
    pub(crate) fn shape(
        &self,
        depth: QueueDepth,
        len: Bytes,
        node: Option<NodeId>,
        deadline: Nanos,
    ) -> Shape {
        // A region begins where the user said: at a multiple of the largest operation.
        let align = Bytes(1 << (self.from.0 | len.0).trailing_zeros());
        Shape {
            depth: depth.get(),
            len,
            align,
            stride: Bytes(len.0.next_multiple_of(4096)),
            node,
            deadline,
            whole: false,
        }
    }

    /// The same target for operations of `block` bytes: its region in whole blocks.
    #[must_use]
    pub fn for_blocks(&self, block: Bytes) -> NvmeTarget {
        NvmeTarget {
            region: Bytes(self.region.0 / block.0.max(1) * block.0),
            ..self.clone()
        }
    }
}
