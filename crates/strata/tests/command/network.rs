//! `strata serve` and `strata tcp --peer`, on this machine and on two, as far as their network stacks are concerned.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Running, done, fails, json, program, records, run, scratch, short, strata, told, until,
};

/// What a busy machine may make of the five seconds within which a loss ends a trial.
const NOTICED: Duration = Duration::from_secs(9);

fn ip(arguments: &str) -> Result<(), String> {
    let out = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|e| format!("cannot run ip: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )),
    }
}

/// Two network namespaces joined by a pair of virtual Ethernet devices, `left` of the first (192.0.2.1) and `right` of the
/// second (192.0.2.2); dropping them takes them down.
struct Hosts {
    names: [String; 2],
    folder: TempDir,
}

impl Hosts {
    fn new() -> Result<Hosts, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let hosts = Hosts {
            names: ["a", "b"].map(|side| format!("strata-net-{id}-{side}")),
            folder: scratch(),
        };
        let [a, b] = &hosts.names;
        for host in [a, b] {
            ip(&format!("netns add {host}"))?;
        }
        ip(&format!(
            "-n {a} link add left type veth peer name right netns {b}"
        ))?;
        for (host, device, n) in [(a, "left", 1), (b, "right", 2)] {
            ip(&format!(
                "-n {host} address add 192.0.2.{n}/24 dev {device}"
            ))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {device} up"))?;
        }
        for name in ["key", "other"] {
            let mut file = fs::OpenOptions::new();
            let file = file.write(true).create_new(true).mode(0o600);
            let mut file = file.open(hosts.path(name)).map_err(|e| e.to_string())?;
            let mut key = [0; 32];
            fs::File::open("/dev/urandom")
                .and_then(|mut random| random.read_exact(&mut key))
                .and_then(|()| file.write_all(&key))
                .map_err(|e| e.to_string())?;
        }
        Ok(hosts)
    }

    /// The hosts, where they can be made; prints why not.
    fn or_skip(test: &str) -> Option<Hosts> {
        Hosts::new()
            .inspect_err(|why| println!("SKIP {test}: no two network namespaces: {why}"))
            .ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command on one of the hosts; it is the program itself that has the process's number.
    fn on(&self, host: usize, words: &[String]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[host]])
            .arg(program())
            .args(words);
        command
    }

    fn serve(&self, words: &str) -> Server {
        let words = format!("serve {words} --key-file {}", self.path("key").display());
        Server::start(self.on(1, &split(&words)))
    }

    /// A client with the key, whose run is kept in the folder of that name.
    fn client(&self, words: &str, run: &str) -> Command {
        let words = format!(
            "tcp --peer 192.0.2.2 --key-file {} {words}",
            self.path("key").display()
        );
        let mut command = self.on(0, &short(&words));
        command.arg("--output").arg(self.path(run));
        command
    }

    /// A client that has a trial of a minute under way.
    fn long(&self, run: &str) -> Running {
        let client = Running::start(self.client("--op stream --duration 60s --repeats 1", run));
        until("a run has begun", || {
            self.path(run).join("run.json").exists().then_some(())
        });
        // Its trial begins within this; where it does not, it is lost before.
        thread::sleep(Duration::from_millis(800));
        client
    }

    /// That clients are served, once the server knows that the last one is gone.
    fn serves(&self, run: &str) {
        let ran = until("it serves the next client", || {
            let ran = crate::support::run(self.client("--op reqrep --repeats 1", run));
            (!ran.err.contains("taken by")).then_some(ran)
        });
        assert_eq!(ran.status.code(), Some(0), "{}", ran.err);
    }

    fn wire(&self, state: &str) {
        ip(&format!("-n {} link set left {state}", self.names[0])).expect("it is ours");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.names {
            // One that was never made is not there to be deleted.
            let _ = ip(&format!("netns del {host}"));
        }
    }
}

struct Server(Running);

impl Server {
    fn start(command: Command) -> Server {
        let mut server = Server(Running::start(command));
        server.says("listening on");
        server
    }

    /// Waits until it has said so.
    fn says(&mut self, what: &str) -> String {
        until(what, || {
            let said = self.0.said();
            assert!(
                !self.0.has_ended() || said.contains(what),
                "it ended: {said}"
            );
            said.contains(what).then_some(said)
        })
    }

    fn signal(&self, signal: Signal) {
        kill(self.0.id(), signal).expect("it runs");
    }

