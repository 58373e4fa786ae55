//! Verbs on a real provider: Soft-RoCE of a virtual node, or the device of this machine that STRATA_TEST_RDMA names.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use strata_measure::Buffers;
use strata_memory::{Huge, Lock, Want};
use strata_rdma::verbs::{
    Access, AddressHandle, Completion, CompletionQueue, Completions, Connection, Context,
    Interface, MemoryRegion, ProtectionDomain, QueuePair, Ready, Receives, Request, Requests,
    Route, SharedQueue, Terms, Verb, VerbsError, Wanted, open,
};
use strata_record::Transport;
use strata_units::{Bytes, Nanos, QueueDepth};
use strata_virtual_node::on;

#[path = "verbs/cm.rs"]
mod cm;

const PORT: u8 = 1;

/// Runs a test on the device that is named, or on the virtual node's.
fn on_device<F: FnOnce(&Context)>(test: F) {
    match std::env::var("STRATA_TEST_RDMA") {
        Ok(named) => test(&open(&named).expect("STRATA_TEST_RDMA is a device")),
        Err(_) => on("verbs", |_| test(&open("rxe0").expect("it opens"))),
    }
}

fn memory(domain: &ProtectionDomain, len: u64, access: Access) -> Rc<MemoryRegion> {
    let want = Want {
        bytes: Bytes(len),
        node: None,
        huge: Huge::Never,
        lock: Lock::Never,
    };
    let buffers = Buffers::new(QueueDepth::ONE, Bytes(len), want).expect("memory");
    Rc::new(MemoryRegion::new(domain, buffers, access).expect("registered"))
}

const ALL: Access = Access {
    write: true,
    read: true,
    atomic: true,
    relaxed: false,
};

fn queue(context: &Context, interface: Interface, sleeps: bool) -> SharedQueue {
    let want = Completions {
        room: 256,
        interface,
        sleeps,
        receives: true,
    };
    let queue = CompletionQueue::new(context, want).expect("a queue");
    Rc::new(RefCell::new(queue))
}

/// The entry of the port's GIDs that is an IPv4 address in IPv6 form.
fn gid_index(context: &Context) -> u8 {
    let mapped = |index: &u32| {
        let gid = context.gid(PORT, *index).expect("an entry");
        gid[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    };
    let port = context.port(PORT).expect("a port");
    let found = (0..port.gids.min(16)).find(mapped);
    u8::try_from(found.expect("an IPv4 address")).expect("small")
}

fn route(context: &Context) -> Route {
    let gid_index = gid_index(context);
    Route {
        port: PORT,
        gid_index,
        gid: Some(context.gid(PORT, gid_index.into()).expect("a GID")),
        lid: 0,
        service_level: 0,
        traffic_class: 0,
    }
}

fn wanted(transport: Transport, interface: Interface) -> Wanted {
    Wanted {
        transport,
        sends: 64,
        receives: 64,
        inline: 64,
        interface,
    }
}

/// The way to a queue pair of the same port.
fn to(context: &Context, queue_pair: u32) -> Connection {
    Connection {
        route: route(context),
        queue_pair,
        their_psn: 17,
        our_psn: 17,
        terms: terms(context),
    }
}

fn terms(context: &Context) -> Terms {
    Terms {
        mtu: context.port(PORT).expect("a port").mtu,
        reads: 16,
        answers: 16,
        timeout: 14,
        retries: 3,
        rnr_retries: 1,
        rnr_timer: 1,
    }
}

/// Two queue pairs of one process, each the other's peer.
struct Two {
    a: QueuePair<Ready>,
    b: QueuePair<Ready>,
    queue_a: SharedQueue,
    queue_b: SharedQueue,
}

impl Two {
    fn new(domain: &ProtectionDomain, wanted: Wanted, sleeps: bool) -> Two {
        let context = domain.context();
        let queues = [sleeps; 2].map(|sleeps| queue(context, wanted.interface, sleeps));
        let pair = |queue: &SharedQueue| {
            let pair = QueuePair::new(domain, wanted, queue, queue).expect("a pair");
            pair.init(PORT, 0, ALL).expect("it has a port")
        };
        let [queue_a, queue_b] = queues;
        let (a, b) = (pair(&queue_a), pair(&queue_b));
        let (to_a, to_b) = (to(context, a.number()), to(context, b.number()));
        Two {
            a: a.connect(&to_b).expect("connected"),
            b: b.connect(&to_a).expect("connected"),
            queue_a,
            queue_b,
        }
    }

    fn reliable(domain: &ProtectionDomain, interface: Interface) -> Two {
        Two::new(domain, wanted(Transport::Rc, interface), false)
    }

    fn posts(&mut self, requests: &mut Requests, n: usize) {
        let mut batch = self.a.batch(requests);
        batch.push(n, true);
        batch.ring().expect("posted");
    }

    /// Posts one request and waits until it has completed.
    fn does(&mut self, requests: &mut Requests, n: usize) -> Completion {
        self.posts(requests, n);
        next(&self.queue_a)
    }
}

/// The next completion.
fn next(queue: &SharedQueue) -> Completion {
    let begun = Instant::now();
    let mut found = None;
    while found.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "none comes");
        for c in queue.borrow_mut().poll().expect("polled") {
            assert_eq!(found.replace(c), None, "one was awaited");
        }
    }
    found.expect("it came")
}

