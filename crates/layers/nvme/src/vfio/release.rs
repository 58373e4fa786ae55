//! The kernel's wish to have the device back: at unbinding, and when it is pulled. Until the device is closed the kernel waits,
//! so a thread of its own, which sleeps otherwise, lets go of it whatever those that use it do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::device::Device;

/// Waits for the wish; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Release {
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Release {
    /// Lets go of the device when `asked` is signalled.
    pub(super) fn on(asked: OwnedFd, device: Arc<Device>) -> io::Result<Release> {
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let ends = Arc::clone(&end);
        let thread = thread::Builder::new()
            .name("strata-vfio".to_owned())
            .spawn(move || {
                if is_asked(&asked, &ends) {
                    device.let_go();
                }
            })?;
        Ok(Release {
            end,
            thread: Some(thread),
        })
    }
}

/// Waits until one of both is signalled, and says whether it is the first.
fn is_asked(asked: &OwnedFd, end: &OwnedFd) -> bool {
    let both = [asked, end];
    loop {
        let mut waits = both.map(|event| PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN));
        match poll(&mut waits, None) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
            Ok(_) if waits[1].revents().contains(PollFlags::IN) => return false,
            Ok(_) if waits[0].revents().contains(PollFlags::IN) => return true,
            Ok(_) => {}
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn device() -> Arc<Device> {
        Arc::new(Device::new(tempfile::tempfile().expect("a file")))
    }

    #[test]
    fn a_device_that_is_asked_for_is_let_go_of() {
        let device = device();
        let asked = eventfd(0, EventfdFlags::CLOEXEC).expect("an event");
        let kernels = asked.try_clone().expect("another descriptor");
        let release = Release::on(asked, Arc::clone(&device)).expect("a thread");
        assert!(!device.is_let_go());
        rustix::io::write(&kernels, &1u64.to_ne_bytes()).expect("signalled");
        let begin = Instant::now();
        while !device.is_let_go() {
            assert!(begin.elapsed().as_secs() < 20, "it is held on to");
            thread::sleep(Duration::from_millis(1));
        }
        drop(release);
    }

    #[test]
    fn one_that_nobody_asked_for_is_kept() {
        let device = device();
        let asked = eventfd(0, EventfdFlags::CLOEXEC).expect("an event");
        drop(Release::on(asked, Arc::clone(&device)).expect("a thread"));
        assert!(!device.is_let_go());
        assert_eq!(Arc::strong_count(&device), 1, "the thread is gone");
    }
}
