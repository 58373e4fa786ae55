//! Serving: the loop between the queues and the socket.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strata_topology::pin_current_thread;
use strata_units::{CpuId, Nanos};
use strata_vfio_user::{Polled, Server};

use crate::config::Config;
use crate::controller::Controller;
use crate::error::EmulatorError;

/// How long is slept where there is nothing to poll; a client that knocks is heard at once, and `stop` so late.
const SLEEP: Nanos = Nanos::from_millis(20);

/// How often the socket is looked at while queues are polled: at most, and at least, whatever a look costs.
const SOONEST: Duration = Duration::from_micros(50);
const LATEST: Duration = Duration::from_micros(200);

/// A look at the socket may take one part in so many of the time.
const SHARE: u32 = 128;

/// Commands, and bytes that they move, after which it is time to look at the socket again whatever the clock says: what was found
/// to fit between two looks while there was nothing to do takes far longer when there is.
const COMMANDS: u32 = 4096;
const BYTES: u64 = 4 << 20;

/// How long is slept between looks at the admin queue while it is the only one and empty.
const NAP: Nanos = Nanos::from_millis(1);

/// Messages that are answered before the queues are looked at again.
const MESSAGES: usize = 16;

/// Serves a controller at `cntrl` in `folder` to one client after the other, in the calling thread, until `stop` is set, which
/// is seen within 20 ms. It polls, and wants a core of its own: `cpu`, to which the thread is pinned. Without a client, and
/// until one has enabled the controller, it sleeps; until one has made an I/O queue, it looks at the admin queue once a
/// millisecond while nothing comes.
///
/// # Errors
/// [`EmulatorError`]: the configuration makes no sense, there is no memory for it, somebody else serves there; at the end, what
/// was written to a file is not all on its medium. Never for what a client does.
pub fn serve(
    config: &Config,
    folder: &Path,
    cpu: Option<CpuId>,
    stop: &AtomicBool,
) -> Result<(), EmulatorError> {
    serve_then(config, folder, cpu, stop, || {})
}

/// The same, with `begun` called once clients can connect.
///
/// # Errors
/// As [`serve`].
pub fn serve_then(
    config: &Config,
    folder: &Path,
    cpu: Option<CpuId>,
    stop: &AtomicBool,
    begun: impl FnOnce(),
) -> Result<(), EmulatorError> {
    config.check()?;
    if let Some(cpu) = cpu {
        pin_current_thread(&[cpu].into_iter().collect())?;
    }
    let mut controller = Controller::new(config)?;
    let mut server = Server::bind(folder)?;
    begun();
    let mut turns = Turns::new();
    while !stop.load(Ordering::Relaxed) {
        let heard = listen(&mut server, &mut controller)?;
        if controller.live {
            turns.poll(&mut controller);
            if turns.rests && controller.live {
                server.wait(NAP)?;
                turns.begin();
            }
        } else {
            controller.become_ready();
            if heard == 0 && !controller.live {
                let sleep = controller.ready_in().unwrap_or(SLEEP).min(SLEEP);
                server.wait(sleep)?;
            }
            turns.begin();
        }
    }
    server.dismiss(&mut controller);
    controller.flush()
}

/// Answers what the client says, if it says something; how often.
fn listen(server: &mut Server, controller: &mut Controller) -> Result<usize, EmulatorError> {
    for heard in 0..MESSAGES {
        if let Polled::Idle = server.poll(controller)? {
            return Ok(heard);
        }
    }
    Ok(MESSAGES)
}

/// How many rounds of polling fit between two looks at the socket: found by the clock, which is read once for all of them.
struct Turns {
    rounds: u32,
    last: Instant,
    /// Nothing came, and nothing can but admin commands.
    rests: bool,
    /// The least that a look at the socket was seen to cost.
    look: Duration,
}

impl Turns {
    fn new() -> Turns {
        Turns {
            rounds: 1,
            last: Instant::now(),
            rests: false,
            look: LATEST,
        }
    }

    /// The queues have not been polled until now.
    fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// Polls the queues until it is time to look at the socket again.
    fn poll(&mut self, controller: &mut Controller) {
        let start = Instant::now();
        // With nothing to say for the client, this is what the look costs; the least is it.
        self.look = self.look.min(start - self.last);
        let enough = controller.io.worked + BYTES;
        let rounds = if self.rests { 1 } else { self.rounds };
        let (mut done, mut left) = (0u32, rounds);
        while left > 0 && done < COMMANDS && controller.io.worked < enough {
            done += controller.round();
            left -= 1;
        }
        let span = start.elapsed();
        let wanted = (self.look * SHARE).clamp(SOONEST, LATEST);
        if span > wanted {
            self.rounds = (rounds / 2).max(1);
        } else if span < wanted / 2 && left == 0 && !self.rests {
            self.rounds = self.rounds.saturating_mul(2);
        }
        self.rests = done == 0 && !controller.has_io_queues();
        let busy = if done > 0 { span.into() } else { Nanos(0) };
        controller.tend(busy);
        self.last = Instant::now();
    }
}