fn good(completion: Completion, what: &str) {
    let status = completion.status;
    assert!(status.is_success(), "{what}: {}", status.explain());
}

fn one(region: &Rc<MemoryRegion>, request: Request) -> Requests {
    let mut requests = Requests::new(region, 1);
    requests.set(0, request);
    requests
}

fn request(verb: Verb, at: u64, len: u64) -> Request {
    Request {
        verb,
        at: Bytes(at),
        len: Bytes(len),
        remote: None,
        inline: false,
        id: 77,
    }
}

fn pattern(len: u64, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|n| (n as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn bytes(region: &MemoryRegion, at: u64, len: u64) -> Vec<u8> {
    let mut found = vec![0; len as usize];
    region.buffers().region().copy_out(Bytes(at), &mut found);
    found
}

fn put(region: &MemoryRegion, at: u64, bytes: &[u8]) {
    region.buffers().region().copy_in(Bytes(at), bytes);
}

/// Lengths around a packet and a page, and places that are aligned to nothing: from, to.
const SIZES: [(u64, u64, u64); 12] = [
    (1, 0, 0),
    (1, 7, 4095),
    (2, 3, 1),
    (63, 0, 9),
    (64, 64, 4090),
    (65, 5, 8192),
    (4095, 1, 3),
    (4096, 0, 4096),
    (4097, 4095, 1),
    (10_000, 123, 77),
    (65_536, 0, 0),
    (100_001, 4097, 6),
];

const ROOM: u64 = 128 << 10;

fn writes_reads_and_sends_bring_every_byte_of_every_size_to_its_place(
    context: &Context,
    interface: Interface,
) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let mut two = Two::reliable(&domain, interface);
    let ours = memory(&domain, ROOM, Access::LOCAL);
    let theirs = memory(&domain, ROOM, ALL);
    let remote = theirs.remote();
    let mut seed = 0;
    for (len, from, to) in SIZES {
        for (verb, inline) in [
            (Verb::Write, false),
            (Verb::Write, true),
            (Verb::WriteImm(7), false),
            (Verb::Read, false),
            (Verb::Send, false),
            (Verb::Send, true),
        ] {
            if inline && len > two.a.inline().into() {
                continue;
            }
            seed += 1;
            let what = format!("{verb:?} of {len} from {from} to {to}, {interface:?}");
            let sent = pattern(len, seed);
            let (source, sink) = match verb {
                Verb::Read => ((&theirs, to), (&ours, from)),
                _ => ((&ours, from), (&theirs, to)),
            };
            put(sink.0, 0, &vec![0xee; ROOM as usize]);
            put(source.0, source.1, &sent);
            let mut receives = Receives::new(&theirs, 0, [(Bytes(to), Bytes(len))].into_iter());
            let takes = matches!(verb, Verb::Send | Verb::WriteImm(_));
            if takes {
                two.b.receive(&mut receives, &[0]).expect("posted");
            }
            let there = (remote.address + to, remote.key);
            let mut requests = one(
                &ours,
                Request {
                    remote: (verb != Verb::Send).then_some(there),
                    inline,
                    ..request(verb, from, len)
                },
            );
            let done = two.does(&mut requests, 0);
            good(done, &what);
            assert_eq!(done.id, 77, "{what}");
            if takes {
                let got = next(&two.queue_b);
                good(got, &what);
                assert_eq!(u64::from(got.bytes), len, "{what}");
            }
            assert!(bytes(sink.0, sink.1, len) == sent, "{what}");
            let all = bytes(sink.0, 0, ROOM);
            let (before, rest) = all.split_at(sink.1 as usize);
            let mut beside = before.iter().chain(&rest[len as usize..]);
            assert!(beside.all(|byte| *byte == 0xee), "{what}: beside it");
        }
    }
}

fn datagrams_arrive_behind_their_header_and_messages_without_acknowledgement_too(
    context: &Context,
    interface: Interface,
) {
    /// What stands before a datagram, whether it has a global route or not.
    const HEADER: u64 = 40;
    for transport in [Transport::Uc, Transport::Ud] {
        let domain = ProtectionDomain::new(context).expect("a domain");
        let mut two = Two::new(&domain, wanted(transport, interface), false);
        let before = if transport == Transport::Ud {
            HEADER
        } else {
            0
        };
        let ours = memory(&domain, 8192, Access::LOCAL);
        let theirs = memory(&domain, 8192, ALL);
        for len in [1, 100, 1024, 4096] {
            let what = format!("{transport} {len} {interface:?}");
            let sent = pattern(len, 9);
            put(&ours, 5, &sent);
            let place = [(Bytes(0), Bytes(before + len))].into_iter();
            let mut receives = Receives::new(&theirs, 0, place);
            two.b.receive(&mut receives, &[0]).expect("posted");
            let mut requests = one(&ours, request(Verb::Send, 5, len));
            if transport == Transport::Ud {
                let handle = AddressHandle::new(&domain, &route(context)).expect("made");
                requests.address(&Rc::new(handle), two.b.number());
            }
            good(two.does(&mut requests, 0), &what);
            let got = next(&two.queue_b);
            good(got, &what);
            assert_eq!(u64::from(got.bytes), before + len, "{what}");
            assert!(bytes(&theirs, before, len) == sent, "{what}");
        }
    }
}

fn additions_add_up_over_four_queue_pairs(context: &Context, interface: Interface) {
    const EACH: u64 = 50;
    let domain = ProtectionDomain::new(context).expect("a domain");
    let word = memory(&domain, 4096, ALL);
    let ours = memory(&domain, 4096, Access::LOCAL);
    let remote = word.remote();
    let mut pairs: Vec<(Two, Requests)> = (0..4)
        .map(|n| {
            let add = Request {
                remote: Some((remote.address + 64, remote.key)),
                ..request(Verb::FetchAdd(n + 1), n * 8, 8)
            };
            (Two::reliable(&domain, interface), one(&ours, add))
        })
        .collect();
    for _ in 0..EACH {
        for (two, requests) in &mut pairs {
            two.posts(requests, 0);
        }
        for (two, _) in &pairs {
            good(next(&two.queue_a), "an addition");
        }
    }
    let number = |region: &MemoryRegion, at| {
        u64::from_ne_bytes(bytes(region, at, 8).try_into().expect("eight"))
    };
    let sum = number(&word, 64);
    assert_eq!(sum, EACH * (1 + 2 + 3 + 4));
    // What it was before the last of one of them.
    let before = number(&ours, 0);
    assert!(before < sum && before >= (EACH - 1) * 10, "{before}");
}

fn batches_complete_in_order_and_only_what_is_signalled(context: &Context, interface: Interface) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let mut two = Two::reliable(&domain, interface);
    let ours = memory(&domain, 4096, Access::LOCAL);
    let theirs = memory(&domain, 4096, ALL);
    let remote = theirs.remote();
    let mut requests = Requests::new(&ours, 32);
    for n in 0..32u64 {
        put(&ours, n, &[n as u8 + 1]);
        let write = Request {
            remote: Some((remote.address + n, remote.key)),
            id: n,
            ..request(Verb::Write, n, 1)
        };
        requests.set(n as usize, write);
    }
    let mut batch = two.a.batch(&mut requests);
    for n in 0..32 {
        batch.push(n, n % 8 == 7);
    }
    batch.ring().expect("posted");
    let mut ids = Vec::new();
    let begun = Instant::now();
    while ids.len() < 4 && begun.elapsed() < Duration::from_secs(10) {
        for c in two.queue_a.borrow_mut().poll().expect("polled") {
            good(c, "a write");
            ids.push(c.id);
        }
    }
    assert_eq!(ids, [7, 15, 23, 31]);
    let wrote: Vec<u8> = (1..=32).collect();
    assert_eq!(bytes(&theirs, 0, 32), wrote);
    // A batch that is dropped goes nowhere.
    put(&theirs, 0, &[0]);
    let mut batch = two.a.batch(&mut requests);
    batch.push(0, true);
    drop(batch);
    assert_eq!(two.does(&mut requests, 5).id, 5);
    assert_eq!(bytes(&theirs, 0, 1), [0]);
}

