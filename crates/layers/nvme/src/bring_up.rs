//! From a PCI function to a controller that takes commands (Base 3.5.1, "Memory-based Controller Initialization").

use std::sync::Arc;

use strata_nvme_spec::command::admin::{Cns, Identify, SetFeatures};
use strata_nvme_spec::feature::{FeatureId, QueueCounts};
use strata_nvme_spec::identify::{ActiveNamespaces, IdentifyController};
use strata_nvme_spec::registers::Doorbell;
use strata_nvme_spec::{EventConfig, NamespaceId, QueueId};
use strata_units::Bytes;

use crate::admin::{AdminMemory, AdminQueue};
use crate::registers::{Capabilities, Registers};
use crate::{Bell, Doorbells, Identity, NvmeError, Options, pci};

/// Most active namespaces that are looked at: as many as one subsystem of any drive has, and far less than fill memory.
const MOST_NAMESPACES: usize = 64 * ActiveNamespaces::MOST;

/// A controller that takes commands.
pub(crate) struct Up {
    pub(crate) admin: AdminQueue,
    pub(crate) capabilities: Capabilities,
    pub(crate) doorbells: Arc<Doorbells>,
    pub(crate) identity: Identity,
    pub(crate) namespaces: Vec<NamespaceId>,
}

/// Brings a controller up, whatever state it is in. One that fails on the way is stopped.
pub(crate) fn bring_up(registers: &Registers, options: &Options) -> Result<Up, NvmeError> {
    pci::enable(&mut **registers.function().carrier())?;
    let capabilities = registers.capabilities()?;
    let was_enabled = match registers.disable(capabilities.ready) {
        Err(NvmeError::NotReady { .. }) => {
            registers.silence(capabilities.ready)?;
            // Which may have been a reset of the function.
            pci::enable(&mut **registers.function().carrier())?;
            true
        }
        other => other?,
    };
    let memory = AdminMemory::new(registers, &capabilities).map_err(|why| NvmeError::Memory {
        name: registers.name(),
        what: "the admin queue",
        why: Box::new(why),
    })?;
    let stride = capabilities.cap.doorbell_stride();
    // How many there are is not known before the controller answers: those of the admin queue have to be there.
    let first = doorbells(registers, 0, stride)?;
    let (tail, head) = bells(registers, &first, QueueId::ADMIN, stride)?;
    let (attributes, submissions, completions) = memory.addresses();
    let enabled = registers.enable(&capabilities, attributes.0, submissions, completions);
    // Bound before it is known, so that one drop comes after the controller was stopped.
    let mut admin = memory.bind(tail, head);
    let told = enabled
        .and_then(|()| introduce(registers, options, &capabilities, &mut admin, was_enabled))
        .and_then(|(identity, namespaces)| {
            let doorbells = doorbells(registers, identity.queue_pairs, stride)?;
            Ok((identity, namespaces, doorbells))
        });
    match told {
        Ok((identity, namespaces, doorbells)) => Ok(Up {
            admin,
            capabilities,
            doorbells,
            identity,
            namespaces,
        }),
        Err(why) => {
            if registers.silence(capabilities.ready).is_err() {
                registers.function().distrust();
            }
            Err(why)
        }
    }
}

/// What is asked of a controller, and told to it, before it is used.
fn introduce(
    registers: &Registers,
    options: &Options,
    capabilities: &Capabilities,
    admin: &mut AdminQueue,
    was_enabled: bool,
) -> Result<(Identity, Vec<NamespaceId>), NvmeError> {
    let within = options.admin_deadline;
    let identify = Identify {
        cns: Cns::Controller,
        nsid: NamespaceId::NONE,
    };
    let controller: IdentifyController =
        admin.read_one(registers, "identify itself", identify.sqe(), within)?;
    if !controller.takes_nvm_entries() {
        return Err(registers.unfit(
            format!(
                "its queue entries have sizes of other powers of two (SQES {:#04x}, CQES {:#04x})",
                controller.sqes, controller.cqes
            ),
            "64 and 16 bytes have to be among them; this is no controller of a drive",
        ));
    }
    if let kind @ 2..=3 = controller.cntrltype {
        return Err(registers.unfit(
            format!("it is a controller of type {kind} (CNTRLTYPE)"),
            "only an I/O controller, type 1, has namespaces; give that one's address",
        ));
    }
    let queue_pairs = number_of_queues(registers, options, admin)?;
    let wanted = EventConfig::NAMESPACES.and(EventConfig::FIRMWARE);
    let config = EventConfig::CRITICAL_WARNINGS.and(EventConfig(controller.events().0 & wanted.0));
    let configure = SetFeatures {
        feature: FeatureId::EVENT_CONFIG,
        nsid: NamespaceId::NONE,
        value: config.0,
        save: false,
    };
    admin.execute(registers, "configure its events", configure.sqe(), within)?;
    admin.request_events(controller.event_requests());
    let namespaces = active_namespaces(registers, options, admin)?;
    let identity = Identity::of(capabilities, &controller, queue_pairs, was_enabled);
    Ok((identity, namespaces))
}