    /// Ctrl-C, which is how a server ends well; all that it said.
    fn stop(self) -> String {
        self.signal(Signal::SIGINT);
        let ran = self.0.end();
        assert_eq!(ran.status.code(), Some(0), "{}", ran.err);
        ran.err
    }
}

fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn list<'v>(value: &'v Value, at: &str) -> &'v [Value] {
    let found = value
        .pointer(at)
        .unwrap_or_else(|| panic!("no {at} in {value}"));
    found
        .as_array()
        .unwrap_or_else(|| panic!("{at} is {found}"))
}

/// The one record of a trial that its peer's loss has ended.
fn reason(folder: &Path) -> String {
    let records = records(folder);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["status"], "failed");
    records[0]["reason"].as_str().expect("why").to_owned()
}

#[test]
fn this_machine_serves_itself() {
    let folder = scratch();
    let mut server = Server::start(strata(split("serve --listen 127.0.0.1:0")));
    let said = server.says("for this machine only");
    let (_, rest) = said.split_once("listening on ").expect("an address");
    let (at, _) = rest.split_once(',').expect("its end");
    let words = format!(
        "tcp --peer {at} --op stream,reqrep --engine tcp,tcp+spin --reply-bs 1KiB --streams 2"
    );
    let mut command = strata(short(&words));
    command.arg("--output").arg(folder.path().join("run"));
    done(command);
    let records = records(&folder.path().join("run"));
    assert_eq!(records.len(), 8);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(
            (&record["reality"], &record["via"]),
            (&"software".into(), &at.into())
        );
        let roles: Vec<&Value> = list(record, "/proof/connections")
            .iter()
            .map(|c| &c["role"])
            .collect();
        assert_eq!(roles, ["measure", "peer"], "{record}");
        assert!(record["result"]["ops"].as_u64() > Some(0), "{record}");
    }
    let report = fs::read_to_string(folder.path().join("run/report.md")).expect("a report");
    assert!(report.contains("which is this machine"), "{report}");
    let said = server.stop();
    assert!(said.contains("is done"), "{said}");
    assert!(
        !said.contains("has ended"),
        "a client that is done is no loss: {said}"
    );
}

#[test]
fn two_hosts_measure_every_way_between_them() {
    let Some(hosts) = Hosts::or_skip("two_hosts_measure_every_way_between_them") else {
        return;
    };
    let server = hosts.serve("--listen 192.0.2.2 --data-ports 7500-7501 --cpus 0");
    let words = "--op stream,reqrep --direction send,receive,both --engine tcp+zerocopy,tcp --interface left \
                 --sndbuf 128KiB --rcvbuf 128KiB --congestion reno --repeats 1";
    let ran = done(hosts.client(words, "run"));
    assert!(
        ran.out.contains(", tcp+zerocopy and tcp: "),
        "plain tcp is what others are set against: {}",
        ran.out
    );
    let folder = hosts.path("run");
    let records = records(&folder);
    assert_eq!(records.len(), 8);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["reality"], "software");
        assert_eq!(record["via"], "192.0.2.2");
        let identity = record["target"]["identity"].as_str().expect("an identity");
        assert!(
            identity.starts_with("left of ") && identity.contains(" to right of "),
            "{identity}"
        );
        let theirs = list(record, "/proof/peer_host/interfaces");
        assert_eq!(theirs[0]["name"], "right");
        let cpus: Vec<&Value> = list(record, "/proof/peer_host/cpus")
            .iter()
            .map(|c| &c["cpu"])
            .collect();
        assert_eq!(cpus, [0], "the CPUs of the task and no others");
        let connections = list(record, "/proof/connections");
        for connection in connections {
            assert_eq!(list(connection, "/congestion"), ["reno"]);
        }
        let both = record["workload"]["direction"] == "both";
        assert_eq!(
            connections.len(),
            if both { 4 } else { 2 },
            "{connections:?}"
        );
        let flows = list(record, "/result/flows");
        assert_eq!(flows.len(), if both { 2 } else { 0 });
        for flow in flows {
            assert!(flow["overlap"].as_f64() > Some(0.0), "{flow}");
            assert!(flow["bytes_per_s"].as_f64() > Some(0.0), "{flow}");
        }
    }
    let run = json(&folder.join("run.json"));
    assert_eq!(list(&run, "/peers").len(), 1);
    let report = fs::read_to_string(folder.join("report.md")).expect("a report");
    assert!(report.contains("The other side: "), "{report}");
    server.stop();
}