fn who_sleeps_is_told_of_a_completion(context: &Context, interface: Interface) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let mut two = Two::new(&domain, wanted(Transport::Rc, interface), true);
    let region = memory(&domain, 4096, ALL);
    let remote = region.remote();
    let write = Request {
        remote: Some((remote.address + 64, remote.key)),
        ..request(Verb::Write, 0, 8)
    };
    let mut requests = one(&region, write);
    let queue = Rc::clone(&two.queue_a);
    queue.borrow_mut().arm().expect("armed");
    let waited = queue.borrow_mut().wait(Nanos::from_millis(20));
    assert!(!waited.expect("waited"), "nothing has happened");
    for _ in 0..3 {
        two.posts(&mut requests, 0);
        let told = queue.borrow_mut().wait(Nanos::SECOND * 10);
        assert!(told.expect("waited"), "nobody told");
        queue.borrow_mut().arm().expect("armed");
        assert_eq!(next(&queue).id, 77);
    }
}

/// What goes wrong under way is told by whom it concerns, with what to do.
fn what_the_other_side_does_not_allow_fails_with_a_reason(context: &Context, interface: Interface) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let ours = memory(&domain, 4096, Access::LOCAL);
    let theirs = memory(&domain, 4096, ALL);
    let remote = theirs.remote();
    let write = |key| Request {
        remote: Some((remote.address, key)),
        ..request(Verb::Write, 0, 8)
    };
    let mut two = Two::reliable(&domain, interface);
    let mut requests = one(&ours, write(remote.key.wrong()));
    let told = two.does(&mut requests, 0).status.explain();
    assert!(told.contains("remote access error"), "{told}");
    assert!(told.contains("a wrong key or address"), "{told}");
    // The queue pair is of no more use.
    let after = two.does(&mut requests, 0);
    assert!(after.status.is_flushed(), "{after:?}");

    // A region that is gone is reached by nobody.
    let gone = memory(&domain, 4096, ALL);
    let key = gone.remote().key;
    drop(gone);
    let mut two = Two::reliable(&domain, interface);
    let done = two.does(&mut one(&ours, write(key)), 0);
    assert!(!done.status.is_success(), "it was written");

    // A receiver that has no receive.
    let mut two = Two::reliable(&domain, interface);
    let begun = Instant::now();
    let told = two.does(&mut one(&ours, request(Verb::Send, 0, 8)), 0);
    let told = told.status.explain();
    assert!(told.contains("no receive posted"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Nobody has that address.
fn where_there_is_no_way_it_is_said_within_seconds(context: &Context, interface: Interface) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let queue = queue(context, interface, false);
    let wanted = wanted(Transport::Rc, interface);
    let pair = QueuePair::new(&domain, wanted, &queue, &queue).expect("a pair");
    let mut nowhere = to(context, pair.number());
    nowhere.route.gid = Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9]);
    let pair = pair.init(PORT, 0, ALL).expect("it has a port");
    let begun = Instant::now();
    let told = match pair.connect(&nowhere) {
        Err(why) => why.to_string(),
        Ok(mut pair) => {
            let ours = memory(&domain, 4096, ALL);
            let mut requests = one(&ours, request(Verb::Send, 0, 8));
            let mut batch = pair.batch(&mut requests);
            batch.push(0, true);
            match batch.ring() {
                Err(why) => why.to_string(),
                Ok(()) => next(&queue).status.explain(),
            }
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(10));
    println!("no way: {told}");
    assert!(
        ["did not answer", "no route", "posting failed"]
            .iter()
            .any(|word| told.contains(word)),
        "{told}"
    );
}