/// Asks for queue pairs, and gives how many were granted of them.
fn number_of_queues(
    registers: &Registers,
    options: &Options,
    admin: &mut AdminQueue,
) -> Result<u32, NvmeError> {
    let asked = u32::from(options.queue_pairs);
    let counts = QueueCounts::new(asked, asked).ok_or_else(|| NvmeError::Limit {
        name: registers.name(),
        what: "a number of queue pairs",
        asked: asked.into(),
        most: u16::MAX.into(),
    })?;
    let set = SetFeatures {
        feature: FeatureId::NUMBER_OF_QUEUES,
        nsid: NamespaceId::NONE,
        value: counts.dword(),
        save: false,
    };
    let dword = admin.execute(
        registers,
        "grant I/O queues",
        set.sqe(),
        options.admin_deadline,
    )?;
    Ok(QueueCounts::from_dword(dword).pairs().min(asked))
}

fn active_namespaces(
    registers: &Registers,
    options: &Options,
    admin: &mut AdminQueue,
) -> Result<Vec<NamespaceId>, NvmeError> {
    let mut found = Vec::new();
    loop {
        let last = found.last().copied().unwrap_or(NamespaceId::NONE);
        let identify = Identify {
            cns: Cns::ActiveNamespaces,
            nsid: last,
        };
        let list: ActiveNamespaces = admin.read_one(
            registers,
            "list its namespaces",
            identify.sqe(),
            options.admin_deadline,
        )?;
        for nsid in list.iter() {
            // Also what keeps a controller from listing without end.
            if found.last().is_some_and(|before| *before >= nsid) || nsid == NamespaceId::ALL {
                return Err(registers.unfit(
                    format!("its list of namespaces has {nsid} behind {last}"),
                    "the list has to ascend, and to end below FFFFFFFFh; update its firmware",
                ));
            }
            found.push(nsid);
        }
        if !list.is_full() {
            return Ok(found);
        }
        if found.len() >= MOST_NAMESPACES {
            return Err(NvmeError::Limit {
                name: registers.name(),
                what: "a number of namespaces",
                asked: found.len() as u64 + 1,
                most: MOST_NAMESPACES as u64,
            });
        }
    }
}

/// The doorbells of the admin queue and so many pairs.
fn doorbells(
    registers: &Registers,
    pairs: u32,
    stride: Bytes,
) -> Result<Arc<Doorbells>, NvmeError> {
    let len = stride * (2 * (u64::from(pairs) + 1));
    let doorbells = registers.function().carrier().doorbells(len)?;
    Ok(Arc::new(doorbells))
}

/// The two doorbells of a queue pair: its tail's and its head's.
pub(crate) fn bells(
    registers: &Registers,
    doorbells: &Arc<Doorbells>,
    id: QueueId,
    stride: Bytes,
) -> Result<(Bell, Bell), NvmeError> {
    let bell = |which| doorbells.bell(which, stride);
    match (bell(Doorbell::Tail(id)), bell(Doorbell::Head(id))) {
        (Some(tail), Some(head)) => Ok((tail, head)),
        _ => Err(registers.unfit(
            format!("the doorbells of queue {id} lie behind its BAR's end"),
            "its first BAR has to hold those of all queues that it grants; ask for fewer queue pairs",
        )),
    }
}
