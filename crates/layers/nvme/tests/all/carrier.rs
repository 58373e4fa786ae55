//! How the fake controller is reached.

use std::ops::Range;
use std::ptr::NonNull;

use strata_memory::Region;
use strata_nvme::{Carrier, CarrierError, Doorbells};
use strata_nvme_spec::registers::{Cc, offset};
use strata_units::{ByteOffset, Bytes, Iova};

use crate::fake::{BAR, Fake, map};

pub(crate) fn error(what: &str) -> CarrierError {
    CarrierError {
        what: what.to_owned(),
        name: "a fake".to_owned(),
        why: "the test wants it so".into(),
    }
}

impl Carrier for Fake {
    fn name(&self) -> &str {
        "a fake"
    }

    fn read_config(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("read the configuration")?;
        if model.gone {
            into.fill(0xff);
        } else {
            into.copy_from_slice(&model.config[at.0 as usize..][..into.len()]);
        }
        Ok(())
    }

    fn write_config(&mut self, at: ByteOffset, from: &[u8]) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("write the configuration")?;
        assert_eq!((at.0, from.len()), (4, 2), "only the command register");
        let value = u16::from_le_bytes([from[0], from[1]]) & !model.stuck;
        model.config[4..6].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn read32(&mut self, at: ByteOffset) -> Result<u32, CarrierError> {
        let mut model = self.lock();
        model.access("read a register")?;
        if at.0 == offset::CSTS && !model.gone {
            model.look();
        }
        Ok(match at.0 {
            _ if model.gone => u32::MAX,
            offset::VS => model.version,
            offset::CC => model.cc.0,
            offset::CSTS => model.csts.0,
            offset::CRTO => model.crto,
            other => panic!("reads {other:#x}"),
        })
    }

    fn read64(&mut self, at: ByteOffset) -> Result<u64, CarrierError> {
        let mut model = self.lock();
        model.access("read a register")?;
        assert_eq!(at.0, offset::CAP);
        Ok(if model.gone { u64::MAX } else { model.cap })
    }

    fn write32(&mut self, at: ByteOffset, value: u32) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("write a register")?;
        match at.0 {
            _ if model.gone => {}
            offset::CC => model.configure(Cc(value)),
            offset::AQA => model.aqa = value,
            other => panic!("writes {other:#x}"),
        }
        Ok(())
    }

    fn write64(&mut self, at: ByteOffset, value: u64) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("write a register")?;
        match at.0 {
            _ if model.gone => {}
            offset::ASQ => model.asq = value,
            offset::ACQ => model.acq = value,
            other => panic!("writes {other:#x}"),
        }
        Ok(())
    }

    fn doorbells(&mut self, len: Bytes) -> Result<Doorbells, CarrierError> {
        let mut model = self.lock();
        model.access("map the doorbells")?;
        if len.0 > model.bar {
            return Err(error("map the doorbells"));
        }
        let map = map(&model.bells_file, Bytes(BAR));
        let at = NonNull::new(map.as_ptr().cast::<u32>()).expect("an address");
        // SAFETY: the mapping has so many bytes as long as it lives, may be written, and nobody has a reference into it.
        Ok(unsafe { Doorbells::new(at, len, Box::new(map)) })
    }

    fn addresses(&self) -> &[Range<Iova>] {
        const ALL: &[Range<Iova>] = &[Iova(1 << 32)..Iova(1 << 40)];
        ALL
    }

    fn map(&mut self, region: &Region, iova: Iova) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("map memory")?;
        let mapped = map(region, region.len());
        if model.maps.insert(iova.0, mapped).is_some() {
            model.violations.push(format!("{iova} is mapped twice"));
        }
        Ok(())
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) -> Result<(), CarrierError> {
        let mut model = self.lock();
        let gone = iova.0..iova.0 + len.0;
        if model.csts.rdy() && !model.gone {
            let admin = (0, model.asq);
            let queues = model.queues.iter().map(|((_, id), at)| (*id, *at));
            let held: Vec<_> = queues
                .chain([admin])
                .filter(|(_, at)| gone.contains(at))
                .collect();
            for (id, _) in held {
                model
                    .violations
                    .push(format!("queue {id} is unmapped while it works"));
            }
        }
        if model.maps.remove(&iova.0).is_none() {
            model
                .violations
                .push(format!("{iova} is unmapped, and was not mapped"));
        }
        Ok(())
    }

    fn gone(&self) -> Option<&'static str> {
        self.lock().let_go
    }

    fn reset(&mut self) -> Result<(), CarrierError> {
        let mut model = self.lock();
        model.access("reset it")?;
        model.resets += 1;
        if !model.resettable {
            return Err(error("reset it"));
        }
        model.cc = Cc(0);
        model.stopped();
        model.config[4] = 0;
        Ok(())
    }
}