fn what_the_device_does_not_have_is_refused_with_what_to_change(
    context: &Context,
    interface: Interface,
) {
    let domain = ProtectionDomain::new(context).expect("a domain");
    let queue = queue(context, interface, false);
    let usual = wanted(Transport::Rc, interface);
    let refused = |wanted| {
        let made = QueuePair::new(&domain, wanted, &queue, &queue);
        made.err().expect("refused").to_string()
    };
    let why = refused(Wanted {
        sends: u32::MAX,
        ..usual
    });
    assert!(why.contains("lower --depth"), "{why}");
    let why = refused(Wanted {
        inline: 1 << 20,
        ..usual
    });
    assert!(why.contains("--inline"), "{why}");
    let why = context.port(99).expect_err("no such port").to_string();
    assert!(why.contains("ibv_query_port on rxe0/99"), "{why}");
    let why = context.gid(PORT, 100_000).expect_err("none").to_string();
    assert!(why.contains("--gid-index"), "{why}");
    let pair = QueuePair::new(&domain, usual, &queue, &queue).expect("a pair");
    let mut nowhere = to(context, pair.number());
    nowhere.route.gid_index = 200;
    let pair = pair.init(PORT, 0, ALL).expect("it has a port");
    let why = pair
        .connect(&nowhere)
        .err()
        .expect("no such GID")
        .to_string();
    assert!(why.contains("it is in INIT"), "{why}");
    assert!(why.contains("GID index"), "{why}");
    let why = open("none_of_that_name").err().expect("none");
    assert!(matches!(why, VerbsError::NoDevice { .. }), "{why}");
}

