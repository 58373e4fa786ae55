//! Controllers of a session, and the namespaces that are looked at on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use strata_memory::memory_available;
use strata_nvme::{Controller, NvmeTarget, Options, Vfio, VfioUser, Wanted, Whose};
use strata_nvme_spec::NamespaceId;
use strata_record::Placement;
use strata_units::{ByteOffset, Bytes, CpuList, Nanos};

use super::{SIZE, Via, Way};
use crate::Usage;
use crate::emulated::{Emulated, Model};
use crate::session::Desk;

/// The controllers of a session, each brought up once. The emulated ones end with it.
#[derive(Default)]
pub(crate) struct Controllers(BTreeMap<(Way, Option<Bytes>, CpuList), Up>);

/// A controller that is up.
pub(super) enum Up {
    Emulated(Emulated),
    Reached(Arc<Controller>),
}

impl Up {
    fn controller(&self) -> &Arc<Controller> {
        match self {
            Up::Emulated(it) => &it.controller,
            Up::Reached(it) => it,
        }
    }
}

impl Controllers {
    /// The controller of a way, brought up if it was not; `size` is that of an emulated one's namespace, `cpus` its CPU.
    pub(super) fn up(&mut self, way: &Way, size: Option<Bytes>, cpus: &CpuList) -> Result<&Up> {
        let key = (way.clone(), size, cpus.clone());
        if !self.0.contains_key(&key) {
            let up = match way {
                Way::Emulated { path, no_data } => {
                    let model = Model {
                        path: path.clone(),
                        no_data: *no_data,
                        size,
                    };
                    let cpu = cpus.iter().next();
                    let cpu = cpu.ok_or_else(|| anyhow!("no CPU for the emulated controller"))?;
                    Up::Emulated(Emulated::start(&model, cpu)?)
                }
                Way::Socket(folder) => {
                    let options = Options::default();
                    let carrier = VfioUser::connect(folder, options.register_patience)?;
                    Up::Reached(Controller::open(Box::new(carrier), &options)?)
                }
                Way::Function(at) => {
                    let carrier = Vfio::open(*at)?;
                    Up::Reached(Controller::open(Box::new(carrier), &Options::default())?)
                }
            };
            self.0.insert(key.clone(), up);
        }
        self.0
            .get(&key)
            .ok_or_else(|| anyhow!("a controller is missing; this is a bug of strata"))
    }
}

/// A part of a namespace, and what is to be done to it.
pub(super) struct Part<'a> {
    pub(super) via: Via,
    /// Of the region.
    pub(super) size: Option<Bytes>,
    /// Of an emulated controller's first namespace; as its model says when none.
    pub(super) made: Option<Bytes>,
    pub(super) from: ByteOffset,
    /// The largest and the smallest operation.
    pub(super) block: Bytes,
    pub(super) smallest: Bytes,
    pub(super) writes: bool,
    pub(super) destroy: Option<&'a str>,
    pub(super) timeout: Nanos,
}

impl Part<'_> {
    /// The same, with the size that a namespace of a new run is made with.
    pub(super) fn making(self) -> Self {
        let made = match (&self.via.way, self.size) {
            (Way::Socket(_) | Way::Function(_), _) => None,
            // The others are as the model says.
            _ if self.via.namespace != 1 => None,
            (_, Some(size)) => {
                let block = self.block.0.max(1);
                let end = (size.0 / block * block).saturating_add(self.from.0);
                // An offset within a block is refused, and not the size that would come of it.
                Some(Bytes(end.checked_next_multiple_of(block).unwrap_or(end)))
            }
            (
                Way::Emulated {
                    path: None,
                    no_data: false,
                },
                None,
            ) => Some(SIZE),
            (Way::Emulated { .. }, None) => None,
        };
        Part { made, ..self }
    }
}

/// Brings the controller up, if it is not, and looks at the namespace.
pub(super) fn prepare(
    controllers: &mut Controllers,
    part: &Part<'_>,
    placement: &Placement,
    desk: &Desk,
) -> Result<NvmeTarget> {
    let up = controllers.up(&part.via.way, part.made, &placement.peer_cpus)?;
    let name = part.via.to_string();
    if let Up::Emulated(it) = up
        && let Some(held) = it.held(part.via.namespace)
    {
        let room = Bytes(held.size.0.saturating_sub(part.from.0));
        let region = part.size.unwrap_or(room);
        // It takes pages as they are filled, until the kernel ends somebody for them.
        if held.in_memory
            && let Some(available) = memory_available()
            && available < region
        {
            let available = Bytes(available.0 >> 20 << 20);
            return Err(Usage::error(format!(
                "{name} would be filled with {region} of memory, and {available} are available; give a smaller --size, or --no-data"
            )));
        }
        desk.say(&format!("filling {name} with {region}"));
    }
    let wanted = Wanted {
        namespace: NamespaceId(part.via.namespace),
        size: part.size,
        from: part.from,
        block: part.block,
        smallest: part.smallest,
        writes: part.writes,
        whose: match part.via.way {
            Way::Emulated { .. } => Whose::Ours,
            Way::Socket(_) | Way::Function(_) => Whose::Theirs(part.destroy),
        },
        seed: desk.seed(),
    };
    let found =
        NvmeTarget::prepare(up.controller(), &name, &wanted, desk.interrupted()).map_err(|e| {
            if e.is_usage() {
                Usage::error(e)
            } else {
                e.into()
            }
        })?;
    if let Some(what) = &found.unreadable {
        desk.say(&format!("{name}: {what}"));
    }
    Ok(found)
}
