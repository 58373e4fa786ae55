//! Queue pairs that are brought to their states by what the connection manager knows.

use std::ffi::c_int;

use strata_rdma_sys::verbs::{
    IBV_QP_ACCESS_FLAGS, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, ibv_qp_attr,
};

use super::{HasPeer, HasPort, Id, done};
use crate::verbs::{Access, Init, QueuePair, Ready, Reset, Terms, VerbsError};

impl<S> Id<S> {
    /// What the connection manager has for a queue pair that comes to a state, and which attributes those are.
    fn attributes(&self, state: c_int) -> Result<(ibv_qp_attr, c_int), VerbsError> {
        let mut attributes = ibv_qp_attr {
            qp_state: state,
            ..ibv_qp_attr::default()
        };
        let mut mask = 0;
        // SAFETY: it is alive, and both are written to.
        let failed = unsafe {
            (self.raw.channel.cm().rdma_init_qp_attr)(
                self.raw.at.as_ptr(),
                &mut attributes,
                &mut mask,
            )
        };
        done(
            failed,
            "rdma_init_qp_attr",
            &self.name,
            |_| "the connection is gone meanwhile; look at the other side's own messages",
        )?;
        Ok((attributes, mask))
    }
}

impl QueuePair<Reset> {
    /// Gives it the port and the entry of its table of P_Keys that the connection's path has, which must be these, and rights
    /// to the other side.
    ///
    /// # Errors
    /// The path goes over another port or partition.
    pub fn init_by<S: HasPort>(
        mut self,
        id: &Id<S>,
        port: u8,
        pkey_index: u16,
        access: Access,
    ) -> Result<QueuePair<Init>, VerbsError> {
        let (mut attributes, mask) = id.attributes(IBV_QPS_INIT)?;
        let device = self.alive.domain.context().name();
        let (found, number) = id.raw.port().unwrap_or_default();
        if (found.as_str(), number) != (device, port) {
            return Err(VerbsError::Port(format!(
                "rdma_cm reaches {} over {found}/{number}, and the trial goes over {device}/{port}; change --device, --peer-device or --gid-index, or give --connect control",
                id.name
            )));
        }
        if attributes.pkey_index != pkey_index {
            return Err(VerbsError::Port(format!(
                "rdma_cm takes the P_Key of the interface that has the address, entry {} of {device}/{port}, and entry {pkey_index} was asked for; change --pkey-index, or give --connect control",
                attributes.pkey_index
            )));
        }
        attributes.qp_access_flags = access.of_queue_pair();
        self.alive
            .modify(&mut attributes, mask | IBV_QP_ACCESS_FLAGS, "RESET")?;
        Ok(self.into_state())
    }
}

impl QueuePair<Init> {
    /// Connects it to the queue pair that the other side told, over the connection's path: from here on it takes receives and
    /// sends. Where a GID was chosen the path must have it; a service level other than 0 is put in place of the path's.
    ///
    /// # Errors
    /// The path has another GID, or does not fit the port.
    pub fn connect_by<S: HasPeer>(
        mut self,
        id: &Id<S>,
        gid_index: Option<u8>,
        service_level: u8,
        terms: &Terms,
    ) -> Result<QueuePair<Ready>, VerbsError> {
        let (mut attributes, mask) = id.attributes(IBV_QPS_RTR)?;
        let path = &mut attributes.ah_attr;
        if let Some(chosen) = gid_index.filter(|_| path.is_global != 0)
            && chosen != path.grh.sgid_index
        {
            return Err(VerbsError::Port(format!(
                "rdma_cm takes the GID of the address in the host's usual kind of RoCE (default_roce_mode of configfs), index {} of {}/{}, and {chosen} was asked for; change --gid-index, or give --connect control",
                path.grh.sgid_index,
                self.alive.domain.context().name(),
                path.port_num
            )));
        }
        if service_level != 0 {
            path.sl = service_level;
        }
        // A switch between may have less than both ports.
        attributes.path_mtu = attributes.path_mtu.min(terms.mtu.code());
        let mask = mask | terms.receive(&mut attributes);
        self.alive.modify(&mut attributes, mask, "INIT")?;
        let (mut attributes, mask) = id.attributes(IBV_QPS_RTS)?;
        let mask = mask | terms.send(&mut attributes);
        self.alive.modify(&mut attributes, mask, "RTR")?;
        Ok(self.into_state())
    }
}
