//! The thread that starts every QEMU. The kernel ends a child with the *thread* that made it (prctl(2), PR_SET_PDEATHSIG), and a
//! test's thread is gone long before its guest is to go; this one lives as long as the process.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a command whose child ends with this process, however that ends.
pub(super) fn start(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, taken) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, started) in taken {
                // Whoever asked may have given up.
                let _ = started.send(command.spawn());
            }
        });
        orders
    });
    let (started, child) = channel();
    let gone = || io::Error::other("the thread that starts guests is gone");
    keeper.send((command, started)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
