//! The driver on a real PCI function over VFIO: one of a virtual node, or one of this machine that STRATA_TEST_VFIO names, which is with
//! vfio-pci and which nobody needs: it is reset, taken away and given back. It is only read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use strata_memory::{Huge, Lock, Region, Want};
use strata_nvme::{Blocking, Carrier, Controller, LARGEST, NvmeError, Options, Vfio, VfioError};
use strata_nvme_spec::registers::{Csts, Doorbell, offset};
use strata_nvme_spec::{NamespaceId, QueueId};
use strata_units::{ByteOffset, Bytes, Iova, PciAddress};
use strata_virtual_node::on;

const COMMAND: ByteOffset = ByteOffset(4);

/// Runs a test on the function that is named, or on one of the virtual node's; one at a time.
fn on_drive<F: FnOnce(PciAddress)>(test: F) {
    static ALONE: Mutex<()> = Mutex::new(());
    match std::env::var("STRATA_TEST_VFIO") {
        Ok(named) => {
            let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            test(named.parse().expect("STRATA_TEST_VFIO is a PCI address"));
        }
        Err(_) => on("usual", |node| {
            let at = node.function("STRATA0");
            let loaded = Command::new("modprobe").arg("vfio-pci").status();
            assert!(loaded.is_ok_and(|ended| ended.success()));
            give(&at, "vfio-pci");
            test(at.parse().expect("a PCI address"));
            give(&at, "nvme");
            node.disk("STRATA0");
        }),
    }
}

/// Gives a function of the virtual node to a driver.
fn give(at: &str, driver: &str) {
    let folder = PathBuf::from(format!("/sys/bus/pci/devices/{at}"));
    let has = || fs::read_link(folder.join("driver")).ok();
    if has().is_some_and(|found| !found.ends_with(driver)) {
        fs::write(folder.join("driver/unbind"), at).expect("unbound");
    }
    fs::write(folder.join("driver_override"), driver).expect("written");
    fs::write("/sys/bus/pci/drivers_probe", at).expect("bound");
    assert!(has().is_some_and(|found| found.ends_with(driver)));
}

fn open(at: PciAddress) -> Arc<Controller> {
    let carrier = Vfio::open(at).expect("it opens");
    Controller::open(Box::new(carrier), &Options::default()).expect("it comes up")
}

fn region(pages: u64) -> Region {
    Region::shared(&Want {
        bytes: Bytes(4096) * pages,
        node: None,
        huge: Huge::Never,
        lock: Lock::Never,
    })
    .expect("memory")
}

/// All of the first bytes, in parts of `part`.
fn first(controller: &Arc<Controller>, part: Bytes) -> Vec<u8> {
    let id = controller.namespaces().first().copied();
    let namespace = controller.namespace(id.unwrap_or(NamespaceId(1)));
    let mut blocking = Blocking::new(controller, namespace.expect("usable")).expect("a queue");
    let mut all = vec![0; LARGEST.as_usize()];
    for (n, bytes) in (0..).zip(all.chunks_mut(part.as_usize())) {
        let at = ByteOffset(n * part.0);
        blocking.read(at, bytes).expect("readable");
    }
    all
}

#[test]
fn a_drive_comes_up_tells_what_it_is_and_is_read() {
    on_drive(|at| {
        let controller = open(at);
        assert_eq!(controller.name(), at.to_string());
        let identity = controller.identity();
        assert!(!identity.serial.trim().is_empty() && identity.queue_pairs > 0);
        // Small parts have one pointer, large ones a list of them.
        let all = first(&controller, LARGEST);
        assert_eq!(all, first(&controller, Bytes(4096)));
        controller.reset().expect("a reset");
        assert_eq!(all, first(&controller, Bytes(64 << 10)));
        drop(controller);
        // Whoever opened it last has shut it down.
        assert!(!open(at).identity().was_enabled);
    });
}

#[test]
fn a_function_is_opened_once_and_says_by_whom() {
    on_drive(|at| {
        let first = Vfio::open(at).expect("it opens");
        let why = match Vfio::open(at) {
            Ok(_) => panic!("it opens twice"),
            Err(why) => why,
        };
        assert!(matches!(why, VfioError::Held { .. }), "{why}");
        assert!(why.to_string().contains("this process itself"), "{why}");
        drop(first);
        drop(Vfio::open(at).expect("it is free again"));
    });
}

