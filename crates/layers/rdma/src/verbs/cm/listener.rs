//! Who waits for connections.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::time::Instant;

use strata_rdma_sys::cm::{RDMA_CM_EVENT_CONNECT_REQUEST, RDMA_CM_EVENT_ESTABLISHED};

use super::channel::{Event, EventChannel, Patience};
use super::explain::{NO_REQUEST, cannot_listen};
use super::{Accepted, Asked, Established, Id, Raw, done, in_c, none};
use crate::verbs::VerbsError;

/// An address at which connections are waited for (rdma_listen(3)).
pub struct Listener {
    raw: Raw,
    address: SocketAddr,
    name: String,
    /// Those who came while another one was waited for.
    asked: VecDeque<Id<Asked>>,
}

impl Listener {
    /// Listens at that address, with port 0 at a free one. So many may wait to be taken; the kernel knows a bound of its own
    /// (`net.rdma_ucm.max_backlog`).
    ///
    /// # Errors
    /// No RDMA device has that address, or somebody else listens there.
    pub fn bind(address: SocketAddr, waiting: u16) -> Result<Listener, VerbsError> {
        let channel = EventChannel::open()?;
        let name = address.to_string();
        let raw = Raw::new(&channel, &name)?;
        let (cm, id) = (channel.cm(), raw.at.as_ptr());
        let mut at = in_c(address);
        // SAFETY: the identifier is alive, and the address a whole one of its family.
        let failed = unsafe { (cm.rdma_bind_addr)(id, (&raw mut at).cast()) };
        done(failed, "rdma_bind_addr", &name, cannot_listen)?;
        // SAFETY: it is alive.
        let failed = unsafe { (cm.rdma_listen)(id, c_int::from(waiting)) };
        done(failed, "rdma_listen", &name, cannot_listen)?;
        // SAFETY: it is alive; the port stands at one place in the addresses of both families.
        let port = unsafe { (*id).route.addr.src.sin.sin_port };
        let mut address = address;
        address.set_port(u16::from_be(port));
        Ok(Listener {
            raw,
            address,
            name: address.to_string(),
            asked: VecDeque::new(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next one who asks for a connection.
    ///
    /// # Errors
    /// Nobody comes.
    pub fn request(&mut self, patience: &Patience<'_>) -> Result<Id<Asked>, VerbsError> {
        let begun = Instant::now();
        loop {
            if let Some(first) = self.asked.pop_front() {
                return Ok(first);
            }
            let found = self.raw.channel.next(begun, patience);
            let event =
                found.map_err(|why| none(why, "rdma_listen", &self.name, patience, NO_REQUEST))?;
            // Else a connection of before has ended.
            self.takes(event);
        }
    }

    /// Waits until the other side says that it is ready.
    ///
    /// # Errors
    /// It has gone, or says nothing.
    pub fn established(
        &mut self,
        id: Id<Accepted>,
        patience: &Patience<'_>,
    ) -> Result<Id<Established>, VerbsError> {
        const CALL: &str = "rdma_accept";
        let begun = Instant::now();
        loop {
            let found = self.raw.channel.next(begun, patience);
            let event = found.map_err(|why| none(why, CALL, &id.name, patience, NO_REQUEST))?;
            if event.id == id.raw.at.as_ptr() {
                let wanted = RDMA_CM_EVENT_ESTABLISHED;
                id.raw.holds(&event, CALL, &id.name, wanted)?;
                return Ok(id.into_state(Established(())));
            }
            self.takes(event);
        }
    }

    /// Whoever asks is kept for later.
    fn takes(&mut self, event: Event) {
        if event.kind != RDMA_CM_EVENT_CONNECT_REQUEST {
            return;
        }
        let Some(at) = NonNull::new(event.id) else {
            return;
        };
        self.asked.push_back(Id {
            // The library has made it, on the channel of who listens, and it is ours to destroy.
            raw: Raw {
                at,
                channel: self.raw.channel.clone(),
            },
            name: format!("a request at {}", self.name),
            state: Asked {
                private: event.private,
            },
        });
    }
}