type Case = fn(&Context, Interface);

/// All in one guest: to boot one takes longer than they do.
#[test]
fn verbs_do_what_they_say_by_both_interfaces() {
    let cases: [(&str, Case); 10] = [
        (
            "where there is no way it is said within seconds",
            where_there_is_no_way_it_is_said_within_seconds,
        ),
        (
            "datagrams arrive behind their header and messages without acknowledgement too",
            datagrams_arrive_behind_their_header_and_messages_without_acknowledgement_too,
        ),
        (
            "additions add up over four queue pairs",
            additions_add_up_over_four_queue_pairs,
        ),
        (
            "writes reads and sends bring every byte of every size to its place",
            writes_reads_and_sends_bring_every_byte_of_every_size_to_its_place,
        ),
        (
            "batches complete in order and only what is signalled",
            batches_complete_in_order_and_only_what_is_signalled,
        ),
        (
            "who sleeps is told of a completion",
            who_sleeps_is_told_of_a_completion,
        ),
        (
            "what the other side does not allow fails with a reason",
            what_the_other_side_does_not_allow_fails_with_a_reason,
        ),
        (
            "what the device does not have is refused with what to change",
            what_the_device_does_not_have_is_refused_with_what_to_change,
        ),
        (
            "queue pairs find each other by an address",
            cm::queue_pairs_find_each_other_by_an_address,
        ),
        (
            "who finds nobody at an address is told why",
            cm::who_finds_nobody_at_an_address_is_told_why,
        ),
    ];
    on_device(|context| {
        for interface in [Interface::Classic, Interface::Extended] {
            for (name, case) in cases {
                println!("{interface:?}: {name}");
                case(context, interface);
            }
        }
    });
}