#[test]
fn who_may_not_be_served_is_told_why_and_leaves_nothing() {
    let Some(hosts) = Hosts::or_skip("who_may_not_be_served_is_told_why_and_leaves_nothing") else {
        return;
    };
    let refused = |words: &str, code, expected: &[&str]| {
        let mut command = hosts.on(0, &short(words));
        command.arg("--output").arg(hosts.path("none"));
        fails(command, code, expected);
        assert!(!hosts.path("none").exists(), "{words} left a folder");
    };
    let with = |key: &str| {
        format!(
            "tcp --peer 192.0.2.2 --key-file {}",
            hosts.path(key).display()
        )
    };
    fails(
        hosts.on(1, &split("serve --listen 0.0.0.0")),
        2,
        &["--key-file", "loopback"],
    );
    refused("tcp --peer 192.0.2.2", 2, &["--key-file", "loopback"]);
    refused(
        &with("key"),
        1,
        &["192.0.2.2:7471", "is `strata serve` running there"],
    );
    let mut server = hosts.serve("--listen 192.0.2.2 --cpus 0");
    refused(&with("other"), 1, &["192.0.2.2:7471", "same --key-file"]);
    server.says("turned away");
    refused(
        &format!("{} --peer-cpus 1", with("key")),
        2,
        &["--peer-cpus 1", "offers CPUs 0"],
    );
    refused(
        &format!("{} --threads 2", with("key")),
        2,
        &["2 threads", "192.0.2.2"],
    );
    hosts.serves("after");
    server.stop();
}

#[test]
fn a_second_client_waits_its_turn_and_a_stopped_run_goes_on() {
    let Some(hosts) = Hosts::or_skip("a_second_client_waits_its_turn_and_a_stopped_run_goes_on")
    else {
        return;
    };
    let mut server = hosts.serve("--listen 192.0.2.2");
    let words = "--op stream --duration 1500ms --repeats 3";
    let first = Running::start(hosts.client(words, "run"));
    until("a trial is made", || {
        (crate::support::lines(&hosts.path("run")) > 0).then_some(())
    });
    let ran = run(hosts.client("--repeats 1", "second"));
    told(
        "a second client",
        &ran,
        1,
        &["taken by 192.0.2.1", "try again"],
    );
    server.says("was told that the cores are taken");
    kill(first.id(), Signal::SIGINT).expect("it runs");
    let begun = Instant::now();
    let ran = first.end();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
    assert!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
    let resume = format!(
        "run --resume {} --key-file {}",
        hosts.path("run").display(),
        hosts.path("key").display()
    );
    assert!(ran.err.contains(&resume), "the way to go on: {}", ran.err);
    done(hosts.on(0, &split(&resume)));
    let rounds: Vec<u64> = records(&hosts.path("run"))
        .iter()
        .filter(|r| r["status"] == "ok")
        .filter_map(|r| r["round"].as_u64())
        .collect();
    assert_eq!(rounds, [0, 1, 2]);
    server.stop();
}

#[test]
fn a_client_that_dies_or_hangs_frees_the_server() {
    let Some(hosts) = Hosts::or_skip("a_client_that_dies_or_hangs_frees_the_server") else {
        return;
    };
    let mut server = hosts.serve("--listen 192.0.2.2");
    for (signal, run, why) in [
        (Signal::SIGKILL, "killed", "ended without a word"),
        (Signal::SIGSTOP, "stopped", "no sign of life"),
    ] {
        let client = hosts.long(run);
        kill(client.id(), signal).expect("it runs");
        let begun = Instant::now();
        let said = server.says(why);
        assert!(begun.elapsed() < NOTICED, "{:?}: {said}", begun.elapsed());
        hosts.serves(&format!("after-{run}"));
    }
    server.stop();
}

#[test]
fn a_server_that_is_cut_off_hangs_or_ends_is_told_of() {
    let Some(hosts) = Hosts::or_skip("a_server_that_is_cut_off_hangs_or_ends_is_told_of") else {
        return;
    };
    let ends = |client: Running, run: &str, why: &str| {
        let begun = Instant::now();
        let ran = client.end();
        assert!(
            begun.elapsed() < NOTICED,
            "{:?}: {}",
            begun.elapsed(),
            ran.err
        );
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        let reason = reason(&hosts.path(run));
        assert!(reason.contains(why), "{reason}");
    };
    let mut server = hosts.serve("--listen 192.0.2.2");
    let client = hosts.long("cut");
    hosts.wire("down");
    ends(client, "cut", "no sign of life");
    server.says("no sign of life");
    hosts.wire("up");
    hosts.serves("after-cut");

    let client = hosts.long("hung");
    server.signal(Signal::SIGSTOP);
    ends(client, "hung", "no sign of life");
    server.signal(Signal::SIGCONT);
    hosts.serves("after-hung");

    let client = hosts.long("ended");
    server.stop();
    ends(client, "ended", "was told to stop");
}

