//! What a report shows of the hosts of a cell's trials.

use strata_analysis::{HostDigest, PortDigest, Range, WireDigest};
use strata_record::{PortEvent, Role};
use strata_units::show;

use crate::table::Table;
use crate::text;
use crate::text::NONE;

/// More vectors than this are counted rather than named.
const NAMED: usize = 4;

/// More counters of one port or interface than this are counted rather than named.
const COUNTERS: usize = 12;

/// A line each for what the device, its interrupts, its heat and the wire told.
pub(crate) fn beside(host: &HostDigest) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    for device in &host.devices {
        let size = device.bytes.map_or_else(String::new, |bytes| {
            format!(", of {} on average", range(bytes, show::amount))
        });
        said.push((
            "Depth at the device",
            format!(
                "{} requests at once in {}{size}; by its own counters over ramp and window",
                range(device.depth, show::digits),
                device.name
            ),
        ));
    }
    for held in &host.functions {
        said.push((
            "Driver",
            format!("{}: {}", held.function, held.drivers.join("; ")),
        ));
    }
    if let Some(vectors) = host.vectors.filter(|n| *n > 0) {
        said.push(("Interrupts of the device", fired(host, vectors)));
    }
    if let Some(celsius) = host.celsius {
        said.push((
            "Drive temperature",
            format!("{} °C", range(celsius, |c| format!("{c:.0}"))),
        ));
    }
    if let Some(again) = host.retransmitted {
        said.push((
            "TCP sent again",
            format!(
                "{} segments in a trial, all connections of this network namespace counted",
                range(again, |n| format!("{n:.0}"))
            ),
        ));
    }
    said.extend(host.ports.iter().map(port));
    said.extend(host.wires.iter().map(wire));
    said
}

fn port(port: &PortDigest) -> (&'static str, String) {
    let count = |found| range(found, |n| format!("{n:.0}"));
    let bytes = |way: &str, found: Option<Range>| {
        let told = found.map(|bytes| range(bytes, show::amount));
        format!("{way} {}", told.as_deref().unwrap_or("untold"))
    };
    let event = |event| match event {
        PortEvent::Discard => "dropped",
        PortEvent::Retransmission => "sent again",
        PortEvent::OutOfSequence => "out of sequence",
        PortEvent::ReceiverNotReady => "no receive posted",
        PortEvent::EcnMarked => "ECN marks",
        PortEvent::CnpSent => "CNPs sent",
        PortEvent::CnpHandled => "CNPs obeyed",
    };
    let mut said = vec![
        bytes("sent", port.sent_bytes),
        bytes("received", port.received_bytes),
    ];
    let events = port.events.iter();
    said.extend(events.map(|(of, n)| format!("{} {}", event(*of), count(*n))));
    if let Some(ticks) = port.xmit_wait_ticks {
        said.push(format!("ticks without leave to send {}", count(ticks)));
    }
    said.extend(named(&port.errors));
    let name = match port.role {
        Role::Measure => "RDMA port",
        Role::Peer => "RDMA port of the other side",
    };
    let said = said.join(", ");
    (
        name,
        format!("{} port {}: {said} in a trial", port.device, port.port),
    )
}

fn wire(wire: &WireDigest) -> (&'static str, String) {
    let mut said = Vec::new();
    if !wire.fec.is_empty() {
        said.push(format!("error correction {}", wire.fec.join(", ")));
    }
    if let Some(downs) = wire.link_downs {
        said.push(format!(
            "link down {} times",
            range(downs, |n| format!("{n:.0}"))
        ));
    }
    said.extend(named(&wire.statistics));
    let name = match wire.role {
        Role::Measure => "Wire",
        Role::Peer => "Wire of the other side",
    };
    (
        name,
        format!("{}: {} in a trial", wire.name, said.join(", ")),
    )
}

/// Counters that changed, by name.
fn named(counters: &[(String, Range)]) -> Vec<String> {
    let some = counters.iter().take(COUNTERS);
    let mut said: Vec<String> = some
        .map(|(name, n)| format!("{name} {}", range(*n, |n| format!("{n:.0}"))))
        .collect();
    if counters.len() > COUNTERS {
        said.push(format!("and {} others", counters.len() - COUNTERS));
    }
    said
}

fn fired(host: &HostDigest, vectors: u32) -> String {
    let all = match vectors {
        1 => "its vector".to_owned(),
        n => format!("its {n} vectors"),
    };
    let named: Vec<String> = host
        .fired
        .iter()
        .take(NAMED)
        .map(|v| {
            format!(
                "{} on CPU {}, up to {} times in a trial",
                v.name,
                text::list(&v.cpus),
                v.most
            )
        })
        .collect();
    match host.fired.len() {
        0 => format!("none of {all} fired in any trial"),
        n if n > NAMED => format!("of {all} {n} fired: {}; …", named.join("; ")),
        _ => format!("of {all}: {}", named.join("; ")),
    }
}

/// The CPUs that threads of the trials were to run on.
pub(crate) fn cpus(host: &HostDigest) -> Table {
    let trials = match host.trials {
        1 => "1 trial".to_owned(),
        n => format!("{n} trials"),
    };
    let mut table = Table::new(
        format!("CPUs in {trials}, ramp and drain included: fewest and most, least and greatest"),
        &[
            "CPU",
            "Side",
            "#Interrupts of the device",
            "#Of the timer",
            "#Others",
            "#Frequency",
            "Governor",
            "#Stolen",
            "#Other load",
        ],
    );
    let count = |n: f64| format!("{n:.0}");
    let told = |found: Option<Range>, unit: fn(f64) -> String| {
        text::or_none(found.map(|r| range(r, unit)))
    };
    for cpu in &host.cpus {
        table.push(vec![
            cpu.cpu.to_string(),
            text::role(cpu.role).to_owned(),
            told(cpu.device, count),
            told(cpu.timer, count),
            told(cpu.other, count),
            told(cpu.hertz, |hz| format!("{} GHz", show::digits(hz / 1e9))),
            match cpu.governors.is_empty() {
                true if cpu.by_cpuinfo => "none; frequency by cpuinfo".to_owned(),
                true => NONE.to_owned(),
                false => cpu.governors.join(", "),
            },
            told(cpu.steal, text::share),
            told(cpu.foreign, text::share),
        ]);
    }
    table
}

/// `3`, or `3 to 5` where trials differ in what is shown.
fn range(range: Range, unit: impl Fn(f64) -> String) -> String {
    let (least, most) = (unit(range.least), unit(range.most));
    if least == most {
        least
    } else {
        format!("{least} to {most}")
    }
}
