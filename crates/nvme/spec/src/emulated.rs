//! By what a driver knows the suite's own emulated controller.

/// Its PCI vendor: one that PCI-SIG gave to nobody, so that no driver takes the controller for one that it knows.
pub const VENDOR: u16 = 0xfeed;

/// Its PCI device when it moves and keeps data.
pub const DEVICE: u16 = 0x0e00;

/// Its PCI device when it only answers: the null controller, which shows what a driver alone costs.
pub const NULL_DEVICE: u16 = 0x0e01;
