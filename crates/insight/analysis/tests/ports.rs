//! What RDMA ports and the drivers of interfaces counted, over the trials of a cell.

mod support;

use std::collections::BTreeMap;

use strata_analysis::{Fate, Range, analyse};
use strata_record::{
    HostProof, InterfaceProof, Op, PortEvent, RdmaPortProof, Record, Role, Run, Warning,
    WarningCode,
};
use strata_units::Bytes;
use support::{assert_valid, records, run, tcp};

fn counts<const N: usize>(named: [(&str, u64); N]) -> BTreeMap<String, u64> {
    named.map(|(name, n)| (name.to_owned(), n)).into()
}

/// Eight rounds of one cell through a port at each end; `change` may make a trial's own host other than quiet.
fn through_ports(change: impl Fn(u32, &mut HostProof)) -> (Run, Vec<Record>) {
    let run = run(vec![tcp(Op::ReqRep)], 8);
    let mut all = records(&run, |_, round| 1000.0 + f64::from(round));
    for record in &mut all {
        let round = record.round;
        let proof = record.proof.as_mut().expect("a proof");
        let host = proof.host.as_mut().expect("watched");
        host.interfaces = vec![InterfaceProof {
            name: "eth2".to_owned(),
            link_downs: Some(0),
            ..InterfaceProof::default()
        }];
        host.ports = vec![RdmaPortProof {
            device: "mlx5_0".to_owned(),
            port: 1,
            sent_bytes: Some(Bytes::GIB),
            retransmissions: Some(0),
            ..RdmaPortProof::default()
        }];
        proof.peer_host = Some(host.clone());
        change(round, host);
    }
    assert_valid(&all);
    (run, all)
}

fn range(least: f64, most: f64) -> Range {
    Range { least, most }
}

#[test]
fn each_port_is_told_by_least_and_most_of_a_trial() {
    let (run, all) = through_ports(|round, host| {
        let port = &mut host.ports[0];
        port.retransmissions = Some(u64::from(round));
        if round == 3 {
            port.errors = counts([("symbol_error", 2), ("link_error_recovery", 0)]);
            host.interfaces[0].statistics = counts([("rx_prio3_pause", 9)]);
        }
    });
    let analysed = analyse(&run, &all);
    let proof = analysed.cells[0].proof.as_ref().expect("proved");
    let host = proof.host.as_ref().expect("watched");
    let [own, other] = &host.ports[..] else {
        panic!("a port at each end: {:?}", host.ports)
    };
    assert_eq!(
        (own.role, own.device.as_str(), own.port),
        (Role::Measure, "mlx5_0", 1)
    );
    assert_eq!((other.role, other.device.as_str()), (Role::Peer, "mlx5_0"));
    let gib = Bytes::GIB.0 as f64;
    assert_eq!(own.sent_bytes, Some(range(gib, gib)));
    assert_eq!(own.received_bytes, None);
    let again = PortEvent::Retransmission;
    assert_eq!(
        own.events,
        [(again, range(0.0, 7.0))],
        "only what is counted"
    );
    assert_eq!(other.events, [(again, range(0.0, 0.0))]);
    let symbols = ("symbol_error".to_owned(), range(0.0, 2.0));
    assert_eq!(own.errors, [symbols], "only what changed");
    assert!(other.errors.is_empty());

    let [wire] = &host.wires[..] else {
        panic!("the other side's tells nothing: {:?}", host.wires)
    };
    assert_eq!((wire.role, wire.name.as_str()), (Role::Measure, "eth2"));
    let pause = ("rx_prio3_pause".to_owned(), range(0.0, 9.0));
    assert_eq!(wire.statistics, [pause]);
    assert_eq!(wire.link_downs, Some(range(0.0, 0.0)));
}

#[test]
fn a_trial_whose_link_went_down_is_left_out_and_others_are_only_doubted() {
    let warned = |code, round: u32| {
        let (run, mut all) = through_ports(|_, _| {});
        all[round as usize].warnings.push(Warning {
            code,
            text: format!("the port counted {code:?}"),
        });
        let analysed = analyse(&run, &all);
        let out = |fate: &Fate| matches!(fate, Fate::LeftOut(_));
        let left_out = analysed.cells[0]
            .trials
            .iter()
            .filter(|t| out(&t.fate))
            .count();
        let words = format!("the port counted {code:?}");
        let doubts = &analysed.summary.doubts;
        assert!(
            doubts.iter().any(|d| d.contains(&words)),
            "{code:?} is not told: {doubts:#?}"
        );
        (left_out, analysed.summary.lines[0].rounds)
    };
    assert_eq!(warned(WarningCode::LinkDown, 2), (1, 7));
    for code in [
        WarningCode::WireErrors,
        WarningCode::Discards,
        WarningCode::Retransmissions,
        WarningCode::OutOfSequence,
        WarningCode::ReceiverNotReady,
        WarningCode::Paused,
        WarningCode::Congestion,
    ] {
        assert_eq!(warned(code, 2), (0, 8), "{code:?}");
    }
}
