//! `strata serve`: the other side, until Ctrl-C.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use strata_peer::{
    Event, Key, Other, Parent, PeerError, Server, Session, next_task, refuse, resolve,
};
use strata_record::{RdmaEnd, Reality};
use strata_tcp::{Listen, interface_of};
use strata_topology::{Allowed, Root, Topology, WatchList, check, read_environment};
use strata_units::CpuList;

use crate::cli::ServeArgs;
use crate::peer::{PORT, Welcome};
use crate::rdma::{self, rails::offers};
use crate::{End, Usage, interrupt, output};

pub(crate) fn run(args: &ServeArgs) -> Result<End> {
    let key = args
        .key_file
        .as_deref()
        .map(Key::read)
        .transpose()
        .map_err(Usage::error)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for name in &args.listen {
        let found =
            resolve(name, PORT).map_err(|e| Usage::error(format!("--listen {name}: {e}")))?;
        addresses.extend(found);
    }
    let host = Host::read(args.cpus.as_ref())?;
    let stop = interrupt::watch().context("cannot watch for Ctrl-C")?;
    let keyed = key.is_some();
    let server = Server::bind(&addresses, key).map_err(|e| match e {
        e @ PeerError::NoKey(_) => Usage::error(e),
        e => anyhow::Error::new(e),
    })?;
    if !args.quiet {
        let at = server
            .addresses()
            .context("cannot tell what is listened on")?;
        let at: Vec<String> = at.iter().map(ToString::to_string).collect();
        output::tell(&format!(
            "listening on {}, CPUs {}, {}",
            at.join(" and "),
            host.cpus,
            if keyed {
                "for whoever holds the key"
            } else {
                "for this machine only"
            }
        ));
    }
    let ports = args.data_ports.map_or(0..=0, |(first, last)| first..=last);
    let ended = server.run(
        &stop,
        |session| host.serve(session, &ports, args.quiet),
        |event| {
            let said = matches!(event, Event::Panicked(_) | Event::Hindered(_));
            if !args.quiet || said {
                output::tell(&event.to_string());
            }
        },
    );
    ended.context("cannot go on serving")?;
    Ok(End::Done)
}

/// `strata peer`: one task for whoever started this program.
pub(crate) fn peer() -> Result<End, PeerError> {
    serve_one(&mut Parent::greet()?, &Listen::default(), |_| None).map(|()| End::Done)
}

/// Waits for one task, has its layer do it, and answers what came of it. Of RDMA ports `watch` tells what is watched.
fn serve_one(
    channel: &mut impl Other,
    at: &Listen,
    watch: impl Fn(&[RdmaEnd]) -> Option<WatchList>,
) -> Result<(), PeerError> {
    let task = next_task(channel)?;
    match task.layer.as_str() {
        "tcp" => strata_tcp::serve_task(channel, &task, at),
        strata_rdma::LAYER => strata_rdma::serve_task(channel, &task, watch),
        layer => refuse(
            channel,
            format!(
                "this strata serve knows tcp and rdma, and was asked for {layer}; both sides must be one version of strata"
            ),
        ),
    }
}

/// This machine, as clients are told of it.
struct Host {
    topology: Topology,
    cpus: CpuList,
}

impl Host {
    fn read(given: Option<&CpuList>) -> Result<Host> {
        let root = Root::live();
        let topology = Topology::read(&root).context("cannot read this machine's topology")?;
        let allowed = Allowed::read(&root, &topology);
        let cpus = match given {
            Some(cpus) => {
                check(&topology, &allowed, cpus)
                    .map_err(|e| Usage::error(format!("--cpus {cpus}: {e}")))?;
                cpus.clone()
            }
            None => allowed.cpus,
        };
        Ok(Host { topology, cpus })
    }

    /// One client's session: who we are, then one task after the other.
    fn serve(&self, mut session: Session, ports: &std::ops::RangeInclusive<u16>, quiet: bool) {
        // Of a listener of both families an IPv4 client's address is mapped into IPv6.
        let ip = session.here().ip().to_canonical();
        let interface = interface_of(ip).ok();
        let watch = interface
            .as_deref()
            .filter(|_| !ip.is_loopback())
            .map(|name| {
                WatchList::of_interface(
                    &self.topology,
                    name,
                    CpuList::default(),
                    CpuList::default(),
                )
            });
        let at = Listen {
            ip: Some(ip),
            ports: ports.clone(),
            watch,
        };
        let watch = |ends: &[RdmaEnd]| {
            let none = CpuList::default;
            (!ip.is_loopback()).then(|| rdma::watch(&self.topology, ends, none(), none()))
        };
        let told = read_environment(&Root::live())
            .map_err(|e| e.to_string())
            .and_then(|environment| {
                let welcome = Welcome {
                    environment,
                    reality: self.reality(ip, interface.as_deref()),
                    interface,
                    cpus: self.cpus.clone(),
                    rdma: offers(&self.topology, Some(ip)),
                };
                session.send(&welcome).map_err(|e| e.to_string())
            });
        let ended = told.map_or_else(Some, |()| {
            loop {
                if let Err(e) = serve_one(&mut session, &at, watch) {
                    return (!e.is_done()).then(|| e.to_string());
                }
            }
        });
        if let Some(why) = ended.filter(|_| !quiet) {
            output::tell(&format!("{}: {why}", session.there()));
        }
    }

    fn reality(&self, ip: IpAddr, interface: Option<&str>) -> Reality {
        if ip.is_loopback() {
            return Reality::Software;
        }
        self.topology
            .interfaces
            .iter()
            .find(|i| Some(i.name.as_str()) == interface)
            .and_then(|i| i.judgement.reality)
            .unwrap_or(Reality::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use serde::de::IgnoredAny;
    use strata_peer::{Answer, Channel, Say, Task};
    use strata_units::Nanos;

    use super::*;

    #[test]
    fn a_layer_that_is_unknown_is_answered_in_words() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let channel = |of: UnixStream| Channel::new(of.try_clone().expect("a second handle"), of);
        let mut there = channel(theirs);
        let serving = thread::spawn(move || serve_one(&mut there, &Listen::default(), |_| None));
        let mut here = channel(ours);
        for word in [
            Say::Alive,
            Say::Stop,
            Say::Task(Task::new("quic", &17).expect("JSON")),
        ] {
            here.send::<Say<()>>(&word).expect("sent");
        }
        let answered = here.receive_within::<Answer<IgnoredAny, IgnoredAny>>(Nanos::SECOND * 20);
        let Ok(Answer::Failed(why)) = answered else {
            panic!("{answered:?}");
        };
        assert!(
            why.contains("knows tcp") && why.contains("quic") && why.contains("one version"),
            "{why}"
        );
        serving.join().expect("no panic").expect("it lives on");
    }
}
