//! Crews on real CPUs: what the proof finds when the placement is kept, and when it is falsified in mid-trial.

use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::{Crew, CrewError, Fatal, Load, Member, NullEngine, Stream, Window};
use strata_record::{Op, Role, TimedBy};
use strata_topology::{Allowed, Root, Topology, WatchList, pin_current_thread};
use strata_units::{Bytes, CpuId, CpuList, Nanos, QueueDepth};

fn allowed() -> Vec<CpuId> {
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    Allowed::read(&root, &topology).cpus.iter().collect()
}

fn load(ms: u64) -> Load {
    Load {
        depth: QueueDepth::new(4).expect("a depth"),
        offer: None,
        ramp: Nanos(0),
        window: Window::Time(Nanos::from_millis(ms)),
        timed_by: TimedBy::Operation,
        patience: Load::PATIENCE,
    }
}

fn crew<'a>(cpus: &'a [CpuId], load: Load, interrupted: &'a AtomicBool) -> Crew<'a> {
    Crew {
        cpus,
        role: Role::Measure,
        load,
        mem_node: None,
        interrupted,
        enough: None,
        other: None,
        watch: None,
    }
}

fn null(load: &Load) -> Result<Member<NullEngine>, Fatal> {
    Ok(Member {
        engine: NullEngine::new(load.depth),
        stream: Stream::new(Op::RandRead, Bytes(4096), 1000, 1),
    })
}

#[test]
fn a_crew_is_where_it_was_sent() {
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let crew = crew(&cpus, load(60), &stop);
    let run = crew.run(|_| null(&crew.load)).expect("a run");
    assert_eq!(run.proof.contradictions, [""; 0]);
    assert_eq!(run.proof.threads.len(), cpus.len());
    for (thread, cpu) in run.proof.threads.iter().zip(&cpus) {
        assert_eq!(thread.seen, [*cpu].into_iter().collect::<CpuList>());
        assert!(thread.samples >= 2, "at the start and at the end at least");
    }
    assert!(run.harness.ns_per_op > 0.0 && run.harness.ops > 1000);
    let cost = run.cost(None);
    assert!(cost.cpu_ns_per_op > 0.0);
    assert!(
        run.core_ceiling()
            .share
            .is_some_and(|s| s > 0.05 && s < 20.0)
    );
    assert_eq!(run.failed(), None);
}

#[test]
fn a_thread_moved_in_mid_trial_is_found_out() {
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let [first, .., other] = cpus[..] else {
        println!(
            "SKIP a_thread_moved_in_mid_trial_is_found_out: this process may use one CPU only"
        );
        return;
    };
    let crew = crew(std::slice::from_ref(&first), load(200), &stop);
    // The engine's thread moves itself in mid-trial, as a cgroup change or an unwise daemon would move it.
    let run = crew
        .run(|_| {
            Ok(Member {
                engine: Moving {
                    inner: NullEngine::new(crew.load.depth),
                    polls: 0,
                    to: other,
                },
                stream: Stream::new(Op::RandRead, Bytes(4096), 1000, 1),
            })
        })
        .expect("a run");
    let found = run.proof.contradictions.join("; ");
    assert!(
        found.contains(&format!("was seen on CPU {other}")),
        "{found}"
    );
    assert!(
        found.contains(&format!("may run on CPU {other}")),
        "{found}"
    );
    match run.proof.threads[0].migrations {
        Some(moves) => assert!(moves >= 1 && found.contains("by the kernel"), "{found}"),
        None => println!("SKIP migrations: {:?}", run.proof.missing),
    }
}

struct Moving {
    inner: NullEngine,
    polls: u64,
    to: CpuId,
}

