//! Connections by rdma_cm, to the own port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use strata_rdma::verbs::cm::{Established, EventChannel, Id, Listener, Patience};
use strata_rdma::verbs::{
    Access, Context, Interface, ProtectionDomain, QueuePair, Ready, Request, Reset, SharedQueue,
    Verb, VerbsError,
};
use strata_record::Transport;
use strata_units::Nanos;

use super::{
    ALL, PORT, bytes, gid_index, good, memory, next, one, pattern, put, queue, request, terms,
    wanted,
};

/// The address of the port's GID, at which the connection manager finds it.
fn address(context: &Context) -> SocketAddr {
    let gid = context.gid(PORT, gid_index(context).into());
    let gid = Ipv6Addr::from(gid.expect("a GID"));
    (gid.to_canonical(), 0).into()
}

fn patience(within: Nanos) -> Patience<'static> {
    Patience {
        within,
        is_off: &|| false,
    }
}

const PATIENCE: Nanos = Nanos::from_millis(3_000);

fn reset(domain: &ProtectionDomain, interface: Interface) -> (QueuePair<Reset>, SharedQueue) {
    let queue = queue(domain.context(), interface, false);
    let wanted = wanted(Transport::Rc, interface);
    let pair = QueuePair::new(domain, wanted, &queue, &queue).expect("a pair");
    (pair, queue)
}

/// A queue pair that was connected to whoever listens at `to`, who was told `says`.
fn come(
    domain: &ProtectionDomain,
    interface: Interface,
    to: SocketAddr,
    says: &[u8],
) -> Result<(QueuePair<Ready>, SharedQueue, Id<Established>), VerbsError> {
    let context = domain.context();
    let (terms, patience) = (terms(context), patience(PATIENCE));
    let channel = EventChannel::open()?;
    let id = Id::resolve(&channel, address(context), to, 32, &patience)?;
    let (pair, queue) = reset(domain, interface);
    let pair = pair.init_by(&id, PORT, 0, ALL)?;
    let id = id.connect(&pair, &terms, says, &patience)?;
    let pair = pair.connect_by(&id, Some(gid_index(context)), 0, &terms)?;
    let id = id.establish(&pair)?;
    Ok((pair, queue, id))
}

pub(super) fn queue_pairs_find_each_other_by_an_address(context: &Context, interface: Interface) {
    const TOKEN: &[u8] = b"ours";
    let domain = ProtectionDomain::new(context).expect("a domain");
    let theirs = memory(&domain, 4096, ALL);
    let remote = theirs.remote();
    let mut listener = Listener::bind(address(context), 8).expect("it listens");
    let to = listener.address();
    assert_ne!(to.port(), 0, "a free one");
    let sent = pattern(1000, 5);
    thread::scope(|scope| {
        let comes = scope.spawn(|| {
            let stranger = come(&domain, interface, to, b"somebody else's");
            let why = stranger.err().expect("rejected");
            let VerbsError::Rejected { reason: 28, .. } = why else {
                panic!("{why}");
            };
            let mut ours = come(&domain, interface, to, TOKEN).expect("connected");
            let (pair, queue, _) = &mut ours;
            let from = memory(&domain, 4096, Access::LOCAL);
            put(&from, 3, &sent);
            let write = Request {
                remote: Some((remote.address + 77, remote.key)),
                ..request(Verb::Write, 3, 1000)
            };
            let mut requests = one(&from, write);
            let mut batch = pair.batch(&mut requests);
            batch.push(0, true);
            batch.ring().expect("posted");
            good(next(queue), "a write");
        });
        let patience = patience(PATIENCE);
        let stranger = listener.request(&patience).expect("somebody comes");
        assert!(stranger.private().starts_with(b"somebody else's"));
        stranger.reject().expect("rejected");
        let id = listener.request(&patience).expect("somebody comes");
        assert!(id.private().starts_with(TOKEN));
        let (pair, _queue) = reset(&domain, interface);
        let pair = pair.init_by(&id, PORT, 0, ALL).expect("it has a port");
        let terms = terms(context);
        let pair = pair.connect_by(&id, None, 0, &terms).expect("connected");
        let id = id.accept(&pair, &terms).expect("accepted");
        let _id = listener.established(id, &patience).expect("established");
        comes.join().expect("the other side");
    });
    assert!(bytes(&theirs, 77, 1000) == sent, "what was written");
}

pub(super) fn who_finds_nobody_at_an_address_is_told_why(context: &Context, interface: Interface) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let mut listener = Listener::bind(address(context), 1).expect("it listens");
    let at = listener.address();
    let why = listener.request(&patience(Nanos::from_millis(100)));
    let why = why.err().expect("nobody comes").to_string();
    assert!(why.contains(&at.to_string()), "{why}");
    assert!(why.contains("nothing came within 100ms"), "{why}");
    drop(listener);

    let begun = Instant::now();
    let why = come(&domain, interface, at, b"").err().expect("refused");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let told = why.to_string();
    assert!(matches!(why, VerbsError::Rejected { .. }), "{told}");
    assert!(told.contains("rdma_connect on"), "{told}");
    assert!(told.contains("nobody listens there"), "{told}");

    // An address of the same network that nobody has: whether the kernel says so or says nothing is up to it.
    let nowhere = (Ipv4Addr::new(192, 168, 78, 250), 4711).into();
    let begun = Instant::now();
    let why = come(&domain, interface, nowhere, b"").err().expect("none");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let told = why.to_string();
    let is_told = matches!(why, VerbsError::TimedOut { .. } | VerbsError::Call { .. });
    assert!(is_told && told.contains("192.168.78.250:4711"), "{told}");

    let channel = EventChannel::open().expect("a channel");
    let off = Patience {
        within: PATIENCE,
        is_off: &|| true,
    };
    let why = Id::resolve(&channel, address(context), at, 0, &off);
    let why = why.err().expect("nobody wants it");
    assert!(matches!(why, VerbsError::BrokenOff { .. }), "{why}");

    // A path is that of the address, whatever the trial goes over.
    let id = Id::resolve(&channel, address(context), at, 0, &patience(PATIENCE));
    let id = id.expect("a path to itself");
    for (port, pkey, word) in [(PORT + 1, 0, "rxe0/1"), (PORT, 9, "--pkey-index")] {
        let (pair, _queue) = reset(&domain, interface);
        let why = pair.init_by(&id, port, pkey, ALL).err().expect("another");
        assert!(why.to_string().contains(word), "{why}");
    }
}