#[test]
fn what_sockets_cannot_be_set_to_is_skipped_in_a_plan() {
    let folder = scratch();
    let plan = folder.path().join("plan.toml");
    let text = "name = \"sockets\"\nrounds = 1\n\
                [[tcp]]\nduration = \"50ms\"\nramp = \"0s\"\n\
                [[tcp]]\nop = \"stream\"\nstreams = \"auto\"\ncongestion = \"no-such\"\nramp = \"0s\"\n";
    fs::write(&plan, text).expect("written");
    let mut command = strata(["run"]);
    command
        .arg(&plan)
        .arg("--output")
        .arg(folder.path().join("run"));
    done(command);
    let mut found: Vec<(String, String)> = records(&folder.path().join("run"))
        .iter()
        .map(|r| {
            let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
            (text(&r["status"]), text(&r["reason"]))
        })
        .collect();
    found.sort();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].0, "ok");
    assert_eq!(found[1].0, "skipped");
    assert!(found[1].1.contains("no-such"), "{found:?}");
}

/// A server of this machine, and its address.
fn served(words: &str) -> (Server, String) {
    let mut server = Server::start(strata(split(&format!("serve {words}"))));
    let said = server.says("listening on ");
    let (_, rest) = said.split_once("listening on ").expect("an address");
    let (at, _) = rest.split_once(", CPUs").expect("its end");
    (server, at.to_owned())
}

/// A run to a peer called 127.0.0.1 is told from one to a process of its own, and from one to another peer.
#[test]
fn a_run_goes_on_with_the_peer_that_it_was_begun_with() {
    let folder = scratch();
    let run_in = folder.path().join("run");
    let (server, at) = served("--listen 127.0.0.1:0 --cpus 0");
    let mut command = strata(short(&format!("tcp --peer {at} --repeats 1")));
    command.arg("--output").arg(&run_in);
    done(command);
    // As if the port had been the usual one, and the run not done.
    let path = run_in.join("run.json");
    let text = fs::read_to_string(&path).expect("a run");
    let text = text.replace(&format!("\"via\": \"{at}\""), "\"via\": \"127.0.0.1\"");
    assert!(text.contains("\"via\": \"127.0.0.1\""), "{text}");
    fs::write(&path, &text).expect("written");
    fs::write(run_in.join("trials.jsonl"), "").expect("written");
    server.stop();
    let mut resume = strata(["run", "--resume"]);
    resume.arg(&run_in);
    fails(
        resume,
        1,
        &["127.0.0.1:7471", "is `strata serve` running there"],
    );
    // Another one at its place.
    let text = text.replace("\"via\": \"127.0.0.1\"", &format!("\"via\": \"{at}\""));
    let text = text.replace("lo of ", "lo of another-");
    fs::write(&path, text).expect("written");
    let (server, _) = served(&format!("--listen {at} --cpus 0"));
    let mut resume = strata(["run", "--resume"]);
    resume.arg(&run_in);
    fails(resume, 2, &["the run was begun on", "lo of another-"]);
    server.stop();
}

#[test]
fn an_ipv4_client_of_a_listener_of_both_families_has_its_interface() {
    let test = "an_ipv4_client_of_a_listener_of_both_families_has_its_interface";
    let Some(hosts) = Hosts::or_skip(test) else {
        return;
    };
    let server = hosts.serve("--listen ::");
    done(hosts.client("--repeats 1", "run"));
    for record in records(&hosts.path("run")) {
        let identity = record["target"]["identity"].as_str().expect("an identity");
        assert!(identity.contains(" to right of "), "{identity}");
    }
    server.stop();
}

#[test]
fn descriptors_are_made_room_for_or_told_of() {
    let folder = scratch();
    let limited = |limit: &str, run: &str| {
        let mut command = Command::new("sh");
        let words = short("tcp --streams 100 --repeats 1");
        command
            .arg("-c")
            .arg(format!("ulimit {limit} && exec \"$0\" \"$@\""))
            .arg(program())
            .args(words)
            .arg("--output")
            .arg(folder.path().join(run));
        command
    };
    done(limited("-Sn 64", "soft"));
    let ran = run(limited("-n 64", "hard"));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    let reason = reason(&folder.path().join("hard"));
    assert!(reason.contains("ulimit -n"), "{reason}");
}
