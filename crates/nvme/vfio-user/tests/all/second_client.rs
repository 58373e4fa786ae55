//! Another's client against our server: the crate `vfio_user`, written independently of ours.

use std::os::fd::AsRawFd;

use rustix::event::{EventfdFlags, eventfd};
use strata_vfio_user::{Left, region};

use crate::rig::{Served, memory};

/// `<linux/vfio.h>`: eventfds, to be signalled.
const EVENTFDS: u32 = 1 << 2 | 1 << 5;
const MSIX: u32 = 2;

#[test]
fn it_finds_the_device_and_drives_it() {
    let served = Served::new();
    let mut client = vfio_user::Client::new(&served.socket()).expect("the version is agreed on");
    let bar = client.region(region::BAR0).expect("BAR0");
    assert_eq!(
        (bar.size, bar.flags),
        (8192, 0xf),
        "read, write, map, capabilities"
    );
    assert!(bar.file_offset.is_some(), "its descriptor came");
    let areas: Vec<_> = bar
        .sparse_areas
        .iter()
        .map(|a| (a.offset, a.size))
        .collect();
    assert_eq!(areas, [(4096, 4096)]);
    let config = client.region(region::CONFIG).expect("configuration space");
    assert_eq!((config.size, config.flags), (256, 3));
    assert!(config.file_offset.is_none());
    assert!(client.region(8).is_some() && client.region(9).is_none());

    let mut four = [0; 4];
    client.region_read(0, 8, &mut four).expect("read");
    assert_eq!(four, [8, 9, 10, 11]);
    client.region_write(7, 4, &[6, 0]).expect("written");
    let mut two = [0; 2];
    client.region_read(7, 4, &mut two).expect("read");
    assert_eq!(two, [6, 0]);

    let irqs = client.get_irq_info(MSIX).expect("told");
    assert_eq!((irqs.index, irqs.count, irqs.flags), (MSIX, 40, 9));
    let signal = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
    client
        .set_irqs(MSIX, EVENTFDS, 1, 1, &[signal.as_raw_fd()])
        .expect("set");
    let file = memory(8192);
    client
        .dma_map(4096, 0x10000, 4096, file.as_raw_fd())
        .expect("mapped");
    client.dma_unmap(0x10000, 4096).expect("unmapped");
    client
        .dma_map(0, 0x10000, 8192, file.as_raw_fd())
        .expect("mapped");
    client.reset().expect("reset");
    client.shutdown().expect("closed");
    assert!(matches!(served.left(), Left::Closed));
    let board = served.end();
    assert_eq!((board.resets, board.gone), (1, 1));
    assert_eq!(board.writes, [(7, 4, vec![6, 0])]);
}