#[test]
fn memory_is_mapped_within_the_ranges_and_taken_back_whole() {
    on_drive(|at| {
        let mut carrier = Vfio::open(at).expect("it opens");
        let ranges = carrier.addresses().to_vec();
        assert!(!ranges.is_empty() && ranges.iter().all(|r| r.start.0 > 0 && r.start.0 < r.end.0));
        assert!(ranges.windows(2).all(|two| two[0].end.0 <= two[1].start.0));
        let memory = region(4);
        let len = memory.len();
        // At both ends of each range, twice at a time.
        for range in &ranges {
            let begin = Iova(range.start.0.next_multiple_of(4096));
            let end = Iova((range.end.0 - len.0) & !4095);
            carrier.map(&memory, begin).expect("mapped");
            carrier.map(&memory, end).expect("mapped");
            carrier.unmap(begin, len).expect("taken back");
            carrier.unmap(end, len).expect("taken back");
            let why = carrier.unmap(end, len).expect_err("nothing is left");
            assert!(why.to_string().contains("took back 0B"), "{why}");
        }
        let last = ranges.last().expect("a range").end;
        let why = carrier.map(&memory, last).expect_err("beyond the width");
        assert!(why.to_string().contains("VFIO_IOMMU_MAP_DMA"), "{why}");
        #[cfg(target_arch = "x86_64")]
        {
            let window = Iova(0xfee0_0000);
            assert!(!ranges.iter().any(|r| (r.start..r.end).contains(&window)));
            carrier
                .map(&memory, window)
                .expect_err("interrupt messages");
        }
    });
}

#[test]
fn registers_that_vanish_read_as_ones_and_the_controller_as_removed() {
    on_drive(|at| {
        let mut carrier = Vfio::open(at).expect("it opens");
        let before = carrier.read64(ByteOffset(offset::CAP)).expect("read");
        assert_ne!(before, u64::MAX);
        let bells = Arc::new(carrier.doorbells(Bytes(4096)).expect("mapped"));
        let mut command = [0; 2];
        carrier.read_config(COMMAND, &mut command).expect("read");
        // Without memory space the kernel takes the mapping away: SIGBUS.
        carrier.write_config(COMMAND, &[0, 0]).expect("written");
        let mut bell = bells
            .bell(Doorbell::Tail(QueueId(1)), Bytes(4))
            .expect("there is one");
        bell.write(1);
        assert_eq!(
            carrier.read64(ByteOffset(offset::CAP)).expect("read"),
            u64::MAX
        );
        assert_eq!(
            carrier.read32(ByteOffset(offset::CSTS)).expect("read"),
            u32::MAX
        );
        carrier
            .write32(ByteOffset(offset::CC), 0)
            .expect("goes nowhere");
        carrier.write_config(COMMAND, &command).expect("written");
        // It is gone for good for whoever saw that.
        assert_eq!(
            carrier.read32(ByteOffset(offset::CSTS)).expect("read"),
            u32::MAX
        );
        let why = match Controller::open(Box::new(carrier), &Options::default()) {
            Ok(_) => panic!("it comes up"),
            Err(why) => why,
        };
        assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
        drop((bell, bells));
        assert_ne!(open(at).identity().serial, "");
    });
}

#[test]
fn the_function_is_reset() {
    on_drive(|at| {
        let controller = open(at);
        let csts = |controller: &Controller| {
            let mut carrier = controller.function().carrier();
            Csts(carrier.read32(ByteOffset(offset::CSTS)).expect("read"))
        };
        assert!(csts(&controller).rdy());
        let reset = controller.function().carrier().reset();
        if let Err(why) = reset {
            assert!(why.to_string().contains("no reset"), "{why}");
            println!("SKIP the_function_is_reset: {why}");
            return;
        }
        assert!(!csts(&controller).rdy());
        controller.health().expect_err("nobody enabled it again");
        controller.reset().expect("it comes up again");
        assert!(csts(&controller).rdy());
    });
}

#[test]
fn the_kernel_gets_it_back_at_once_when_it_asks() {
    let test = "the_kernel_gets_it_back_at_once_when_it_asks";
    on_drive(|at| {
        let folder = PathBuf::from(format!("/sys/bus/pci/devices/{at}"));
        let unbind = folder.join("driver/unbind");
        if fs::OpenOptions::new().write(true).open(&unbind).is_err() {
            println!("SKIP {test}: this user may not unbind {at}");
            return;
        }
        let (controller, begin) = (open(at), Instant::now());
        let unbound = thread::spawn(move || fs::write(unbind, at.to_string()));
        while !unbound.is_finished() {
            assert!(begin.elapsed().as_secs() < 60, "the kernel waits for us");
            thread::sleep(Duration::from_millis(10));
        }
        let told = unbound.join().expect("no panic");
        told.expect("unbound");
        let why = controller.health().expect_err("it is gone");
        assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
        assert!(
            why.to_string().contains("the kernel asked for it back"),
            "{why}"
        );
        drop(controller);
        fs::write(folder.join("driver_override"), "vfio-pci").expect("written");
        fs::write("/sys/bus/pci/drivers_probe", at.to_string()).expect("bound");
        assert_ne!(open(at).identity().serial, "");
    });
}