impl strata_measure::Engine for Moving {
    fn limits(&self) -> strata_measure::Limits {
        self.inner.limits()
    }
    fn post(
        &mut self,
        slot: strata_measure::Slot,
        op: strata_measure::Op,
    ) -> Result<(), strata_measure::Refused> {
        self.inner.post(slot, op)
    }
    fn ring(&mut self) -> Result<(), Fatal> {
        self.polls += 1;
        if self.polls == 1000 {
            pin_current_thread(&[self.to].into_iter().collect()).expect("moved");
        }
        Ok(())
    }
    fn reap(
        &mut self,
        wait: strata_measure::Wait,
        done: impl FnMut(strata_measure::Slot, strata_measure::Outcome),
    ) -> Result<usize, Fatal> {
        self.inner.reap(wait, done)
    }
    fn quiesce(&mut self, by: strata_measure::Tick) -> Result<(), strata_measure::Stuck> {
        self.inner.quiesce(by)
    }
    fn buffers(&self) -> Option<&strata_measure::Buffers> {
        self.inner.buffers()
    }
    fn explain(&self, code: strata_measure::FailCode) -> String {
        self.inner.explain(code)
    }
}

#[test]
fn the_host_is_watched_from_before_the_window_until_after_it() {
    let test = "the_host_is_watched_from_before_the_window_until_after_it";
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let list = WatchList {
        cpus: cpus.iter().copied().collect(),
        ..WatchList::default()
    };
    let mut crew = crew(&cpus, load(250), &stop);
    crew.watch = Some(&list);
    let run = crew.run(|_| null(&crew.load)).expect("a run");
    let host = run.proof.host.as_ref().expect("watched");
    let window = run.tally.window().as_secs_f64();
    assert!(host.span_s >= window, "{} of {window}", host.span_s);
    assert_eq!(host.cpus.len(), cpus.len());
    for cpu in &host.cpus {
        let Some(times) = cpu.times else {
            println!("SKIP {test}: {:?}", run.proof.missing);
            continue;
        };
        // The loop never sleeps: what the CPU was not given to us for it spent on others, or was not there.
        let spent = times.user_ns + times.system_ns + times.interrupt_ns + times.steal_ns;
        assert!(spent.as_secs_f64() > 0.5 * window, "{cpu:?}");
        let foreign = run.proof.foreign_share(cpu).expect("times are told");
        assert!((0.0..=1.0).contains(&foreign), "{foreign}");
        match cpu.interrupts {
            Some(took) => assert!(took.total > 0, "a busy CPU ticks: {took:?}"),
            None => println!("SKIP {test}: {:?}", run.proof.missing),
        }
    }
    assert_eq!(host.devices, [], "none was on the list");
}

#[test]
fn one_thread_that_cannot_start_sends_all_home() {
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let list = WatchList::default();
    let mut crew = crew(&cpus, load(10_000), &stop);
    crew.watch = Some(&list);
    let last = cpus.len() - 1;
    let failed = crew.run(|n| {
        if n == last {
            Err(Fatal("no memory".to_owned()))
        } else {
            null(&crew.load)
        }
    });
    assert_eq!(
        failed.map(|_| ()),
        Err(CrewError::SetUp("no memory".to_owned()))
    );
    let absent = [CpuId(60_000)];
    let crew = self::crew(&absent, load(10), &stop);
    assert!(
        matches!(crew.run(|_| null(&crew.load)), Err(CrewError::SetUp(why)) if why.contains("60000"))
    );
}

#[test]
fn a_thread_that_panics_hangs_nobody() {
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let crew = crew(&cpus, load(10_000), &stop);
    let last = cpus.len() - 1;
    let failed = crew.run(|n| {
        assert!(n != last, "this panic is the test's own");
        null(&crew.load)
    });
    assert!(matches!(failed, Err(CrewError::SetUp(why)) if why.contains("panicked")));
}

#[test]
fn interruption_ends_a_crew_within_a_second() {
    let (cpus, stop) = (allowed(), AtomicBool::new(false));
    let crew = crew(&cpus, load(60_000), &stop);
    let begun = std::time::Instant::now();
    let ended = std::thread::scope(|s| {
        let running = s.spawn(|| crew.run(|_| null(&crew.load)).map(|_| ()));
        std::thread::sleep(std::time::Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        running.join().expect("no panic")
    });
    assert_eq!(ended, Err(CrewError::Interrupted));
    assert!(begun.elapsed().as_secs() < 20, "a minute was asked for");
}
